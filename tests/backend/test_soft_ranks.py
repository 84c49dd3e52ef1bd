"""PyTorch's soft ranks beside the plain ones."""

import numpy as np
import pytest
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl.backend import portable
from tests.backend.kernels import Kernel
from tests.backend.kernels import array
from tests.backend.kernels import on_torch
from tests.blocks.gradients import close
from tests.blocks.gradients import run

pytestmark = on_torch
kinds = pytest.mark.parametrize("kind", ["l2", "kl"])


def check(scores, kind):
    """Values and gradients are the plain function's in float64."""
    upstream = array(9, *scores.shape)
    plain = Kernel(portable.soft_ranks, "float64", kind=kind)
    want = run(plain, [scores.astype("float64")], upstream)
    own = Kernel(backend.soft_ranks, kind=kind)
    got = run(own, [scores.astype("float32")], upstream)
    close(got["outputs"], want["outputs"], 2e-5)
    close(got["inputs"], want["inputs"], 2e-5)


@kinds
@pytest.mark.parametrize("n", [1, 2, 8, 12, 13, 65])
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0, 3000.0])
def test_equals_the_plain_function(n, scale, kind):
    scores = scale * array(0, 3, 5, n)
    scores[0] = np.round(scores[0])  # Ties.
    check(scores, kind)


@kinds
@pytest.mark.parametrize(
    "scores",
    [
        # Without a gap, and further apart than float64 has exponents.
        np.linspace(0, -4.0 * 511, 512)[None],
        # Rows on scales of their own.
        np.array([[0, -1e-6, -2e-6], [0, -1e5, -2e5]]),
        # No two that are pooled, beside some that are.
        np.arange(40.0)[None] ** 2,
        np.concatenate([np.arange(20.0) ** 2, -np.ones(20)])[None],
    ],
)
def test_scores_of_any_distance(scores, kind):
    check(scores.astype("float32"), kind)


@kinds
def test_what_is_not_finite_stays_in_its_row(kind):
    x = array(0, 3, 4)
    whole = ops.convert_to_numpy(backend.soft_ranks(ops.array(x), kind))
    x[1, 2] = np.nan
    got = ops.convert_to_numpy(backend.soft_ranks(ops.array(x), kind))
    assert not np.isfinite(got[1]).all()
    np.testing.assert_allclose(got[[0, 2]], whole[[0, 2]], atol=1e-5)


@kinds
def test_float64_stays(kind):
    x = array(0, 2, 6).astype("float64")
    got, want = (
        ops.convert_to_numpy(f(ops.array(x, "float64"), kind))
        for f in (backend.soft_ranks, portable.soft_ranks)
    )
    assert got.dtype == "float64"
    np.testing.assert_allclose(got, want)


@kinds
def test_without_gradient_they_are_the_same(kind):
    import torch

    x = torch.tensor(array(0, 3, 6), requires_grad=True)
    want = backend.soft_ranks(x, kind)
    assert want.requires_grad
    with torch.no_grad():
        got = backend.soft_ranks(x, kind)
    assert not got.requires_grad
    np.testing.assert_array_equal(got.numpy(), want.detach().numpy())


@kinds
def test_a_gradient_has_a_gradient(kind):
    import torch

    x = torch.tensor(0.3 * array(0, 2, 6).astype("float64"))

    def second(function):
        leaf = x.clone().requires_grad_()
        total = function(leaf, kind).pow(3).sum()
        (first,) = torch.autograd.grad(total, leaf, create_graph=True)
        return torch.autograd.grad(first.square().sum(), leaf)[0]

    got, want = second(backend.soft_ranks), second(portable.soft_ranks)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9)
    assert got.abs().max() > 0
