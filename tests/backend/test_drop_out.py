"""Dropout by shares, as its own draws are not those of Keras."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl.backend import hashing
from keras_audio_ssl.blocks import Dropout
from tests.backend.kernels import COMPILED
from tests.blocks.gradients import run

BACKEND = keras.config.backend()


def dropped(shape, rate, seed=3, dtype="float32"):
    """What becomes of ones."""
    layer = Dropout(rate, seed=seed, dtype=dtype)
    return ops.convert_to_numpy(
        ops.cast(layer(ops.ones(shape, dtype), training=True), "float32")
    )


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.7])
def test_shares_and_means(rate):
    y = dropped((1001, 999), rate)
    kept = y != 0
    n = y.size
    # Five deviations of a binomial share.
    bound = 5 * np.sqrt(rate * (1 - rate) / n)
    assert abs(kept.mean() - (1 - rate)) < bound
    np.testing.assert_allclose(y[kept], 1 / (1 - rate), rtol=3e-5)
    # Neighbours know nothing of each other, nor those that share a number.
    off = (kept - kept.mean()).ravel() / kept.std()
    for lag in (1, 2, 3, 4, 999, 1000):
        assert abs(np.mean(off[lag:] * off[:-lag])) < 5 / np.sqrt(n)
    # Every place of a number of 64 bits has the same share.
    for place in range(4):
        part = kept.ravel()[place::4]
        assert abs(part.mean() - (1 - rate)) < 2 * bound


@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3, 5), (0, 4)])
def test_any_shape(shape):
    y = dropped(shape, 0.5)
    assert y.shape == shape
    assert set(np.unique(y)) <= {0.0, 2.0}


def test_nothing_is_left_of_a_rate_of_one():
    assert not dropped((30, 40), 1.0).any()


def test_one_seed_one_series_of_draws():
    a, b = Dropout(0.5, seed=3), Dropout(0.5, seed=3)
    x = ops.ones((40, 50))
    first, again = (ops.convert_to_numpy(f(x, training=True)) for f in (a, b))
    np.testing.assert_array_equal(first, again)
    later = ops.convert_to_numpy(a(x, training=True))
    other = dropped((40, 50), 0.5, seed=4)
    for y in (later, other):
        assert 0.4 < np.mean((y != 0) == (first != 0)) < 0.6


def test_draws_of_neighbouring_seeds_have_nothing_in_common():
    layer, n = Dropout(0.5, seed=3), 400 * 500
    x = ops.ones((n,))
    draws = [ops.convert_to_numpy(layer(x, training=True)) for _ in range(3)]
    draws += [dropped((n,), 0.5, seed=seed) for seed in (4, 5)]
    signs = [np.sign(y - 1) for y in draws]
    for i, first in enumerate(signs):
        for second in signs[i + 1 :]:
            # One moved against the other too: a counter is not enough.
            for lag in range(-3, 4):
                product = np.mean(first * np.roll(second, lag))
                assert abs(product) < 5 / np.sqrt(n)


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch draws")
def test_hashes_are_uniform():
    places = ops.arange(2**20, dtype="uint32")
    numbers = ops.convert_to_numpy(hashing.scrambled(places))
    assert len(np.unique(numbers)) == len(numbers)
    # Each byte beside the next place's, and beside the byte above it.
    for shift in (0, 8, 16, 24):
        byte = numbers >> shift & 255
        for other in (np.roll(byte, 1), numbers >> (shift + 8) % 32 & 255):
            counts = np.bincount(256 * byte + other, minlength=2**16)
            chance = len(numbers) / 2**16
            chi = ((counts - chance) ** 2 / chance).sum()
            # Of 65,535 degrees of freedom: five deviations.
            assert abs(chi - 2**16) < 5 * np.sqrt(2 * 2**16)


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch draws")
@pytest.mark.parametrize("rate", [1e-12, 1e-4, 0.3, 1 - 1e-12])
def test_any_rate_is_a_share_of_32_bits(rate):
    places = ops.arange(10**6, dtype="uint32")
    key = ops.convert_to_tensor(np.array([7, 11], "uint32"))
    kept = ops.convert_to_numpy(hashing.is_kept(places, key, rate))
    bound = 5 * np.sqrt(rate * (1 - rate) / 10**6)
    assert abs(kept.mean() - (1 - rate)) <= bound


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_other_types(dtype):
    y = dropped((30, 40), 0.25, dtype=dtype)
    assert 0.65 < (y != 0).mean() < 0.85
    np.testing.assert_allclose(y[y != 0], 4 / 3, rtol=1e-2)


@pytest.mark.parametrize("compiled", COMPILED)
def test_the_gradient_is_that_of_what_was_kept(compiled):
    x = np.random.default_rng(0).normal(size=(3, 50, 7)).astype("float32")
    want = np.random.default_rng(1).normal(size=x.shape).astype("float32")

    class Training(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.drop = Dropout(0.3, seed=5)

        def call(self, x):
            return self.drop(x, training=True)

    got = run(Training(), [x], want, compiled=compiled)
    scale = got["outputs"][0] / x
    np.testing.assert_allclose(got["inputs"][0], want * scale, rtol=1e-5)
    assert 0.2 < (scale == 0).mean() < 0.4


def test_without_training_nothing_is_drawn():
    layer = Dropout(0.5, seed=3)
    before = ops.convert_to_numpy(layer.seed_generator.state)
    x = ops.ones((4, 5))
    for options in ({}, {"training": False}):
        y = ops.convert_to_numpy(layer(x, **options))
        np.testing.assert_array_equal(y, np.ones((4, 5)))
    after = ops.convert_to_numpy(layer.seed_generator.state)
    np.testing.assert_array_equal(before, after)


def test_its_draws_are_its_own_on_this_backend():
    assert backend.drop_out is not backend.portable.drop_out
