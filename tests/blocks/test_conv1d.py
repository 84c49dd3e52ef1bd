import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.blocks import conv_1d
from keras_audio_ssl.blocks.conv1d import ConvNorm1D
from keras_audio_ssl.blocks.conv1d import GroupNorm
from keras_audio_ssl.blocks.residual import conv_relu

numpy = ops.convert_to_numpy


@pytest.mark.parametrize("taps,stride,pad", [(4, 2, (0, 0)), (5, 1, (2, 1))])
def test_a_convolution_over_time_against_a_loop(taps, stride, pad):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 21, 3)).astype("float32")
    kernel = rng.standard_normal((taps, 3, 7)).astype("float32")
    padded = np.pad(x, ((0, 0), pad, (0, 0)))
    want = [
        np.einsum("btc,tcf->bf", padded[:, i : i + taps], kernel)
        for i in range(0, padded.shape[1] - taps + 1, stride)
    ]
    y = numpy(conv_1d(x, kernel, stride, pad))
    np.testing.assert_allclose(y, np.stack(want, axis=1), atol=1e-5)


def test_a_map_of_one_column_is_convolved_like_any_other():
    # Beside a column of zeros it is no such map.
    layer = conv_relu(4, (9, 1), (2, 1))
    layer.build((None, None, 1, 3))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 30, 1, 3)).astype("float32")
    wide = np.concatenate([x, np.zeros_like(x)], axis=2)
    got, want = layer(x), layer(wide)
    assert tuple(got.shape) == layer.compute_output_shape(x.shape)
    np.testing.assert_allclose(
        numpy(got)[:, :, 0], numpy(want)[:, :, 0], atol=1e-5
    )


@pytest.mark.parametrize("lengths", [None, [9, 4]])
def test_group_norm_against_numpy(lengths):
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (2, 9, 6)).astype("float32")
    layer = GroupNorm(6, 2)
    gamma, beta = rng.standard_normal((2, 6))
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)
    y = numpy(layer(x, lengths=lengths and np.array(lengths)))
    for row, got, length in zip(x, y, lengths or [9, 9], strict=True):
        groups = row[:length].reshape(length, 2, 3)
        mean = groups.mean((0, 2), keepdims=True)
        deviation = np.sqrt(groups.var((0, 2), keepdims=True) + 1e-5)
        want = ((groups - mean) / deviation).reshape(length, 6) * gamma + beta
        np.testing.assert_allclose(got[:length], want, atol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_padding_changes_nothing(norm):
    layer = ConvNorm1D(8, 3, 2, norm=norm, groups=2)
    layer.build((None, None, 4))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 15, 4)).astype("float32")
    x[1, 9:] = 0
    lengths = np.array([15, 9], "int32")
    padded = np.pad(x, ((0, 0), (0, 6), (0, 0)))
    y, z = (
        numpy(layer(ops.convert_to_tensor(v), lengths=lengths, training=True))
        for v in (x, padded)
    )
    np.testing.assert_allclose(y, z[:, : y.shape[1]], atol=1e-5)
    assert not z[:, y.shape[1] :].any() and not y[1, 4:].any()
    assert keras.backend.standardize_dtype(y.dtype) == "float32"


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("activation", ["relu", None])
def test_it_adds_before_the_relu(activation, norm, training):
    options = {"norm": norm, "groups": 2, "pad": 1}
    layer = ConvNorm1D(4, 3, activation=activation, **options)
    bare = ConvNorm1D(4, 3, activation=None, **options)
    for one in (layer, bare):
        one.build((None, None, 3))
    bare.set_weights(layer.get_weights())
    rng = np.random.default_rng(0)
    x = rng.normal(2, 1, (3, 11, 3)).astype("float32")
    around = rng.normal(0, 3, (3, 11, 4)).astype("float32")
    lengths = np.array([11, 6, 1], "int32")
    x[1, 6:], x[2, 1:], around[1, 6:], around[2, 1:] = 0, 0, 0, 0
    for given in ({}, {"lengths": lengths}):
        given["training"] = training
        want = numpy(bare(x, **given)) + around
        want = np.maximum(want, 0) if activation else want
        got = layer(x, around=ops.convert_to_tensor(around), **given)
        np.testing.assert_allclose(numpy(got), want, atol=1e-5)
    for got, want in zip(layer.get_weights(), bare.get_weights(), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)
