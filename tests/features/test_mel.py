import librosa
import numpy as np
import pytest

from keras_audio_ssl.features import hz_to_mel
from keras_audio_ssl.features import mel_filterbank
from keras_audio_ssl.features import mel_to_hz
from tests.features import reference

# One worker compiles what librosa compiles.
pytestmark = [pytest.mark.no_backend, pytest.mark.xdist_group("librosa")]


@pytest.mark.parametrize("norm", [None, "slaney"])
@pytest.mark.parametrize("scale", ["htk", "slaney"])
@pytest.mark.parametrize(
    "rate, n_fft, n_mels, f_min, f_max",
    [
        (16000, 1024, 64, 60.0, 7800.0),
        (22050, 2048, 96, 50.0, 10500.0),
        (8000, 401, 20, 0.0, None),
    ],
)
def test_mel_filterbank_equals_librosa(
    rate, n_fft, n_mels, f_min, f_max, scale, norm
):
    got = mel_filterbank(rate, n_fft, n_mels, f_min, f_max, scale, norm)
    want = librosa.filters.mel(
        sr=rate,
        n_fft=n_fft,
        n_mels=n_mels,
        fmin=f_min,
        fmax=f_max,
        htk=scale == "htk",
        norm=norm,
        dtype=np.float64,
    )
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, want.T, atol=1e-12 + 1e-9 * want.max())


def test_kaldi_filterbank_equals_its_definition():
    got = mel_filterbank(16000, 512, 80, 20.0, 8000.0, "kaldi")
    want = reference.kaldi_bank(80, 512, 16000, 20.0, 8000.0)
    np.testing.assert_allclose(got, want, atol=1e-12)
    assert not got[-1].any()


@pytest.mark.parametrize("scale", ["htk", "slaney", "kaldi"])
def test_mel_scales_are_inverses(scale):
    f = np.linspace(0.0, 11025.0, 500)
    mel = hz_to_mel(f, scale)
    assert np.all(np.diff(mel) > 0)
    np.testing.assert_allclose(mel_to_hz(mel, scale), f, atol=1e-8)
    if scale != "kaldi":
        want = librosa.hz_to_mel(f, htk=scale == "htk")
        np.testing.assert_allclose(mel, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"n_mels": 0}, "n_mels"),
        ({"f_min": 9000.0}, "f_min"),
        ({"f_max": 9000.0}, "f_max=9000"),
        ({"f_min": -1.0}, "f_min"),
        ({"mel_scale": "bark"}, "bark"),
        ({"mel_norm": "area"}, "area"),
    ],
)
def test_mel_filterbank_refuses(change, message):
    settings = {"sample_rate": 16000, "n_fft": 512, "n_mels": 40, **change}
    with pytest.raises(ValueError, match=message):
        mel_filterbank(**settings)
