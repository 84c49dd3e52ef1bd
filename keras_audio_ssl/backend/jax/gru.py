"""The GRU's recurrence: the kernel's gradient is one product of all frames."""

from typing import Any

import jax
import jax.numpy as jnp

from keras_audio_ssl._types import Tensor


def gru(
    x: Tensor,
    state: Tensor,
    kernel: Tensor,
    recurrent_kernel: Tensor,
    bias: Tensor,
) -> Tensor:
    x = x.astype(kernel.dtype).transpose(1, 0, 2)
    outputs = recurrence(x, state, kernel, recurrent_kernel, bias)
    return outputs.transpose(1, 0, 2)


def frames_first(
    x: Tensor,
    state: Tensor,
    kernel: Tensor,
    recurrent_kernel: Tensor,
    bias: Tensor,
    keep: bool,
) -> Any:
    """States of all frames; with `keep` what the gradient needs besides."""
    units = state.shape[-1]
    projected = x @ kernel
    both = (bias[0] + bias[1])[: 2 * units]
    outer, inner_bias = bias[:, 2 * units :]

    def step(h: Tensor, x: Tensor) -> tuple[Any, Any]:
        x = x.astype(h.dtype)
        inner = h @ recurrent_kernel
        gates = jax.nn.sigmoid(x[:, : 2 * units] + inner[:, : 2 * units] + both)
        z, r = gates[:, :units], gates[:, units:]
        n = inner[:, 2 * units :] + inner_bias
        c = jnp.tanh(x[:, 2 * units :] + outer + r * n)
        new = c + z * (h - c)
        return new, (new, gates, n, c) if keep else new

    return jax.lax.scan(step, state, projected)[1]


@jax.custom_vjp
def recurrence(
    x: Tensor,
    state: Tensor,
    kernel: Tensor,
    recurrent_kernel: Tensor,
    bias: Tensor,
) -> Tensor:
    """States `(frames, batch, units)`; the kernel's gradient is one product."""
    return frames_first(x, state, kernel, recurrent_kernel, bias, False)


def _forward(
    x: Tensor,
    state: Tensor,
    kernel: Tensor,
    recurrent_kernel: Tensor,
    bias: Tensor,
) -> tuple[Any, Any]:
    outputs, *saved = frames_first(
        x, state, kernel, recurrent_kernel, bias, True
    )
    previous = jnp.concatenate([state[None], outputs[:-1]])
    return outputs, (x, kernel, recurrent_kernel, previous, *saved)


def _backward(saved: tuple[Any, ...], grad: Tensor) -> tuple[Tensor, ...]:
    x, kernel, recurrent_kernel, previous, gates, n, c = saved
    units = previous.shape[-1]
    transposed = recurrent_kernel.T

    def step(carry: Any, frame: Any) -> tuple[Any, Any]:
        grad, h, gates, n, c = frame
        z, r = gates[:, :units], gates[:, units:]
        total = grad + carry
        direct = total * z
        d_z = direct * (1 - z) * (h - c)
        d_c = (total - direct) * (1 - c * c)
        d_n = d_c * r
        d_r = d_n * n * (1 - r)
        inner = jnp.concatenate([d_z, d_r, d_n], axis=-1)
        d_gates = jnp.concatenate([d_z, d_r], axis=-1)
        return direct + inner @ transposed, (d_gates, d_n, d_c)

    first, (d_gates, d_n, d_c) = jax.lax.scan(
        step,
        jnp.zeros_like(previous[0]),
        (grad, previous, gates, n, c),
        reverse=True,
    )
    d_x = (
        d_gates.astype(x.dtype) @ kernel[:, : 2 * units].T
        + d_c.astype(x.dtype) @ kernel[:, 2 * units :].T
    )
    sums = [jnp.sum(d, axis=(0, 1)) for d in (d_gates, d_c, d_n)]
    d_bias = [
        jnp.concatenate([sums[0], sums[1]]),
        jnp.concatenate([sums[0], sums[2]]),
    ]
    return (
        d_x,
        first,
        kernel_gradient(x, d_gates, d_c),
        kernel_gradient(previous, d_gates, d_n),
        jnp.stack(d_bias),
    )


def kernel_gradient(x: Tensor, *parts: Tensor) -> Tensor:
    """Gradient of a kernel `(dim, gates * units)` that multiplied `x`."""
    # One product over all frames and clips. This way round it is the quickest
    # on a CPU; joined afterwards, when the parts are small.
    x = x.reshape(-1, x.shape[-1])
    return jnp.concatenate(
        [(d.reshape(-1, d.shape[-1]).astype(x.dtype).T @ x).T for d in parts],
        axis=-1,
    )


recurrence.defvjp(_forward, _backward)
