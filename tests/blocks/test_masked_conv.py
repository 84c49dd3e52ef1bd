"""The masked convolution, against Keras' own with a kernel set to zero."""

import keras
import numpy as np
import pytest

from keras_audio_ssl.blocks import MaskedConv1D
from tests.blocks.gradients import close
from tests.blocks.gradients import run

COMPILED = keras.backend.backend() == "jax"


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def array(x):
    return keras.ops.convert_to_numpy(x)


def both(kernel_size, masked, dtype=None):
    """The layer, and the plain one with the same weights."""
    layer = MaskedConv1D(5, kernel_size, masked, "tanh", dtype=dtype)
    plain = keras.layers.Conv1D(
        5, kernel_size, padding="same", activation="tanh",
        data_format="channels_last", dtype=dtype,
    )  # fmt: skip
    kernel, bias = normal(kernel_size, 4, 5), normal(5, seed=1)
    for part in (layer, plain):
        part.build((None, None, 4))
    layer.set_weights([0.2 * kernel, bias])
    first = (kernel_size - masked) // 2
    kernel[first : first + masked] = 0
    plain.set_weights([0.2 * kernel, bias])
    return layer, plain, slice(first, first + masked)


@pytest.mark.parametrize(
    "kernel_size, masked, frames",
    [(15, 7, 40), (7, 5, 20), (3, 1, 9), (5, 0, 12), (1, 0, 6), (15, 13, 3)],
)
def test_equals_the_plain_layer_with_zeros(kernel_size, masked, frames):
    layer, plain, middle = both(kernel_size, masked)
    x, grad = normal(3, frames, 4, seed=2), normal(3, frames, 5, seed=3)
    got = run(layer, [x], grad, compiled=COMPILED)
    want = run(plain, [x], grad, compiled=COMPILED)
    close(got["outputs"], want["outputs"])
    close(got["inputs"], want["inputs"])
    assert not got["weights"][0][middle].any()
    want["weights"][0][middle] = 0
    close(got["weights"], want["weights"])
    assert layer.compute_output_shape(x.shape) == got["outputs"][0].shape


def test_lengths_give_what_each_clip_gives_alone():
    layer, _, _ = both(9, 3)
    x, lengths = normal(3, 20, 4), np.array([20, 11, 1])
    got = array(layer(x, lengths=lengths))
    x[1, 11:] = np.nan
    for row, clip, n in zip(got, x, lengths, strict=True):
        alone = array(layer(clip[None, :n]))[0]
        np.testing.assert_allclose(row[:n], alone, atol=1e-6)
        assert not row[n:].any()


def test_what_it_sees_in_the_middle_changes_nothing():
    layer, _, _ = both(9, 5)
    x = normal(1, 21, 4)
    before = array(layer(x))[0]
    x[0, 10] += 3
    moved = np.abs(array(layer(x))[0] - before).max(axis=-1)
    assert set(np.flatnonzero(moved)) == {6, 7, 13, 14}


def test_half_precision():
    layer, plain, _ = both(9, 3, "mixed_bfloat16")
    x = normal(2, 20, 4)
    got, want = layer(x), plain(x)
    assert keras.backend.standardize_dtype(got.dtype) == "bfloat16"
    near = [array(keras.ops.cast(y, "float32")) for y in (got, want)]
    np.testing.assert_allclose(*near, atol=0.03)


@pytest.mark.parametrize(
    "kernel_size, masked, match",
    [(4, 1, "kernel_size.*4"), (0, 0, "kernel_size"), (7, 2, "masked.*2"),
     (7, 7, "masked.*7"), (7, -1, "masked")],
)  # fmt: skip
def test_sizes_are_checked(kernel_size, masked, match):
    with pytest.raises(ValueError, match=match):
        MaskedConv1D(5, kernel_size, masked)
