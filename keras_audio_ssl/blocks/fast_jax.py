"""What `fast` computes under JAX: gradients that XLA does not find on a CPU."""

import functools
from typing import Any


@functools.cache
def kernels() -> dict[str, Any]:
    """The functions by the names they have in `fast`."""
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

    def as_rows(parts):
        return jnp.stack(parts).reshape(len(parts), -1)

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
            columns = as_rows(shifts(x, height, width, stride, pad))
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

            total = jnp.zeros((filters, height * width * channels), "float32")
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

        total = jnp.zeros((height * width, x.shape[-1]), "float32")
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

    def normalized(best, mean, variance, gamma, beta, epsilon):
        """What comes out of pooled maxima, and what its gradient needs."""
        inverse = lax.rsqrt(variance + epsilon)
        normal = (best.astype("float32") - mean) * inverse
        out = jax.nn.relu(normal * gamma + beta).astype(best.dtype)
        return (out, mean, variance), (normal, mean, inverse, gamma, beta)

    def normalized_gradient(grad, normal, mean, inverse, gamma, beta):
        """Gradients of the offset, the factor, and of the maxima's values."""
        grad = jnp.where(normal * gamma + beta > 0, grad.astype("float32"), 0.0)
        d_beta = jnp.sum(grad, (0, 1, 2))
        d_gamma = jnp.sum(grad * normal, (0, 1, 2))
        return d_beta, d_gamma, grad * (gamma * inverse)

    def through_moments(d_beta, d_gamma, count, saved):
        """What each of `count` values changes through mean and variance."""
        _, mean, inverse, gamma, _ = saved
        scale = gamma * inverse
        slope = -scale * inverse * d_gamma / count
        offset = scale * d_beta / count
        return lambda y: slope * (y.astype("float32") - mean) - offset

    def norm_pool_values(y, gamma, beta, epsilon, pool):
        best, index = winners(y, pool)
        out, saved = normalized(best, *moments(y), gamma, beta, epsilon)
        return out, (y, index, *saved)

    @functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
    def norm_pool(y, gamma, beta, epsilon, pool):
        return norm_pool_values(y, gamma, beta, epsilon, pool)[0]

    def norm_pool_backward(epsilon, pool, saved, grads):
        y, index, *saved = saved
        d_beta, d_gamma, values = normalized_gradient(grads[0], *saved)
        count = y.size // y.shape[-1]
        d_y = scatter(values, index, pool, y.shape)
        d_y += through_moments(d_beta, d_gamma, count, saved)(y)
        return d_y.astype(y.dtype), d_gamma, d_beta

    norm_pool.defvjp(norm_pool_values, norm_pool_backward)

    # Of one channel a convolution makes a map many times as large. It is
    # never stored: a clip's stays in the cache, and is computed again for
    # the gradient.

    def clip_parts(x, kernel, pad):
        return shifts(x.astype("float32"), *kernel.shape[:2], 1, pad)

    def clip_map(x, kernel, pad):
        """The map of a clip `(time, frequency, 1)`, in its dtype."""
        parts = clip_parts(x, kernel, pad)
        weights = kernel.reshape(len(parts), -1)
        y = sum(part * w for part, w in zip(parts, weights, strict=True))
        return y.astype(x.dtype)

    def one_channel_values(x, kernel, gamma, beta, epsilon, pool, pad):
        def clip(x):
            y = clip_map(x, kernel, pad)
            best, index = winners(y[None], pool)
            return best[0], index[0], *moments(y)

        best, index, means, variances = over_clips(clip, x)
        mean = jnp.mean(means, 0)
        variance = jnp.mean(variances + jnp.square(means - mean), 0)
        out, saved = normalized(best, mean, variance, gamma, beta, epsilon)
        return out, (x, kernel, index, *saved)

    @functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6))
    def one_channel(x, kernel, gamma, beta, epsilon, pool, pad):
        return one_channel_values(x, kernel, gamma, beta, epsilon, pool, pad)[0]

    def one_channel_backward(epsilon, pool, pad, saved, grads):
        x, kernel, index, *saved = saved
        filters = kernel.shape[-1]
        d_beta, d_gamma, values = normalized_gradient(grads[0], *saved)
        through = through_moments(d_beta, d_gamma, x.size, saved)

        def add_clip(total, clip):
            x, values, index = clip
            y, pull = jax.vjp(lambda x: clip_map(x, kernel, pad), x)
            d_y = scatter(values[None], index[None], pool, (1, *y.shape))[0]
            d_y += through(y)
            # As one product: XLA's own way takes a fifth of a step longer.
            columns = as_rows(clip_parts(x, kernel, pad))
            total += columns @ d_y.reshape(-1, filters)
            return total, pull(d_y.astype(y.dtype))[0]

        total = jnp.zeros((kernel.size // filters, filters), "float32")
        d_kernel, d_x = lax.scan(add_clip, total, (x, values, index))
        return d_x, d_kernel.reshape(kernel.shape), d_gamma, d_beta

    one_channel.defvjp(one_channel_values, one_channel_backward)

    def conv_norm_pool(x, kernel, gamma, beta, epsilon, pool, pad):
        if x.shape[-1] == 1 and jax.default_backend() == "cpu":
            return one_channel(x, kernel, gamma, beta, epsilon, pool, pad)
        y = conv(x, kernel.astype(x.dtype), 1, pad)
        return norm_pool(y, gamma, beta, epsilon, pool)

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
        "conv_norm_pool": conv_norm_pool,
        "norm_silu": norm_silu,
    }
