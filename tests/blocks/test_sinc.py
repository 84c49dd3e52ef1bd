import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.blocks import SincConv
from keras_audio_ssl.blocks import TimeNorm
from keras_audio_ssl.blocks.sinc import long_conv
from tests.gradients import gradients
from tests.gradients import numpy


def filters(layer):
    return numpy(layer.filters_of()).T


def test_two_numbers_a_filter():
    layer = SincConv(80, 251)
    assert layer.count_params() == 160
    assert layer(np.zeros((1, 3200, 1), "float32")).shape == (1, 2950, 80)
    assert layer.compute_output_shape((1, 3200, 1)) == (1, 2950, 80)
    assert SincConv(3, 30, stride=4).kernel_size == 31
    strided = SincConv(3, 30, stride=4)
    assert strided(np.zeros((1, 100, 1), "float32")).shape == (1, 18, 3)


def test_a_filter_passes_its_band():
    layer = SincConv(20, 251)
    low, high = (numpy(e) for e in layer.edges())
    response = np.abs(np.fft.rfft(filters(layer), 4096))
    peaks = response.argmax(axis=1) / 4096 * 16000
    # A narrow band's peak is as wide as the window lets it be.
    assert (peaks >= low - 64).all() and (peaks <= high + 64).all()
    frequency = np.arange(2049) / 4096 * 16000
    far = (frequency < low[:, None] - 200) | (frequency > high[:, None] + 200)
    assert (np.where(far, response, 0).max(1) < 0.05 * response.max(1)).all()


def test_filters_are_symmetric_with_middle_one_whatever_is_learnt():
    layer, rng = SincConv(6, 31), np.random.default_rng(0)
    layer.low_hz.assign(rng.normal(0, 3000, 6))
    layer.band_hz.assign(rng.normal(0, 3000, 6))
    h = filters(layer)
    np.testing.assert_array_equal(h, h[:, ::-1])
    np.testing.assert_array_equal(h[:, 15], 1.0)
    layer.low_hz.assign(-layer.low_hz.numpy())
    np.testing.assert_array_equal(filters(layer), h)


def test_at_half_the_rate_the_width_gets_no_gradient():
    layer = SincConv(2, 31)
    layer.low_hz.assign([300.0, 7500.0])
    layer.band_hz.assign([500.0, 900.0])
    x = np.random.default_rng(0).standard_normal((1, 200, 1))
    x = ops.convert_to_tensor(x.astype("float32"))
    _, (low, band) = gradients(
        lambda: ops.sum(ops.square(layer(x))), [layer.low_hz, layer.band_hz]
    )
    assert band[1] == 0.0
    assert band[0] != 0.0 and (low != 0.0).all()


@pytest.mark.parametrize(
    "taps,stride,samples", [(251, 1, 700), (101, 4, 403), (9, 2, 40), (3, 1, 3)]
)
def test_blocks_of_a_long_convolution_are_the_convolution(
    taps, stride, samples
):
    rng = np.random.default_rng(0)
    x, kernel = (
        keras.Variable(rng.standard_normal(shape).astype("float32"))
        for shape in ((2, samples), (taps, 5))
    )
    kernel.assign(kernel.value / taps**0.5)
    plain = ops.conv(
        x.value[..., None], kernel.value[:, None], stride, "valid",
        "channels_last",
    )  # fmt: skip
    weight = rng.standard_normal(plain.shape).astype("float32")
    weight = ops.convert_to_tensor(weight)

    def ours():
        return ops.sum(weight * long_conv(x.value, kernel.value, stride))

    def theirs():
        y = ops.conv(
            x.value[..., None], kernel.value[:, None], stride, "valid",
            "channels_last",
        )  # fmt: skip
        return ops.sum(weight * y)

    y = long_conv(x.value, kernel.value, stride)
    np.testing.assert_allclose(numpy(y), numpy(plain), atol=2e-5)
    for a, b in zip(
        gradients(ours, [x, kernel])[1],
        gradients(theirs, [x, kernel])[1],
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_half_precision_does_not_reach_the_filters():
    layer = SincConv(6, 251, dtype="mixed_bfloat16")
    same = SincConv(6, 251)
    x = np.random.default_rng(0).standard_normal((1, 400, 1))
    x = x.astype("float32")
    y = layer(x)
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    # What arrives is rounded, and nothing else.
    rounded = ops.cast(ops.cast(x, "bfloat16"), "float32")
    np.testing.assert_allclose(numpy(y), numpy(same(rounded)), atol=1e-5)


@pytest.mark.parametrize(
    "arguments", [(0, 31), (4, 0), (4, 31, 200), (4, 31, 16000, 0)]
)
def test_nonsense_is_refused(arguments):
    with pytest.raises(ValueError, match="must .*Received"):
        SincConv(*arguments)


def test_norm_over_time_has_the_unbiased_deviation():
    x = np.random.default_rng(0).normal(3, 2, (2, 9, 4)).astype("float32")
    off = x - x.mean(1, keepdims=True)
    want = off / (x.std(1, ddof=1, keepdims=True) + 1e-6)
    for time in (9, None):
        layer = TimeNorm(4, time)
        np.testing.assert_allclose(numpy(layer(x)), want, atol=1e-5)
        assert layer.gamma.shape == ((9, 4) if time else (4,))
        gamma = np.random.default_rng(1).normal(size=layer.gamma.shape)
        layer.gamma.assign(gamma)
        np.testing.assert_allclose(numpy(layer(x)), want * gamma, atol=1e-5)


def test_norm_of_silence_is_zero_with_a_finite_gradient():
    layer = TimeNorm(2)
    x = keras.Variable(np.zeros((1, 6, 2), "float32"))
    y, (grad,) = gradients(lambda: ops.sum(layer(x.value) ** 2), [x])
    assert y == 0.0 and np.isfinite(grad).all()
