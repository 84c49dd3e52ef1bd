import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.features import deltas
from keras_audio_ssl.features import scale_amplitude
from keras_audio_ssl.features import utterance_norm
from keras_audio_ssl.features.statistics import RunningMoments
from tests.features import reference
from tests.features.helpers import input_gradient
from tests.features.helpers import numpy

LENGTHS = np.array([40, 23, 5, 1], "int32")


def batch(scale=1.0, offset=0.0, shape=(4, 40, 6), seed=0):
    x = np.random.default_rng(seed).standard_normal(shape)
    return (offset + scale * x).astype("float32")


def amplitude_of_clip(x, amplitude):
    x = x.astype("float64")
    if amplitude == "l2":
        return x / np.sqrt(max(np.sum(x**2), 1e-9))
    if amplitude == "rms":
        return reference.rms_level(x)
    if amplitude == "peak":
        return x / np.abs(x).max()
    x = x - x.mean()
    return x / (np.abs(x).max() + 0.005)


@pytest.mark.parametrize("amplitude", ["l2", "rms", "peak", "centred_peak"])
def test_scale_amplitude(amplitude):
    x = batch(0.1, 0.02, (4, 40))
    got = numpy(scale_amplitude(ops.convert_to_tensor(x), amplitude))
    want = np.stack([amplitude_of_clip(row, amplitude) for row in x])
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-6)

    lengths = ops.convert_to_tensor(LENGTHS)
    padded = np.where(np.arange(40) < LENGTHS[:, None], x, 0.0)
    got = numpy(
        scale_amplitude(ops.convert_to_tensor(padded), amplitude, lengths)
    )
    for row, clip, n in zip(got, x, LENGTHS, strict=True):
        want = amplitude_of_clip(clip[:n], amplitude)
        np.testing.assert_allclose(row[:n], want, rtol=2e-6, atol=1e-6)
        assert not row[n:].any()


def test_l2_of_long_clips_is_that_of_a_stretch():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4000)).astype("float32")
    lengths = np.array([4000, 1000, 300], "int32")
    x = np.where(np.arange(4000) < lengths[:, None], x, 0).astype("float32")
    got = numpy(scale_amplitude(ops.convert_to_tensor(x), "l2", lengths, 1000))
    norm = np.linalg.norm(got.astype("float64"), axis=1)
    np.testing.assert_allclose(norm, [2, 1, 1], rtol=1e-5)
    alone = numpy(
        scale_amplitude(ops.convert_to_tensor(x[:1]), "l2", None, 1000)
    )
    np.testing.assert_allclose(alone, got[:1], rtol=1e-6)


@pytest.mark.parametrize("amplitude", ["l2", "rms", "peak", "centred_peak"])
def test_amplitude_of_silence(amplitude):
    x = np.zeros((2, 50), "float32")
    assert not numpy(scale_amplitude(ops.convert_to_tensor(x), amplitude)).any()
    gradient = input_gradient(
        lambda v: ops.sum(scale_amplitude(v, amplitude)), x
    )
    assert np.isfinite(gradient).all()


def test_scale_amplitude_refuses():
    with pytest.raises(ValueError, match="loud"):
        scale_amplitude(ops.zeros((1, 5)), "loud")


@pytest.mark.parametrize("width", [3, 5, 9])
def test_deltas(width):
    x = batch()
    got = numpy(deltas(ops.convert_to_tensor(x), width=width))
    want = [reference.deltas(row.astype("float64"), width) for row in x]
    np.testing.assert_allclose(got, want, atol=1e-6)

    lengths = ops.convert_to_tensor(LENGTHS)
    got = numpy(deltas(ops.convert_to_tensor(x), lengths, width))
    for row, clip, n in zip(got, x, LENGTHS, strict=True):
        want = reference.deltas(clip[:n].astype("float64"), width)
        np.testing.assert_allclose(row[:n], want, atol=1e-6)


@pytest.mark.parametrize("width", [1, 4])
def test_deltas_refuses(width):
    with pytest.raises(ValueError, match=f"width={width}"):
        deltas(ops.zeros((1, 9, 2)), width=width)


@pytest.mark.parametrize("ddof", [0, 1])
def test_utterance_norm(ddof):
    x = batch(scale=3.0, offset=-12.0)
    got = numpy(utterance_norm(ops.convert_to_tensor(x), ddof=ddof))
    want = [reference.cmvn(row.astype("float64"), ddof=ddof) for row in x]
    np.testing.assert_allclose(got, want, atol=2e-5)

    lengths = ops.convert_to_tensor(LENGTHS)
    got = numpy(utterance_norm(ops.convert_to_tensor(x), lengths, ddof=ddof))
    for row, clip, n in zip(got, x, LENGTHS, strict=True):
        clip = clip[:n].astype("float64")
        want = reference.cmvn(clip, ddof=ddof) if n > 1 else np.zeros((1, 6))
        np.testing.assert_allclose(row[:n], want, atol=2e-5)
        assert not row[n:].any()


def test_utterance_norm_without_scale_and_with_epsilon():
    x = batch(offset=4.0)
    got = numpy(utterance_norm(ops.convert_to_tensor(x), scale=False))
    np.testing.assert_allclose(got, x - x.mean(1, keepdims=True), atol=1e-5)
    got = numpy(utterance_norm(ops.convert_to_tensor(x), epsilon=1.0))
    want = [reference.cmvn(row.astype("float64"), epsilon=1.0) for row in x]
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_constant_features_become_zero():
    x = np.full((2, 30, 3), np.log(1e-10), "float32")
    lengths = ops.convert_to_tensor([30, 11], "int32")
    for given in (None, lengths):
        norm = lambda v, given=given: utterance_norm(v, given)
        assert not numpy(norm(ops.convert_to_tensor(x))).any()
        gradient = input_gradient(lambda v: ops.sum(norm(v) ** 2), x)
        assert np.isfinite(gradient).all()


def test_running_moments_equal_numpy():
    rng = np.random.default_rng(0)
    parts = [rng.normal(-9.0, 4.0, (n, 5)) for n in (3, 100, 0, 41)]
    everything = np.concatenate(parts)
    for per_bin in (False, True):
        moments = RunningMoments(per_bin)
        for part in parts:
            moments.update(part)
        axis = 0 if per_bin else None
        np.testing.assert_allclose(moments.mean, everything.mean(axis))
        np.testing.assert_allclose(moments.std, everything.std(axis))
