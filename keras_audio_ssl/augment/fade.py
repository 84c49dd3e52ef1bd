"""Fades in and out of waveforms."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Seed
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment.draws import one_of
from keras_audio_ssl.augment.draws import valid_lengths
from keras_audio_ssl.augment.protocol import Augmentation

# What rises from 0 to 1 with its argument, and what falls in its place.
RISES = {
    "linear": lambda f: f,
    "exponential": lambda f: 2.0 ** (f - 1.0) * f,
    "logarithmic": lambda f: ops.log10(0.1 + f) + 1.0,
    "quarter_sine": lambda f: ops.sin(0.5 * math.pi * f),
    "half_sine": lambda f: 0.5 * (1.0 - ops.cos(math.pi * f)),
}
SHAPES = tuple(RISES)


def ramp(place: Tensor, length: Tensor, shape: Tensor) -> Tensor:
    """A rise over the first samples of each clip, then 1.

    Args:
        place: `(batch, samples)` int32, places from where the ramp begins.
        length: `(batch,)` int32, its samples.
        shape: `(batch,)` int32, place in `SHAPES`.

    Returns:
        `(batch, samples)` in [0, 1].
    """
    length = length[:, None]
    steps = ops.cast(ops.maximum(length - 1, 1), "float32")
    f = ops.clip(ops.cast(place, "float32") / steps, 0.0, 1.0)
    risen = one_of(shape[:, None], [rise(f) for rise in RISES.values()])
    return ops.where(place < length, ops.clip(risen, 0.0, 1.0), 1.0)


def fade(
    x: Tensor,
    shape: Tensor,
    rise: Tensor,
    fall: Tensor,
    lengths: Tensor | None = None,
) -> Tensor:
    """Fades waveforms in and out.

    Args:
        x: `(batch, samples)`.
        shape: `(batch,)` int32, place in `SHAPES`, of both ramps.
        rise: `(batch,)` int32, samples of the fade at the beginning; of one
            sample it is a zero, of none it is nothing.
        fall: `(batch,)` int32, samples of the fade at the end; of one it is
            nothing.
        lengths: Optional `(batch,)`, valid samples.

    Returns:
        Like `x`.

    Reference:
        `torchaudio.transforms.Fade`.
    """
    place = ops.arange(ops.shape(x)[1], dtype="int32")[None]
    lengths = valid_lengths(ops.shape(x), lengths)[:, None]
    gain = ramp(place, rise, shape)
    # Seen from the end, what falls rises.
    fall = ops.where(fall > 1, fall, 0)
    gain = gain * ramp(lengths - 1 - place, fall, shape)
    return x * gain


class Fade(Augmentation):
    """Fades in and out, each over up to half of the clip.

    One of five shapes for both, lengths uniform from 0 on.

    Reference:
        Al-Tahan & Mohsenzadeh, 2021, "CLAR", arXiv 2010.09542.
    """

    domain = "waveform"

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        u = keras.random.uniform((3, shape[0]), seed=seed)
        half = ops.cast(valid_lengths(shape, lengths) // 2, "float32")
        last = ops.maximum(half - 1.0, 0.0)
        fall, rise = (
            ops.cast(ops.minimum(ops.floor(v * half), last), "int32")
            for v in (u[1], u[2])
        )
        shape = ops.minimum(ops.cast(u[0] * len(SHAPES), "int32"), 4)
        return {"shape": shape, "rise": rise, "fall": fall}

    def apply(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        shape: Tensor,
        rise: Tensor,
        fall: Tensor,
    ) -> Tensor:
        return fade(x, shape, rise, fall, lengths)
