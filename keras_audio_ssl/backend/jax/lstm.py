"""The LSTM's recurrence: its kernel's gradient is one product of all frames."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from keras_audio_ssl._types import Tensor


def lstm(
    x: Tensor,
    state: Tensor,
    cell: Tensor,
    kernel: Tensor,
    recurrent_kernel: Tensor,
    bias: Tensor,
    frames: int | None = None,
) -> Tensor:
    projected = (x.astype(kernel.dtype) @ kernel).astype(state.dtype) + bias
    outputs = recurrence(
        frames, projected.transpose(1, 0, 2), state, cell, recurrent_kernel
    )
    return outputs.transpose(1, 0, 2)


def frames_first(
    frames: int | None,
    projected: Tensor,
    state: Tensor,
    cell: Tensor,
    recurrent_kernel: Tensor,
    keep: bool,
) -> Any:
    """States of all frames; with `keep` what the gradient needs besides."""
    units = state.shape[-1]

    def step(carry: Any, x: Tensor) -> tuple[Any, Any]:
        h, c = carry
        # What every frame reads is not copied for each.
        inner = (projected[0] if x is None else x) + h @ recurrent_kernel
        i, f = jnp.split(jax.nn.sigmoid(inner[:, : 2 * units]), 2, axis=-1)
        g = jnp.tanh(inner[:, 2 * units : 3 * units])
        o = jax.nn.sigmoid(inner[:, 3 * units :])
        c = f * c + i * g
        t = jnp.tanh(c)
        h = o * t
        return (h, c), (h, i, f, g, o, c, t) if keep else h

    each = projected if frames is None else None
    return jax.lax.scan(step, (state, cell), each, length=frames)[1]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def recurrence(
    frames: int | None,
    projected: Tensor,
    state: Tensor,
    cell: Tensor,
    recurrent_kernel: Tensor,
) -> Tensor:
    """States `(frames, batch, units)`; the kernel's gradient is one product."""
    return frames_first(frames, projected, state, cell, recurrent_kernel, False)


def _forward(
    frames: int | None,
    projected: Tensor,
    state: Tensor,
    cell: Tensor,
    recurrent_kernel: Tensor,
) -> tuple[Any, Any]:
    outputs, *gates, cells, tanhs = frames_first(
        frames, projected, state, cell, recurrent_kernel, True
    )
    previous = jnp.concatenate([state[None], outputs[:-1]])
    before = jnp.concatenate([cell[None], cells[:-1]])
    return outputs, (recurrent_kernel, previous, *gates, before, tanhs)


def _backward(
    frames: int | None, saved: tuple[Any, ...], grad: Tensor
) -> tuple[Tensor, ...]:
    recurrent_kernel, previous, *each = saved
    transposed = recurrent_kernel.T

    def step(carry: Any, frame: Any) -> tuple[Any, Any]:
        d_h, d_c = carry
        grad, i, f, g, o, before, t = frame
        d_h = d_h + grad
        d_c = d_c + d_h * o * (1 - t * t)
        d_gates = jnp.concatenate(
            [
                d_c * g * i * (1 - i),
                d_c * before * f * (1 - f),
                d_c * i * (1 - g * g),
                d_h * t * o * (1 - o),
            ],
            axis=-1,
        )
        return (d_gates @ transposed, d_c * f), d_gates

    zero = jnp.zeros_like(previous[0])
    (d_state, d_cell), d_gates = jax.lax.scan(
        step, (zero, zero), (grad, *each), reverse=True
    )
    units, width = recurrent_kernel.shape
    rows = previous.reshape(-1, units), d_gates.reshape(-1, width)
    # This way round it is the quickest on a CPU.
    d_recurrent = (rows[1].T @ rows[0]).T
    if frames is not None:
        d_gates = jnp.sum(d_gates, axis=0, keepdims=True)
    return d_gates, d_state, d_cell, d_recurrent


recurrence.defvjp(_forward, _backward)
