"""Augmentations by name, and what a method's `augmentations=` takes."""

from collections.abc import Collection
from collections.abc import Sequence
from typing import Any
from typing import TypeAlias

import keras
from keras import ops

from keras_audio_ssl._types import Seed
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment.fade import Fade
from keras_audio_ssl.augment.fader import RandomLinearFader
from keras_audio_ssl.augment.level import Compression
from keras_audio_ssl.augment.level import Gain
from keras_audio_ssl.augment.mixing import MixBack
from keras_audio_ssl.augment.mixing import WaveformMix
from keras_audio_ssl.augment.noise import FaintNoise
from keras_audio_ssl.augment.noise import FeatureNoise
from keras_audio_ssl.augment.noise import MixedNoise
from keras_audio_ssl.augment.noise import TimeMask
from keras_audio_ssl.augment.noise import WhiteNoise
from keras_audio_ssl.augment.protocol import Augmentation
from keras_audio_ssl.augment.resize_crop import RandomResizeCrop
from keras_audio_ssl.augment.resized_crop import RandomResizedCrop
from keras_audio_ssl.augment.shift import FrameShift
from keras_audio_ssl.augment.shift import FrequencyShift
from keras_audio_ssl.augment.shift import TimeShift
from keras_audio_ssl.augment.spec_augment import SpecAugment
from keras_audio_ssl.augment.stretch import Colour
from keras_audio_ssl.augment.stretch import FrequencyWarp
from keras_audio_ssl.augment.vocoder import PitchShift
from keras_audio_ssl.augment.vocoder import TimeStretch
from keras_audio_ssl.engine import frame_mask

AUGMENTATIONS: dict[str, type[Augmentation]] = {
    # Of waveforms.
    "fade": Fade,
    "faint_noise": FaintNoise,
    "gain": Gain,
    "mixed_noise": MixedNoise,
    "pitch_shift": PitchShift,
    "time_mask": TimeMask,
    "time_shift": TimeShift,
    "time_stretch": TimeStretch,
    "waveform_mix": WaveformMix,
    "white_noise": WhiteNoise,
    # Of features.
    "colour": Colour,
    "compression": Compression,
    "fader": RandomLinearFader,
    "frame_shift": FrameShift,
    "frequency_shift": FrequencyShift,
    "frequency_warp": FrequencyWarp,
    "mix_back": MixBack,
    "noise": FeatureNoise,
    "resize_crop": RandomResizeCrop,
    "resized_crop": RandomResizedCrop,
    "spec_augment": SpecAugment,
}

# What methods take for augmentations: a name of `AUGMENTATIONS`, a layer, or
# several of them; None for none.
AugmentationsLike: TypeAlias = (
    str | keras.layers.Layer | Sequence[str | keras.layers.Layer] | None
)


def make_augmentations(
    given: AugmentationsLike,
    domain: str,
    own: Collection[str] = (),
    argument: str = "augmentations",
) -> list[Any]:
    """The layers that a method's `augmentations=` names.

    Args:
        given: Names of `AUGMENTATIONS` and augmentations, in the order in
            which they are applied; one of them; or None for none.
        domain: What the method changes, `"waveform"` or `"features"`.
        own: Names for which the method has layers itself: they stay names.
        argument: Its name in errors.

    Returns:
        List of augmentations, and of names that are the method's own.

    Raises:
        ValueError: An unknown name, something else, or an augmentation of the
            other domain.

    Example:
        >>> mask = kas.augment.Sometimes(kas.augment.TimeMask(), 0.25)
        >>> fade, mask = make_augmentations(("fade", mask), "waveform")
        >>> type(fade).__name__, mask.domain
        ('Fade', 'waveform')
    """
    if given is None:
        given = ()
    elif isinstance(given, (str, Augmentation)):
        given = (given,)
    known = {
        name for name, layer in AUGMENTATIONS.items() if layer.domain == domain
    } | set(own)
    found = []
    for item in given:
        layer = item
        if isinstance(item, str):
            if item not in known:
                raise ValueError(
                    f"`{argument}` of {domain} are "
                    f"{', '.join(sorted(known))}. Received: {item!r}"
                )
            layer = item if item in own else AUGMENTATIONS[item]()
        elif not isinstance(item, Augmentation):
            raise ValueError(
                "`augmentations` must be names or augmentations. Received: "
                f"{item!r}"
            )
        elif item.domain != domain:
            raise ValueError(
                f"`{argument}` must be of {domain}. Received: "
                f"{type(item).__name__}, of {item.domain}"
            )
        found.append(layer)
    return found


def waveform_layers(given: AugmentationsLike) -> list[Any]:
    """The layers that `augmentation=` of any method names.

    Args:
        given: A name of `AUGMENTATIONS`, an augmentation of waveforms, any
            Keras layer that maps `(batch, samples)` to the same; or several,
            in the order in which they are applied; or None for none.

    Returns:
        List of layers.

    Raises:
        ValueError: An unknown name, something else, or an augmentation of
            features.

    Example:
        >>> gain, noise = waveform_layers(
        ...     ["gain", keras.layers.GaussianNoise(0.01)]
        ... )
        >>> gain.domain
        'waveform'
    """
    if not isinstance(given, (list, tuple)):
        given = [] if given is None else [given]
    found: list[Any] = []
    for item in given:
        ours = isinstance(item, (str, Augmentation))
        if not ours and not isinstance(item, keras.layers.Layer):
            raise ValueError(
                "`augmentation` must be a layer of waveforms (batch, samples), "
                "the name of one, or a list of them. Received: "
                f"{item!r}"
            )
        if ours:
            item = make_augmentations(item, "waveform", argument="augmentation")
        found += item if ours else [item]
    return found


def altered(
    layers: list[Any], waveform: Tensor, lengths: Tensor | None, seed: Seed
) -> Tensor:
    """Waveforms as layers change them in training, one after the other.

    Args:
        layers: Of `waveform_layers`.
        waveform: `(batch, samples)`.
        lengths: `(batch,)` valid samples, or None. What lies beyond stays
            zero.
        seed: `keras.random.SeedGenerator`, of augmentations; other layers
            have their own.

    Returns:
        Like `waveform`.

    Raises:
        ValueError: A layer gives another shape.
    """
    x = ops.cast(waveform, "float32")
    for layer in layers:
        if isinstance(layer, Augmentation):
            y = layer(x, lengths=lengths, seed=seed)
        elif layer._call_has_training_arg:
            y = layer(x, training=True)
        else:
            y = layer(x)
        if tuple(y.shape) != tuple(x.shape):
            raise ValueError(
                f"`augmentation`: {layer.name} must give waveforms of the "
                f"shape that it takes, {tuple(x.shape)}. Received: "
                f"{tuple(y.shape)}"
            )
        x = ops.cast(y, "float32")
        if lengths is not None and not isinstance(layer, Augmentation):
            x = ops.where(frame_mask(lengths, ops.shape(x)[1]), x, 0.0)
    return x
