"""Gradients with respect to weights, on any backend."""

import contextlib

import keras
import numpy as np
from keras import ops


def gradients(loss, variables):
    """Value of `loss()` and its gradients.

    Args:
        loss: Function without arguments, to a scalar.
        variables: Keras variables that it reads.

    Returns:
        `(value, [numpy gradient of each variable])`. What `loss` assigns to
        other variables is kept on TensorFlow and PyTorch, and not on JAX.
    """
    value, _, grads = gradients_and_more(lambda: (loss(), ()), variables)
    return value, grads


def gradients_and_more(loss, variables):
    """As `gradients`, of a loss that returns a scalar and a tensor.

    Returns:
        `(value, tensor, [numpy gradient of each variable])`.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        def function(values):
            pairs = list(zip(variables, values, strict=True))
            with keras.StatelessScope(state_mapping=pairs):
                return loss()

        values = [v.value for v in variables]
        step = jax.jit(jax.value_and_grad(function, has_aux=True))
        (value, more), grads = step(values)
    elif backend == "tensorflow":
        import tensorflow as tf

        values = [v.value for v in variables]
        with tf.GradientTape() as tape:
            value, more = loss()
        grads = tape.gradient(value, values, unconnected_gradients="zero")
    else:
        import torch

        values = [v.value for v in variables]
        value, more = loss()
        grads = torch.autograd.grad(value, values, materialize_grads=True)
    value = float(ops.convert_to_numpy(value))
    return value, more, [numpy(g) for g in grads]


def one_by_one():
    """In this context JAX computes operations one by one, as others do."""
    if keras.backend.backend() != "jax":
        return contextlib.nullcontext()
    import jax

    return jax.disable_jit()


def seen_frames(function, x, frames):
    """Which frames of its input each of some frames of an output sees.

    Args:
        function: `(batch, time, bins)` to `(batch, time, dim)`.
        x: numpy `(time, bins)`.
        frames: Places in the output.

    Returns:
        For each of `frames`, a numpy array of the input's places where its
        gradient is not exactly zero, less its own.
    """
    inputs = keras.Variable(np.stack([x] * len(frames)))
    rng = np.random.default_rng(0)

    def some():
        y = function(ops.convert_to_tensor(inputs))
        weights = np.zeros(y.shape, "float32")
        for row, frame in enumerate(frames):
            weights[row, frame] = rng.standard_normal(y.shape[-1])
        return ops.sum(y * ops.convert_to_tensor(weights))

    _, (grad,) = gradients(some, [inputs])
    return [
        np.flatnonzero(np.abs(row).max(axis=-1)) - frame
        for row, frame in zip(grad, frames, strict=True)
    ]


def numpy(x):
    """Tensor to numpy float32; float64 stays what it is."""
    x = np.asarray(ops.convert_to_numpy(x))
    return x if x.dtype == "float64" else np.asarray(x, "float32")
