import librosa
import numpy as np
import pytest
import scipy.fft
from keras import ops

from keras_audio_ssl.features import MFCC
from keras_audio_ssl.features import LogMel
from keras_audio_ssl.features import LogSpectrum
from keras_audio_ssl.features import Waveform
from keras_audio_ssl.features import mel_filterbank
from keras_audio_ssl.features import window_function
from tests.features import reference
from tests.features.helpers import input_gradient
from tests.features.helpers import numpy

# One worker compiles what librosa compiles.
pytestmark = pytest.mark.xdist_group("librosa")

WAVE = reference.signal(6400)


def run(frontend, wave=WAVE):
    return numpy(frontend(wave[None]))[0]


@pytest.mark.parametrize(
    "power, norm, scale, pad_mode",
    [
        (2, "slaney", "slaney", "reflect"),
        (2, None, "htk", "constant"),
        (1, "slaney", "htk", "reflect"),
        (1, None, "slaney", "constant"),
    ],
)
def test_log_mel_equals_librosa(power, norm, scale, pad_mode):
    want = librosa.feature.melspectrogram(
        y=WAVE.astype("float64"),
        sr=16000,
        n_fft=1024,
        win_length=800,
        hop_length=160,
        n_mels=64,
        fmin=60,
        fmax=7800,
        htk=scale == "htk",
        norm=norm,
        power=power,
        pad_mode=pad_mode,
        dtype=np.float64,
    )
    frontend = LogMel(
        n_fft=1024,
        win_length=800,
        mel_scale=scale,
        mel_norm=norm,
        power=power,
        pad_mode=pad_mode,
        log_add=1e-6,
    )
    got = run(frontend)
    assert got.dtype == np.float32
    assert got.shape == (41, 64)
    np.testing.assert_allclose(got, np.log(want.T + 1e-6), atol=1e-3)
    assert np.ptp(got) > 3


def test_uncentred_log_mel_equals_librosa():
    want = librosa.feature.melspectrogram(
        y=WAVE.astype("float64"),
        sr=16000,
        n_fft=1024,
        hop_length=200,
        n_mels=40,
        center=False,
        dtype=np.float64,
    )
    frontend = LogMel(
        n_fft=1024,
        win_length=None,
        hop_length=200,
        n_mels=40,
        f_min=0.0,
        f_max=None,
        mel_scale="slaney",
        mel_norm="slaney",
        center=False,
        log_add=1e-7,
    )
    np.testing.assert_allclose(run(frontend), np.log(want.T + 1e-7), atol=1e-3)


@pytest.mark.parametrize("n_fft, win_length", [(401, 401), (513, 400)])
def test_odd_transforms(n_fft, win_length):
    window = window_function("hamming", win_length)
    want = reference.spectrum(WAVE, n_fft, win_length, 130, window)
    frontend = LogSpectrum(
        n_fft=n_fft,
        win_length=win_length,
        hop_length=130,
        window="hamming",
        log_add=1e-5,
    )
    np.testing.assert_allclose(run(frontend), np.log(want + 1e-5), atol=1e-3)
    assert int(frontend.frame_lengths(6400)) == len(want)


@pytest.mark.parametrize(
    "settings, want",
    [
        ({"log": None}, lambda p: p),
        ({"log": "log10", "log_add": 1e-8}, lambda p: np.log10(p + 1e-8)),
        ({"log_floor": 1e-3}, lambda p: np.log(np.maximum(p, 1e-3))),
        (
            {"log_floor": 1e-3, "log_ceiling": 1.0},
            lambda p: np.log(np.clip(p, 1e-3, 1.0)),
        ),
        (
            {"log": "db", "log_floor": 1e-8},
            lambda p: librosa.power_to_db(p, amin=1e-8, top_db=None),
        ),
        (
            {"log": "db", "log_floor": 1e-4, "power": 1},
            lambda p: librosa.amplitude_to_db(
                np.sqrt(p), amin=1e-4, top_db=None
            ),
        ),
    ],
)
def test_logarithms(settings, want):
    power = reference.spectrum(
        WAVE, 512, 400, 160, window_function("hann", 400)
    )
    got = run(LogSpectrum(**settings))
    scale = np.abs(want(power)).max()
    np.testing.assert_allclose(got, want(power), atol=1e-5 * scale, rtol=1e-4)


@pytest.mark.parametrize(
    "window, remove_dc, preemphasis",
    [
        ("povey", True, 0.97),
        ("hamming_symmetric", True, 0.97),
        ("hamming_symmetric", True, 0.0),
        ("hamming_symmetric", False, 0.9),
    ],
)
def test_kaldi_frames(window, remove_dc, preemphasis):
    wave = WAVE + np.float32(0.2)
    frames = {"preemphasis": preemphasis, "remove_dc": remove_dc}
    power = reference.spectrum(
        wave,
        512,
        400,
        160,
        window_function(window, 400),
        center=False,
        **frames,
    )
    want = power @ reference.kaldi_bank(40, 512, 16000, 20.0, 8000.0)
    want = np.log(np.maximum(want, 1e-6))
    settings = {
        "n_mels": 40,
        "f_min": 20.0,
        "f_max": None,
        "mel_scale": "kaldi",
        "window": window,
        "log_floor": 1e-6,
        **frames,
    }
    got = run(LogMel(center=False, **settings), wave)
    np.testing.assert_allclose(got, want, atol=1e-3)
    # Centred, frame 2 starts at sample 120: at 160, if 40 are cut off.
    centred = run(LogMel(**settings), wave[40:])
    np.testing.assert_allclose(centred[2:-1], want[1:], atol=1e-3)


def test_mfcc_equals_librosa():
    settings = {
        "n_fft": 512,
        "n_mels": 40,
        "f_min": 20.0,
        "f_max": 7600.0,
        "win_length": 400,
        "hop_length": 160,
    }
    mel = librosa.feature.melspectrogram(
        y=WAVE.astype("float64"),
        sr=16000,
        fmin=20,
        fmax=7600,
        n_mels=40,
        n_fft=512,
        win_length=400,
        hop_length=160,
        htk=True,
        norm=None,
        pad_mode="reflect",
        dtype=np.float64,
    )
    log_mel = librosa.power_to_db(mel, top_db=None)
    want = librosa.feature.mfcc(S=log_mel, n_mfcc=20)
    frontend = MFCC(n_mfcc=20, log="db", log_floor=1e-10, **settings)
    np.testing.assert_allclose(run(frontend), want.T, atol=5e-3)


def test_mfcc_with_lifter_and_deltas():
    power = reference.spectrum(
        WAVE, 512, 400, 160, window_function("hann", 400)
    )
    mel = power @ mel_filterbank(16000, 512, 40, 60.0, 7800.0)
    cepstra = scipy.fft.dct(np.log(mel + 1e-6), norm="ortho")[:, :13]
    cepstra *= 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    delta = reference.deltas(cepstra)
    want = np.concatenate([cepstra, delta, reference.deltas(delta)], axis=1)
    got = run(MFCC(lifter=22, deltas=2, log_add=1e-6))
    np.testing.assert_allclose(got, want, atol=5e-3)


def test_waveform_is_the_waveform():
    x = np.stack([WAVE[:800], WAVE[800:1600]])
    frontend = Waveform(sample_rate=8000)
    np.testing.assert_array_equal(numpy(frontend(x))[..., 0], x)
    assert frontend.frame_rate == 8000
    assert frontend.n_features == 1
    loud = numpy(Waveform(amplitude="peak")(x))
    np.testing.assert_allclose(np.abs(loud).max(1), 1.0, rtol=1e-6)
    got = numpy(frontend(x, lengths=np.array([800, 3])))
    np.testing.assert_array_equal(got[1, :3, 0], x[1, :3])
    assert not got[1, 3:].any()


@pytest.mark.parametrize(
    "frontend",
    [
        LogMel(n_mels=10, log_add=1e-3, win_length=64, n_fft=64, hop_length=32),
        LogMel(
            n_mels=6,
            win_length=60,
            n_fft=64,
            hop_length=32,
            power=1,
            center=False,
            log_floor=1e-3,
            amplitude="l2",
            mel_scale="kaldi",
        ),
        LogMel(
            n_mels=6,
            win_length=60,
            n_fft=64,
            hop_length=32,
            center=False,
            preemphasis=0.97,
            remove_dc=True,
            window="hamming_symmetric",
            log_floor=1e-3,
            normalize="utterance",
            deltas=1,
        ),
        MFCC(
            n_mels=10,
            win_length=64,
            n_fft=64,
            hop_length=32,
            amplitude="rms",
            log_add=1e-3,
            n_mfcc=5,
        ),
    ],
    ids=["log_mel", "cola", "kaldi", "mfcc"],
)
def test_gradient_against_finite_differences(frontend):
    x = np.stack([reference.signal(400, seed=i) for i in range(2)])
    lengths = np.array([400, 300], "int32")
    features = numpy(frontend(x, lengths=lengths))
    weights = np.random.default_rng(0).standard_normal(features.shape)

    def loss(v):
        y = frontend(v, lengths=lengths)
        return ops.sum(y * ops.convert_to_tensor(weights.astype("float32")))

    gradient = input_gradient(loss, x)
    assert not gradient[1, 300:].any()
    rng = np.random.default_rng(1)
    for _ in range(3):
        direction = rng.standard_normal(x.shape)
        step = 1e-3
        ends = [
            np.sum(
                weights
                * numpy(
                    frontend(
                        (x + s * step * direction).astype("float32"),
                        lengths=lengths,
                    )
                ).astype("float64")
            )
            for s in (0.5, -0.5)
        ]
        want = (ends[0] - ends[1]) / step
        got = np.sum(gradient.astype("float64") * direction)
        scale = np.linalg.norm(gradient) + 1e-6
        assert abs(got - want) < 0.02 * scale


@pytest.mark.parametrize(
    "layer, change, message",
    [
        (LogMel, {"power": 3}, "power=3"),
        (LogMel, {"log": "log2"}, "log2"),
        (LogMel, {"log_add": -1.0}, "log_add"),
        (LogMel, {"log_floor": 0.0}, "log_floor"),
        (LogMel, {"hop_length": 0}, "hop_length=0"),
        (LogMel, {"n_fft": 256}, "win_length=400"),
        (LogMel, {"n_fft": 512.0}, "n_fft=512.0"),
        (LogMel, {"pad_mode": "wrap"}, "wrap"),
        (LogMel, {"window": "kaiser"}, "kaiser"),
        (LogMel, {"preemphasis": 1.5}, "preemphasis"),
        (LogMel, {"precision": "half"}, "half"),
        (LogMel, {"sample_rate": 0}, "sample_rate"),
        (LogMel, {"sample_rate": 8000}, "f_max"),
        (LogMel, {"amplitude": "loud"}, "loud"),
        (LogMel, {"deltas": 3}, "deltas"),
        (LogMel, {"normalize": "batch"}, "batch"),
        (LogMel, {"norm_ddof": 2}, "norm_ddof"),
        (LogMel, {"normalize": "scalar", "mean": 0.0}, "together"),
        (LogMel, {"mean": 0.0, "std": 1.0}, "normalize"),
        (LogMel, {"normalize": "scalar", "mean": 0.0, "std": 0.0}, "std"),
        (
            LogMel,
            {"normalize": "per_bin", "mean": [0.0] * 3, "std": [1.0] * 3},
            "mean",
        ),
        (MFCC, {"n_mfcc": 50}, "n_mfcc"),
        (MFCC, {"lifter": -1}, "lifter"),
    ],
)
def test_arguments_are_checked(layer, change, message):
    with pytest.raises(ValueError, match=message):
        layer(**change)
