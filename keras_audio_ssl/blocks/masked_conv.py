"""Convolution over time that does not see what lies in its middle."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks.conv import conv_1d
from keras_audio_ssl.blocks.conv import mask_frames
from keras_audio_ssl.engine import Layer


class MaskedConv1D(Layer):
    """Convolution over time whose middle taps count for nothing.

    Numbers and gradients are those of `Conv1D(padding="same")` whose kernel
    is multiplied by 0 in the middle. The kernel is stored whole; what is
    masked is not computed, and its gradient is exactly zero.

    Args:
        filters: Channels out.
        kernel_size: Taps, odd.
        masked: How many of them, in the middle, are left out: odd and fewer
            than there are, or 0, the default, for none.
        activation: Keras' name of one, default None.

    Call arguments:
        x: `(batch, time, channels)`.
        lengths: Optional `(batch,)`, valid frames. With it every clip gives
            what it gives alone: frames past its end count as zeros, and are
            zero in the output.

    Returns:
        `(batch, time, filters)`.

    Raises:
        ValueError: A size is even or not positive, or every tap is masked.

    Reference:
        Liu, Chung & Glass, 2020, arXiv 2011.00406, section 2.2.

    Example:
        >>> layer = MaskedConv1D(64, 15, masked=7)
        >>> layer(np.zeros((2, 30, 8), "float32")).shape
        (2, 30, 64)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        masked: int = 0,
        activation: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                "`kernel_size` must be odd, so that frames keep their place. "
                f"Received: {kernel_size}"
            )
        if masked and (masked % 2 == 0 or not 0 < masked < kernel_size):
            raise ValueError(
                "`masked` must be 0, or odd and less than the kernel's "
                f"{kernel_size} taps. Received: {masked}"
            )
        self.activation = keras.activations.get(activation)

    def build(self, input_shape: Sequence[Any]) -> None:
        self.input_spec = keras.layers.InputSpec(
            ndim=3, axes={-1: input_shape[-1]}
        )
        self.kernel = self.add_weight(
            shape=(self.kernel_size, input_shape[-1], self.filters),
            initializer="glorot_uniform", name="kernel",
        )  # fmt: skip
        self.bias = self.add_weight(
            shape=(self.filters,), initializer="zeros", name="bias"
        )

    def call(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = ops.cast(x, self.compute_dtype)
        if lengths is not None:
            x = mask_frames(x, lengths)
        kernel, size = ops.convert_to_tensor(self.kernel), self.kernel_size
        around = (size // 2, size // 2)
        if self.masked:
            # Both sides' taps, next to each other as channels, are one
            # shorter convolution.
            side = (size - self.masked) // 2
            x = ops.pad(x, ((0, 0), around, (0, 0)))
            x = ops.concatenate(
                [x[:, : side - size], x[:, size - side :]], axis=-1
            )
            kernel = ops.concatenate(
                [kernel[:side], kernel[size - side :]], axis=1
            )
            around = (0, 0)
        y = conv_1d(x, kernel, pad=around)
        y = self.activation(y + ops.cast(self.bias, y.dtype))
        return y if lengths is None else mask_frames(y, lengths)

    def compute_output_shape(
        self, input_shape: Sequence[Any]
    ) -> tuple[Any, ...]:
        return (*input_shape[:-1], self.filters)
