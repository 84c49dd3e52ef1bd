"""Predictive information: closed forms, invariances, gradients."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.losses import block_toeplitz
from keras_audio_ssl.losses import log_determinant
from keras_audio_ssl.losses import orthogonality
from keras_audio_ssl.losses import predictive_information
from tests.gradients import gradients

WIDE = keras.backend.backend() != "jax"  # float64 without being told
wide = pytest.mark.skipif(not WIDE, reason="JAX has no float64 by default")


def array(x):
    return np.asarray(ops.convert_to_numpy(x))


def value(latent, **kwargs):
    return float(array(predictive_information(latent, **kwargs)))


def autoregressive(frames, a, dims=1, seed=0, dtype="float64"):
    """Processes of variance 1 whose neighbours correlate by `a`."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((frames, dims)) * np.sqrt(1 - a * a)
    x = np.zeros((frames, dims))
    x[0] = rng.standard_normal(dims)
    for t in range(1, frames):
        x[t] = a * x[t - 1] + noise[t]
    return x[None].astype(dtype)


@pytest.mark.parametrize("window", [1, 2, 4])
def test_an_autoregressive_process_tells_what_theory_says(window):
    x = autoregressive(100_000, 0.9)
    got = value(x.astype("float32"), window=window, diagonal=1e-6)
    assert got == pytest.approx(-0.5 * np.log(1 - 0.81), abs=0.02)
    both = value(
        autoregressive(100_000, 0.9, 2).astype("float32"), window=window
    )
    assert both == pytest.approx(2 * 0.830, abs=0.04)


def test_independent_frames_tell_nothing():
    x = np.random.default_rng(0).standard_normal((1, 100_000, 2))
    assert abs(value(x.astype("float32"), window=4)) < 0.01


@wide
def test_linear_maps_and_copies_change_nothing():
    x = autoregressive(2000, 0.8, 3)
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((3, 3)), rng.standard_normal(3)
    options = {"window": 3, "diagonal": 0.0}
    whole = value(x, **options)
    assert value(x @ a + b, **options) == pytest.approx(whole, abs=1e-8)
    twice = np.concatenate([x, x])
    assert value(twice, **options) == pytest.approx(whole, abs=1e-8)


def test_block_toeplitz_is_what_it_says():
    rng = np.random.default_rng(2)
    matrix = rng.standard_normal((12, 12)).astype("float32")
    got = array(block_toeplitz(ops.convert_to_tensor(matrix), 4))
    np.testing.assert_allclose(got, got.T, atol=1e-6)
    for lag in range(4):
        blocks = [
            got[3 * i : 3 * i + 3, 3 * (i + lag) : 3 * (i + lag) + 3]
            for i in range(4 - lag)
        ]
        for block in blocks:
            np.testing.assert_allclose(block, blocks[0], atol=1e-6)
    again = array(block_toeplitz(ops.convert_to_tensor(got), 4))
    np.testing.assert_allclose(again, got, atol=1e-6)


@wide
def test_the_gradient_is_that_of_finite_differences():
    x = autoregressive(60, 0.7, 2)
    latent = keras.Variable(x, dtype="float64")
    lengths = np.array([55], "int32")

    def information(z):
        return predictive_information(z, lengths, window=2)

    if keras.backend.backend() == "torch":
        _, (got,) = gradients(lambda: information(latent.value), [latent])
    else:
        _, (got,) = gradients(
            lambda: information(ops.convert_to_tensor(latent)), [latent]
        )
    rng = np.random.default_rng(0)
    for t, d in zip(rng.integers(0, 60, 12), rng.integers(0, 2, 12),
                    strict=True):  # fmt: skip
        step = np.zeros_like(x)
        step[0, t, d] = 1e-5
        slope = (float(array(information(x + step)))
                 - float(array(information(x - step)))) / 2e-5  # fmt: skip
        assert got[0, t, d] == pytest.approx(slope, rel=1e-4, abs=1e-9)
    assert not got[0, 55:].any(), "padding"


def test_clips_without_a_window_tell_nothing_and_pull_at_nothing():
    latent = keras.Variable(np.ones((2, 9, 3), "float32"))
    short = np.array([5, 2], "int32")
    loss, (gradient,) = gradients(
        lambda: predictive_information(
            ops.convert_to_tensor(latent), short, window=3
        ),
        [latent],
    )
    assert loss == 0.0 and not gradient.any()
    assert value(np.ones((1, 4, 2), "float32"), window=3) == 0.0


def test_determinants_compile_and_survive_anything():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 20)).astype("float32")
    good = x.T @ x / 40
    bad = {
        "nan": np.full((20, 20), np.nan, "float32"),
        "singular": np.ones((20, 20), "float32"),
        "negative": -np.eye(20, dtype="float32"),
    }
    function = log_determinant
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        function = tf.function(log_determinant, jit_compile=True)
    elif keras.backend.backend() == "jax":
        import jax

        function = jax.jit(log_determinant)
    want = np.linalg.slogdet(good.astype("float64"))[1]
    got = float(array(function(ops.convert_to_tensor(good))))
    assert got == pytest.approx(want, rel=1e-4)
    for name, matrix in bad.items():
        got = float(array(function(ops.convert_to_tensor(matrix))))
        assert {"nan": np.isnan(got), "negative": abs(got) < 1e-5}.get(
            name, got < -50
        ), (name, got)


def test_orthogonality_is_of_valid_frames():
    x = np.random.default_rng(0).standard_normal((2, 30, 3)).astype("float32")
    lengths = np.array([30, 10], "int32")
    rows = np.concatenate([x[0], x[1, :10]])
    off = np.cov(rows.T, bias=True) - np.eye(3)
    got = float(array(orthogonality(x, lengths)))
    assert got == pytest.approx(np.square(off).sum(), rel=1e-4)
    with pytest.raises(ValueError, match="window"):
        predictive_information(x, window=0)
