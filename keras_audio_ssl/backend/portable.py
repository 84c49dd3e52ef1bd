"""What the room offers, in plain `keras.ops`: the default, and the oracle.

Maps are `(batch, time, frequency, channels)`, kernels `(height, width, in,
out)`.
"""

import contextlib
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.backend.isotonic import not_rising

__all__ = [
    "Constant",
    "affine",
    "as_one",
    "at_least",
    "average_pool",
    "batch_norm",
    "conv",
    "conv_batch_norm",
    "conv_norm_pool",
    "copied",
    "depthwise_conv",
    "doubled",
    "doubling_conv",
    "drop_out",
    "folding_pays",
    "gathered",
    "gelu",
    "group_norm",
    "gru",
    "half_pad",
    "in_chunks",
    "in_float64",
    "is_accelerated",
    "is_known",
    "is_stateless",
    "lstm",
    "max_over_time",
    "max_pool",
    "name",
    "norm_silu",
    "quicken",
    "reads_ahead",
    "relu_pool",
    "replicas",
    "rolled",
    "rounds_coarsely",
    "sliding_frames",
    "soft_ranks",
    "splitting_pays",
    "taking_shapes",
    "update_if",
]

Pad = tuple[tuple[int, int], tuple[int, int]]
Stride = int | tuple[int, int]


# The backend itself.


def name() -> str:
    """The backend's name: `"jax"`, `"tensorflow"`, `"torch"`."""
    return keras.config.backend()


def is_stateless() -> bool:
    """Whether Keras' steps are given the variables' values and return them."""
    return False


def is_accelerated() -> bool:
    """Whether there is a GPU or a TPU to train on."""
    return False


def reads_ahead() -> bool:
    """Whether `fit` draws for a batch before it knows that there is one."""
    return False


def taking_shapes() -> contextlib.AbstractContextManager[None]:
    """For passes of several shapes, each of which is compiled on purpose."""
    return contextlib.nullcontext()


def is_known(size: Size) -> bool:
    """Whether an entry of a shape can be compared while a graph is made."""
    return isinstance(size, int)


def at_least(size: Size, least: int) -> Size:
    """A size, raised to a number; an entry of a shape, as `size` is."""
    if isinstance(size, int):
        return max(size, least)
    return ops.maximum(size, least)


def copied(variable: keras.Variable) -> Tensor:
    """A variable's value, which later writes to it do not change."""
    return ops.copy(variable.value)


def update_if(
    finite: Tensor,
    flag: keras.Variable,
    update: Callable[..., Any],
    gradients: list[Tensor],
    variables: list[keras.Variable] | None,
) -> None:
    """Updates by finite gradients alone.

    Args:
        finite: bool tensor, whether they are.
        flag: `keras.Variable` that it is written to.
        update: Called with gradients and variables, if they are.
        gradients: List of tensors.
        variables: List of `keras.Variable`.
    """
    flag.assign(finite)
    ops.cond(finite, lambda: update(gradients, variables), lambda: None)


def quicken(optimizer: keras.Optimizer) -> None:
    """Gives an optimizer a quicker update, where there is one.

    Args:
        optimizer: Of equal numbers afterwards.
    """


def drop_out(x: Tensor, rate: float, seed: Any) -> Tensor:
    """Values of which some become zero at random, the others larger.

    Args:
        x: Any shape.
        rate: Probability of each to become zero, above 0 and below 1.
        seed: `keras.random.SeedGenerator`.

    Returns:
        Like `x`, of the same mean.
    """
    return keras.random.dropout(x, rate, seed=seed)


def gelu(x: Tensor) -> Tensor:
    """A floating tensor times the share of the normal law that is below it.

    Reference:
        Hendrycks & Gimpel, 2016, "Gaussian Error Linear Units", arXiv
        1606.08415.
    """
    return ops.gelu(x, approximate=False)


def replicas() -> int:
    """Copies of the model that a step runs on, each with a part of a batch."""
    return 1


def gathered(x: Tensor) -> Tensor:
    """The rows of all replicas, `(replicas * batch, ...)`, with gradients.

    As they are where a step sees the whole batch.
    """
    return x


# Convolution, batch statistics and pooling.


def half_pad(kernel_shape: Sequence[int]) -> Pad:
    """Padding by half of a kernel on every side."""
    height, width = int(kernel_shape[0]) // 2, int(kernel_shape[1]) // 2
    return (height, height), (width, width)


def both(stride: Stride) -> tuple[int, int]:
    """The stride along time and along frequency, of one or two numbers."""
    if isinstance(stride, int):
        return stride, stride
    along, across = stride
    return along, across


def prepared(
    x: Tensor, kernel: Tensor, pad: Pad | None
) -> tuple[Tensor, Tensor, Pad]:
    """A map, its kernel in the map's dtype, and the padding in numbers."""
    x = ops.convert_to_tensor(x)
    return x, ops.cast(kernel, x.dtype), pad or half_pad(kernel.shape)


def _padded(
    x: Tensor, kernel: Tensor, stride: tuple[int, int], pad: Pad | None
) -> tuple[Tensor, Tensor, str]:
    """A map, its kernel, and the padding that is left to the convolution."""
    x, kernel, pad = prepared(x, kernel, pad)
    odd = kernel.shape[0] % 2 and kernel.shape[1] % 2
    if stride == (1, 1) and odd and pad == half_pad(kernel.shape):
        return x, kernel, "same"
    if any(sum(side) for side in pad):
        x = ops.pad(x, ((0, 0), *pad, (0, 0)))
    return x, kernel, "valid"


def conv(
    x: Tensor,
    kernel: Tensor,
    stride: Stride = 1,
    pad: Pad | None = None,
) -> Tensor:
    """Convolves a map; the kernel takes its dtype.

    Args:
        x: `(batch, time, frequency, channels)`.
        kernel: `(height, width, channels, filters)`.
        stride: int on both axes, or two ints (time, frequency).
        pad: Zeros before and after, per axis. `None`: half the kernel on all
            sides, which keeps the size of a map for odd kernels.

    Returns:
        `(batch, time // stride, frequency // stride, filters)`, or so,
        depending on `pad`.

    Example:
        >>> conv(np.ones((1, 8, 8, 3), "float32"), np.ones((3, 3, 3, 4))).shape
        (1, 8, 8, 4)
    """
    stride = both(stride)
    x, kernel, padding = _padded(x, kernel, stride, pad)
    return ops.conv(x, kernel, stride, padding, "channels_last")


def doubled(x: Tensor) -> Tensor:
    """Each value of a map four times.

    Args:
        x: `(batch, time, frequency, channels)`.

    Returns:
        `(batch, 2 * time, 2 * frequency, channels)`.

    Example:
        >>> doubled(np.ones((1, 4, 8, 3), "float32")).shape
        (1, 8, 16, 3)
    """
    x = ops.convert_to_tensor(x)
    _, time, frequency, channels = x.shape
    x = ops.broadcast_to(
        x[:, :, None, :, None],
        (ops.shape(x)[0], time, 2, frequency, 2, channels),
    )
    return ops.reshape(x, (-1, 2 * time, 2 * frequency, channels))


def doubling_conv(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolves a map, transposed, to twice its time and frequency.

    Args:
        x: `(batch, time, frequency, channels)`.
        kernel: `(3, 3, filters, channels)`, as `keras.layers.Conv2DTranspose`
            has it; it takes the map's dtype.

    Returns:
        `(batch, 2 * time, 2 * frequency, filters)`.

    Example:
        >>> x, kernel = np.ones((1, 4, 8, 3), "float32"), np.ones((3, 3, 5, 3))
        >>> doubling_conv(x, kernel).shape
        (1, 8, 16, 5)
    """
    kernel = ops.cast(kernel, x.dtype)
    return ops.conv_transpose(x, kernel, 2, "same", data_format="channels_last")


def depthwise_conv(
    x: Tensor, kernel: Tensor, stride: int = 1, pad: Pad | None = None
) -> Tensor:
    """Convolves each channel with its own kernel, which takes the map's dtype.

    Args:
        x: `(batch, time, frequency, channels)`.
        kernel: `(height, width, channels, 1)`.
        stride: int, on both axes.
        pad: As for `conv`.

    Returns:
        `(batch, time // stride, frequency // stride, channels)`, or so.

    Example:
        >>> x, kernel = np.ones((1, 8, 8, 3), "float32"), np.ones((5, 5, 3, 1))
        >>> depthwise_conv(x, kernel, stride=2).shape
        (1, 4, 4, 3)
    """
    x, kernel, padding = _padded(x, kernel, both(stride), pad)
    return ops.depthwise_conv(x, kernel, stride, padding, "channels_last")


def max_pool(
    x: Tensor, pool: tuple[int, int], stride: tuple[int, int] | None = None
) -> Tensor:
    """Maxima of windows; a remainder is dropped.

    Args:
        x: `(batch, time, frequency, channels)`.
        pool: Two ints, (time, frequency).
        stride: The same, from one window to the next. `None`: `pool`, windows
            that do not overlap.

    Returns:
        `(batch, (time - pool[0]) // stride[0] + 1, (frequency - pool[1]) //
        stride[1] + 1, channels)`.

    Example:
        >>> max_pool(np.ones((1, 9, 8, 3), "float32"), (2, 2)).shape
        (1, 4, 4, 3)
    """
    stride = pool if stride is None else stride
    if tuple(pool) == tuple(stride) == (1, 1):
        return ops.convert_to_tensor(x)
    return ops.max_pool(x, pool, stride, "valid", "channels_last")


def relu_pool(x: Tensor, pool: tuple[int, int]) -> Tensor:
    """`max_pool` of the rectified map.

    Example:
        >>> relu_pool(-np.ones((1, 4, 4, 3), "float32"), (2, 2)).shape
        (1, 2, 2, 3)
    """
    # Of the maxima, which are fewer.
    return ops.relu(max_pool(x, pool))


def average_pool(x: Tensor, pool: tuple[int, int]) -> Tensor:
    """Means of windows that do not overlap; a remainder is dropped.

    Args:
        x: `(batch, time, frequency, channels)`.
        pool: Two ints, (time, frequency).

    Returns:
        `(batch, time // pool[0], frequency // pool[1], channels)`.

    Example:
        >>> average_pool(np.ones((1, 9, 8, 3), "float32"), (2, 2)).shape
        (1, 4, 4, 3)
    """
    return ops.average_pool(x, pool, pool, "valid", "channels_last")


def max_over_time(x: Tensor) -> Tensor:
    """Largest value of each channel, `(batch, time, dim)` to `(batch, dim)`.

    With a gradient that is finite however the input was computed.
    """
    return ops.max(x, axis=1)


def affine(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor,
    beta: Tensor,
    epsilon: float,
) -> Tensor:
    """Normalises the last axis by given statistics.

    Args:
        x: `(batch, ..., channels)`.
        mean: `(channels,)`.
        variance: `(channels,)`.
        gamma: `(channels,)`.
        beta: `(channels,)`.
        epsilon: Added to the variance.

    Returns:
        A tensor like `x`.

    Example:
        >>> x, one, zero = ops.ones((2, 4, 3)), ops.ones(3), ops.zeros(3)
        >>> affine(x, zero, one, one, zero, 0.0).shape
        (2, 4, 3)
    """
    scale = gamma * ops.rsqrt(variance + epsilon)
    return x * scale + (beta - mean * scale)


def batch_norm(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    epsilon: float,
    around: Tensor | None = None,
    relu: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalises the last axis by the mean and variance over all others.

    Args:
        x: `(batch, ..., channels)`.
        gamma: `(channels,)` float32.
        beta: `(channels,)` float32.
        epsilon: Added to the variance.
        around: A tensor like `x` that is added to the normalised one.
        relu: Whether the sum is rectified.

    Returns:
        The normalised tensor in the dtype of `x`, mean and (biased) variance
        in float32.

    Example:
        >>> x, one, zero = ops.ones((2, 4, 3)), ops.ones(3), ops.zeros(3)
        >>> y, mean, variance = batch_norm(x, one, zero, 1e-5)
        >>> mean, variance
        ([1.0, 1.0, 1.0], [0.0, 0.0, 0.0])
    """
    values = ops.cast(x, "float32")
    mean, variance = ops.moments(values, tuple(range(len(x.shape) - 1)))
    y = affine(values, mean, variance, gamma, beta, epsilon)
    return finished(ops.cast(y, x.dtype), around, relu), mean, variance


def group_norm(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    groups: int,
    epsilon: float,
    mask: Tensor | None = None,
) -> Tensor:
    """Normalises groups of neighbouring channels over time, clip by clip.

    Args:
        x: float32 `(batch, time, channels)`.
        gamma: `(channels,)` float32.
        beta: `(channels,)` float32.
        groups: How many, of as many channels each.
        epsilon: Added to the variance.
        mask: Optional float32 `(batch, time, 1)`, 1 where a frame counts, at
            least once a clip.

    Returns:
        Like `x`.

    Example:
        >>> x, one, zero = ops.ones((2, 9, 4)), ops.ones(4), ops.zeros(4)
        >>> group_norm(x, one, zero, 2, 1e-5).shape
        (2, 9, 4)
    """
    moments = group_moments(x, groups, mask)
    return group_affine(x, gamma, beta, *moments, epsilon)


def group_moments(
    x: Tensor, groups: int, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mean and variance of `group_norm`, `(batch, groups, 1)`."""
    # Of each channel first, and of a group from its channels': two passes
    # over the frames.
    if mask is None:
        mean = ops.mean(x, axis=1, keepdims=True)
        variance = ops.mean(ops.square(x - mean), axis=1, keepdims=True)
    else:
        count = ops.maximum(ops.sum(mask, axis=1, keepdims=True), 1.0)
        mean = ops.sum(x * mask, axis=1, keepdims=True) / count
        off = (x - mean) * mask
        variance = ops.sum(ops.square(off), axis=1, keepdims=True) / count
    # (batch, groups, channels of a group)
    shape = (-1, groups, x.shape[-1] // groups)
    means = ops.reshape(mean, shape)
    mean = ops.mean(means, axis=2, keepdims=True)
    variance = ops.reshape(variance, shape) + ops.square(means - mean)
    return mean, ops.mean(variance, axis=2, keepdims=True)


def group_affine(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: float,
) -> Tensor:
    """`group_norm` by moments `(batch, groups, 1)`."""
    channels, groups = x.shape[-1], mean.shape[1]
    shape = (groups, channels // groups)
    scale = ops.reshape(gamma, shape) * ops.rsqrt(variance + epsilon)
    offset = ops.reshape(beta, shape) - mean * scale
    scale, offset = (ops.reshape(v, (-1, 1, channels)) for v in (scale, offset))
    return x * scale + offset


def folding_pays(x: Tensor, kernel: Tensor) -> bool:
    """Whether `conv_batch_norm` is quicker than its parts.

    Args:
        x: The map that is convolved.
        kernel: `(height, width, channels, filters)`.
    """
    return False


def conv_batch_norm(
    x: Tensor,
    kernel: Tensor,
    gamma: Tensor,
    beta: Tensor,
    epsilon: float,
    around: Tensor | None = None,
    relu: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """`batch_norm` of a convolution that keeps the size of its map.

    Args:
        x: `(batch, time, frequency, channels)`.
        kernel: `(height, width, channels, filters)`, odd sizes.
        gamma: `(filters,)` float32.
        beta: `(filters,)` float32.
        epsilon: Added to the variance.
        around: A tensor like the map that is added to the normalised one.
        relu: Whether the sum is rectified.

    Returns:
        The map `(batch, time, frequency, filters)`, and mean and (biased)
        variance of the convolution, float32.

    Example:
        >>> x, kernel = ops.ones((2, 8, 8, 1)), ops.ones((3, 1, 1, 4))
        >>> y, mean, variance = conv_batch_norm(
        ...     x, kernel, ops.ones(4), ops.zeros(4), 1e-5
        ... )
        >>> y.shape, mean.shape
        ((2, 8, 8, 4), (4,))
    """
    return batch_norm(conv(x, kernel), gamma, beta, epsilon, around, relu)


def finished(y: Tensor, around: Tensor | None, relu: bool) -> Tensor:
    """What `batch_norm` does with a normalised tensor."""
    y = y if around is None else y + around
    return ops.relu(y) if relu else y


def norm_silu(
    x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`batch_norm`, then SiLU (`x * sigmoid(x)`)."""
    y, mean, variance = batch_norm(x, gamma, beta, epsilon)
    return ops.silu(y), mean, variance


def conv_norm_pool(
    x: Tensor,
    kernel: Tensor,
    gamma: Tensor,
    beta: Tensor,
    epsilon: float,
    pool: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Convolves, normalises by the batch's statistics, rectifies and pools.

    Args:
        x: `(batch, time, frequency, channels)`.
        kernel: `(height, width, channels, filters)`, odd sizes; maps keep
            their size.
        gamma: `(filters,)` float32.
        beta: `(filters,)` float32.
        epsilon: Added to the variance.
        pool: Two ints. Size and stride of the pooling.

    Returns:
        The map `(batch, time // pool[0], frequency // pool[1], filters)`, and
        mean and (biased) variance of the convolution, float32, no gradient.

    Example:
        >>> x, kernel = ops.ones((2, 8, 8, 1)), ops.ones((3, 3, 1, 4))
        >>> y, mean, variance = conv_norm_pool(
        ...     x, kernel, ops.ones(4), ops.zeros(4), 1e-5, (2, 2)
        ... )
        >>> y.shape, mean.shape
        ((2, 4, 4, 4), (4,))
    """
    y, mean, variance = batch_norm(conv(x, kernel), gamma, beta, epsilon)
    y = ops.relu(max_pool(y, pool))
    return y, ops.stop_gradient(mean), ops.stop_gradient(variance)


# Recurrence.


def gru(
    x: Tensor,
    state: Tensor,
    kernel: Tensor,
    recurrent_kernel: Tensor,
    bias: Tensor,
) -> Tensor:
    """Runs a GRU over all frames.

    The weights have Keras' layout: gates update, reset, candidate, the reset
    gate applied after the matrix product.

    Args:
        x: `(batch, frames, dim)`.
        state: `(batch, units)` the state before the first frame. Its dtype is
            that of the recurrence.
        kernel: `(dim, 3 * units)`.
        recurrent_kernel: `(units, 3 * units)`.
        bias: `(2, 3 * units)`, input biases, then recurrent ones.

    Returns:
        `(batch, frames, units)`, in the dtype of `state`.

    Example:
        >>> x, state = ops.ones((2, 50, 3)), ops.zeros((2, 8))
        >>> kernel, recurrent_kernel = ops.ones((3, 24)), ops.ones((8, 24))
        >>> gru(x, state, kernel, recurrent_kernel, ops.zeros((2, 24))).shape
        (2, 50, 8)
    """
    units = state.shape[-1]
    x = ops.matmul(ops.cast(x, kernel.dtype), kernel)
    x = ops.transpose(ops.cast(x, state.dtype) + bias[0], (1, 0, 2))

    def step(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        inner = ops.matmul(h, recurrent_kernel) + bias[1]
        gates = ops.sigmoid(x[:, : 2 * units] + inner[:, : 2 * units])
        z, r = gates[:, :units], gates[:, units:]
        c = ops.tanh(x[:, 2 * units :] + r * inner[:, 2 * units :])
        h = c + z * (h - c)
        return h, h

    return ops.transpose(ops.scan(step, state, x)[1], (1, 0, 2))


def lstm(
    x: Tensor,
    state: Tensor,
    cell: Tensor,
    kernel: Tensor,
    recurrent_kernel: Tensor,
    bias: Tensor,
    frames: int | None = None,
) -> Tensor:
    """Runs an LSTM over all frames.

    The weights have Keras' layout: gates input, forget, candidate, output.

    Args:
        x: `(batch, frames, dim)`; or `(batch, 1, dim)`, what is read at each
            of so many `frames`.
        state: `(batch, units)` the output before the first frame. Its dtype
            is that of the recurrence.
        cell: `(batch, units)` the memory before the first frame.
        kernel: `(dim, 4 * units)`.
        recurrent_kernel: `(units, 4 * units)`.
        bias: `(4 * units,)`.
        frames: int, where every frame reads the same.

    Returns:
        `(batch, frames, units)`, in the dtype of `state`.

    Example:
        >>> x, zeros = ops.ones((2, 50, 3)), ops.zeros((2, 8))
        >>> kernel, recurrent_kernel = ops.ones((3, 32)), ops.ones((8, 32))
        >>> lstm(x, zeros, zeros, kernel, recurrent_kernel, ops.zeros(32)).shape
        (2, 50, 8)
    """
    units = state.shape[-1]
    x = ops.matmul(ops.cast(x, kernel.dtype), kernel)
    x = ops.cast(x, state.dtype) + bias
    if frames is not None:
        x = ops.repeat(x, frames, axis=1)

    # One tensor, as a scan on TensorFlow gives what it carries.
    def step(carry: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        h, c = ops.split(carry, 2, axis=-1)
        inner = x + ops.matmul(h, recurrent_kernel)
        i, f = ops.split(ops.sigmoid(inner[:, : 2 * units]), 2, axis=-1)
        o = ops.sigmoid(inner[:, 3 * units :])
        c = f * c + i * ops.tanh(inner[:, 2 * units : 3 * units])
        carry = ops.concatenate([o * ops.tanh(c), c], axis=-1)
        return carry, carry

    begin = ops.concatenate([state, cell], axis=-1)
    outputs = ops.scan(step, begin, ops.transpose(x, (1, 0, 2)))[1]
    return ops.transpose(outputs[..., :units], (1, 0, 2))


# Front ends.


class Constant:
    """A float array that is no weight: neither saved nor counted.

    Args:
        array: Array, or what becomes one.
    """

    def __init__(self, array: Any) -> None:
        self.array = np.asarray(array)
        self._copies: dict[Any, Tensor] = {}

    def __call__(self, like: Tensor, dtype: str = "float32") -> Tensor:
        """The tensor, on the device of the tensor `like`."""
        return ops.convert_to_tensor(self._as(dtype))

    def _as(self, dtype: str) -> np.ndarray:
        if dtype not in self._copies:
            self._copies[dtype] = self.array.astype(dtype)
        return self._copies[dtype]

    def __deepcopy__(self, memo: Any) -> "Constant":
        return type(self)(self.array)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.array,)


def sliding_frames(
    x: Tensor, frame_length: int, hop_length: int, frames: Size
) -> Tensor:
    """Frames of a signal that is long enough for them.

    Args:
        x: Tensor `(batch, samples)`, of `(frames - 1) * hop_length +
            frame_length` samples or more.
        frame_length: Samples.
        hop_length: Samples.
        frames: How many.

    Returns:
        A tensor `(batch, frames, frame_length)`.
    """
    x = x[:, : (frames - 1) * hop_length + frame_length]
    return ops.extract_sequences(x, frame_length, hop_length)


def in_chunks(
    function: Callable[[Tensor], Tensor], x: Tensor, clip_bytes: Size
) -> Tensor:
    """Applies a function to a few clips at a time, where that is faster.

    Args:
        function: Of a tensor `(clips, ...)`, each clip on its own.
        x: Tensor `(batch, ...)`.
        clip_bytes: Memory that a clip takes inside; no int if unknown.

    Returns:
        `function(x)`.
    """
    return function(x)


def soft_ranks(z: Tensor, kind: str) -> Tensor:
    """The point nearest to scores in the hull of all orders of 1 to n.

    Args:
        z: float32 or float64 `(..., n)`.
        kind: Nearest by the squared distance, `"l2"`, or by the divergence of
            exponentials, `"kl"`.

    Returns:
        `(..., n)`.
    """
    # A common offset changes nothing; without it exponentials are at most 1.
    z = z - ops.stop_gradient(ops.max(z, axis=-1, keepdims=True))
    order = ops.argsort(ops.stop_gradient(-z), axis=-1)
    place = ops.argsort(order, axis=-1)
    z = ops.take_along_axis(z, order, axis=-1)
    rho = ops.convert_to_tensor(np.arange(z.shape[-1], 0, -1), z.dtype)
    if kind == "l2":
        projected = z - not_rising(z - rho)
    else:
        projected = ops.exp(z - not_rising(z, ops.log(rho), "kl"))
    return ops.take_along_axis(projected, place, axis=-1)


def in_float64(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Applies a function that computes in float64 inside.

    Args:
        function: Of a float32 tensor, casting to float64 and back.
        x: float32 tensor.

    Returns:
        `function(x)`, float32.
    """
    return function(x)


def as_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a function one call.

    Each of its operations would otherwise be compiled on its own.

    Args:
        function: Pure, of tensors or None, with keyword arguments that are
            constants.

    Returns:
        The function.
    """
    return function


def rolled(x: Tensor, shift: Tensor, around: Tensor) -> Tensor:
    """The beginning of each row, moved around.

    Args:
        x: `(batch, time, ...)`.
        shift: `(batch,)` int32, places towards the end, from 0 to below
            `around`.
        around: `(batch,)` int32, the length of what moves; the rest stays.
    """
    x = ops.convert_to_tensor(x)
    shift, around = (
        ops.reshape(v, (-1,) + (1,) * (len(x.shape) - 1))
        for v in (shift, around)
    )
    place = ops.arange(ops.shape(x)[1], dtype="int32")
    place = ops.reshape(place, (1, -1) + (1,) * (len(x.shape) - 2))
    source = ops.mod(place - shift, around)
    source = ops.where(place < around, source, place)
    return ops.take_along_axis(x, source, axis=1)


def rounds_coarsely(x: Tensor) -> bool:
    """Whether the FFT of a tensor rounds more coarsely than float32 must."""
    return False


def splitting_pays(x: Tensor) -> bool:
    """Whether two small products take less time than a large one.

    Half of the large one is zeros.

    Args:
        x: The tensor that enters them.
    """
    return False
