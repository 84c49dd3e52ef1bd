import numpy as np
import pytest

import keras_audio_ssl.backend as backend
from tests.backend.kernels import COMPILED
from tests.backend.kernels import Kernel
from tests.backend.kernels import array
from tests.backend.kernels import check
from tests.blocks.gradients import close
from tests.blocks.gradients import run


def inputs(units=4, frames=7):
    """Frames, state, cell, kernel, recurrent kernel and bias."""
    return [
        array(0, 3, frames, 5),
        array(1, 3, units),
        array(2, 3, units),
        0.5 * array(3, 5, 4 * units),
        0.5 * array(4, units, 4 * units),
        0.5 * array(5, 4 * units),
    ]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(x, h, c, kernel, recurrent_kernel, bias, grad):
    """Loops over frames in float64: outputs, and gradients of sum(h * grad)."""
    x, h, c, kernel, recurrent_kernel, bias, grad = (
        np.asarray(a, "float64")
        for a in (x, h, c, kernel, recurrent_kernel, bias, grad)
    )
    outputs, saved = [], []
    for t in range(x.shape[1]):
        inner = x[:, t] @ kernel + h @ recurrent_kernel + bias
        i, f, g, o = np.split(inner, 4, -1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        before, c = (h, c), f * c + i * g
        h = o * np.tanh(c)
        saved.append((*before, i, f, g, o, np.tanh(c)))
        outputs.append(h)
    d_x, d_k = np.zeros_like(x), np.zeros_like(kernel)
    d_r, d_b = np.zeros_like(recurrent_kernel), np.zeros_like(bias)
    d_h, d_c = np.zeros_like(h), np.zeros_like(h)
    for t in reversed(range(x.shape[1])):
        h, c, i, f, g, o, th = saved[t]
        d_h = d_h + grad[:, t]
        d_c = d_c + d_h * o * (1 - th**2)
        inner = np.concatenate(
            [
                d_c * g * i * (1 - i),
                d_c * c * f * (1 - f),
                d_c * i * (1 - g**2),
                d_h * th * o * (1 - o),
            ],
            -1,
        )
        d_x[:, t] = inner @ kernel.T
        d_k += x[:, t].T @ inner
        d_r += h.T @ inner
        d_b += inner.sum(0)
        d_h, d_c = inner @ recurrent_kernel.T, d_c * f
    return np.stack(outputs, 1), [d_x, d_h, d_c, d_k, d_r, d_b]


@pytest.mark.parametrize("compiled", COMPILED)
def test_values_and_gradients_match_a_float64_loop(compiled):
    grad = array(6, 3, 7, 4)
    outputs, gradients = reference(*inputs(), grad)
    got = run(Kernel(backend.lstm), inputs(), grad, compiled=compiled)
    close(got["outputs"], [outputs], 2e-6)
    close(got["inputs"], gradients, 1e-5)


@pytest.mark.parametrize("compiled", COMPILED)
def test_one_input_at_every_frame(compiled):
    grad, arrays = array(6, 3, 7, 4), inputs(frames=1)
    repeated = [np.repeat(arrays[0], 7, axis=1), *arrays[1:]]
    outputs, gradients = reference(*repeated, grad)
    gradients[0] = gradients[0].sum(1, keepdims=True)
    layer = Kernel(backend.lstm, frames=7)
    got = run(layer, arrays, grad, compiled=compiled)
    close(got["outputs"], [outputs], 2e-6)
    close(got["inputs"], gradients, 1e-5)


@pytest.mark.parametrize("units", [4, 6])
@pytest.mark.parametrize("frames", [None, 3])
def test_equals_the_plain_function(units, frames):
    arrays = inputs(units, 1 if frames else 7)
    check("lstm", arrays, {"frames": frames}, tolerance=1e-5)
