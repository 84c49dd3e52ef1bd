import numpy as np
import pytest

import keras_audio_ssl.backend as backend
from tests.backend.kernels import COMPILED
from tests.backend.kernels import Kernel
from tests.backend.kernels import array
from tests.backend.kernels import check
from tests.backend.kernels import on_torch
from tests.blocks.gradients import close
from tests.blocks.gradients import run


def inputs(units=4):
    """Frames, state, kernel, recurrent kernel and bias."""
    return [
        array(0, 3, 7, 5),
        array(1, 3, units),
        0.5 * array(2, 5, 3 * units),
        0.5 * array(3, units, 3 * units),
        0.5 * array(4, 2, 3 * units),
    ]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(x, state, kernel, recurrent_kernel, bias, grad):
    """Loops over frames in float64: outputs, and gradients of sum(h * grad)."""
    x, state, kernel, recurrent_kernel, bias, grad = (
        np.asarray(a, "float64")
        for a in (x, state, kernel, recurrent_kernel, bias, grad)
    )
    units = state.shape[-1]
    h, outputs, saved = state, [], []
    for t in range(x.shape[1]):
        a = x[:, t] @ kernel + bias[0]
        b = h @ recurrent_kernel + bias[1]
        az, ar, ac = np.split(a, 3, -1)
        bz, br, bc = np.split(b, 3, -1)
        z, r = sigmoid(az + bz), sigmoid(ar + br)
        c = np.tanh(ac + r * bc)
        saved.append((h, z, r, c, bc))
        h = z * h + (1 - z) * c
        outputs.append(h)
    d_x, d_k = np.zeros_like(x), np.zeros_like(kernel)
    d_r, d_b = np.zeros_like(recurrent_kernel), np.zeros_like(bias)
    d_h = np.zeros_like(state)
    for t in reversed(range(x.shape[1])):
        before, z, r, c, bc = saved[t]
        d_h = d_h + grad[:, t]
        d_z = d_h * (before - c) * z * (1 - z)
        d_c = d_h * (1 - z) * (1 - c**2)
        d_a = np.concatenate([d_z, d_c * bc * r * (1 - r), d_c], -1)
        d_i = np.concatenate([d_a[:, : 2 * units], d_c * r], -1)
        d_x[:, t] = d_a @ kernel.T
        d_k += x[:, t].T @ d_a
        d_r += before.T @ d_i
        d_b += np.stack([d_a.sum(0), d_i.sum(0)])
        d_h = d_h * z + d_i @ recurrent_kernel.T
    return np.stack(outputs, 1), [d_x, d_h, d_k, d_r, d_b]


@pytest.mark.parametrize("compiled", COMPILED)
def test_values_and_gradients_match_a_float64_loop(compiled):
    grad = array(5, 3, 7, 4)
    outputs, gradients = reference(*inputs(), grad)
    got = run(Kernel(backend.gru), inputs(), grad, compiled=compiled)
    close(got["outputs"], [outputs], 2e-6)
    close(got["inputs"], gradients, 1e-5)


@pytest.mark.parametrize("units", [4, 6])
def test_equals_the_plain_function(units):
    check("gru", inputs(units), {}, tolerance=1e-5)


@on_torch
def test_accelerators_and_compilers_give_the_same(monkeypatch):
    import torch

    # PyTorch's own recurrence.
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(backend.torch, "GRU", None)
    check("gru", inputs(), {}, tolerance=1e-5)


@on_torch
def test_a_second_backward_pass_is_refused():
    import torch

    tensors = [torch.tensor(a, requires_grad=True) for a in inputs()]
    total = backend.gru(*tensors).sum()
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="inplace"):
        total.backward()
