"""Convolution, batch statistics and pooling, the quick way on each backend.

Maps are `(batch, time, frequency, channels)`, kernels `(height, width, in,
out)`. All functions give the numbers and gradients of the plain Keras layers;
what differs is the time and the memory they take.
"""

import functools
from typing import Any

import keras
from keras import ops


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
    if backend == "jax" or (backend == "torch" and _plain_torch(x)):
        # A rising function of the map may as well be applied after pooling,
        # to a fraction of the values. A negative gamma turns the map over.
        sign = ops.stop_gradient(ops.where(gamma < 0, -1.0, 1.0))
        y = conv(x, ops.cast(kernel, "float32") * sign)
        jax = backend == "jax"
        tail = _jax()["norm_pool"] if jax else _torch_norm_pool()
        y, mean, variance = tail(y, gamma * sign, beta, epsilon, pool)
        mean = mean * sign
    else:
        y, mean, variance = batch_norm(conv(x, kernel), gamma, beta, epsilon)
        y = ops.relu(max_pool(y, pool))
    mean = mean + ops.cast(bias, "float32")
    return y, ops.stop_gradient(mean), ops.stop_gradient(variance)


Pad = tuple[tuple[int, int], tuple[int, int]]


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
        y = _jax()["conv"](x, kernel, stride, pad)
    elif backend == "torch":
        y = _torch_conv(x, kernel.permute(3, 2, 0, 1), stride, pad, 1)
    else:
        import tensorflow as tf

        x, padding = _tensorflow_pad(x, kernel, stride, pad)
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
        return _jax()["depthwise_conv"](x, kernel[..., 0], stride, pad)
    if backend == "torch":
        kernel = kernel.permute(2, 3, 0, 1)
        return _torch_conv(x, kernel, stride, pad, kernel.shape[0])
    import tensorflow as tf

    x, padding = _tensorflow_pad(x, kernel, stride, pad)
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
    return _jax()["max_pool"](x, tuple(pool))


def norm_silu(
    x: Any, gamma: Any, beta: Any, epsilon: float
) -> tuple[Any, Any, Any]:
    """`batch_norm`, then SiLU (`x * sigmoid(x)`)."""
    backend = keras.backend.backend()
    if backend == "jax":
        return _jax()["norm_silu"](x, gamma, beta, epsilon)
    if backend == "torch" and _plain_torch(x):
        return _torch_norm_silu()(x, gamma, beta, epsilon)
    y, mean, variance = batch_norm(x, gamma, beta, epsilon)
    y = _tensorflow_silu()(y) if backend == "tensorflow" else ops.silu(y)
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
        return _torch_batch_norm(x, gamma, beta, epsilon)
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


@functools.cache
def _jax() -> dict[str, Any]:
    import jax
    import jax.numpy as jnp
    from jax import lax

    def plain_conv(x, kernel, stride, pad, groups=1):
        return lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            pad,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    def shifts(x, height, width, stride, pad):
        """What each weight of a kernel sees of `(..., time, freq, dim)`."""
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [*pad, (0, 0)])
        time = (x.shape[-3] - height) // stride + 1
        frequency = (x.shape[-2] - width) // stride + 1
        return [
            x[
                ...,
                i : i + (time - 1) * stride + 1 : stride,
                j : j + (frequency - 1) * stride + 1 : stride,
                :,
            ]
            for i in range(height)
            for j in range(width)
        ]

    @functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
    def cpu_conv(x, kernel, stride, pad):
        return plain_conv(x, kernel, stride, pad)

    def cpu_conv_forward(x, kernel, stride, pad):
        return plain_conv(x, kernel, stride, pad), (x, kernel)

    def cpu_conv_backward(stride, pad, saved, grad):
        # XLA's own gradient of the kernel runs at a fifth of the speed of
        # these matrix products on a CPU.
        x, kernel = saved
        height, width, channels, filters = kernel.shape
        _, pull = jax.vjp(lambda x: plain_conv(x, kernel, stride, pad), x)
        if channels == 1:
            columns = jnp.stack(shifts(x, height, width, stride, pad))
            columns = columns.reshape(height * width, -1)
            d_kernel = columns @ grad.reshape(-1, filters)
        else:

            def add_clip(total, clip):
                x, grad = clip
                columns = jnp.concatenate(
                    shifts(x, height, width, stride, pad), axis=-1
                )
                product = jnp.matmul(
                    grad.reshape(-1, filters).T,
                    columns.reshape(-1, height * width * channels),
                    preferred_element_type="float32",
                )
                return total + product, None

            total = jnp.zeros((filters, height * width * channels))
            d_kernel = lax.scan(add_clip, total, (x, grad))[0].T
        d_kernel = d_kernel.reshape(kernel.shape).astype(kernel.dtype)
        return pull(grad)[0], d_kernel

    cpu_conv.defvjp(cpu_conv_forward, cpu_conv_backward)

    def conv(x, kernel, stride, pad):
        if kernel.shape[:2] == (1, 1) and stride == 1:
            return x @ kernel[0, 0]
        on_cpu = jax.default_backend() == "cpu"
        return (cpu_conv if on_cpu else plain_conv)(x, kernel, stride, pad)

    def over_clips(function, clips):
        # One clip at a time stays in the cache; XLA's grouped convolutions
        # take ten times as long on a CPU.
        return lax.scan(lambda _, clip: (None, function(clip)), None, clips)[1]

    def shift_and_add(x, kernel, stride, pad):
        height, width, _ = kernel.shape
        weights = kernel.reshape(height * width, -1)
        return over_clips(
            lambda x: sum(
                part * weight
                for part, weight in zip(
                    shifts(x, height, width, stride, pad), weights, strict=False
                )
            ),
            x,
        )

    @functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
    def cpu_depthwise(x, kernel, stride, pad):
        return shift_and_add(x, kernel, stride, pad)

    def cpu_depthwise_forward(x, kernel, stride, pad):
        return shift_and_add(x, kernel, stride, pad), (x, kernel)

    def cpu_depthwise_backward(stride, pad, saved, grad):
        x, kernel = saved
        height, width, _ = kernel.shape

        def add_clip(total, clip):
            x, grad = clip
            x = jnp.pad(x, (*pad, (0, 0)))
            time, frequency, channels = grad.shape
            sizes = (
                (time - 1) * stride + 1,
                (frequency - 1) * stride + 1,
                channels,
            )

            # A loop, not a list: XLA compiles one product, not 25.
            def weight(place):
                part = lax.dynamic_slice(
                    x, (place // width, place % width, 0), sizes
                )
                product = part[::stride, ::stride] * grad
                return jnp.sum(product, (0, 1), dtype="float32")

            return total + lax.map(weight, jnp.arange(height * width)), None

        total = jnp.zeros((height * width, x.shape[-1]))
        d_kernel = lax.scan(add_clip, total, (x, grad))[0]
        # The gradient of the input is a correlation with the kernel turned
        # round, over gradients spread by the stride.
        spread = [(0, 0, 0)]
        for axis, size in ((1, height), (2, width)):
            low = size - 1 - pad[axis - 1][0]
            covered = (grad.shape[axis] - 1) * stride + 1
            high = x.shape[axis] + size - 1 - low - covered
            spread.append((low, high, stride - 1))
        spread.append((0, 0, 0))
        zero = jnp.zeros((), grad.dtype)
        d_x = shift_and_add(
            lax.pad(grad, zero, spread), kernel[::-1, ::-1], 1, ((0, 0),) * 2
        )
        return d_x, d_kernel.reshape(kernel.shape).astype(kernel.dtype)

    cpu_depthwise.defvjp(cpu_depthwise_forward, cpu_depthwise_backward)

    def depthwise_conv(x, kernel, stride, pad):
        if jax.default_backend() == "cpu":
            return cpu_depthwise(x, kernel, stride, pad)
        return plain_conv(
            x, kernel[:, :, None], stride, pad, groups=x.shape[-1]
        )

    def winners(x, pool):
        """Maxima of windows, and which value of its window each one is."""
        height, width = pool
        time, frequency = x.shape[1] // height, x.shape[2] // width
        dtype = "uint8" if height * width <= 256 else "int32"
        best = index = None
        for k in range(height * width):
            i, j = divmod(k, width)
            part = x[
                :,
                i : time * height : height,
                j : frequency * width : width,
            ]
            if best is None:
                best = part
                index = jnp.zeros(part.shape, dtype)
            else:
                index = jnp.where(part > best, k, index).astype(index.dtype)
                best = jnp.maximum(best, part)
        return best, index

    def scatter(values, index, pool, shape):
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
        rest = [
            (0, full - got) for full, got in zip(shape, x.shape, strict=False)
        ]
        return jnp.pad(x, rest) if any(r[1] for r in rest) else x

    @functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
    def max_pool(x, pool):
        return winners(x, pool)[0]

    def max_pool_forward(x, pool):
        best, index = winners(x, pool)
        return best, (index, x.shape)

    def max_pool_backward(pool, saved, grad):
        index, shape = saved
        return (scatter(grad, index, pool, shape),)

    max_pool.defvjp(max_pool_forward, max_pool_backward)

    def moments(x):
        axes = tuple(range(x.ndim - 1))
        x = x.astype("float32")
        mean = jnp.mean(x, axes)
        return mean, jnp.mean(jnp.square(x - mean), axes)

    def norm_pool_values(y, gamma, beta, epsilon, pool):
        mean, variance = moments(y)
        inverse = lax.rsqrt(variance + epsilon)
        best, index = winners(y, pool)
        normal = (best.astype("float32") - mean) * inverse
        out = jax.nn.relu(normal * gamma + beta).astype(y.dtype)
        saved = (y, index, normal, mean, inverse, gamma, beta)
        return (out, mean, variance), saved

    @functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
    def norm_pool(y, gamma, beta, epsilon, pool):
        return norm_pool_values(y, gamma, beta, epsilon, pool)[0]

    def norm_pool_backward(epsilon, pool, saved, grads):
        y, index, normal, mean, inverse, gamma, beta = saved
        grad = grads[0].astype("float32")
        grad = jnp.where(normal * gamma + beta > 0, grad, 0.0)
        d_beta = jnp.sum(grad, (0, 1, 2))
        d_gamma = jnp.sum(grad * normal, (0, 1, 2))
        scale = gamma * inverse
        count = y.size // y.shape[-1]
        d_y = scatter(grad * scale, index, pool, y.shape)
        # What each value changes through the mean and the variance.
        slope = -scale * inverse * d_gamma / count
        d_y += slope * (y.astype("float32") - mean) - scale * d_beta / count
        return d_y.astype(y.dtype), d_gamma, d_beta

    norm_pool.defvjp(norm_pool_values, norm_pool_backward)

    def norm_silu_values(y, gamma, beta, epsilon):
        mean, variance = moments(y)
        inverse = lax.rsqrt(variance + epsilon)
        out = (y.astype("float32") - mean) * (inverse * gamma) + beta
        out = jax.nn.silu(out).astype(y.dtype)
        return (out, mean, variance), (y, mean, inverse, gamma, beta)

    @functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
    def norm_silu(y, gamma, beta, epsilon):
        return norm_silu_values(y, gamma, beta, epsilon)[0]

    def norm_silu_backward(epsilon, saved, grads):
        y, mean, inverse, gamma, beta = saved
        axes = tuple(range(y.ndim - 1))
        normal = (y.astype("float32") - mean) * inverse
        out = normal * gamma + beta
        gate = jax.nn.sigmoid(out)
        grad = grads[0].astype("float32") * gate * (1 + out * (1 - gate))
        d_beta = jnp.sum(grad, axes)
        d_gamma = jnp.sum(grad * normal, axes)
        count = y.size // y.shape[-1]
        d_y = grad - d_beta / count - normal * (d_gamma / count)
        return (gamma * inverse * d_y).astype(y.dtype), d_gamma, d_beta

    norm_silu.defvjp(norm_silu_values, norm_silu_backward)

    return {
        "conv": conv,
        "depthwise_conv": depthwise_conv,
        "max_pool": max_pool,
        "norm_pool": norm_pool,
        "norm_silu": norm_silu,
    }


@functools.cache
def _tensorflow_silu() -> Any:
    import tensorflow as tf

    # Five passes over the map, or one when compiled: a third of the time.
    @tf.function(jit_compile=True)
    def gradient(x, grad):
        gate = tf.sigmoid(x)
        return grad * (gate * (1 + x * (1 - gate)))

    @tf.custom_gradient
    def silu(x):
        return tf.nn.silu(x), lambda grad: gradient(x, grad)

    return silu


def _tensorflow_pad(x, kernel, stride, pad):
    import tensorflow as tf

    # Explicit paddings of a depthwise convolution end TensorFlow's graph
    # optimizer with an abort.
    odd = kernel.shape[0] % 2 and kernel.shape[1] % 2
    if stride == 1 and odd and pad == half_pad(kernel.shape):
        return x, "SAME"
    if any(sum(side) for side in pad):
        x = tf.pad(x, [(0, 0), *pad, (0, 0)])
    return x, "VALID"


def _plain_torch(x: Any) -> bool:
    return x.device.type == "cpu" and str(x.dtype) == "torch.float32"


@functools.cache
def _torch_norm_pool() -> Any:
    import torch
    from torch.autograd.function import once_differentiable

    class NormPool(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y, gamma, beta, epsilon, pool):
            y = y.permute(0, 3, 1, 2)
            mean, variance = torch.batch_norm_update_stats(y, None, None, 0.0)
            inverse = torch.rsqrt(variance + epsilon)
            normal, index = torch.ops.aten.max_pool2d_with_indices(
                y, list(pool)
            )
            y, normal, index = (
                v.permute(0, 2, 3, 1) for v in (y, normal, index)
            )
            normal.sub_(mean).mul_(inverse)
            out = torch.addcmul(beta, normal, gamma).relu_()
            ctx.save_for_backward(y, index, normal, out, mean, inverse, gamma)
            ctx.mark_non_differentiable(mean, variance)
            return out, mean, variance

        @staticmethod
        @once_differentiable
        def backward(ctx, grad, *_):
            y, index, normal, out, mean, inverse, gamma = ctx.saved_tensors
            batch, channels = len(y), y.shape[-1]
            grad = torch.ops.aten.threshold_backward(grad, out, 0)
            d_beta = grad.sum((0, 1, 2))
            # Writing into what was saved, as fresh memory costs several times
            # the arithmetic. A second backward pass is refused by PyTorch.
            d_gamma = normal.mul_(grad).sum((0, 1, 2))
            scale = gamma * inverse
            count = y.numel() // channels
            slope = -scale * inverse * d_gamma / count
            offset = -scale * d_beta / count - slope * mean
            d_y = torch.addcmul(offset, y, slope, out=y)
            d_y.view(batch, -1, channels).scatter_add_(
                1,
                index.reshape(batch, -1, channels),
                grad.mul_(scale).reshape(batch, -1, channels),
            )
            return d_y, d_gamma, d_beta, None, None

    return NormPool.apply


@functools.cache
def _torch_norm_silu() -> Any:
    import torch
    from torch.autograd.function import once_differentiable
    from torch.nn import functional

    class NormSiLU(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y, gamma, beta, epsilon):
            view = y.permute(0, 3, 1, 2)
            mean, variance = torch.batch_norm_update_stats(
                view, None, None, 0.0
            )
            inverse = torch.rsqrt(variance + epsilon)
            scale = gamma * inverse
            offset = beta - mean * scale
            out = torch.addcmul(offset, y, scale)
            ctx.save_for_backward(y, gamma, mean, inverse, scale, offset)
            ctx.epsilon = epsilon
            ctx.mark_non_differentiable(mean, variance)
            return functional.silu(out, inplace=True), mean, variance

        @staticmethod
        @once_differentiable
        def backward(ctx, grad, *_):
            y, gamma, mean, inverse, scale, offset = ctx.saved_tensors
            # Computed again: cheaper than a map kept since the forward pass.
            out = torch.addcmul(offset, y, scale)
            torch.ops.aten.silu_backward(grad, out, grad_input=out)
            d_y, d_gamma, d_beta = torch.ops.aten.native_batch_norm_backward(
                out.permute(0, 3, 1, 2),
                y.permute(0, 3, 1, 2),
                gamma,
                None,
                None,
                mean,
                inverse,
                True,
                ctx.epsilon,
                [True, True, True],
            )
            return d_y.permute(0, 2, 3, 1), d_gamma, d_beta, None

    return NormSiLU.apply


def _torch_conv(x, kernel, stride, pad, groups):
    from torch.nn import functional

    (top, bottom), (left, right) = pad
    # Channels last in memory, seen as PyTorch wants it: nothing is copied.
    x = x.permute(0, 3, 1, 2)
    if top != bottom or left != right:
        x = functional.pad(x, (left, right, top, bottom))
        top = left = 0
    y = functional.conv2d(x, kernel, None, stride, (top, left), 1, groups)
    # No copy either, unless the map came in another layout.
    return y.permute(0, 2, 3, 1).contiguous()


def _torch_batch_norm(x, gamma, beta, epsilon):
    import torch

    channels = x.shape[-1]
    mean = torch.zeros(channels, dtype=gamma.dtype, device=x.device)
    variance = torch.ones_like(mean)
    # A view whose memory is laid out as PyTorch's kernels like it.
    if len(x.shape) == 2:
        view = x
    elif len(x.shape) == 4:
        view = x.permute(0, 3, 1, 2)
    else:
        view = x.reshape(1, -1, 1, channels).permute(0, 3, 1, 2)
    y = torch.batch_norm(
        view, gamma, beta, mean, variance, True, 1.0, epsilon, True
    )
    if len(x.shape) != 2:
        y = y.permute(0, 2, 3, 1).reshape(x.shape)
    count = x.numel() // channels
    # PyTorch records the unbiased one.
    variance = variance * ((count - 1) / count) if count > 1 else variance * 0
    return y, mean, variance
