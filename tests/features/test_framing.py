import numpy as np
import pytest
import scipy.signal
from keras import ops

from keras_audio_ssl.features import frame_signal
from keras_audio_ssl.features import pad_reflect
from keras_audio_ssl.features import reflect_index
from keras_audio_ssl.features import window_function
from tests.features.helpers import numpy


def test_windows_equal_scipy():
    for name in ("hann", "hamming"):
        want = scipy.signal.get_window(name, 400, fftbins=True)
        np.testing.assert_allclose(window_function(name, 400), want, atol=1e-12)
    want = scipy.signal.get_window("hamming", 400, fftbins=False)
    got = window_function("hamming_symmetric", 400)
    np.testing.assert_allclose(got, want, atol=1e-12)
    want = scipy.signal.get_window("hann", 400, fftbins=False) ** 0.85
    got = window_function("povey", 400)
    np.testing.assert_allclose(got, want, atol=1e-12)


def test_window_function_refuses():
    with pytest.raises(ValueError, match="blackman"):
        window_function("blackman", 400)
    with pytest.raises(ValueError, match="length=0"):
        window_function("hann", 0)


@pytest.mark.parametrize(
    "samples, length, hop",
    [(50, 8, 3), (48, 8, 4), (9, 9, 4), (30, 4, 10), (31, 1, 1)],
)
def test_frame_signal(samples, length, hop):
    x = np.random.default_rng(0).standard_normal((3, samples)).astype("f")
    got = numpy(frame_signal(ops.convert_to_tensor(x), length, hop))
    starts = range(0, samples - length + 1, hop)
    want = np.stack([x[:, i : i + length] for i in starts], axis=1)
    np.testing.assert_array_equal(got, want)


def test_frame_signal_counts_zeros_past_the_end():
    x = np.arange(1.0, 12.0, dtype="float32")[None]
    got = numpy(frame_signal(ops.convert_to_tensor(x), 6, 4, frames=3))
    assert got[0].tolist() == [
        [1, 2, 3, 4, 5, 6],
        [5, 6, 7, 8, 9, 10],
        [9, 10, 11, 0, 0, 0],
    ]


def test_frame_signal_refuses():
    x = ops.zeros((2, 20))
    with pytest.raises(ValueError, match="hop_length=0"):
        frame_signal(x, 8, 0)
    with pytest.raises(ValueError, match="frame_length=-1"):
        frame_signal(x, -1, 4)
    with pytest.raises(ValueError, match=r"\(2, 20\)"):
        frame_signal(x, 21, 4)


@pytest.mark.parametrize("samples, pad", [(40, 7), (8, 7), (5, 12), (2, 9)])
def test_pad_reflect_equals_numpy(samples, pad):
    x = np.random.default_rng(0).standard_normal((2, samples)).astype("f")
    got = numpy(pad_reflect(ops.convert_to_tensor(x), pad, pad + 1))
    want = np.pad(x, ((0, 0), (pad, pad + 1)), mode="reflect")
    np.testing.assert_array_equal(got, want)


def test_pad_reflect_of_one_sample_repeats_it():
    x = ops.convert_to_tensor([[3.0], [4.0]])
    assert numpy(pad_reflect(x, 2, 1)).tolist() == [[3.0] * 4, [4.0] * 4]


def test_pad_reflect_stands_at_each_clips_own_end():
    x = np.random.default_rng(0).standard_normal((4, 30)).astype("f")
    lengths = np.array([30, 17, 4, 1], "int32")
    got = numpy(
        pad_reflect(
            ops.convert_to_tensor(x), 6, 6, ops.convert_to_tensor(lengths)
        )
    )
    assert got.shape == (4, 42)
    for row, clip, n in zip(got, x, lengths, strict=True):
        want = np.pad(clip[:n], 6, mode="reflect" if n > 1 else "edge")
        np.testing.assert_array_equal(row[: n + 12], want)


def test_reflect_index_stays_inside():
    position = ops.arange(-50, 50)
    for samples in (0, 1, 2, 3, 17):
        index = numpy(reflect_index(position, samples))
        assert index.min() == 0
        assert index.max() == max(samples - 1, 0)
