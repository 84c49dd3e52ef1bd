"""The front ends of the methods, by name."""

from typing import Any

from keras_audio_ssl.engine import constructors
from keras_audio_ssl.engine import renamed
from keras_audio_ssl.features.frontend import FrontEnd
from keras_audio_ssl.features.layers import MFCC
from keras_audio_ssl.features.layers import LogMel
from keras_audio_ssl.features.layers import LogSpectrum
from keras_audio_ssl.features.layers import Waveform
from keras_audio_ssl.features.polar import MagnitudePhaseMel

FLOAT32_EPSILON = 1.1920929e-07

# Google's log-mel of Audio2Vec and COLA: magnitude, triangles over mel.
_MOBILE = {
    "n_fft": 1024,
    "center": False,
    "power": 1,
    "mel_scale": "kaldi",
    "log_floor": 1e-5,
    "log_ceiling": 1e8,
}
_KALDI = {
    "n_mels": 80,
    "f_min": 20.0,
    "f_max": None,
    "window": "povey",
    "center": False,
    "mel_scale": "kaldi",
    "log_floor": FLOAT32_EPSILON,
    "preemphasis": 0.97,
    "remove_dc": True,
    "normalize": "utterance",
}
_BYOL_A = {
    "n_fft": 1024,
    "win_length": 1024,
    "log_add": FLOAT32_EPSILON,
    "normalize": "scalar",
}
_ONLINE_SPECTRUM = {
    "n_fft": 400,
    "log_add": 1e-10,
    "amplitude": "rms",
    "normalize": "utterance",
}
_ONLINE = dict(_ONLINE_SPECTRUM, n_mels=80, f_min=0.0, f_max=None)

_WORDS = {
    "n_mels": 40,
    "n_mfcc": 13,
    "f_min": 20.0,
    "f_max": None,
    "log_floor": 1e-10,
    "normalize": "per_bin",
}

Recipe = tuple[type[FrontEnd], dict]

RECIPES: dict[str, Recipe] = {
    # The Kaldi filterbanks of s3prl, without dither.
    "apc": (LogMel, dict(_KALDI, window="hamming_symmetric")),
    "kaldi_fbank80": (LogMel, _KALDI),
    "kaldi_fbank240": (LogMel, dict(_KALDI, deltas=2)),
    "mpc": (LogMel, dict(_KALDI, n_mels=40, normalize="per_bin")),
    # The front ends of s3prl's published log-mel models.
    "online_logmel": (LogMel, _ONLINE),
    "online_logmel_delta": (LogMel, dict(_ONLINE, deltas=1)),
    "online_linear": (LogSpectrum, _ONLINE_SPECTRUM),
    "audio2vec": (LogMel, dict(_MOBILE, normalize="scalar")),
    # The survey's choice; coefficients are of scales of their own.
    "audio2vec_mfcc": (
        MFCC,
        dict(_MOBILE, n_mels=64, n_mfcc=32, normalize="per_bin"),
    ),
    "cola": (LogMel, dict(_MOBILE, amplitude="l2")),
    "byol_a": (LogMel, dict(_BYOL_A, mel_scale="slaney", mel_norm="slaney")),
    # The README example of BYOL-A v1, about 4.5 nats higher.
    "byol_a_torchaudio": (LogMel, _BYOL_A),
    "speech2vec": (MFCC, _WORDS),
    # With a frame every 20 ms.
    "speech2vec_coarse": (MFCC, dict(_WORDS, hop_length=320)),
    "multi_format": (
        LogMel,
        {"n_mels": 80, "log_add": 1e-6, "normalize": "scalar"},
    ),
    "multi_format_waveform": (Waveform, {"amplitude": "rms"}),
    "fonseca": (
        LogMel,
        {
            "sample_rate": 22050,
            "n_fft": 2048,
            "win_length": 660,
            "hop_length": 220,
            "n_mels": 96,
            "f_min": 50.0,
            "f_max": 10500.0,
            "window": "hamming",
            "mel_scale": "slaney",
            "log": "log10",
            "log_add": 1.1e-8,
            "amplitude": "centred_peak",
            "normalize": "scalar",
        },
    ),
    "clar": (MagnitudePhaseMel, {}),
    # Of speech's usual windows and hops, for models of a laptop's size.
    "clar_short": (MagnitudePhaseMel, {"n_fft": 512, "hop_length": 160}),
    "waveform": (Waveform, {}),
    "lim": (Waveform, {"amplitude": "peak"}),
}
RECIPES |= {
    name: RECIPES[same]
    for name, same in (
        ("temporal_gap", "audio2vec"),
        ("permutations", "audio2vec"),
        ("npc", "apc"),
        ("tera", "online_logmel"),
        ("mockingjay", "online_logmel"),
        ("audio_albert", "online_logmel"),
        ("mam", "online_logmel"),
        ("dapc", "online_logmel"),
    )
}


def recipe(name: str, **overrides: Any) -> FrontEnd:
    """Makes the front end of a method.

    At another `sample_rate` than the recipe's, windows and hops last as long
    as its own (a power of two of points becomes the next one), and the
    highest band edge lies as far below half of the rate, where `overrides` do
    not say them.

    Args:
        name: A key of `RECIPES`.
        **overrides: Arguments that replace the recipe's.

    Returns:
        A `FrontEnd`.

    Raises:
        ValueError: For an unknown name.

    Example:
        >>> kas.features.recipe("apc").n_features
        80
        >>> kas.features.recipe("cola", sample_rate=8000).f_max
        3900.0
    """
    if name not in RECIPES:
        raise ValueError(
            f"Unknown recipe {name!r}. Known: {', '.join(sorted(RECIPES))}"
        )
    layer, settings = RECIPES[name]
    overrides = renamed(layer, overrides)
    return layer(**{**at_rate(layer, settings, overrides), **overrides})


def at_rate(
    layer: Any, settings: dict[str, Any], overrides: dict[str, Any]
) -> dict[str, Any]:
    """A recipe's settings for the rate that was asked for."""
    usual = {**defaults_of(layer), **settings}
    rate, asked = usual["sample_rate"], overrides.get("sample_rate")
    if not isinstance(asked, (int, float)) or asked == rate or asked <= 0:
        return settings
    scaled = {}
    for key in ("win_length", "hop_length"):
        if usual.get(key) is not None:
            scaled[key] = max(1, round(usual[key] * asked / rate))
    if usual.get("f_max") is not None:
        scaled["f_max"] = usual["f_max"] * asked / rate
    if usual.get("n_fft") is not None:
        window = overrides.get("win_length", scaled.get("win_length", 1))
        points = max(round(usual["n_fft"] * asked / rate), window)
        if usual["n_fft"] & (usual["n_fft"] - 1) == 0:
            points = 1 << (points - 1).bit_length()
        scaled["n_fft"] = points
    return {**settings, **scaled}


def defaults_of(layer: Any) -> dict[str, Any]:
    """What a front end's class takes by default, and those above it."""
    found: dict = {}
    for base, parameters in constructors(layer):
        for name, parameter in parameters.items():
            if parameter.default is not parameter.empty:
                found.setdefault(name, parameter.default)
        if base is FrontEnd:
            break
    return found
