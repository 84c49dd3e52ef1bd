"""Ranks that have gradients, and losses of wrong orders.

Everywhere ranks are of the last axis, count from 1 and ascend: the smallest
score has rank 1.
"""

import math

import keras
from keras import ops

from keras_audio_ssl._types import Seed
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.backend import soft_ranks
from keras_audio_ssl.backend.isotonic import not_rising
from keras_audio_ssl.losses.information import at_least_float32

REGULARIZATIONS = ("l2", "kl")


def hard_rank(scores: Tensor) -> Tensor:
    """Ranks of scores, from 1 on; of equal scores the first has the lower.

    Args:
        scores: `(..., n)`.

    Returns:
        int32 `(..., n)`, without gradient.

    Example:
        >>> hard_rank([[0.3, -1.0, 2.0]])
        [[2, 1, 3]]
    """
    order = ops.argsort(ops.convert_to_tensor(scores), axis=-1)
    return ops.cast(ops.argsort(order, axis=-1), "int32") + 1


# Ranks under noise: a linear programme whose scores are perturbed.


def perturbed_rank(
    scores: Tensor,
    sigma: float = 1.0,
    num_samples: int | None = None,
    seed: Seed = None,
) -> Tensor:
    """Expected ranks of scores with normal noise.

    Args:
        scores: `(..., n)`.
        sigma: Deviation of the noise, positive, in the unit of the scores.
        num_samples: Draws of the noise, whose mean is returned; None
            (default) for the expectation itself, which has a closed form.
        seed: Of the draws, an integer or a `keras.random.SeedGenerator`.

    Returns:
        `(..., n)`, float32 or, for float64, float64. The gradient of the mean
        of draws is an unbiased estimate of that of the expectation.

    Raises:
        ValueError: `sigma` or `num_samples` is not positive.

    Example:
        >>> perturbed_rank([[0.0, 0.0, 100.0]])
        [[1.5, 1.5, 3.0]]

    Reference:
        Berthet et al., 2020, "Learning with Differentiable Perturbed
        Optimizers", arXiv 2002.08676.
    """
    check_noise(sigma, num_samples)
    scores = at_least_float32(scores)
    if num_samples is None:
        # A rank is 1 and how many scores are lower; half is each with itself.
        lower = normal_cdf(pairs(scores) / (sigma * math.sqrt(2.0)))
        return 0.5 + ops.sum(lower, axis=-1)
    noise, ranks = noisy_ranks(scores, sigma, num_samples, seed)
    mean = ops.mean(ranks, axis=0)
    off = ranks - ops.cast(hard_rank(scores), ranks.dtype)
    # Rows of the Jacobian are ranks, columns are scores.
    jacobian = ops.einsum("m...i,m...j->...ij", off, noise)
    jacobian = ops.stop_gradient(jacobian / (num_samples * sigma))
    zero = scores - ops.stop_gradient(scores)
    return mean + ops.sum(jacobian * zero[..., None, :], axis=-1)


def perturbed_rank_loss(
    scores: Tensor,
    ranks: Tensor,
    sigma: float = 1.0,
    num_samples: int | None = None,
    seed: Seed = None,
) -> Tensor:
    """Fenchel-Young loss of ranks under noise: 0 at best, never negative.

    Its gradient is `perturbed_rank(scores) - ranks`, which does not vanish
    while the order is wrong.

    Args:
        scores: `(..., n)`.
        ranks: `(..., n)`, the true ones, a permutation of 1 to n.
        sigma: As of `perturbed_rank`.
        num_samples: As of `perturbed_rank`.
        seed: As of `perturbed_rank`.

    Returns:
        `(...)`, a loss for each row.

    Raises:
        ValueError: `sigma` or `num_samples` is not positive.

    Example:
        >>> scores = [[0.0, 50.0, 100.0]]
        >>> perturbed_rank_loss(scores, [[1, 2, 3]])
        [0.0]

    Reference:
        Berthet et al., 2020, arXiv 2002.08676, section 4.
    """
    check_noise(sigma, num_samples)
    scores = at_least_float32(scores)
    ranks = ops.cast(ranks, scores.dtype)
    if num_samples is None:
        # The most of <y, scores> over ranks y is the sum of the scores and of
        # the larger of each pair: a smooth hinge of each pair's difference.
        tau = sigma * math.sqrt(2.0)
        margin = pairs(scores) / tau
        density = ops.exp(-0.5 * ops.square(margin)) / math.sqrt(2 * math.pi)
        hinge = tau * (density - margin * normal_cdf(-margin))
        above = ops.cast(pairs(ranks) > 0, scores.dtype)
        return ops.sum(hinge * above, axis=(-2, -1))
    noise, found = noisy_ranks(scores, sigma, num_samples, seed)
    noisy = scores + sigma * noise
    return ops.mean(ops.sum(noisy * (found - ranks), axis=-1), axis=0)


def noisy_ranks(
    scores: Tensor, sigma: float, num_samples: int, seed: Seed
) -> tuple[Tensor, Tensor]:
    """Draws of the noise, and the ranks under each.

    Returns:
        Two `(draws, ..., n)`, without gradient.
    """
    shape = (num_samples, *ops.shape(scores))
    noise = keras.random.normal(shape, dtype=scores.dtype, seed=seed)
    ranks = hard_rank(ops.stop_gradient(scores) + sigma * noise)
    return noise, ops.cast(ranks, scores.dtype)


def pairs(x: Tensor) -> Tensor:
    """Differences `x[..., i] - x[..., j]`, `(..., n, n)`."""
    return x[..., :, None] - x[..., None, :]


def normal_cdf(x: Tensor) -> Tensor:
    """Share of a normal distribution below each value."""
    return 0.5 * ops.erfc(x * -math.sqrt(0.5))


def check_noise(sigma: float, num_samples: int | None) -> None:
    """Refuses noise of which there is none.

    Raises:
        ValueError: `sigma` or `num_samples` is not positive.
    """
    if not sigma > 0 or (num_samples is not None and num_samples < 1):
        raise ValueError(
            "`sigma` and `num_samples` must be positive. "
            f"Received: sigma={sigma}, num_samples={num_samples}"
        )


# Soft ranks: a projection onto the hull of all orders.


def soft_rank(
    scores: Tensor, strength: float = 1.0, regularization: str = "l2"
) -> Tensor:
    """Ranks as a projection, exact for scores far from each other.

    With `"l2"` the nearest point to `scores / strength` in the hull of all
    orders of 1 to n; with `"kl"` nearest in the sense of the Kullback-Leibler
    divergence, of their exponentials.

    Args:
        scores: `(..., n)`.
        strength: Of the regularisation, positive: the larger, the nearer all
            ranks are to each other. With `"l2"` ranks are hard where sorted
            scores are `strength` apart, and have no gradient there.
        regularization: `"l2"` or `"kl"`.

    Returns:
        `(..., n)`, float32 or, for float64, float64. They add up to
        `n (n + 1) / 2`; equal scores have equal ranks.

    Raises:
        ValueError: `strength` is not positive, or `regularization` unknown.

    Example:
        >>> soft_rank([[0.0, 0.2, 5.0]])
        [[1.4, 1.6, 3.0]]

    Reference:
        Blondel et al., 2020, "Fast Differentiable Sorting and Ranking", arXiv
        2002.08871.
    """
    check_soft(strength, regularization)
    scores = at_least_float32(scores)
    if strength != 1.0:
        scores = scores / strength
    return soft_ranks(scores, regularization)


def soft_rank_loss(
    scores: Tensor,
    ranks: Tensor,
    strength: float = 1.0,
    regularization: str = "l2",
) -> Tensor:
    """Fenchel-Young loss of soft ranks: 0 at best, never negative.

    Its gradient is `soft_rank(scores) - ranks`; no derivative of a rank is
    needed, and none vanishes.

    Args:
        scores: `(..., n)`.
        ranks: `(..., n)`, the true ones, a permutation of 1 to n.
        strength: As of `soft_rank`.
        regularization: As of `soft_rank`.

    Returns:
        `(...)`, a loss for each row.

    Raises:
        ValueError: `strength` is not positive, or `regularization` unknown.

    Reference:
        Blondel et al., 2020, arXiv 2002.08871; Blondel, Martins & Niculae,
        2020, "Learning with Fenchel-Young Losses", arXiv 1901.02324.
    """
    scores = at_least_float32(scores)
    found = ops.stop_gradient(soft_rank(scores, strength, regularization))
    ranks = ops.cast(ranks, scores.dtype)
    if regularization == "l2":
        gain = 0.5 * (ops.square(found) - ops.square(ranks))
    else:
        # Sums are equal: of y log y - y the second part cancels.
        gain = found * safe_log(found) - ranks * safe_log(ranks)
    return ops.sum(scores * (found - ranks) - strength * gain, axis=-1)


def safe_log(x: Tensor) -> Tensor:
    """Logarithm of what is not negative; of 0, that of a tiny number."""
    return ops.log(ops.maximum(x, 1e-30))


def check_soft(strength: float, regularization: str) -> None:
    """Refuses what is no regularisation.

    Raises:
        ValueError: `strength` is not positive, or `regularization` unknown.
    """
    if not strength > 0:
        raise ValueError(f"`strength` must be positive. Received: {strength}")
    if regularization not in REGULARIZATIONS:
        raise ValueError(
            "`regularization` must be 'l2' or 'kl'. "
            f"Received: {regularization!r}"
        )


def isotonic(y: Tensor, w: Tensor | None = None, kind: str = "l2") -> Tensor:
    """Isotonic regression: the nearest sequence that does not rise.

    For `"l2"` minimises `sum (v - y) ** 2`, for `"kl"` `sum exp(y - v) +
    exp(w) v`, over `v_1 >= ... >= v_n`. In both the solution is constant over
    blocks of neighbours, and the value of a block is its mean, or the
    difference of two sums of exponentials. Which blocks there are is found
    without gradient; given them, the rest has exactly the solution's.

    Args:
        y: `(..., n)`; for `"kl"` not rising.
        w: `(n,)`, not rising, for `"kl"`.
        kind: `"l2"` or `"kl"`.

    Returns:
        `(..., n)`.

    Example:
        >>> isotonic([[3.0, 1.0, 2.0]])
        [[3.0, 1.5, 1.5]]
    """
    return not_rising(at_least_float32(y), w, kind)


# How right an order is.


def rank_agreement(ranks: Tensor, target: Tensor) -> dict[str, Tensor]:
    """How far ranks agree with the true ones.

    Args:
        ranks: `(..., n)`, hard ranks, n at least 2.
        target: `(..., n)`, permutations of 1 to n.

    Returns:
        Dict of float32 `(...)`: `"full"`, 1 where every place is right, else
        0 (1 / n! by chance); `"partial"`, the share of places that are right
        (1 / n); `"spearman"` and `"kendall"`, correlations of ranks (0).

    Example:
        >>> ranks = hard_rank([[0.3, -1.0, 2.0]])
        >>> rank_agreement(ranks, [[1, 2, 3]])["partial"]
        [0.333333]
    """
    ranks, target = ops.cast(ranks, "float32"), ops.cast(target, "float32")
    n = ranks.shape[-1]
    right = ops.cast(ops.equal(ranks, target), "float32")
    square = ops.sum(ops.square(ranks - target), axis=-1)
    agree = ops.sign(pairs(ranks)) * ops.sign(pairs(target))
    return {
        "full": ops.min(right, axis=-1),
        "partial": ops.mean(right, axis=-1),
        "spearman": 1.0 - 6.0 * square / (n * (n * n - 1)),
        "kendall": ops.sum(agree, axis=(-2, -1)) / (n * (n - 1)),
    }
