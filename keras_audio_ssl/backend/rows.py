"""Maps of one row convolved in steps, as one product."""

from collections.abc import Callable

from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.backend.portable import Pad
from keras_audio_ssl.backend.portable import Stride
from keras_audio_ssl.backend.portable import both

# Channels from which on the product pays.
WIDE = 64


def is_row_in_steps(
    x: Tensor, kernel: Tensor, stride: Stride, pad: Pad
) -> bool:
    """Whether `row_in_steps` says what a convolution does, and quicker."""
    height, width, channels, _ = kernel.shape
    along = both(stride)[1]
    return (
        height == 1 < along
        and x.shape[1] == 1
        and width % along == 0
        and channels >= WIDE
        and pad[0] == (0, 0)
    )


def row_in_steps(
    x: Tensor,
    kernel: Tensor,
    stride: Stride,
    pad: Pad,
    staggered_sum: Callable[[Tensor], Tensor],
) -> Tensor:
    """A map of one row convolved, as a product with the frames of a step.

    The gradients of a convolution take longer where channels are last:
    PyTorch three times, TensorFlow a quarter.

    Args:
        x: `(batch, 1, frames, channels)`.
        kernel: `(1, taps, channels, filters)`, taps a multiple of the stride.
        stride: Along the row, or one of two.
        pad: As that of `conv`, none for the row's own axis.
        staggered_sum: Of `(batch, frames + parts - 1, parts, dim)`, each
            frame's first part, the second of the next frame, and so on.

    Returns:
        `(batch, 1, frames, filters)`.
    """
    step = both(stride)[1]
    taps, channels, filters = kernel.shape[1:]
    x = ops.squeeze(x, axis=1)
    if any(pad[1]):
        x = ops.pad(x, ((0, 0), pad[1], (0, 0)))
    # Of a step each.
    parts = taps // step
    batch, frames = ops.shape(x)[:2]
    steps = (frames - taps) // step + parts
    x = ops.slice(x, (0, 0, 0), (batch, steps * step, channels))
    x = ops.reshape(x, (-1, steps, step * channels))
    # The taps of a step with its frames, all steps in one product.
    matrix = ops.reshape(kernel, (parts, step * channels, filters))
    matrix = ops.reshape(ops.swapaxes(matrix, 0, 1), (-1, parts * filters))
    products = ops.matmul(x, matrix)
    products = ops.reshape(products, (-1, steps, parts, filters))
    return ops.expand_dims(staggered_sum(products), axis=1)
