"""Recurrent layers in both directions over right-padded sequences."""

from typing import Any

from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks.gru import GRU
from keras_audio_ssl.blocks.lstm import LSTM
from keras_audio_ssl.engine import Layer
from keras_audio_ssl.engine import frame_mask


def reverse_frames(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Each clip's frames from last to first; padding stays where it is.

    Args:
        x: `(batch, frames, dim)`.
        lengths: `(batch,)` valid frames; all when None.

    Returns:
        Like `x`; its own inverse.
    """
    if lengths is None:
        return ops.flip(x, axis=1)
    place = ops.arange(ops.shape(x)[1], dtype="int32")[None]
    last = ops.cast(lengths, "int32")[:, None] - 1
    source = ops.where(place <= last, last - place, place)
    return ops.take_along_axis(x, source[..., None], axis=1)


class Bidirectional(Layer):
    """Two recurrent layers, the second from a clip's end to its beginning.

    Args:
        dim: Width of the input.
        units: Of each direction.

    Call arguments:
        x: `(batch, frames, dim)`.
        lengths: Optional `(batch,)`, valid frames.

    Returns:
        `(batch, frames, 2 * units)`, forward and then backward; zeros past
        each clip's end.

    Attributes:
        cell: The recurrent layer, a class's.

    Reference:
        Schuster & Paliwal, 1997.
    """

    cell: type

    def __init__(self, dim: int, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.ahead = self.cell(units, name="ahead", **policy)
        self.back = self.cell(units, name="back", **policy)
        for direction in (self.ahead, self.back):
            direction.build((None, None, dim))

    def call(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        mask = None
        if lengths is not None:
            mask = frame_mask(lengths, ops.shape(x)[1])
        back = self.back(reverse_frames(x, lengths), mask=mask)
        return ops.concatenate(
            [self.ahead(x, mask=mask), reverse_frames(back, lengths)], axis=-1
        )


class BidirectionalGRU(Bidirectional):
    """`Bidirectional` of two `GRU` (Cho et al., 2014, arXiv 1406.1078).

    Args:
        dim: Width of the input.
        units: Of each direction.
    """

    cell = GRU


class BidirectionalLSTM(Bidirectional):
    """`Bidirectional` of two `LSTM` (Hochreiter & Schmidhuber, 1997).

    Args:
        dim: Width of the input.
        units: Of each direction.
    """

    cell = LSTM
