"""The front ends of the methods, by name."""

from keras_audio_ssl.features.frontend import FrontEnd
from keras_audio_ssl.features.layers import LogMel

FLOAT32_EPSILON = 1.1920929e-07

RECIPES: dict[str, tuple[type[FrontEnd], dict]] = {
    "cola": (
        LogMel,
        dict(
            n_fft=1024,
            win_length=400,
            center=False,
            power=1,
            mel_scale="kaldi",
            log_floor=1e-5,
            log_ceiling=1e8,
            level="l2",
        ),
    ),
    "byol_a": (
        LogMel,
        dict(
            n_fft=1024,
            mel_scale="slaney",
            mel_norm="slaney",
            log_add=FLOAT32_EPSILON,
            normalize="scalar",
        ),
    ),
    "apc": (
        LogMel,
        dict(
            n_fft=512,
            win_length=400,
            n_mels=80,
            f_min=20.0,
            f_max=8000.0,
            window="hamming_symmetric",
            center=False,
            mel_scale="kaldi",
            log_floor=FLOAT32_EPSILON,
            preemphasis=0.97,
            remove_dc=True,
            normalize="utterance",
        ),
    ),
}


def recipe(name: str, **overrides) -> FrontEnd:
    """Makes the front end of a method.

    Args:
        name: a key of `RECIPES`.
        **overrides: arguments that replace the recipe's.

    Returns:
        A `FrontEnd`.

    Raises:
        ValueError: for an unknown name.

    Example:

    >>> recipe("apc").n_features
    80
    """
    if name not in RECIPES:
        raise ValueError(
            f"Unknown recipe {name!r}. Known: {', '.join(sorted(RECIPES))}"
        )
    layer, settings = RECIPES[name]
    return layer(**{**settings, **overrides})
