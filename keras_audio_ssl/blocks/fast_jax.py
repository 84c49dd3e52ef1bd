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
