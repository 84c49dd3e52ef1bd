"""A vector back to slices of features."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks.factorized import FactorizedBlock
from keras_audio_ssl.engine import Layer


class SliceDecoder(Layer):
    """A dense layer, then blocks that double time and frequency.

    Args:
        dim: Width of the vector.
        frames: Of a slice, a multiple of 2 to the number of blocks.
        bins: Of the features, likewise.
        slices: That are made at once, each in channels of its own.
        channels: Filters of each block. The map that they begin with has
            twice as many as the first.

    Call arguments:
        x: `(batch, dim)`.

    Returns:
        `(batch, slices, frames, bins)`.

    Raises:
        ValueError: `frames` or `bins` is no such multiple.

    Reference:
        Tagliasacchi et al., 2019, arXiv 1905.11796.
    """

    def __init__(
        self,
        dim: int,
        frames: int,
        bins: int,
        slices: int = 1,
        channels: Sequence[int] = (64, 32, 16, 8, 8),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not channels or min(channels) < 1 or slices < 1:
            raise ValueError(
                "`channels` must hold at least one number, and they and "
                f"`slices` be positive. Received: {channels}, {slices}"
            )
        unit = 2 ** len(channels)
        for name, size in (("frames", frames), ("bins", bins)):
            if size < 1 or size % unit:
                below = size // unit * unit
                near = [str(n) for n in (below, below + unit) if n > 0]
                raise ValueError(
                    f"The decoder doubles its map {len(channels)} times: "
                    f"`{name}` must be a multiple of {unit}, the nearest are "
                    f"{' and '.join(near)}. Received: {size}"
                )
        policy = {"dtype": self.dtype_policy}
        width = 2 * channels[0]
        self.least = (frames // unit, bins // unit, width)
        self.dense = keras.layers.Dense(
            self.least[0] * self.least[1] * width,
            "relu",
            name="dense",
            **policy,
        )
        self.dense.build((None, dim))
        self.blocks = []
        for i, filters in enumerate(channels):
            self.blocks.append(
                FactorizedBlock(
                    width, filters, enlarge=True, name=f"block_{i}", **policy
                )
            )
            width = filters
        self.out = keras.layers.Dense(slices, name="out", **policy)
        self.out.build((None, None, None, width))

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        x = ops.reshape(self.dense(x), (-1, *self.least))
        for block in self.blocks:
            x = block(x, training=training)
        # (batch, frames, bins, slices) to (batch, slices, frames, bins).
        return ops.transpose(self.out(x), (0, 3, 1, 2))
