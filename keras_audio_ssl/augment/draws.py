"""What augmentations draw and read alike."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl._types import Seed
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.engine import frame_mask


def valid_lengths(
    shape: Sequence[Any], lengths: Tensor | None = None
) -> Tensor:
    """`lengths` as int32 `(batch,)`; all of `shape[1]` where it is None."""
    if lengths is None:
        return ops.full((shape[0],), shape[1], "int32")
    return ops.cast(lengths, "int32")


def masked(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """`x` with zeros past each clip's end."""
    if lengths is None:
        return x
    mask = frame_mask(lengths, ops.shape(x)[1])
    mask = mask[..., None] if len(x.shape) == 3 else mask
    return ops.where(mask, x, 0.0)


def smallest(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Smallest value of each clip's features, `(batch, 1, 1)`."""
    if lengths is not None:
        mask = frame_mask(lengths, ops.shape(x)[1])[..., None]
        x = ops.where(mask, x, 3.0e38)
    return ops.min(x, axis=(1, 2), keepdims=True)


def between(
    shape: Sequence[Any], low: float, high: float, seed: Seed = None
) -> Tensor:
    """Uniform numbers from `low` to `high`, which may be equal."""
    return low + (high - low) * keras.random.uniform(shape, seed=seed)


def whole_between(
    shape: Sequence[Any], low: int, high: int, seed: Seed = None
) -> Tensor:
    """Whole numbers, uniform from `low` to `high`, both among them."""
    return keras.random.randint(shape, low, high + 1, dtype="int32", seed=seed)


def one_of(index: Tensor, values: Tensor) -> Tensor:
    """For each place, the value of so many that an index picks.

    Args:
        index: int32, broadcastable to the values' shape.
        values: List of tensors of one shape.
    """
    picked = values[0]
    for i, value in enumerate(values[1:], 1):
        picked = ops.where(index == i, value, picked)
    return picked


def rolled(x: Tensor, shift: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Each clip moved along time; what leaves at an end enters at the other.

    Args:
        x: `(batch, time, ...)`.
        shift: `(batch,)` int32, places towards the end.
        lengths: Optional `(batch,)`, the valid part, which is what moves.

    Returns:
        Like `x`.
    """
    around = ops.maximum(valid_lengths(ops.shape(x), lengths), 1)
    return backend.rolled(x, ops.mod(shift, around), around)
