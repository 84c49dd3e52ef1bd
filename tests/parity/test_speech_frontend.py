import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.features import mel_filterbank
from keras_audio_ssl.features import recipe
from keras_audio_ssl.features import utterance_norm
from keras_audio_ssl.features import window_function
from tests.features.helpers import numpy

GOLDEN = "speech_frontend"

# A float32 transform rounds, on some processors, by more than the limits
# where a bin is nearly silent. So the definitions are compared in float64,
# and the default precision within three times the limit.
PRECISIONS = pytest.mark.parametrize(
    "precision, slack", [("float64", 1.0), ("auto", 3.0)]
)


def features(golden, name, precision, **overrides):
    frontend = recipe(name, precision=precision, **overrides)
    return numpy(frontend(golden["in/wave"][None]))[0]


def bins(golden, key):
    return golden[key].shape[-1]


@PRECISIONS
def test_online(golden, precision, slack):
    key = "out/online_mel_power"
    if golden.has(key):
        got = features(
            golden,
            "online_logmel",
            precision,
            n_mels=bins(golden, key),
            log=None,
            normalize=None,
        )
        golden.close(got, key, atol=1e-9, rtol=5e-4 * slack)
    for key, name, parts, overrides in (
        ("online_logmel", "online_logmel", 1, {"normalize": None}),
        ("online_logmel_cmvn", "online_logmel", 1, {}),
        ("online_logmel_delta_cmvn", "online_logmel_delta", 2, {}),
    ):
        if golden.has(f"out/{key}"):
            n_mels = bins(golden, f"out/{key}") // parts
            got = features(golden, name, precision, n_mels=n_mels, **overrides)
            golden.close(got, f"out/{key}", atol=1e-3 * slack)
    key = "out/online_loglinear_cmvn"
    if golden.has(key):
        n_fft = 2 * (bins(golden, key) - 1)
        got = features(golden, "online_linear", precision, n_fft=n_fft)
        golden.close(got, key, atol=1e-3 * slack)
    if golden.has("const/online_window"):
        window = window_function("hann", bins(golden, "const/online_window"))
        golden.close(window, "const/online_window", atol=1e-6)
    if golden.has("const/online_mel_fb"):
        rows, n_mels = golden["const/online_mel_fb"].shape
        bank = mel_filterbank(16000, 2 * (rows - 1), n_mels)
        golden.close(bank, "const/online_mel_fb", atol=1e-5)


@PRECISIONS
def test_kaldi(golden, precision, slack):
    for key, overrides in (
        ("out/kaldi_fbank80_hamming", {"normalize": None}),
        ("out/kaldi_fbank80_hamming_cmvn", {}),
    ):
        if golden.has(key):
            n_mels = bins(golden, key)
            got = features(golden, "apc", precision, n_mels=n_mels, **overrides)
            golden.close(got, key, atol=1e-3 * slack)
    key = "out/kaldi_fbank240_povey_cmvn"
    if golden.has(key):
        n_mels = bins(golden, key) // 3
        got = features(golden, "kaldi_fbank240", precision, n_mels=n_mels)
        golden.close(got, key, atol=3e-3 * slack)
        # One nearly silent bin of the golden array, computed in float32, is
        # 1.3e-3 from what float64 gives.
        far = np.abs(got - golden[key]) > 1e-3 * slack
        assert far.mean() < 2e-4
    key = "const/kaldi_mel_fb"
    if golden.has(key):
        n_mels, rows = golden[key].shape
        bank = mel_filterbank(16000, 2 * rows, n_mels, 20.0, None, "kaldi")
        golden.close(bank[:rows].T, key, atol=5e-5)
        assert not bank[rows:].any()


@PRECISIONS
def test_padded_batch_of_the_reference(golden, precision, slack):
    key = "out/online_batch_logmel_cmvn"
    if not golden.has("in/wave", "in/wave2", key):
        return
    clips = [golden["in/wave"], golden["in/wave2"]]
    lengths = np.array([len(c) for c in clips], "int32")
    # The reference scales each wave, pads it with zeros and lets the
    # transform see them; ours, with `lengths`, would not.
    scaled = recipe("lim", amplitude="rms")
    padded = np.zeros((2, lengths.max()), "float32")
    for row, clip in zip(padded, clips, strict=True):
        row[: len(clip)] = numpy(scaled(clip[None]))[0, :, 0]
    settings = {"precision": precision, "n_mels": bins(golden, key)}
    plain = recipe("online_logmel", amplitude=None, normalize=None, **settings)
    x = plain(padded)
    frames = np.round(lengths / (lengths.max() / x.shape[1])).astype("int32")
    golden.equal(frames, "out/online_batch_frames")
    got = numpy(utterance_norm(x, ops.convert_to_tensor(frames)))
    golden.close(got, key, atol=1e-3 * slack)
    for row, n in zip(got, frames, strict=True):
        assert not row[n:].any()
    # The longest clip, which has no padding, is the same with `lengths`.
    ours = recipe("online_logmel", **settings)
    both = np.stack([np.resize(c, lengths.max()) for c in clips])
    got = numpy(ours(both, lengths=lengths))
    longest = int(np.argmax(lengths))
    want = golden[key][longest]
    golden.near(got[longest], want, atol=1e-3 * slack, what=key)
    np.testing.assert_array_equal(ours.frame_lengths(lengths), frames)
