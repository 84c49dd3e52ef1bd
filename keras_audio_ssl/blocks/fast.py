"""Convolution, batch statistics and pooling, the quick way on each backend.

Maps are `(batch, time, frequency, channels)`, kernels `(height, width, in,
out)`. All functions give the numbers and gradients of the plain Keras layers;
what differs is the time and the memory they take.
"""

from typing import Any

import keras
from keras import ops

from keras_audio_ssl.blocks import fast_jax
from keras_audio_ssl.blocks import fast_tensorflow
from keras_audio_ssl.blocks import fast_torch

Pad = tuple[tuple[int, int], tuple[int, int]]


def conv_norm_pool(
    x: Any,
    kernel: Any,
    bias: Any,
    gamma: Any,
    beta: Any,
    epsilon: float,
    pool: tuple[int, int],
) -> tuple[Any, Any, Any]:
    """Convolves, normalises by the batch's statistics, rectifies and pools.

    Args:
        x: `(batch, time, frequency, channels)`.
        kernel: `(height, width, channels, filters)`, odd sizes; maps keep
            their size.
        bias: `(filters,)`. It moves the mean alone: the normalisation takes
            it out again.
        gamma: `(filters,)` float32.
        beta: `(filters,)` float32.
        epsilon: float. Added to the variance.
        pool: two ints. Size and stride of the pooling.

    Returns:
        The map `(batch, time // pool[0], frequency // pool[1], filters)`, and
        mean and (biased) variance of the convolution, float32, no gradient.

    Example:

    >>> y, mean, variance = conv_norm_pool(
    ...     x, kernel, bias, gamma, beta, 1e-5, (2, 2)
    ... )
    """
    # Connected, with a gradient of exactly zero.
    beta = beta + 0.0 * ops.cast(bias, "float32")
    backend = keras.backend.backend()
    if backend == "jax" or (backend == "torch" and fast_torch.is_plain(x)):
        # A rising function of the map may as well be applied after pooling,
        # to a fraction of the values. A negative gamma turns the map over.
        sign = 1.0 - 2.0 * ops.cast(gamma < 0, "float32")
        kernel = ops.cast(kernel, "float32") * sign
        gamma = gamma * sign
        if backend == "jax":
            y, mean, variance = fast_jax.kernels()["conv_norm_pool"](
                x, kernel, gamma, beta, epsilon, pool, half_pad(kernel.shape)
            )
        else:
            y, mean, variance = fast_torch.norm_pool()(
                conv(x, kernel), gamma, beta, epsilon, pool
            )
        mean = mean * sign
    else:
        y, mean, variance = batch_norm(conv(x, kernel), gamma, beta, epsilon)
        y = ops.relu(max_pool(y, pool))
    mean = mean + ops.cast(bias, "float32")
    return y, ops.stop_gradient(mean), ops.stop_gradient(variance)


def conv(
    x: Any,
    kernel: Any,
    bias: Any = None,
    stride: int = 1,
    pad: Pad | None = None,
) -> Any:
    """Convolves a map; the kernel takes its dtype.

    Args:
        x: `(batch, time, frequency, channels)`.
        kernel: `(height, width, channels, filters)`.
        bias: `(filters,)`, or `None`.
        stride: int, on both axes.
        pad: zeros before and after, per axis. `None`: half the kernel on all
            sides, which keeps the size of a map for odd kernels.

    Returns:
        `(batch, time // stride, frequency // stride, filters)`, or so,
        depending on `pad`.

    Example:

    >>> conv(np.ones((1, 8, 8, 3), "float32"), np.ones((3, 3, 3, 4))).shape
    (1, 8, 8, 4)
    """
    x = ops.convert_to_tensor(x)
    kernel = ops.cast(kernel, x.dtype)
    pad = pad or half_pad(kernel.shape)
    backend = keras.backend.backend()
    if backend == "jax":
        y = fast_jax.kernels()["conv"](x, kernel, stride, pad)
    elif backend == "torch":
        y = fast_torch.conv(x, kernel.permute(3, 2, 0, 1), stride, pad, 1)
    else:
        import tensorflow as tf

        x, padding = fast_tensorflow.padded(x, kernel, stride, pad)
        y = tf.nn.conv2d(x, kernel, stride, padding)
    return y if bias is None else y + ops.cast(bias, x.dtype)


def depthwise_conv(
    x: Any, kernel: Any, stride: int = 1, pad: Pad | None = None
) -> Any:
    """Convolves each channel with its own kernel, which takes the map's dtype.

    Args:
        x: `(batch, time, frequency, channels)`.
        kernel: `(height, width, channels, 1)`.
        stride: int, on both axes.
        pad: as for `conv`.

    Returns:
        `(batch, time // stride, frequency // stride, channels)`, or so.

    Example:

    >>> x, kernel = np.ones((1, 8, 8, 3), "float32"), np.ones((5, 5, 3, 1))
    >>> depthwise_conv(x, kernel, stride=2).shape
    (1, 4, 4, 3)
    """
    x = ops.convert_to_tensor(x)
    kernel = ops.cast(kernel, x.dtype)
    pad = pad or half_pad(kernel.shape)
    backend = keras.backend.backend()
    if backend == "jax":
        return fast_jax.kernels()["depthwise_conv"](
            x, kernel[..., 0], stride, pad
        )
    if backend == "torch":
        kernel = kernel.permute(2, 3, 0, 1)
        return fast_torch.conv(x, kernel, stride, pad, kernel.shape[0])
    import tensorflow as tf

    x, padding = fast_tensorflow.padded(x, kernel, stride, pad)
    return tf.nn.depthwise_conv2d(x, kernel, (1, stride, stride, 1), padding)


def half_pad(kernel_shape: Any) -> Pad:
    """Padding by half of a kernel on every side."""
    height, width = int(kernel_shape[0]) // 2, int(kernel_shape[1]) // 2
    return (height, height), (width, width)


def max_pool(x: Any, pool: tuple[int, int]) -> Any:
    """Maxima of windows that do not overlap; a remainder is dropped.

    Args:
        x: `(batch, time, frequency, channels)`.
        pool: two ints. Size and stride.

    Returns:
        `(batch, time // pool[0], frequency // pool[1], channels)`.

    Example:

    >>> max_pool(np.ones((1, 9, 8, 3), "float32"), (2, 2)).shape
    (1, 4, 4, 3)
    """
    x = ops.convert_to_tensor(x)
    if tuple(pool) == (1, 1):
        return x
    if keras.backend.backend() == "torch":
        from torch.nn import functional

        y = functional.max_pool2d(x.permute(0, 3, 1, 2), pool)
        return y.permute(0, 2, 3, 1)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.nn.max_pool2d(x, pool, pool, "VALID")
    return fast_jax.kernels()["max_pool"](x, tuple(pool))


def norm_silu(
    x: Any, gamma: Any, beta: Any, epsilon: float
) -> tuple[Any, Any, Any]:
    """`batch_norm`, then SiLU (`x * sigmoid(x)`)."""
    backend = keras.backend.backend()
    if backend == "jax":
        return fast_jax.kernels()["norm_silu"](x, gamma, beta, epsilon)
    if backend == "torch" and fast_torch.is_plain(x):
        return fast_torch.norm_silu()(x, gamma, beta, epsilon)
    y, mean, variance = batch_norm(x, gamma, beta, epsilon)
    y = fast_tensorflow.silu()(y) if backend == "tensorflow" else ops.silu(y)
    return y, mean, variance


def batch_norm(
    x: Any, gamma: Any, beta: Any, epsilon: float
) -> tuple[Any, Any, Any]:
    """Normalises the last axis by the mean and variance over all others.

    Args:
        x: `(batch, ..., channels)`.
        gamma: `(channels,)` float32.
        beta: `(channels,)` float32.
        epsilon: float. Added to the variance.

    Returns:
        The normalised tensor in the dtype of `x`, mean and (biased) variance
        in float32.

    Example:

    >>> y, mean, variance = batch_norm(x, ops.ones(3), ops.zeros(3), 1e-5)
    """
    backend = keras.backend.backend()
    if backend == "torch":
        return fast_torch.batch_norm(x, gamma, beta, epsilon)
    if backend == "tensorflow" and len(x.shape) == 4:
        import tensorflow as tf

        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=gamma,
            offset=beta,
            mean=[],
            variance=[],
            epsilon=epsilon,
        )
        count = tf.cast(tf.size(x) // x.shape[-1], "float32")
        # TensorFlow gives the unbiased one.
        return y, mean, variance * ((count - 1) / count)
    values = ops.cast(x, "float32")
    mean, variance = ops.moments(values, tuple(range(len(x.shape) - 1)))
    return (
        ops.cast(affine(values, mean, variance, gamma, beta, epsilon), x.dtype),
        mean,
        variance,
    )


def affine(
    x: Any, mean: Any, variance: Any, gamma: Any, beta: Any, epsilon: float
) -> Any:
    """Normalises the last axis by given statistics.

    Args:
        x: `(batch, ..., channels)`.
        mean: `(channels,)`.
        variance: `(channels,)`.
        gamma: `(channels,)`.
        beta: `(channels,)`.
        epsilon: float. Added to the variance.

    Returns:
        A tensor like `x`.

    Example:

    >>> affine(x, ops.zeros(3), ops.ones(3), ops.ones(3), ops.zeros(3), 0.0)
    """
    scale = gamma * ops.rsqrt(variance + epsilon)
    if keras.backend.backend() == "torch":
        import torch

        # One pass instead of two.
        return torch.addcmul(
            (beta - mean * scale).to(x.dtype), x, scale.to(x.dtype)
        )
    return x * scale + (beta - mean * scale)
