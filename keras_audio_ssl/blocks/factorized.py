"""Residual blocks of a convolution along time and one along frequency."""

from typing import Any

import keras
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks.conv import ConvNorm
from keras_audio_ssl.blocks.conv import mask_frames
from keras_audio_ssl.engine import Layer
from keras_audio_ssl.engine import check_choice

POOLS = (None, "drop", "keep")


class FactorizedBlock(Layer):
    """`relu(norm(along frequency(relu(norm(along time(x))))) + matrix(x))`.

    Two convolutions, of three frames and of three bins, each with batch
    normalisation, and around both a matrix over the channels.

    Args:
        width: Channels in.
        filters: Channels out.
        pool: Maxima of two frames and two bins after the block: `"drop"`
            leaves out a remainder, `"keep"` pools it alone, as maps of one
            bin need it; None (default) for none.
        enlarge: Whether time and frequency are doubled before the block, each
            value standing four times. Then the convolution along frequency is
            the first.

    Call arguments:
        x: `(batch, time, frequency, width)`.
        lengths: Optional `(batch,)`, valid frames; what lies past them is
            zero, of no influence, and zero in the output. Not where it
            enlarges.

    Returns:
        `(batch, time, frequency, filters)`, both halved or doubled.

    Reference:
        Tagliasacchi et al., 2019, arXiv 1905.11796. That there is a matrix
        around each layer follows from the numbers of weights it gives.
    """

    def __init__(
        self,
        width: int,
        filters: int,
        pool: Any = None,
        enlarge: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("pool", pool, POOLS)
        options = {
            "kernel_initializer": "glorot_uniform",
            "momentum": 0.9,
            "epsilon": 1e-5,
            "dtype": self.dtype_policy,
        }
        kernels = [(1, 3), (3, 1)] if enlarge else [(3, 1), (1, 3)]
        self.first = ConvNorm(
            filters, kernels[0], activation="relu", name="first", **options
        )
        self.second = ConvNorm(
            filters,
            kernels[1],
            activation=None if pool else "relu",
            name="second",
            **options,
        )
        self.shortcut = keras.layers.Dense(
            filters, use_bias=False, name="shortcut", dtype=self.dtype_policy
        )
        self.first.build((None, None, None, width))
        self.second.build((None, None, None, filters))
        self.shortcut.build((None, None, None, width))

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Valid frames of the output, of `lengths` at the input."""
        if self.pool is None:
            return 2 * lengths if self.enlarge else lengths
        return (lengths + (self.pool == "keep")) // 2

    def call(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        around = self.shortcut(x)
        if self.enlarge:
            # After the matrix: a quarter of the products.
            x, around = backend.doubled(x), backend.doubled(around)
        y = self.first(x, lengths=lengths, training=training)
        y = self.second(y, lengths=lengths, training=training, around=around)
        if self.pool is None:
            return y
        if self.pool == "keep":
            # Zeros: no rectified value is below them. One more than needed is
            # left out again, where it is not known.
            rest = [
                (0, size % 2 if isinstance(size, int) else 1)
                for size in y.shape[1:3]
            ]
            if any(odd for _, odd in rest):
                y = ops.pad(y, ((0, 0), *rest, (0, 0)))
        y = backend.relu_pool(y, (2, 2))
        if lengths is not None and self.pool == "drop":
            # A frame of which half is past the end is none.
            y = mask_frames(y, self.output_lengths(lengths))
        return y
