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
    units = state.shape[-1]
    # The recurrent biases of the update and reset gates add to the input's;
    # that of the candidate is multiplied by the reset gate.
    inner = bias[1]
    outer = bias[0] + ops.concatenate(
        [inner[: 2 * units], ops.zeros_like(inner[2 * units :])]
    )
    x = ops.cast(x, kernel.dtype)
    projected = ops.matmul(ops.transpose(x, (1, 0, 2)), kernel)
    projected = ops.cast(projected, state.dtype) + outer
    if keras.backend.backend() == "jax":
        recur = _jax_recurrence()
    else:
        recur = _tensorflow_recurrence()
    outputs = recur(projected, state, recurrent_kernel, inner[2 * units :])
    return ops.transpose(outputs, (1, 0, 2))


@functools.cache
def _jax_recurrence() -> Any:
    import jax
    import jax.numpy as jnp

    def forward(projected, state, recurrent_kernel, bias, keep):
        units = state.shape[-1]

        def step(h, x):
            inner = h @ recurrent_kernel
            z = jax.nn.sigmoid(x[:, :units] + inner[:, :units])
            r = jax.nn.sigmoid(
                x[:, units : 2 * units] + inner[:, units : 2 * units]
            )
            n = inner[:, 2 * units :] + bias
            c = jnp.tanh(x[:, 2 * units :] + r * n)
            new = c + z * (h - c)
            return new, (new, z, r, n, c) if keep else new

        return jax.lax.scan(step, state, projected)[1]

    @jax.custom_vjp
    def recur(projected, state, recurrent_kernel, bias):
        return forward(projected, state, recurrent_kernel, bias, False)

    def recur_forward(projected, state, recurrent_kernel, bias):
        outputs, z, r, n, c = forward(
            projected, state, recurrent_kernel, bias, True
        )
        return outputs, (outputs, z, r, n, c, state, recurrent_kernel)

    def recur_backward(saved, grad):
        outputs, z, r, n, c, state, recurrent_kernel = saved
        previous = jnp.concatenate([state[None], outputs[:-1]])
        # Everything that the gradient of the state is multiplied by.
        to_z = (previous - c) * z * (1 - z)
        to_c = (1 - z) * (1 - c * c)
        to_n = to_c * r
        to_r = to_c * n * r * (1 - r)
        transposed = recurrent_kernel.T

        def step(carry, inputs):
            g, z, to_z, to_r, to_n = inputs
            h = g + carry
            inner = jnp.concatenate([h * to_z, h * to_r, h * to_n], axis=-1)
            return h * z + inner @ transposed, (h, inner)

        first, (h, inner) = jax.lax.scan(
            step,
            jnp.zeros_like(state),
            (grad, z, to_z, to_r, to_n),
            reverse=True,
        )
        units = state.shape[-1]
        outer = jnp.concatenate(
            [inner[..., : 2 * units], h * to_c], axis=-1
        )
        return (
            outer,
            first,
            jnp.einsum("tbi,tbj->ij", previous, inner),
            jnp.sum(inner[..., 2 * units :], axis=(0, 1)),
        )

    recur.defvjp(recur_forward, recur_backward)
    return recur


@functools.cache
def _tensorflow_recurrence() -> Any:
    import tensorflow as tf

    def loop(frames, step, carry, results):
        arrays = [
            tf.TensorArray(
                carry.dtype, size=frames, element_shape=(None, width)
            )
            for width in results
        ]

        def body(t, carry, arrays):
            carry, values = step(t, carry)
            arrays = [a.write(t, v) for a, v in zip(arrays, values)]
            return t + 1, carry, arrays

        _, carry, arrays = tf.while_loop(
            lambda t, *_: t < frames,
            body,
            (0, carry, arrays),
            maximum_iterations=frames,
        )
        return carry, [a.stack() for a in arrays]

    def forward(projected, state, recurrent_kernel, bias, keep):
        units = recurrent_kernel.shape[0]

        def step(t, h):
            x = projected[t]
            inner = h @ recurrent_kernel
            gates = tf.sigmoid(x[:, : 2 * units] + inner[:, : 2 * units])
            z, r = gates[:, :units], gates[:, units:]
            n = inner[:, 2 * units :] + bias
            c = tf.tanh(x[:, 2 * units :] + r * n)
            h = c + z * (h - c)
            return h, (h, z, r, n, c) if keep else (h,)

        return loop(
            tf.shape(projected)[0], step, state, [units] * (5 if keep else 1)
        )[1]

    def backward(grad, outputs, z, r, n, c, state, recurrent_kernel):
        units = recurrent_kernel.shape[0]
        frames = tf.shape(grad)[0]
        previous = tf.concat([state[None], outputs[:-1]], 0)
        to_z = (previous - c) * z * (1 - z)
        to_c = (1 - z) * (1 - c * c)
        to_n = to_c * r
        to_r = to_c * n * r * (1 - r)
        to_inner = tf.concat([to_z, to_r, to_n], -1)
        transposed = tf.transpose(recurrent_kernel)  # half the time of a flag

        def step(t, carry):
            t = frames - 1 - t
            h = grad[t] + carry
            inner = tf.tile(h, (1, 3)) * to_inner[t]
            return h * z[t] + inner @ transposed, (h, inner)

        first, (h, inner) = loop(
            frames, step, tf.zeros_like(state), [units, 3 * units]
        )
        h, inner = tf.reverse(h, [0]), tf.reverse(inner, [0])
        outer = tf.concat([inner[..., : 2 * units], h * to_c], -1)
        return (
            outer,
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
        outputs, *saved = forward(
            projected, state, recurrent_kernel, bias, True
        )

        def gradient(grad):
            return backward(grad, outputs, *saved, state, recurrent_kernel)

        return outputs, gradient

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
