"""The block of ResNet-18, over maps and over waveforms."""

from typing import Any

import keras

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks.conv import ConvNorm
from keras_audio_ssl.engine import Layer

# As PyTorch's batch norms, and initialised as torchvision's convolutions.
NORM: dict[str, Any] = {"momentum": 0.9, "epsilon": 1e-5}


def conv_relu(
    filters: int,
    kernel_size: Any,
    stride: Any = 1,
    activation: str | None = "relu",
    **kwargs: Any,
) -> Any:
    """A `ConvNorm` as ResNets have it, ReLU and He's initialiser."""
    initializer = keras.initializers.VarianceScaling(
        2.0, "fan_out", "untruncated_normal"
    )
    return ConvNorm(
        filters,
        kernel_size,
        stride,
        activation=activation,
        kernel_initializer=initializer,
        **NORM,
        **kwargs,
    )


class BasicBlock(Layer):
    """Two convolutions and, around them, the input.

    Args:
        channels: Of the input.
        filters: Channels out.
        kernel_size: Any or two ints (time, frequency), odd.
        stride: Any or two ints, of the first convolution.

    Call arguments:
        x: `(batch, time, frequency, channels)`, zero past each clip's end.
        lengths: Optional `(batch,)`, valid time steps of the output.

    Returns:
        `(batch, time / stride, frequency / stride, filters)`, rounded up.

    Reference:
        He et al., 2016, "Deep Residual Learning for Image Recognition",
        arXiv 1512.03385.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel_size: Any = 3,
        stride: Any = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.first = conv_relu(
            filters, kernel_size, stride, name="first", **policy
        )
        self.second = conv_relu(filters, kernel_size, name="second", **policy)
        self.first.build((None, None, None, channels))
        self.second.build((None, None, None, filters))
        self.shortcut = None
        if self.first.strides != (1, 1) or channels != filters:
            self.shortcut = conv_relu(
                filters, 1, stride, None, name="shortcut", **policy
            )
            self.shortcut.build((None, None, None, channels))

    def call(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        options = {"lengths": lengths, "training": training}
        y = self.first(x, **options)
        if self.shortcut is not None:
            x = self.shortcut(x, **options)
        return self.second(y, around=x, **options)
