import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.features import mel_filterbank
from keras_audio_ssl.features import recipe
from keras_audio_ssl.features import utterance_norm
from keras_audio_ssl.features import window_function
from tests.features.helpers import numpy

GOLDEN = "speech_frontend"

# The transform rounds in float32, on some processors by more than the limits
# where a bin is nearly silent: the definitions are compared in float64, and
# the default within three times the limit.
PRECISIONS = ["float64", "auto"]


def slack(precision):
    return 1.0 if precision == "float64" else 3.0


def features(golden, name, precision, wave="in/wave", **overrides):
    frontend = recipe(name, precision=precision, **overrides)
    return numpy(frontend(golden[wave][None]))[0]


def bands(golden, key, parts=1):
    return golden[f"out/{key}"].shape[-1] // parts


@pytest.mark.parametrize("precision", PRECISIONS)
def test_online_power(golden, precision):
    key = "online_mel_power"
    if not golden.has("in/wave", f"out/{key}"):
        return
    got = features(
        golden,
        "online_logmel",
        precision,
        n_mels=bands(golden, key),
        log=None,
        normalize=None,
    )
    golden.close(got, f"out/{key}", atol=1e-9, rtol=5e-4 * slack(precision))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "key, name, overrides",
    [
        ("online_logmel", "online_logmel", {"normalize": None}),
        ("online_logmel_cmvn", "online_logmel", {}),
        ("online_logmel_delta_cmvn", "online_logmel_delta", {}),
        ("kaldi_fbank80_hamming", "apc", {"normalize": None}),
        ("kaldi_fbank80_hamming_cmvn", "apc", {}),
    ],
)
def test_log_mels(golden, key, name, overrides, precision):
    if not golden.has("in/wave", f"out/{key}"):
        return
    parts = 2 if "delta" in key else 1
    n_mels = bands(golden, key, parts)
    got = features(golden, name, precision, n_mels=n_mels, **overrides)
    golden.close(got, f"out/{key}", atol=1e-3 * slack(precision))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_log_linear(golden, precision):
    key = "online_loglinear_cmvn"
    if not golden.has("in/wave", f"out/{key}"):
        return
    n_fft = 2 * (bands(golden, key) - 1)
    got = features(golden, "online_linear", precision, n_fft=n_fft)
    golden.close(got, f"out/{key}", atol=1e-3 * slack(precision))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_kaldi_with_deltas(golden, precision):
    key = "kaldi_fbank240_povey_cmvn"
    if not golden.has("in/wave", f"out/{key}"):
        return
    n_mels = bands(golden, key, 3)
    got = features(golden, "kaldi_fbank240", precision, n_mels=n_mels)
    golden.close(got, f"out/{key}", atol=3e-3 * slack(precision))
    # A float64 computation differs by 1.3e-3 from the golden array, which is
    # float32, in a single one of its nearly silent bins.
    near = np.abs(got - golden[f"out/{key}"]) <= 1e-3 * slack(precision)
    assert near.mean() > 0.9998


@pytest.mark.parametrize("precision", PRECISIONS)
def test_padded_batch_of_the_reference(golden, precision):
    waves = ["in/wave", "in/wave2"]
    key = "online_batch_logmel_cmvn"
    if not golden.has(*waves, f"out/{key}"):
        return
    # The reference scales each wave, pads it with zeros and lets the
    # transform see them; ours, with `lengths`, would not.
    clips = [golden[k] for k in waves]
    longest = max(map(len, clips))
    settings = {"precision": precision, "n_mels": bands(golden, key)}
    level = recipe("lim", level="rms")
    padded = np.zeros((2, longest), "float32")
    for row, clip in zip(padded, clips, strict=True):
        row[: len(clip)] = numpy(level(clip[None]))[0, :, 0]
    plain = recipe("online_logmel", level=None, normalize=None, **settings)
    x = plain(padded)
    per_frame = longest / x.shape[1]
    frames = np.array([round(len(c) / per_frame) for c in clips], "int32")
    golden.equal(frames, "out/online_batch_frames")
    got = numpy(utterance_norm(x, ops.convert_to_tensor(frames)))
    golden.close(got, f"out/{key}", atol=1e-3 * slack(precision))
    for row, n in zip(got, frames, strict=True):
        assert not row[n:].any()
    # The longer clip is what ours gives, also with `lengths`.
    ours = recipe("online_logmel", **settings)
    both = np.stack([np.resize(c, longest) for c in clips])
    lengths = np.array([len(c) for c in clips], "int32")
    got = numpy(ours(both, lengths=lengths))
    first = int(np.argmax(lengths))
    golden.near(
        got[first],
        golden[f"out/{key}"][first],
        atol=1e-3 * slack(precision),
        what=key,
    )
    np.testing.assert_array_equal(ours.frame_lengths(lengths), frames)


def test_constants(golden):
    key = "const/online_window"
    if golden.has(key):
        window = window_function("hann", len(golden[key]))
        golden.close(window, key, atol=1e-6)
    key = "const/online_mel_fb"
    if golden.has(key):
        bins, n_mels = golden[key].shape
        bank = mel_filterbank(16000, 2 * (bins - 1), n_mels)
        golden.close(bank, key, atol=1e-5)
    key = "const/kaldi_mel_fb"
    if golden.has(key):
        n_mels, bins = golden[key].shape
        bank = mel_filterbank(16000, 2 * bins, n_mels, 20.0, None, "kaldi")
        golden.close(bank[:bins].T, key, atol=5e-5)
        assert not bank[bins:].any()
