"""Steps of a network back to features, by transposed convolutions."""

from typing import Any

import keras
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks.conv import mask_frames
from keras_audio_ssl.engine import Layer


class DeconvHead(Layer):
    """A dense layer, then convolutions that double time and frequency.

    Args:
        dim: Width of the steps.
        bins: Of the features.
        stride: Feature frames in a step, a power of two: each doubling is
            one transposed convolution, 3 x 3, with ReLU but for the last.
        filters: Channels between them; None for `dim`.

    Call arguments:
        x: `(batch, steps, dim)`.
        lengths: Optional `(batch,)`, valid feature frames. What lies beyond
            is kept out of what lies before.

    Returns:
        `(batch, stride * steps, bins)`.

    Raises:
        ValueError: `stride` is no power of two.

    Reference:
        Chen et al., 2020, "MAM", arXiv 2010.11445.
    """

    def __init__(
        self,
        dim: int,
        bins: int,
        stride: int = 4,
        filters: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if stride < 1 or stride & (stride - 1):
            raise ValueError(
                f"`stride` must be a power of two. Received: {stride}"
            )
        policy = {"dtype": self.dtype_policy}
        self.rows = -(-bins // stride)
        self.channels = (filters or dim) if stride > 1 else 1
        self.dense = keras.layers.Dense(
            self.rows * self.channels, name="dense", **policy
        )
        self.dense.build((None, None, dim))
        self.convs, rows = [], self.rows
        for i in range(stride.bit_length() - 1):
            last = 2 ** (i + 1) == stride
            conv = keras.layers.Conv2DTranspose(
                1 if last else self.channels, 3, 2, "same",
                data_format="channels_last",
                activation=None if last else "relu",
                name=f"conv_{i}", **policy,
            )  # fmt: skip
            conv.build((None, None, rows, self.channels))
            self.convs.append(conv)
            rows *= 2

    def call(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.dense(x)
        # A map (batch, steps, bins / stride, channels), doubled by each layer.
        shape = (-1, ops.shape(x)[1], self.rows, self.channels)
        x, stride = ops.reshape(x, shape), self.stride
        for conv in self.convs:
            if lengths is not None:
                valid = (ops.cast(lengths, "int32") + stride - 1) // stride
                x = mask_frames(x, valid)
            y = backend.doubling_conv(x, conv.kernel)
            x = conv.activation(y + ops.cast(conv.bias, y.dtype))
            stride //= 2
        return x[:, :, : self.bins, 0]
