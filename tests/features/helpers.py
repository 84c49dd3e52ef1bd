"""Numbers and gradients of functions of one tensor, on any backend."""

import keras
import numpy as np
from keras import ops


def numpy(x):
    """Tensor to numpy."""
    return np.asarray(ops.convert_to_numpy(x))


def input_gradient(function, x):
    """Gradient of the scalar `function(x)` with respect to the array x."""
    x = ops.convert_to_tensor(np.asarray(x, "float32"))
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return np.asarray(jax.grad(function)(x))
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        return tape.gradient(value, x).numpy()
    import torch

    x = x.requires_grad_(True)
    return torch.autograd.grad(function(x), x)[0].cpu().numpy()


def compiled(function):
    """`function` of tensors, compiled as the backend does."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.jit(function)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function
