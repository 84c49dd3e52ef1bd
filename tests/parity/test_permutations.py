"""Ranks, soft and perturbed, their products and losses, against references.

Tolerances in float32: soft ranks and isotonic solutions 1e-4, products 1e-4
(1 + M) with M the largest of the array, other values 1e-4 (1 + |x|), metrics
1e-6; in float64 (not on JAX, which has it switched off) 1e-9, or 1e-9 M.
"""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl import losses
from tests.gradients import gradients_and_more
from tests.gradients import numpy

GOLDEN = "permutations"

TYPES = ["float32"]
if keras.backend.backend() != "jax":
    TYPES.append("float64")
types = pytest.mark.parametrize("dtype", TYPES)
kinds = pytest.mark.parametrize("kind", ["l2", "kl"])


def sizes(golden):
    """The n of what is ranked."""
    found = (re.fullmatch(r"scores_n(\d+)", key) for key in golden.keys)
    return sorted(int(match[1]) for match in found if match)


def both(function, scores, strengths, cotangent, dtype):
    """Values at each strength, and their products with a cotangent.

    Returns:
        Two arrays `(strengths, *scores.shape)`; the second None without
        cotangent.
    """
    wide = np.broadcast_to(scores, (len(strengths), *scores.shape))
    x = keras.Variable(wide, dtype=dtype)

    along = 0.0 if cotangent is None else cotangent
    along = ops.convert_to_tensor(along, dtype)

    def total():
        # Computed once: a row for each strength.
        rows = ops.convert_to_tensor(x)
        values = ops.stack(
            [function(rows[i], float(e)) for i, e in enumerate(strengths)]
        )
        return ops.sum(values * along), values

    _, values, (product,) = gradients_and_more(total, [x])
    return numpy(values), None if cotangent is None else product


def near(golden, got, key, dtype, plain=None):
    """Compares products, or with `plain` values, by the stated tolerance.

    Args:
        plain: None for products, `(absolute, relative)` of float32.
    """
    if not golden.has(key):
        return
    most = np.abs(golden[key]).max()
    if dtype == "float64":
        atol, rtol = 1e-9 * (1 if plain else max(most, 1e-3)), 0.0
    elif plain:
        atol, rtol = plain
    else:
        atol, rtol = 1e-4 * (1 + most), 0.0
    golden.close(got, key, atol, rtol)


@types
@kinds
def test_soft_ranks(golden, kind, dtype):
    if not golden.has("eps"):
        pytest.skip("no strengths")
    cases = [(f"scores_n{n}", f"cotangent_n{n}", f"softrank_{kind}", f"_n{n}")
             for n in sizes(golden)]  # fmt: skip
    if golden.has("tied_scores"):
        tied = f"tied_softrank_{kind}"
        cases.append(("tied_scores", "tied_cotangent", tied, ""))
    for scores, cotangent, name, end in cases:
        ranks, product = both(
            lambda x, e: losses.soft_rank(x, e, kind),
            golden[scores],
            golden["eps"],
            golden[cotangent] if golden.has(cotangent) else None,
            dtype,
        )
        near(golden, ranks, name + end, dtype, (1e-4, 0.0))
        if product is not None:
            near(golden, product, f"{name}_vjp{end}", dtype)


@types
def test_losses_and_expected_ranks(golden, dtype):
    value = (1e-4, 1e-4)
    for n in sizes(golden):
        scores, ones = golden[f"scores_n{n}"], np.ones(())
        ranks = ops.convert_to_tensor(golden[f"target_n{n}"])
        if golden.has("eps"):
            got, grad = both(
                lambda x, e: losses.soft_rank_loss(x, ranks, e),
                scores, golden["eps"], ones, dtype,
            )  # fmt: skip
            near(golden, got, f"fy_l2_value_n{n}", dtype, value)
            near(golden, grad, f"fy_l2_grad_n{n}", dtype, value)
        if not golden.has("sigma"):
            continue
        got, grad = both(
            lambda x, s: losses.perturbed_rank_loss(x, ranks, s),
            scores, golden["sigma"], ones, dtype,
        )  # fmt: skip
        near(golden, got, f"fy_pert_value_n{n}", dtype, value)
        near(golden, grad, f"fy_pert_grad_n{n}", dtype, value)
        by_draws(golden, got, f"fy_pert_value_mc_n{n}")
        cotangent = f"cotangent_n{n}"
        got, product = both(
            losses.perturbed_rank, scores, golden["sigma"],
            golden[cotangent] if golden.has(cotangent) else None, dtype,
        )  # fmt: skip
        near(golden, got, f"pert_rank_n{n}", dtype, value)
        by_draws(golden, got, f"pert_rank_mc_n{n}")
        if product is not None:
            near(golden, product, f"pert_vjp_n{n}", dtype)
            by_draws(golden, product, f"pert_vjp_mc_n{n}")


def by_draws(golden, got, key):
    """Compares with a mean of draws, by its standard error."""
    se = key.replace("_mc_", "_mc_se_")
    if golden.has(key, se):
        off = np.abs(got - golden[key])
        assert (off <= 5 * golden[se] + 1e-4).all(), key
        golden.compared += 1


def test_draws_of_ours(golden):
    """Against the closed form, by the standard error of as many draws."""
    draws, seed = 4000, keras.random.SeedGenerator(0)
    for n in sizes(golden):
        key, se = f"pert_rank_n{n}", f"pert_rank_mc_se_n{n}"
        if not golden.has("sigma", key, se, f"pert_vjp_n{n}"):
            continue
        scores, ranks = golden[f"scores_n{n}"], golden[f"target_n{n}"]
        cotangent = golden[f"cotangent_n{n}"]

        def rank(x, sigma, n=n):
            return losses.perturbed_rank(x, sigma, draws, seed)

        def loss(x, sigma, ranks=ranks):
            return losses.perturbed_rank_loss(x, ranks, sigma, draws, seed)

        got, product = both(rank, scores, golden["sigma"], cotangent, "float32")
        value, grad = both(
            loss, scores, golden["sigma"], np.ones(()), "float32"
        )
        for found, name in (
            (got, "pert_rank"), (product, "pert_vjp"),
            (value, "fy_pert_value"), (grad, "fy_pert_grad"),
        ):  # fmt: skip
            error = name if name != "fy_pert_grad" else "pert_rank"
            wide = 6 * golden[f"{error}_mc_se_n{n}"] * (1e6 / draws) ** 0.5
            off = np.abs(found - golden[f"{name}_n{n}"])
            # A swap so rare that a million draws have none has no error.
            assert (off <= wide + 2e-3).mean() > 0.99, name
            golden.compared += 1


def test_hard_ranks_and_metrics(golden):
    for n in sizes(golden):
        ranks = losses.hard_rank(golden[f"scores_n{n}"])
        golden.equal(numpy(ranks).astype("int32"), f"hard_rank_n{n}")
        if not golden.has(f"target_n{n}"):
            continue
        metrics = losses.rank_agreement(ranks, golden[f"target_n{n}"])
        for name, got in metrics.items():
            exact = name in ("full", "partial")
            atol = 1e-7 if exact else 1e-6
            golden.close(numpy(got), f"metric_{name}_n{n}", atol=atol)


@types
def test_isotonic(golden, dtype):
    if not golden.has("iso_y"):
        pytest.skip("no isotonic regression")
    got = losses.isotonic(ops.convert_to_tensor(golden["iso_y"], dtype))
    near(golden, numpy(got), "iso_v", dtype, (1e-4, 0.0))
