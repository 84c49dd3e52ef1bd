"""Isotonic regression in plain `keras.ops`, all rows at once."""

import operator
from collections.abc import Callable

import keras
from keras import ops

from keras_audio_ssl._types import Tensor


def not_rising(y: Tensor, w: Tensor | None = None, kind: str = "l2") -> Tensor:
    """The nearest sequence that does not rise; see `losses.isotonic`.

    Args:
        y: float32 or float64 `(..., n)`.
        w: `(n,)` or None.
        kind: `"l2"` or `"kl"`.

    Returns:
        `(..., n)`.
    """
    fixed = ops.stop_gradient(y)
    first, last = blocks_of(fixed, w, kind)
    near = None
    if kind == "l2":
        # Sums of what is left of the means: long rows would lose digits.
        near = block_values(fixed, w, kind, first, last)
    return block_values(y, w, kind, first, last, near)


def block_values(
    y: Tensor,
    w: Tensor | None,
    kind: str,
    first: Tensor,
    last: Tensor,
    near: Tensor | None = None,
) -> Tensor:
    """The value of the block that each place is in.

    Args:
        y: `(..., n)`.
        w: `(n,)` or None.
        kind: As of `not_rising`.
        first: int32 `(..., n)`, where the block begins.
        last: int32 `(..., n)`, where it ends.
        near: `(..., n)`, of each block a number that is near its values; None
            for the first of them.
    """
    if near is None:
        near = ops.take_along_axis(ops.stop_gradient(y), first, axis=-1)
    if kind == "l2":
        count = ops.cast(last - first + 1, y.dtype)
        return near + block_sum(y - near, first, last) / count
    total = block_sum(ops.exp(y - near), first, last)
    least = ops.broadcast_to(ops.exp(w), ops.shape(y))
    least = block_sum(least, first, last)
    return near + ops.log(total) - ops.log(least)


def block_sum(x: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Sum over the places of each one's block, `(..., n)`."""
    if keras.backend.standardize_dtype(x.dtype) == "float64":
        # Keras' own sums are of float32 on PyTorch.
        total = running(operator.add, x)
    else:
        total = ops.cumsum(x, axis=-1)
    before = ops.take_along_axis(total - x, first, axis=-1)
    return ops.take_along_axis(total, last, axis=-1) - before


def blocks_of(y: Tensor, w: Tensor | None, kind: str) -> tuple[Tensor, Tensor]:
    """The blocks of an isotonic regression: where each place's has its ends.

    All neighbouring blocks that rise are joined at once, round by round,
    until none rises in any row: joined in any order they come to the same.

    Returns:
        `(first, last)`, int32 `(..., n)`.
    """
    n = y.shape[-1]
    place = ops.arange(n, dtype="int32")
    end = ops.zeros_like(y[..., :1], dtype="bool")

    def ends(joined: Tensor) -> tuple[Tensor, Tensor]:
        """Ends of blocks, where `joined` says which places begin none."""
        begins = ops.where(joined, 0, place)
        first = running(ops.maximum, begins)
        # From the right: the nearest place before which a block begins.
        leaves = ops.concatenate([joined[..., 1:], end], axis=-1)
        left = ops.flip(ops.where(leaves, 0, n - 1 - place), axis=-1)
        last = n - 1 - running(ops.maximum, left)
        return first, ops.flip(last, axis=-1)

    def rises(joined: Tensor) -> Tensor:
        first, last = ends(joined)
        value = block_values(y, w, kind, first, last)
        before = ops.concatenate([value[..., :1], value[..., :-1]], axis=-1)
        return (value > before) & ~joined

    def more(joined: Tensor, new: Tensor) -> Tensor:
        return ops.any(new)

    def join(joined: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
        joined = joined | new
        return joined, rises(joined)

    none = ops.zeros_like(y, dtype="bool")
    joined, _ = ops.while_loop(more, join, (none, rises(none)))
    return ends(joined)


def running(combine: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> Tensor:
    """Sums or maxima (of what is not negative) so far, along the last axis."""
    step = 1
    while step < x.shape[-1]:
        ahead = ops.zeros_like(x[..., :step])
        x = combine(x, ops.concatenate([ahead, x[..., :-step]], axis=-1))
        step *= 2
    return x
