"""What a method's `encoder=` takes: settings, an encoder, any layer."""

from typing import Any
from typing import TypeAlias

import keras

from keras_audio_ssl.data.clips.given import whole_rate
from keras_audio_ssl.encoders.audio_ntt import AudioNTT
from keras_audio_ssl.encoders.backbone import Backbone
from keras_audio_ssl.encoders.bidirectional import BidirectionalStack
from keras_audio_ssl.encoders.conv_transformer import MAMTransformer
from keras_audio_ssl.encoders.conv_transformer import MPCTransformer
from keras_audio_ssl.encoders.conv_waveform import WaveformConv
from keras_audio_ssl.encoders.efficientnet import EfficientNetB0
from keras_audio_ssl.encoders.encoder import Encoder
from keras_audio_ssl.encoders.keras_backbone import KerasBackbone
from keras_audio_ssl.encoders.latent import LatentStack
from keras_audio_ssl.encoders.masked_conv import MaskedConvStack
from keras_audio_ssl.encoders.panns import CNN6
from keras_audio_ssl.encoders.panns import CNN14
from keras_audio_ssl.encoders.panns import Res1dNet31
from keras_audio_ssl.encoders.recurrent import RecurrentStack
from keras_audio_ssl.encoders.resnet import ResNet18
from keras_audio_ssl.encoders.resnet import WaveformResNet18
from keras_audio_ssl.encoders.sincnet import SincNet
from keras_audio_ssl.encoders.slice_cnn import PatchCNN
from keras_audio_ssl.encoders.slice_cnn import SliceCNN
from keras_audio_ssl.encoders.transformer import Transformer
from keras_audio_ssl.encoders.vgg import CRNN
from keras_audio_ssl.encoders.vgg import VGG
from keras_audio_ssl.engine import KERAS_ARGUMENTS
from keras_audio_ssl.engine import constructors
from keras_audio_ssl.engine import renamed
from keras_audio_ssl.features import RECIPES
from keras_audio_ssl.features import FrontEnd
from keras_audio_ssl.features import recipe
from keras_audio_ssl.features.recipes import defaults_of

# What `make_encoder` takes for an encoder; None for the paper's.
EncoderLike: TypeAlias = str | dict[str, Any] | keras.layers.Layer | None

# Names of backbones in settings; one may have several.
BACKBONES: dict[str, type[Backbone]] = {
    "audio_ntt": AudioNTT,
    "bidirectional": BidirectionalStack,
    "cnn": AudioNTT,
    "crnn": CRNN,
    "cnn14": CNN14,
    "cnn6": CNN6,
    "conv160": WaveformConv,
    "efficientnet_b0": EfficientNetB0,
    "latent": LatentStack,
    "mam_transformer": MAMTransformer,
    "masked_conv": MaskedConvStack,
    "mpc_transformer": MPCTransformer,
    "patch_cnn": PatchCNN,
    "recurrent": RecurrentStack,
    "resnet18": ResNet18,
    "resnet18_1d": WaveformResNet18,
    "slice_cnn": SliceCNN,
    "res1dnet31": Res1dNet31,
    "sincnet": SincNet,
    "transformer": Transformer,
    "vgg": VGG,
}


def make_encoder(
    encoder: EncoderLike,
    paper: dict[str, Any] | FrontEnd | None = None,
    dtype: Any = None,
    sample_rate: int | None = None,
) -> Encoder:
    """Makes an `Encoder` of what the user gave.

    Args:
        encoder: None for the paper's; a dict of settings that override the
            paper's (arguments of the backbone and of the front end, and
            `"backbone"`, a name of `BACKBONES`, or `"frontend"`, a name of
            `RECIPES`); the name of a backbone; an `Encoder`, which is taken
            as it is; a `Backbone`; or any Keras model or layer that maps
            `(batch, time, bins)` or `(batch, time, bins, 1)` to `(batch,
            frames, dim)`, `(batch, frames, bins, channels)` or `(batch,
            dim)`.
        paper: The paper's settings, a dict; or a `FrontEnd` for a backbone or
            a layer.
        dtype: Policy of a backbone that is made here.
        sample_rate: Hz, in place of the paper's; see `recipe` for what
            follows it. None for the paper's.

    Returns:
        An `Encoder`. The paper's front end has as many mel bands as a
        backbone or a model that is given reads.

    Raises:
        ValueError: `encoder` is something else, of another rank, of another
            rate than `sample_rate`, or has settings that neither backbone nor
            front end knows.

    Example:
        >>> paper = {"backbone": "recurrent", "frontend": "apc"}
        >>> make_encoder({"units": 256}, paper).dim
        256
    """
    if sample_rate is not None:
        sample_rate = whole_rate(sample_rate)
        check_rate(encoder, sample_rate)
        if isinstance(paper, dict):
            paper = {**paper, "sample_rate": sample_rate}
    if isinstance(encoder, Encoder):
        return encoder
    if isinstance(encoder, keras.layers.Layer):
        if not isinstance(paper, FrontEnd):
            paper = front_end_for(encoder, paper)
        if not isinstance(encoder, Backbone):
            encoder = KerasBackbone(encoder, paper.n_features)
        return Encoder(paper, encoder)
    if isinstance(encoder, str):
        encoder = {"backbone": encoder}
    if isinstance(encoder, (dict, type(None))) and isinstance(paper, dict):
        return from_settings(with_overrides(paper, encoder or {}), dtype)
    raise ValueError(
        "`encoder` must be None, a dict of settings, an Encoder, a Backbone "
        f"or a Keras layer. Received: {encoder!r}"
    )


def check_rate(encoder: EncoderLike, sample_rate: int) -> None:
    """Refuses an encoder, or settings, of another rate."""
    own = sample_rate
    if isinstance(encoder, Encoder):
        own = encoder.sample_rate
    elif isinstance(encoder, dict):
        own = encoder.get("sample_rate", sample_rate)
    if own != sample_rate:
        raise ValueError(
            f"`sample_rate` must be the encoder's, {own} Hz. "
            f"Received: {sample_rate}"
        )


def with_overrides(
    paper: dict[str, Any], settings: dict[str, Any]
) -> dict[str, Any]:
    """The paper's settings with the user's in place.

    Where the user names another backbone or front end, what the paper says of
    its own means nothing and is left out.
    """
    chosen = parts({**paper, **settings})
    for part in chosen:
        settings = renamed(part, settings)
    merged = {**paper, **settings}
    known = {name for part in chosen for name in arguments_of(part)}
    other = any(merged[key] != paper[key] for key in ("backbone", "frontend"))
    return {
        name: value
        for name, value in merged.items()
        if not other or name in settings or name in known
        or name in ("backbone", "frontend")
    }  # fmt: skip


def scaled_as_segments(
    encoder: EncoderLike,
    paper: dict[str, Any],
    seconds: float,
    sample_rate: int | None = None,
) -> dict[str, Any]:
    """The paper's settings, by which clips are scaled as segments are.

    Where the front end that is asked for scales to unit norm, clips of any
    length have it in as many seconds as the segments of the training.

    Args:
        encoder: What `make_encoder` takes; of what is no dict the paper's.
        paper: The paper's settings.
        seconds: Length of a segment.
        sample_rate: As of `make_encoder`.

    Returns:
        `paper`, with `"amplitude_samples"` where it has a meaning.
    """
    given = encoder if isinstance(encoder, dict) else {}
    merged = {**paper, **renamed(FrontEnd, given)}
    layer, usual = RECIPES.get(str(merged["frontend"]), (FrontEnd, {}))
    if sample_rate is not None:
        merged.setdefault("sample_rate", whole_rate(sample_rate))
    settings = {**defaults_of(layer), **usual, **merged}
    rate = settings.get("sample_rate")
    # What is no rate is refused where the front end is made.
    if settings.get("amplitude") != "l2" or not isinstance(rate, int):
        return paper
    return {**paper, "amplitude_samples": max(round(seconds * rate), 1)}


def meaningful(
    preset: dict[str, Any], settings: dict[str, Any]
) -> dict[str, Any]:
    """What of a preset's settings means something beside the user's.

    Where the user names a backbone or a front end, what others know and it
    does not is left out; a name that is none is left to `from_settings`.
    """
    if not {"backbone", "frontend"} & settings.keys():
        return preset
    layers = {name: layer for name, (layer, _) in RECIPES.items()}
    backbones, front_ends = (
        {name for part in set(table.values()) for name in arguments_of(part)}
        for table in (BACKBONES, layers)
    )
    strange: set[str] = set()
    chosen = settings.get("backbone")
    if isinstance(chosen, str) and chosen in BACKBONES:
        own = arguments_of(BACKBONES[chosen])
        strange |= backbones - front_ends - set(own)
    chosen = settings.get("frontend")
    if isinstance(chosen, str) and chosen in layers:
        strange |= front_ends - backbones - set(arguments_of(layers[chosen]))
    return {n: value for n, value in preset.items() if n not in strange}


def from_settings(settings: dict[str, Any], dtype: Any = None) -> Encoder:
    """An `Encoder` of complete settings; see `make_encoder`."""
    backbone, layer = parts(settings)
    taken = {"backbone", "frontend"}
    chosen = []
    for part in (layer, backbone):
        names = [n for n in arguments_of(part) if n in settings]
        chosen.append({n: settings[n] for n in names if n not in taken})
        taken.update(names)
    if unknown := sorted(set(settings) - taken):
        raise ValueError(
            f"`encoder` has no setting {unknown[0]!r}. Known: of the backbone "
            f"{', '.join(arguments_of(backbone))}; of the front end "
            f"{', '.join(arguments_of(layer))}."
        )
    front_end = recipe(settings["frontend"], **chosen[0])
    for shared in ("n_features", "sample_rate"):
        if shared in arguments_of(backbone):
            chosen[1].setdefault(shared, getattr(front_end, shared))
    return Encoder(front_end, backbone(dtype=dtype, **chosen[1]))


def parts(settings: dict[str, Any]) -> tuple[Any, Any]:
    """The classes of backbone and front end that settings name.

    Raises:
        ValueError: There is none of this name.
    """
    found: list[Any] = []
    for key, table in (("backbone", BACKBONES), ("frontend", RECIPES)):
        name = settings[key]
        if not isinstance(name, str) or name not in table:
            raise ValueError(
                f"`encoder` has no {key} {name!r}. Known: "
                f"{', '.join(sorted(table))}."
            )
        found.append(table[name])
    backbone, (layer, _) = found
    return backbone, layer


def arguments_of(cls: Any) -> list[str]:
    """Names of what a class and those above it take, Keras' own left out."""
    names: dict[str, None] = {}
    for base, parameters in constructors(cls):
        if base is keras.layers.Layer:
            break
        names |= dict.fromkeys(parameters)
    # A subclass works these out.
    hidden = {"n_bins", "min_samples", *KERAS_ARGUMENTS}
    return [name for name in names if name not in hidden]


def encoder_settings(encoder: Encoder) -> dict[str, Any]:
    """What a dict of settings would say of an encoder.

    Args:
        encoder: Whose backbone and front end have recorded their arguments.

    Returns:
        Name to value, of the backbone and then of the front end.
    """
    found: dict[str, Any] = {}
    for part in (encoder.backbone, encoder.frontend):
        config = part.get_config()
        for name in arguments_of(type(part)):
            value = config.get(name, getattr(part, name, None))
            if is_plain(value):
                found.setdefault(name, value)
    return found


def is_plain(value: Any) -> bool:
    """Whether JSON has a word for a value."""
    if isinstance(value, (list, tuple)):
        return all(is_plain(v) for v in value)
    return value is None or isinstance(value, (bool, int, float, str))


def front_end_for(network: Any, paper: Any) -> FrontEnd:
    """The paper's front end, of as many bands as a network reads.

    Args:
        network: A `Backbone`, or a Keras model; what a plain layer reads is
            not known.
        paper: The paper's settings.
    """
    _, layer = parts(paper)
    names = arguments_of(layer)
    settings = {k: v for k, v in paper.items() if k in names}
    front_end = recipe(paper["frontend"], **settings)
    bins = getattr(network, "n_features", None)
    if bins is None:
        shape: Any = getattr(network, "input_shape", None) or ()
        bins = shape[2] if len(shape) in (3, 4) else None
    if bins in (None, front_end.n_features) or "n_mels" not in names:
        return front_end
    # Of deltas, or channels, a band has several features.
    key = "n_mfcc" if "n_mfcc" in names else "n_mels"
    bands = bins * getattr(front_end, key) // front_end.n_features
    # There are no more coefficients than bands.
    settings["n_mels"] = max(bands, front_end.n_mels * (key == "n_mfcc"))
    return recipe(paper["frontend"], **{**settings, key: bands})
