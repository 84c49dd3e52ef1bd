"""Batch statistics, pooling and ReLU or SiLU, with gradients in few passes."""

import functools
import itertools
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.backend import portable
from keras_audio_ssl.backend.jax.conv import as_rows
from keras_audio_ssl.backend.jax.conv import conv
from keras_audio_ssl.backend.jax.conv import over_clips
from keras_audio_ssl.backend.jax.conv import shifts
from keras_audio_ssl.backend.portable import half_pad


def max_over_time(x: Tensor) -> Tensor:
    # XLA may compute the input of a maximum once more for its gradient, and
    # round it differently: then nothing equals the maximum, and the gradient
    # is 0 / 0. So the place is taken.
    place = jnp.argmax(jax.lax.stop_gradient(x), axis=1)
    return jnp.take_along_axis(x, place[:, None], axis=1)[:, 0]


def max_pool(
    x: Tensor, pool: tuple[int, int], stride: tuple[int, int] | None = None
) -> Tensor:
    x, stride = jnp.asarray(x), stride or pool
    if pool == stride == (1, 1):
        return x
    if pool != stride and not all(map(portable.is_known, x.shape)):
        # In a graph that is exported, and has no gradient.
        return portable.max_pool(x, pool, stride)
    return maxima(x, pool, stride)


def relu_pool(x: Tensor, pool: tuple[int, int]) -> Tensor:
    # Rectified maxima would be computed once more for their gradient.
    return max_pool(jax.nn.relu(x), pool)


def winners(
    x: Tensor, pool: tuple[int, int], stride: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Maxima of windows, and which value of its window each one is."""
    height, width = pool
    if pool == stride:
        # Sizes that are not known stay simple.
        time, bins = x.shape[1] // height, x.shape[2] // width
        parts = [
            x[:, i : time * height : height, j : bins * width : width]
            for i in range(height)
            for j in range(width)
        ]
    else:
        parts = shifts(x, height, width, stride, ((0, 0), (0, 0)))
    dtype = "uint8" if height * width <= 256 else "int32"
    best: Tensor = None
    index: Tensor = None
    for k, part in enumerate(parts):
        if best is None:
            best = part
            index = jnp.zeros(part.shape, dtype)
        else:
            index = jnp.where(part > best, k, index).astype(index.dtype)
            best = jnp.maximum(best, part)
    return best, index


def scatter(
    values: Tensor, index: Tensor, pool: tuple[int, int], shape: Sequence[int]
) -> Tensor:
    """Puts values where the maxima were taken from, zeros elsewhere."""
    height, width = pool
    batch, time, frequency, channels = values.shape
    place = jnp.arange(height * width, dtype=index.dtype)
    place = place.reshape(1, 1, height, 1, width, 1)
    x = jnp.where(
        index[:, :, None, :, None] == place,
        values[:, :, None, :, None],
        jnp.zeros((), values.dtype),
    )
    x = x.reshape(batch, time * height, frequency * width, channels)
    rest = [(0, full - got) for full, got in zip(shape, x.shape, strict=True)]
    return jnp.pad(x, rest) if any(r[1] for r in rest) else x


def scatter_and_add(
    values: Tensor,
    index: Tensor,
    pool: tuple[int, int],
    stride: tuple[int, int],
    shape: Sequence[int],
) -> Tensor:
    """`scatter` of windows that overlap, or lie apart."""
    (height, width), (down, along) = pool, stride
    time, frequency = values.shape[1:3]
    rows, bins = -(-shape[1] // down), -(-shape[2] // along)
    none = jnp.zeros((), values.dtype)

    def added(i: int, j: int) -> Tensor:
        """What comes to the places that are `i` and `j` past a stride."""
        total = jnp.zeros((shape[0], rows, bins, shape[3]), values.dtype)
        for a, b in itertools.product(
            range(-(-(height - i) // down)), range(-(-(width - j) // along))
        ):
            place = (i + a * down) * width + j + b * along
            part = jnp.where(index == place, values, none)
            sides = (a, rows - a - time), (b, bins - b - frequency)
            total += jnp.pad(part, ((0, 0), *sides, (0, 0)))
        return total

    x = jnp.stack(
        [
            jnp.stack([added(i, j) for j in range(along)], axis=3)
            for i in range(down)
        ],
        axis=2,
    )
    x = x.reshape(shape[0], rows * down, bins * along, shape[3])
    return x[:, : shape[1], : shape[2]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def maxima(x: Tensor, pool: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """Maxima of windows `pool`, with a gradient by their places."""
    return winners(x, pool, stride)[0]


def _maxima_forward(
    x: Tensor, pool: tuple[int, int], stride: tuple[int, int]
) -> tuple[Any, Any]:
    best, index = winners(x, pool, stride)
    return best, (index, x.shape)


def _maxima_backward(
    pool: tuple[int, int],
    stride: tuple[int, int],
    saved: Sequence[Any],
    grad: Tensor,
) -> tuple[Tensor, ...]:
    index, shape = saved
    if pool == stride:
        return (scatter(grad, index, pool, shape),)
    return (scatter_and_add(grad, index, pool, stride, shape),)


maxima.defvjp(_maxima_forward, _maxima_backward)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel, `(dim,)`, in float32."""
    axes = tuple(range(x.ndim - 1))
    x = x.astype("float32")
    mean = jnp.mean(x, axes)
    return mean, jnp.mean(jnp.square(x - mean), axes)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def norm_silu(
    x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    return _norm_silu_forward(x, gamma, beta, epsilon)[0]


def _norm_silu_forward(
    x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float
) -> tuple[Any, Any]:
    mean, variance = moments(x)
    inverse = lax.rsqrt(variance + epsilon)
    out = (x.astype("float32") - mean) * (inverse * gamma) + beta
    out = jax.nn.silu(out).astype(x.dtype)
    return (out, mean, variance), (x, mean, inverse, gamma, beta)


def _norm_silu_backward(
    epsilon: float, saved: Sequence[Any], grads: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    x, mean, inverse, gamma, beta = saved
    axes = tuple(range(x.ndim - 1))
    normal = (x.astype("float32") - mean) * inverse
    out = normal * gamma + beta
    gate = jax.nn.sigmoid(out)
    grad = grads[0].astype("float32") * gate * (1 + out * (1 - gate))
    d_beta = jnp.sum(grad, axes)
    d_gamma = jnp.sum(grad * normal, axes)
    count = x.size // x.shape[-1]
    d_x = grad - d_beta / count - normal * (d_gamma / count)
    return (gamma * inverse * d_x).astype(x.dtype), d_gamma, d_beta


norm_silu.defvjp(_norm_silu_forward, _norm_silu_backward)


def conv_norm_pool(
    x: Tensor,
    kernel: Tensor,
    gamma: Tensor,
    beta: Tensor,
    epsilon: float,
    pool: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    # A rising function of the map may as well be applied after pooling, to a
    # fraction of the values. A negative gamma turns the map over.
    sign = 1.0 - 2.0 * (gamma < 0).astype("float32")
    kernel = kernel.astype("float32") * sign
    gamma = gamma * sign
    if x.shape[-1] == 1 and jax.default_backend() == "cpu":
        y, mean, variance = one_channel(x, kernel, gamma, beta, epsilon, pool)
    else:
        y = conv(x, kernel)
        y, mean, variance = norm_pool(y, gamma, beta, epsilon, pool)
    return y, lax.stop_gradient(mean * sign), lax.stop_gradient(variance)


def normalized(
    best: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor,
    beta: Tensor,
    epsilon: float,
) -> tuple[Any, Any]:
    """What comes out of pooled maxima, and what its gradient needs."""
    inverse = lax.rsqrt(variance + epsilon)
    normal = (best.astype("float32") - mean) * inverse
    out = jax.nn.relu(normal * gamma + beta).astype(best.dtype)
    return (out, mean, variance), (normal, mean, inverse, gamma, beta)


def normalized_gradient(
    grad: Tensor,
    normal: Tensor,
    mean: Tensor,
    inverse: Tensor,
    gamma: Tensor,
    beta: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the offset, the factor, and of the maxima's values."""
    grad = jnp.where(normal * gamma + beta > 0, grad.astype("float32"), 0.0)
    d_beta = jnp.sum(grad, (0, 1, 2))
    d_gamma = jnp.sum(grad * normal, (0, 1, 2))
    return d_beta, d_gamma, grad * (gamma * inverse)


def through_moments(
    d_beta: Tensor, d_gamma: Tensor, count: int, saved: Sequence[Any]
) -> Callable[[Tensor], Tensor]:
    """What each of `count` values changes through mean and variance."""
    _, mean, inverse, gamma, _ = saved
    scale = gamma * inverse
    slope = -scale * inverse * d_gamma / count
    offset = scale * d_beta / count
    return lambda y: slope * (y.astype("float32") - mean) - offset


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def norm_pool(
    y: Tensor,
    gamma: Tensor,
    beta: Tensor,
    epsilon: float,
    pool: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalises, pools and rectifies a map; gamma is not negative."""
    return _norm_pool_forward(y, gamma, beta, epsilon, pool)[0]


def _norm_pool_forward(
    y: Tensor,
    gamma: Tensor,
    beta: Tensor,
    epsilon: float,
    pool: tuple[int, int],
) -> tuple[Any, Any]:
    best, index = winners(y, pool, pool)
    out, saved = normalized(best, *moments(y), gamma, beta, epsilon)
    return out, (y, index, *saved)


def _norm_pool_backward(
    epsilon: float,
    pool: tuple[int, int],
    saved: Sequence[Any],
    grads: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    y, index, *saved = saved
    d_beta, d_gamma, values = normalized_gradient(grads[0], *saved)
    count = y.size // y.shape[-1]
    d_y = scatter(values, index, pool, y.shape)
    d_y += through_moments(d_beta, d_gamma, count, saved)(y)
    return d_y.astype(y.dtype), d_gamma, d_beta


norm_pool.defvjp(_norm_pool_forward, _norm_pool_backward)


# Of one channel a convolution makes a map many times as large. It is never
# stored: a clip's stays in the cache, and is computed again for the gradient.


def clip_parts(x: Tensor, kernel: Tensor) -> list[Tensor]:
    """What each weight sees of a clip `(time, frequency, 1)`, in float32."""
    pad = half_pad(kernel.shape)
    height, width = kernel.shape[:2]
    return shifts(x.astype("float32"), height, width, 1, pad)


def clip_map(x: Tensor, kernel: Tensor) -> Tensor:
    """The map of a clip `(time, frequency, 1)`, in its dtype."""
    parts = clip_parts(x, kernel)
    weights = kernel.reshape(len(parts), -1)
    y = sum(part * w for part, w in zip(parts, weights, strict=True))
    return y.astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def one_channel(
    x: Tensor,
    kernel: Tensor,
    gamma: Tensor,
    beta: Tensor,
    epsilon: float,
    pool: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """`conv_norm_pool` of maps of one channel; gamma is not negative."""
    return _one_channel_forward(x, kernel, gamma, beta, epsilon, pool)[0]


def _one_channel_forward(
    x: Tensor,
    kernel: Tensor,
    gamma: Tensor,
    beta: Tensor,
    epsilon: float,
    pool: tuple[int, int],
) -> tuple[Any, Any]:
    def of_clip(x: Tensor) -> tuple[Tensor, ...]:
        y = clip_map(x, kernel)
        best, index = winners(y[None], pool, pool)
        return best[0], index[0], *moments(y)

    best, index, means, variances = over_clips(of_clip, x)
    mean = jnp.mean(means, 0)
    variance = jnp.mean(variances + jnp.square(means - mean), 0)
    out, saved = normalized(best, mean, variance, gamma, beta, epsilon)
    return out, (x, kernel, index, *saved)


def _one_channel_backward(
    epsilon: float,
    pool: tuple[int, int],
    saved: Sequence[Any],
    grads: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    x, kernel, index, *saved = saved
    filters = kernel.shape[-1]
    d_beta, d_gamma, values = normalized_gradient(grads[0], *saved)
    through = through_moments(d_beta, d_gamma, x.size, saved)

    def add_clip(total: Tensor, clip: Any) -> tuple[Tensor, Tensor]:
        x, values, index = clip
        y, pull = jax.vjp(lambda x: clip_map(x, kernel), x)
        d_y = scatter(values[None], index[None], pool, (1, *y.shape))[0]
        d_y += through(y)
        # As one product: XLA's own way takes a fifth of a step longer.
        columns = as_rows(clip_parts(x, kernel))
        total += columns @ d_y.reshape(-1, filters)
        return total, pull(d_y.astype(y.dtype))[0]

    total = jnp.zeros((kernel.size // filters, filters), "float32")
    d_kernel, d_x = lax.scan(add_clip, total, (x, values, index))
    return d_x, d_kernel.reshape(kernel.shape), d_gamma, d_beta


one_channel.defvjp(_one_channel_forward, _one_channel_backward)
