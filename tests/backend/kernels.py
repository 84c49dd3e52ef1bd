"""Functions of the room as layers, so that `run` differentiates them."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl.backend import portable
from tests.blocks.gradients import close
from tests.blocks.gradients import run

BACKEND = keras.backend.backend()
COMPILED = {
    "tensorflow": [False, True, "xla"],
    "jax": [True],
    "torch": [False],
}[BACKEND]
on_torch = pytest.mark.skipif(BACKEND != "torch", reason="PyTorch alone")


class Kernel(keras.layers.Layer):
    """Calls a function, whose first argument it gives a dtype."""

    def __init__(self, function, dtype="float32", **options):
        super().__init__()
        self.function, self.options, self.first = function, options, dtype

    def call(self, x, *rest):
        return self.function(ops.cast(x, self.first), *rest, **self.options)


def array(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def check(
    name, arrays, options, compiled=False, dtype="float32", tolerance=2e-5
):
    """Asserts that values and gradients are those of the plain function."""
    plain = Kernel(getattr(portable, name), **options)
    want = run(plain, arrays)
    shape = want["outputs"][0].shape
    want = run(plain, arrays, array(9, *shape))
    own = Kernel(getattr(backend, name), dtype, **options)
    got = run(own, arrays, array(9, *shape), compiled=compiled)
    close(got["outputs"], want["outputs"], tolerance)
    try:
        close(got["inputs"], want["inputs"], tolerance)
    except AssertionError:
        # On CPUs without instructions for it, TensorFlow sums gradients in
        # half precision: there they are those of the plain function in it.
        if BACKEND != "tensorflow" or dtype == "float32":
            raise
        half = Kernel(getattr(portable, name), dtype, **options)
        want = run(half, arrays, array(9, *shape), compiled=compiled)
        close(got["inputs"], want["inputs"], 2e-5)
