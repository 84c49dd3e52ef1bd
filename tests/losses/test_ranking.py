import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl import losses
from tests.gradients import gradients
from tests.gradients import numpy

kinds = pytest.mark.parametrize("kind", ["l2", "kl"])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def orders(rows, n, seed=0):
    rng = np.random.default_rng(seed)
    return np.argsort(rng.random((rows, n)), axis=1).astype("int32") + 1


def grad_of(function, x):
    """Gradient of the sum of a function of a tensor, numpy."""
    variable = keras.Variable(x)
    return gradients(
        lambda: ops.sum(function(ops.convert_to_tensor(variable))), [variable]
    )[1][0]


def slowly(y, kind="l2", w=None):
    """Isotonic regression of a row by pooling neighbours, in float64."""
    y = np.asarray(y, "float64")

    def value(block):
        if kind == "l2":
            return y[block].mean()
        return np.log(np.exp(y[block]).sum()) - np.log(np.exp(w[block]).sum())

    blocks = []
    for i in range(len(y)):
        blocks.append([i])
        while len(blocks) > 1 and value(blocks[-2]) < value(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    return np.concatenate([[value(b)] * len(b) for b in blocks])


def soft_slowly(scores, strength, kind):
    out = []
    for row in np.asarray(scores, "float64") / strength:
        n = len(row)
        order = np.argsort(-row, kind="stable")
        s, rho = row[order], np.arange(n, 0, -1.0)
        if kind == "l2":
            y = s - slowly(s - rho)
        else:
            s = s - s.max()
            y = np.exp(s - slowly(s, "kl", np.log(rho)))
        out.append(np.empty(n))
        out[-1][order] = y
    return np.array(out)


def test_hard_ranks_count_from_one_and_break_ties_by_place():
    ranks = losses.hard_rank([[0.3, -1.0, 2.0, 0.3], [4.0, 3.0, 2.0, 1.0]])
    np.testing.assert_array_equal(numpy(ranks), [[2, 1, 4, 3], [4, 3, 2, 1]])


@pytest.mark.parametrize("n", [1, 2, 9, 300])
def test_isotonic_is_pooling_of_neighbours(n):
    walk = np.cumsum(normal(4, n), axis=1)
    # A rise at the end that swallows what went down before, one by one.
    walk[3] = -0.01 * np.arange(n)
    walk[3, -1] = n
    got = numpy(losses.isotonic(walk))
    want = np.array([slowly(row) for row in walk])
    np.testing.assert_allclose(
        got, want, atol=1e-5 * max(np.abs(walk).max(), 1)
    )


@kinds
@pytest.mark.parametrize("n, scale", [(2, 1.0), (6, 0.3), (6, 30.0), (200, 9)])
def test_soft_ranks_are_those_of_a_slow_computation(n, scale, kind):
    scores = scale * normal(5, n)
    scores[4] = np.round(scores[4])  # Ties.
    got = numpy(losses.soft_rank(scores, 0.7, kind))
    want = soft_slowly(scores, 0.7, kind)
    np.testing.assert_allclose(got, want, atol=2e-4 * max(n / 10, 1))
    np.testing.assert_allclose(got.sum(-1), n * (n + 1) / 2, rtol=1e-5)


@kinds
def test_what_soft_ranks_keep(kind):
    scores = normal(3, 4, 7)
    ranks = numpy(losses.soft_rank(scores, 1.0, kind))
    shifted = numpy(losses.soft_rank(scores + 3, 1.0, kind))
    np.testing.assert_allclose(shifted, ranks, atol=1e-5)
    turn = np.random.default_rng(0).permutation(7)
    turned = numpy(losses.soft_rank(scores[..., turn], 1.0, kind))
    np.testing.assert_allclose(turned, ranks[..., turn], atol=1e-6)
    for x, r in zip(scores.reshape(-1, 7), ranks.reshape(-1, 7), strict=True):
        assert (np.diff(r[np.argsort(x)]) >= -1e-6).all()
    flat = numpy(losses.soft_rank(scores, 1e4, kind))
    np.testing.assert_allclose(flat, 4.0, atol=1e-2)
    equal = numpy(losses.soft_rank(np.ones((1, 7), "float32"), 1.0, kind))
    np.testing.assert_allclose(equal, 4.0, atol=1e-5)


def test_scores_that_are_strength_apart_have_hard_ranks():
    scores = 1.01 * orders(3, 8).astype("float32")
    ranks = numpy(losses.soft_rank(scores, 1.0))
    np.testing.assert_allclose(
        ranks, numpy(losses.hard_rank(scores)), atol=1e-5
    )
    assert not grad_of(
        lambda x: ops.multiply(losses.soft_rank(x, 1.0), normal(3, 8)), scores
    ).any()


def difference(function, x, step=1e-2):
    """Central finite differences of the sum of a function."""
    grad = np.empty_like(x)
    for place in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[place] += sign * step
            ends.append(float(numpy(function(moved)).sum(dtype="float64")))
        grad[place] = (ends[0] - ends[1]) / (2 * step)
    return grad


RANKS = {
    "soft, l2": lambda x: losses.soft_rank(x, 2.0),
    "soft, kl": lambda x: losses.soft_rank(x, 2.0, "kl"),
    "perturbed": lambda x: losses.perturbed_rank(x, 0.7),
}
LOSSES = {
    "soft, l2": lambda x, r: losses.soft_rank_loss(x, r, 2.0),
    "soft, kl": lambda x, r: losses.soft_rank_loss(x, r, 2.0, "kl"),
    "perturbed": lambda x, r: losses.perturbed_rank_loss(x, r, 0.7),
}


@pytest.mark.parametrize("name", RANKS)
def test_gradients_are_finite_differences(name):
    x, g = normal(2, 5), normal(2, 5, seed=1)
    function = lambda x: ops.multiply(RANKS[name](x), g)  # noqa: E731
    # So small that no block changes.
    want = difference(function, x, 2e-3)
    np.testing.assert_allclose(grad_of(function, x), want, atol=3e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_a_fenchel_young_loss_is_ranks_less_the_true_ones(name):
    x, ranks = normal(6, 5), orders(6, 5)
    loss = lambda x: LOSSES[name](x, ranks)  # noqa: E731
    assert numpy(loss(x)).shape == (6,)
    assert (numpy(loss(x)) >= -1e-5).all()
    grad = grad_of(loss, x)
    np.testing.assert_allclose(grad, numpy(RANKS[name](x)) - ranks, atol=1e-5)
    np.testing.assert_allclose(grad[:1], difference(loss, x)[:1], atol=1e-2)
    # The right order, far apart: nothing to lose. And the other way round.
    best = 30.0 * ranks.astype("float32")
    assert np.abs(numpy(loss(best))).max() < 1e-2
    assert numpy(loss(-best)).min() > 100


def test_at_zero_the_perturbed_loss_is_known():
    for n, sigma in ((8, 1.0), (5, 0.3)):
        zeros, ranks = np.zeros((1, n), "float32"), orders(1, n)
        want = n * (n - 1) / 2 * sigma / math.sqrt(math.pi)
        got = float(numpy(losses.perturbed_rank_loss(zeros, ranks, sigma))[0])
        assert got == pytest.approx(want, rel=1e-5)


def test_draws_are_seeded_and_their_mean_is_the_expectation():
    x, ranks = normal(4, 6), orders(4, 6)
    both = [numpy(losses.perturbed_rank(x, 0.5, 2000, 3)) for _ in range(2)]
    np.testing.assert_array_equal(*both)
    want = numpy(losses.perturbed_rank(x, 0.5))
    np.testing.assert_allclose(both[0], want, atol=0.15)
    losses_of = [
        numpy(losses.perturbed_rank_loss(x, ranks, 0.5, m, 3))
        for m in (2000, None)
    ]
    np.testing.assert_allclose(*losses_of, atol=0.4)
    assert (losses_of[0] >= 0).all()


@pytest.mark.parametrize("n", [7, 64])
def test_compiled_or_not_they_are_the_same(n):
    x, ranks = normal(3, n), orders(3, n)

    def all_of(x):
        return [
            losses.soft_rank(x),
            losses.soft_rank(x, 1.0, "kl"),
            losses.perturbed_rank(x),
            losses.soft_rank_loss(x, ranks),
            losses.perturbed_rank_loss(x, ranks),
        ]

    plain = [numpy(y) for y in all_of(ops.convert_to_tensor(x))]
    compiled = compile_here(all_of)
    for a, b in zip(plain, compiled(ops.convert_to_tensor(x)), strict=True):
        np.testing.assert_allclose(a, numpy(b), rtol=1e-5, atol=1e-4)


def compile_here(function):
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.jit(function)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True)
    return function


def test_half_precision_is_ranked_in_float32():
    x = ops.cast(normal(2, 5), "bfloat16")
    for y in (losses.soft_rank(x), losses.perturbed_rank(x)):
        assert keras.backend.standardize_dtype(y.dtype) == "float32"


def test_agreement_with_the_true_ranks_against_loops():
    ranks, target = orders(5, 6), orders(5, 6, seed=1)
    ranks[0] = target[0]
    ranks[1] = 7 - target[1]
    got = {k: numpy(v) for k, v in losses.rank_agreement(ranks, target).items()}
    for i, (a, b) in enumerate(zip(ranks, target, strict=True)):
        same = [
            np.sign(a[j] - a[k]) == np.sign(b[j] - b[k])
            for j in range(6) for k in range(j)
        ]  # fmt: skip
        assert got["full"][i] == float((a == b).all())
        assert got["partial"][i] == pytest.approx((a == b).mean())
        assert got["kendall"][i] == pytest.approx(
            2 * np.mean(same) - 1, abs=1e-6
        )
        assert got["spearman"][i] == pytest.approx(
            np.corrcoef(a, b)[0, 1], abs=1e-6
        )
    assert got["spearman"][1] == pytest.approx(-1)


@pytest.mark.parametrize(
    "function, arguments, match",
    [(losses.soft_rank, {"strength": 0}, "`strength` must be positive.*: 0"),
     (losses.soft_rank, {"regularization": "l1"}, "'l2' or 'kl'.*'l1'"),
     (losses.perturbed_rank, {"sigma": -1.0}, "positive.*sigma=-1.0"),
     (losses.perturbed_rank, {"num_samples": 0}, "num_samples=0")],
)  # fmt: skip
def test_nonsense_is_refused(function, arguments, match):
    with pytest.raises(ValueError, match=match):
        function(normal(2, 3), **arguments)
