"""Pooling of frames over time, for clips of unequal length."""

from collections.abc import Sequence
from typing import Any

from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.engine import Layer
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.engine import frame_mask

POOLS = ("mean", "max", "std")


def pool_frames(
    x: Tensor, kinds: Sequence[str], lengths: Tensor | None = None
) -> Tensor:
    """Pools frames over time.

    Args:
        x: `(batch, frames, dim)`, zero past each clip's end.
        kinds: Some of `"mean"`, `"max"` and `"std"` (population).
        lengths: `(batch,)` valid frames of each clip, at least 1; all when
            None.

    Returns:
        List of `(batch, dim)`, one for each kind.

    Raises:
        ValueError: An unknown kind.
    """
    unknown = set(kinds) - set(POOLS)
    if unknown:
        raise ValueError(
            f"Poolings are {', '.join(POOLS)}. Received: {sorted(unknown)}"
        )
    dtype = x.dtype
    # Sums over many frames overflow and lose digits in half precision.
    x = ops.cast(x, "float32")
    mask, count = None, ops.cast(ops.shape(x)[1], "float32")
    if lengths is not None:
        mask = frame_mask(lengths, ops.shape(x)[1])[..., None]
        x = ops.where(mask, x, 0.0)
        count = ops.maximum(ops.cast(lengths, "float32"), 1.0)[:, None]
    mean = ops.sum(x, axis=1) / count
    out = []
    for kind in kinds:
        if kind == "mean":
            pooled = mean
        elif kind == "max":
            low = x if mask is None else ops.where(mask, x, -3.0e38)
            pooled = backend.max_over_time(low)
        else:
            off = x - mean[:, None]
            if mask is not None:
                off = ops.where(mask, off, 0.0)
            variance = ops.sum(ops.square(off), axis=1) / count
            pooled = ops.sqrt(ops.maximum(variance, 1e-12))
        out.append(ops.cast(pooled, dtype))
    return out


class FramePool(Layer):
    """Frames to one vector a clip.

    Args:
        kinds: Poolings over time, see `pool_frames`.
        join: `"sum"` adds them (`dim` values), `"concat"` joins them.

    Call arguments:
        x: `(batch, frames, dim)`.
        lengths: Optional `(batch,)`, valid frames.

    Returns:
        `(batch, dim)` or `(batch, len(kinds) * dim)`.
    """

    def __init__(
        self, kinds: Sequence[str] = ("mean",), join: str = "sum", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_choice("join", join, ("sum", "concat"))
        self.kinds = tuple(kinds)

    def width(self, dim: int) -> int:
        """Of the clip vector, of frames of this width."""
        return dim * (len(self.kinds) if self.join == "concat" else 1)

    def call(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        pooled = pool_frames(x, self.kinds, lengths)
        if self.join == "concat":
            return ops.concatenate(pooled, axis=-1)
        return sum(pooled[1:], pooled[0])


class EndsPool(Layer):
    """The last state of each direction of a bidirectional layer.

    That is a clip's last valid frame of the first half of the width, and its
    first frame of the second.

    Call arguments:
        x: `(batch, frames, dim)`, forward and then backward.
        lengths: Optional `(batch,)`, valid frames.

    Returns:
        `(batch, dim)`.
    """

    def width(self, dim: int) -> int:
        """Of the clip vector, of frames of this width."""
        return dim

    def call(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        half = x.shape[-1] // 2
        if lengths is None:
            ahead = x[:, -1, :half]
        else:
            last = ops.maximum(ops.cast(lengths, "int32") - 1, 0)
            ahead = ops.take_along_axis(
                x[..., :half], last[:, None, None], axis=1
            )[:, 0]
        # Backwards the last state stands at the first frame.
        return ops.concatenate([ahead, x[:, 0, half:]], axis=-1)
