"""The GRU recurrence, once for each backend.

All functions read Keras' weight layout (gates update, reset, candidate, the
reset gate applied after the matrix product).
"""

import functools
from typing import Any

import keras
from keras import ops


def gru(
    x: Any, state: Any, kernel: Any, recurrent_kernel: Any, bias: Any
) -> Any:
    """Runs a GRU over all frames.

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

    >>> gru(x, ops.zeros((2, 8)), kernel, recurrent_kernel, bias).shape
    (2, 50, 8)
    """
    if keras.backend.backend() == "torch":
        return _gru_torch(x, state, kernel, recurrent_kernel, bias)
    x = ops.transpose(ops.cast(x, kernel.dtype), (1, 0, 2))
    if keras.backend.backend() == "jax":
        outputs = _jax_gru()(x, state, kernel, recurrent_kernel, bias)
        return ops.transpose(outputs, (1, 0, 2))
    units = state.shape[-1]
    # The recurrent biases of the update and reset gates add to the input's;
    # that of the candidate is multiplied by the reset gate.
    inner = bias[1]
    outer = bias[0] + ops.concatenate(
        [inner[: 2 * units], ops.zeros_like(inner[2 * units :])]
    )
    projected = ops.cast(ops.matmul(x, kernel), state.dtype) + outer
    recur = _tensorflow_recurrence(int(recurrent_kernel.shape[0]))
    outputs = recur(projected, state, recurrent_kernel, inner[2 * units :])
    return ops.transpose(outputs, (1, 0, 2))


@functools.cache
def _jax_gru() -> Any:
    import jax
    import jax.numpy as jnp

    def forward(x, state, kernel, recurrent_kernel, bias, keep):
        units = state.shape[-1]
        projected = x @ kernel
        both = (bias[0] + bias[1])[: 2 * units]
        outer, inner_bias = bias[:, 2 * units :]

        def step(h, x):
            x = x.astype(h.dtype)
            inner = h @ recurrent_kernel
            gates = jax.nn.sigmoid(
                x[:, : 2 * units] + inner[:, : 2 * units] + both
            )
            z, r = gates[:, :units], gates[:, units:]
            n = inner[:, 2 * units :] + inner_bias
            c = jnp.tanh(x[:, 2 * units :] + outer + r * n)
            new = c + z * (h - c)
            return new, (new, gates, n, c) if keep else new

        return jax.lax.scan(step, state, projected)[1]

    @jax.custom_vjp
    def gru(x, state, kernel, recurrent_kernel, bias):
        return forward(x, state, kernel, recurrent_kernel, bias, False)

    def gru_forward(x, state, kernel, recurrent_kernel, bias):
        outputs, *saved = forward(
            x, state, kernel, recurrent_kernel, bias, True
        )
        previous = jnp.concatenate([state[None], outputs[:-1]])
        return outputs, (x, kernel, recurrent_kernel, previous, *saved)

    def kernel_gradient(x, *parts):
        # One product over all frames and clips. This way round it is the
        # quickest on a CPU; joined afterwards, when the parts are small.
        x = x.reshape(-1, x.shape[-1])
        return jnp.concatenate(
            [
                (d.reshape(-1, d.shape[-1]).astype(x.dtype).T @ x).T
                for d in parts
            ],
            axis=-1,
        )

    def gru_backward(saved, grad):
        x, kernel, recurrent_kernel, previous, gates, n, c = saved
        units = previous.shape[-1]
        transposed = recurrent_kernel.T

        def step(carry, frame):
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
        d_bias = jnp.stack(
            [
                jnp.concatenate([sums[0], sums[1]]),
                jnp.concatenate([sums[0], sums[2]]),
            ]
        )
        return (
            d_x,
            first,
            kernel_gradient(x, d_gates, d_c),
            kernel_gradient(previous, d_gates, d_n),
            d_bias,
        )

    gru.defvjp(gru_forward, gru_backward)
    return gru


@functools.cache
def _tensorflow_recurrence(units: int) -> Any:
    import tensorflow as tf

    def loop(step, frames, carry, widths, reverse=False):
        arrays = [
            tf.TensorArray(
                carry.dtype, size=frames, element_shape=(None, width)
            )
            for width in widths
        ]

        def body(i, carry, arrays):
            t = frames - 1 - i if reverse else i
            carry, values = step(t, carry)
            arrays = [
                a.write(t, v) for a, v in zip(arrays, values, strict=False)
            ]
            return i + 1, carry, arrays

        _, carry, arrays = tf.while_loop(
            lambda i, *_: i < frames,
            body,
            (0, carry, arrays),
            maximum_iterations=frames,
        )
        return carry, [a.stack() for a in arrays]

    def forward(projected, state, recurrent_kernel, bias):

        def step(t, h):
            x = projected[t]
            inner = h @ recurrent_kernel
            gates = tf.sigmoid(x[:, : 2 * units] + inner[:, : 2 * units])
            z, r = gates[:, :units], gates[:, units:]
            n = inner[:, 2 * units :] + bias
            c = tf.tanh(x[:, 2 * units :] + r * n)
            h = c + z * (h - c)
            return h, (h, gates, n, c)

        return loop(
            step,
            tf.shape(projected)[0],
            state,
            [units, 2 * units, units, units],
        )[1]

    def backward(grad, state, recurrent_kernel, outputs, gates, n, c):
        previous = tf.concat([state[None], outputs[:-1]], 0)
        # Transposed once: the flag of `matmul` costs twice the time.
        transposed = tf.transpose(recurrent_kernel)

        def step(t, carry):
            # Two slices, as XLA misreads one that moves and cuts.
            z, r = gates[t][:, :units], gates[t][:, units:]
            total = grad[t] + carry
            direct = total * z
            d_z = direct * (1 - z) * (previous[t] - c[t])
            d_c = (total - direct) * (1 - c[t] * c[t])
            d_n = d_c * r
            d_r = d_n * n[t] * (1 - r)
            inner = tf.concat([d_z, d_r, d_n], -1)
            return direct + inner @ transposed, (inner, d_c)

        first, (inner, d_c) = loop(
            step,
            tf.shape(grad)[0],
            tf.zeros_like(state),
            [3 * units, units],
            reverse=True,
        )
        return (
            tf.concat([inner[..., : 2 * units], d_c], -1),
            first,
            tf.matmul(
                tf.reshape(previous, (-1, units)),
                tf.reshape(inner, (-1, 3 * units)),
                transpose_a=True,
            ),
            tf.reduce_sum(inner[..., 2 * units :], (0, 1)),
        )

    # A graph also when the caller runs eagerly: one operation for the loop,
    # not a dozen for each frame.
    forward = tf.function(forward, reduce_retracing=True)
    backward = tf.function(backward, reduce_retracing=True)

    @tf.custom_gradient
    def recur(projected, state, recurrent_kernel, bias):
        saved = forward(projected, state, recurrent_kernel, bias)

        def gradient(grad):
            return backward(grad, state, recurrent_kernel, *saved)

        return saved[0], gradient

    return recur


def _gru_torch(x, state, kernel, recurrent_kernel, bias):
    import torch

    units = state.shape[-1]
    dtype = state.dtype

    def reorder(weights):
        z, r, c = weights.to(dtype).split(units, dim=-1)
        return torch.cat([r, z, c], dim=-1)

    biases = reorder(bias)
    outputs, _ = torch.gru(
        x.to(dtype),
        state[None],
        [
            reorder(kernel).T,
            reorder(recurrent_kernel).T,
            biases[0],
            biases[1],
        ],
        True,
        1,
        0.0,
        torch.is_grad_enabled(),
        False,
        True,
    )
    return outputs
