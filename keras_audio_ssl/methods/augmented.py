"""What the augmentations of a method do to sounds."""

from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment import AUGMENTATIONS
from keras_audio_ssl.augment import Sometimes
from keras_audio_ssl.methods import METHODS
from keras_audio_ssl.methods import make_method
from keras_audio_ssl.methods import method_class


def augmentation_names(method: str) -> list[str]:
    """Names that a method's `augmentations=` may have.

    Args:
        method: Its registry name.

    Raises:
        ValueError: It takes none.
    """
    domain = method_class(method).augments
    if domain is None:
        able = [m for m in sorted(METHODS) if method_class(m).augments]
        raise ValueError(
            f"`method` must take augmentations: {', '.join(able)}. "
            f"Received: {method!r}"
        )
    return [n for n, layer in AUGMENTATIONS.items() if layer.domain == domain]


def augmented(method: str, clips: Any, name: str, **settings: Any) -> Any:
    """What one augmentation makes of clips, always and not sometimes.

    Args:
        method: Registry name, whose front end and settings are taken.
        clips: `(batch, samples)` at its rate.
        name: Of the augmentation; `""` for none.
        **settings: Arguments of its class.

    Returns:
        numpy, waveforms `(batch, samples)` or features, not normalised,
        `(batch, time, bins)`, whichever the method changes. Features are of
        the random segment that it takes of a clip, the same for all names.
    """
    names = [name] if name else []
    model = make_method(method, **{**settings, "augmentations": names})
    x = ops.convert_to_tensor(clips, "float32")
    if model.augments == "features":
        x = segment_features(model, x)
    for layer in model.augmentations:
        if isinstance(layer, str):
            layer = getattr(model, layer)
        if isinstance(layer, Sometimes):
            layer = layer.layer
        # Some take all views of a batch at once; the first is shown.
        views = ops.concatenate([x] * getattr(layer, "views", 1), axis=0)
        views = layer(views, seed=keras.random.SeedGenerator(7))
        x = views[: len(clips)]
    return ops.convert_to_numpy(x)


def segment_features(model: Any, clips: Tensor) -> Tensor:
    """Features of what a method takes of clips, not normalised.

    Args:
        model: A method that augments features.
        clips: `(batch, samples)`.

    Returns:
        `(batch, time, bins)`. How much an augmentation changes depends on the
        time: a part of a map by area and aspect is one thing of a segment and
        another of a whole clip.
    """
    features = model.encoder.frontend.unnormalized
    seed = keras.random.SeedGenerator(7)
    # A patch of the features, where the method counts frames; else a segment
    # of the waveform.
    if hasattr(model, "frames"):
        return model.crop(features(clips), seed=seed)
    return features(model.crop(clips, seed=seed))
