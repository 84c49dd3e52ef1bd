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

    dtype = state.dtype
    x, kernel = x.to(dtype), kernel.to(dtype)
    recurrent_kernel, bias = recurrent_kernel.to(dtype), bias.to(dtype)
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        x = x.transpose(0, 1)
        outputs = _torch_gru()(x, state, kernel, recurrent_kernel, bias)
        return outputs.transpose(0, 1)

    def reorder(weights):
        z, r, c = weights.chunk(3, dim=-1)
        return torch.cat([r, z, c], dim=-1)

    return torch.gru(
        x,
        state[None],
        [
            reorder(kernel).T,
            reorder(recurrent_kernel).T,
            *reorder(bias).unbind(),
        ],
        True,
        1,
        0.0,
        torch.is_grad_enabled(),
        False,
        True,
    )[0]


@functools.cache
def _torch_gru() -> Any:
    """The recurrence on a CPU, `(frames, batch, dim)` in and out.

    PyTorch's own adds to the gradient of the recurrent kernel after each
    frame; here it is one product over all of them.
    """
    import torch
    from torch.autograd.function import once_differentiable

    sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
    tanh_backward = torch.ops.aten.tanh_backward.grad_input

    class GRU(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, state, kernel, recurrent_kernel, bias):
            frames, batch, dim = x.shape
            units = state.shape[-1]
            x = x.contiguous()
            both = bias[0].clone()
            both[: 2 * units] += bias[1, : 2 * units]
            inner_bias = bias[1, 2 * units :]
            # Turned into gates and candidates where they lie.
            projected = torch.addmm(both, x.view(-1, dim), kernel)
            projected = projected.view(frames, batch, 3 * units)
            states = x.new_empty(frames + 1, batch, units)
            states[0] = state
            resets = x.new_empty(frames, batch, units)
            inner = x.new_empty(batch, 3 * units)
            gates_part = inner[:, : 2 * units]
            candidate_part = inner[:, 2 * units :]
            h = states[0]
            for new, gates, z, r, c, n in zip(
                states[1:].unbind(),
                projected[..., : 2 * units].unbind(),
                *(part.unbind() for part in projected.chunk(3, -1)),
                resets.unbind(),
                strict=True,
            ):
                torch.mm(h, recurrent_kernel, out=inner)
                gates.add_(gates_part).sigmoid_()
                torch.add(candidate_part, inner_bias, out=n)
                c.addcmul_(r, n).tanh_()
                h = torch.lerp(c, h, z, out=new)
            ctx.save_for_backward(
                x, kernel, recurrent_kernel, states, projected, resets
            )
            return states[1:]

        @staticmethod
        @once_differentiable
        def backward(ctx, grad):
            x, kernel, recurrent_kernel, states, d_outer, d_inner = (
                ctx.saved_tensors
            )
            frames, batch, units = d_inner.shape
            d_gates = d_outer[..., : 2 * units]
            transposed = recurrent_kernel.T.contiguous()
            grad = grad.contiguous()
            total = torch.zeros_like(states[0])
            direct = torch.empty_like(total)
            part = torch.empty_like(total)
            # The gradients take the place of what they are computed from: a
            # second backward pass is refused by PyTorch.
            inner = x.new_empty(batch, 3 * units)
            inner_z, inner_r, inner_n = inner.chunk(3, -1)
            for slope, before, gates, z, r, c, n in zip(
                *(
                    reversed(v.unbind())
                    for v in (
                        grad,
                        states[:-1],
                        d_gates,
                        *d_outer.chunk(3, -1),
                        d_inner,
                    )
                ),
                strict=True,
            ):
                total.add_(slope)
                torch.mul(total, z, out=direct)
                total.sub_(direct)
                torch.sub(before, c, out=part)
                part.mul_(direct)
                # part * (1 - z): the other factor of the slope, z, is in it.
                torch.addcmul(part, part, z, value=-1, out=inner_z)
                tanh_backward(total, c, grad_input=c)
                torch.mul(c, n, out=part)
                sigmoid_backward(part, r, grad_input=inner_r)
                torch.mul(c, r, out=inner_n)
                gates.copy_(inner[:, : 2 * units])
                n.copy_(inner_n)
                torch.addmm(direct, inner, transposed, out=total)
            x, previous = x.flatten(0, 1), states[:-1].flatten(0, 1)
            outer, d_n = d_outer.flatten(0, 1), d_inner.flatten(0, 1)
            d_x = None
            if ctx.needs_input_grad[0]:
                d_x = (outer @ kernel.T).view(frames, batch, -1)
            sums, sum_n = outer.sum(0), d_n.sum(0)
            return (
                d_x,
                total,
                x.T @ outer,
                torch.cat(
                    [
                        previous.T @ outer[:, : 2 * units],
                        previous.T @ d_n,
                    ],
                    dim=-1,
                ),
                torch.stack(
                    [sums, torch.cat([sums[: 2 * units], sum_n])],
                ),
            )

    return GRU.apply
