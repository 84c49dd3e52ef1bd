"""Outputs and gradients of a layer as numpy arrays, on any backend."""

import keras
import numpy as np
from keras import ops


def run(layer, arrays, cotangent=None, compiled=False, **kwargs):
    """Calls `layer(*arrays, **kwargs)` and differentiates it.

    The scalar differentiated is the sum of the (first) output times
    `cotangent`. Returns a dict: "outputs" (list), "inputs" and "weights"
    (gradients, lists), "state" (non-trainable weights after the call).
    """
    if not layer.built:
        layer(*[np.asarray(a) for a in arrays], **kwargs)
    backend = keras.backend.backend()

    def scalar(outputs):
        flat = outputs if isinstance(outputs, (tuple, list)) else [outputs]
        parts = cotangent if isinstance(cotangent, list) else [cotangent]
        return sum(
            ops.sum(ops.cast(o, "float32") * ops.convert_to_tensor(c))
            for o, c in zip(flat, parts)
        )

    arrays = [np.asarray(a) for a in arrays]
    if cotangent is None:
        cotangent = np.ones(1, "float32")
    if backend == "jax":
        import jax

        trainable = [v.value for v in layer.trainable_variables]
        fixed = [v.value for v in layer.non_trainable_variables]

        def loss(arrays, trainable):
            outputs, state = layer.stateless_call(
                trainable, fixed, *arrays, **kwargs
            )
            return scalar(outputs), (outputs, state)

        function = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
        function = jax.jit(function) if compiled else function
        (_, (outputs, state)), grads = function(arrays, trainable)
        for v, new in zip(layer.non_trainable_variables, state):
            v.assign(new)
    elif backend == "tensorflow":
        import tensorflow as tf

        def function(*tensors):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                outputs = layer(*tensors, **kwargs)
                loss = scalar(outputs)
            weights = [v.value for v in layer.trainable_variables]
            return outputs, tape.gradient(loss, (list(tensors), weights))

        if compiled:
            function = tf.function(
                function, jit_compile=compiled == "xla", reduce_retracing=True
            )
        outputs, grads = function(*[tf.constant(a) for a in arrays])
    else:
        import torch

        tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
        weights = [v.value for v in layer.trainable_variables]
        outputs = layer(*tensors, **kwargs)
        grads = torch.autograd.grad(scalar(outputs), tensors + weights)
        grads = (grads[: len(tensors)], grads[len(tensors) :])
    if not isinstance(outputs, (tuple, list)):
        outputs = [outputs]
    numpy = keras.ops.convert_to_numpy
    return {
        "outputs": [numpy(ops.cast(o, "float32")) for o in outputs],
        "inputs": [numpy(g) for g in grads[0]],
        "weights": [numpy(g) for g in grads[1]],
        "state": [numpy(v) for v in layer.non_trainable_variables],
    }


def close(got, want, tolerance=1e-5):
    """Asserts that arrays agree, relative to the largest entry of each."""
    assert len(got) == len(want)
    for i, (g, w) in enumerate(zip(got, want)):
        assert g.shape == w.shape, f"{i}: {g.shape} and {w.shape}"
        scale = max(np.abs(w).max(), 1e-6)
        error = np.abs(g - w).max() / scale
        assert error <= tolerance, f"array {i}: relative error {error:.2e}"
