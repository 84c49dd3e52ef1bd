"""Updates of weights in one pass, nearer to those in float64 than Keras'."""

import copy

import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
import keras_audio_ssl.backend as backend
from tests.backend.kernels import on_torch
from tests.contract import batch

# The others' updates are Keras' own.
pytestmark = on_torch

OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(1e-2),
    "adamw": lambda: keras.optimizers.AdamW(1e-2, weight_decay=0.1),
    "clipped": lambda: keras.optimizers.Adam(1e-2, clipnorm=0.5),
    "accumulated": lambda: keras.optimizers.Adam(
        1e-2, gradient_accumulation_steps=2
    ),
    "averaged": lambda: keras.optimizers.Adam(1e-2, use_ema=True),
    "scheduled": lambda: keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(1e-2, 8), 0.8, 0.95, 1e-3
    ),
    "largest": lambda: keras.optimizers.Adam(1e-2, amsgrad=True),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(1e-2), initial_scale=1.0
    ),
    "sgd": lambda: keras.optimizers.SGD(1e-2, momentum=0.9),
}
SHAPES = (7, 5), (5,), (), (3, 2, 4)


def turned(tensor):
    """The same values with the last axis first in memory."""
    return tensor.movedim(-1, 0).contiguous().movedim(0, -1)


def trained(optimizer, dtype="float32", steps=6, order=lambda tensor: tensor):
    """Variables after some updates by the same gradients."""
    rng = np.random.default_rng(0)
    variables = [
        keras.Variable(rng.normal(size=shape), dtype=dtype) for shape in SHAPES
    ]
    for variable in variables:
        if len(variable.shape) > 1:
            variable.value.data = order(variable.value.data)
    optimizer.build(variables)
    for k in range(steps):
        gradients = [
            # From large to some that epsilon counts beside.
            ops.convert_to_tensor(rng.normal(size=s) * 10.0**-k, dtype)
            for s in SHAPES
        ]
        gradients = [order(g) if g.ndim > 1 else g for g in gradients]
        optimizer.apply(gradients, variables)
    return [ops.convert_to_numpy(v) for v in (*variables, *optimizer.variables)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_are_those_of_keras(name, dtype):
    quick = OPTIMIZERS[name]()
    backend.quicken(quick)
    got, want = trained(quick, dtype), trained(OPTIMIZERS[name](), "float64")
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=5e-7)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_states_come_to_lie_as_their_weights(name):
    optimizer = OPTIMIZERS[name]()
    backend.quicken(optimizer)
    want = trained(OPTIMIZERS[name](), "float64")
    for a, b in zip(trained(optimizer, order=turned), want, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=5e-7)
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    # Of (3, 2, 4) in memory that is (4, 3, 2).
    states = [v.value for v in inner.variables if len(v.shape) == 3]
    assert states and all(s.stride() == (2, 1, 6) for s in states)


def test_turned_weights_are_updated_in_one_pass(monkeypatch):
    import torch

    calls, fused = [], torch._fused_adam_
    monkeypatch.setattr(
        torch, "_fused_adam_", lambda *a, **k: calls.append(1) or fused(*a, **k)
    )
    optimizer = OPTIMIZERS["adam"]()
    backend.quicken(optimizer)
    trained(optimizer, order=turned)
    assert len(calls) == 6


def test_a_copy_has_its_own_moments():
    want = trained(OPTIMIZERS["adam"](), "float64")
    first = OPTIMIZERS["adam"]()
    backend.quicken(first)
    for optimizer in (copy.deepcopy(first), first):
        for a, b in zip(trained(optimizer), want, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-6, atol=5e-7)


@pytest.mark.parametrize("memory", ["gradient", "weight"])
def test_any_memory_layout(memory):
    import torch

    results = []
    for quick in (True, False):
        optimizer = OPTIMIZERS["adam"]()
        weight = keras.Variable(np.arange(6.0).reshape(2, 3), dtype="float32")
        gradient = torch.arange(6.0).reshape(3, 2).t()
        if memory == "weight":
            weight.value.data = weight.value.data.t().contiguous().t()
            gradient = gradient.contiguous()
        optimizer.build([weight])
        if quick:
            backend.quicken(optimizer)
        optimizer.apply([gradient], [weight])
        results.append(ops.convert_to_numpy(weight))
    np.testing.assert_allclose(*results, atol=1e-7)


def test_models_take_it(monkeypatch):
    import torch

    calls, fused = [], torch._fused_adam_
    monkeypatch.setattr(
        torch,
        "_fused_adam_",
        lambda *args, **kwargs: calls.append(1) or fused(*args, **kwargs),
    )
    model = kas.COLA(preset="tiny")
    model.compile()
    model.fit(batch(8), batch_size=4, verbose=0)
    assert len(calls) == 2
    classifier = kas.Classifier(model.encoder, 2)
    classifier.compile()
    classifier.fit(
        batch(8)["waveform"], np.arange(8) % 2, batch_size=4, verbose=0
    )
    assert len(calls) > 2
