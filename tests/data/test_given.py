"""The same sound means the same, whatever holds it and wherever it enters."""

import io

import numpy as np
import pytest
import soundfile

import keras_audio_ssl as kas
from keras_audio_ssl.data import AudioDataset
from keras_audio_ssl.data.clips import ArrayClips
from keras_audio_ssl.data.clips.given import is_one
from keras_audio_ssl.data.clips.given import open_given
from keras_audio_ssl.data.clips.given import several
from keras_audio_ssl.data.clips.given import whole_rate

pytestmark = pytest.mark.no_backend

RATE = 8000
WAVE = (np.sin(np.arange(400) / 7) / 2).astype("float32")
SHORT = np.round(WAVE * 2**15).astype("int16")


def content():
    file = io.BytesIO()
    soundfile.write(file, SHORT, RATE, format="WAV")
    return file.getvalue()


class Decoder:
    """As torchcodec's."""

    def get_all_samples(self):
        return type("Samples", (), {"data": WAVE[None], "sample_rate": RATE})


class Tensor:
    """As PyTorch's that requires a gradient."""

    dtype, shape = "torch.float32", (400,)

    def detach(self):
        return self

    def cpu(self):
        return WAVE

    def __array__(self, *args, **kwargs):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


ONE = {
    "float32": WAVE,
    "float64": WAVE.astype("float64"),
    "int16": SHORT,
    "uint8": np.round(WAVE * 2**7 + 2**7).astype("uint8"),
    "a list": WAVE.tolist(),
    "a pair": (WAVE, RATE),
    "a pair with a fraction": (WAVE, float(RATE)),
    "channels first": (np.stack([WAVE, WAVE]), RATE),
    "channels last": (np.stack([WAVE, WAVE], 1), RATE),
    "bytes": content(),
    "a row's sound": {"array": WAVE, "sampling_rate": RATE},
    "a row": {"audio": {"array": WAVE, "sampling_rate": RATE}, "label": 3},
    "a row of bytes": {"bytes": content(), "path": None},
    "a decoder": Decoder(),
    "a tensor with a gradient": Tensor(),
}


@pytest.mark.parametrize("name", ONE)
def test_one_clip_is_one_clip(name):
    assert is_one(ONE[name])
    with open_given(ONE[name], RATE, "the clip") as audio:
        assert audio.rate == RATE
        got = audio.read(0, audio.frames)
    coarse = 2**-7 if name == "uint8" else 2**-15
    np.testing.assert_allclose(got, WAVE, atol=coarse)


@pytest.mark.parametrize("name", sorted(set(ONE) - {"a decoder"}))
def test_a_data_set_takes_what_embed_takes(name):
    data = kas.data.from_arrays([ONE[name]] * 2, sample_rate=RATE, batch_size=2)
    got = data.read_clip(1)
    np.testing.assert_allclose(got, WAVE, atol=2**-7)


def test_a_file_that_is_a_path(tmp_path):
    (tmp_path / "a.wav").write_bytes(content())
    assert is_one(tmp_path / "a.wav") and is_one("a.wav")
    with open_given(tmp_path / "a.wav", None, "") as audio:
        assert audio.frames == 400


def column(values):
    """As a column of pandas."""
    out = np.empty(len(values), object)
    out[:] = values
    return out


def test_several_clips_are_several():
    many = [
        np.stack([WAVE, WAVE]),
        np.stack([WAVE, WAVE])[:, :, None],
        [WAVE, WAVE[:100]],
        (WAVE, WAVE[:100]),
        column([WAVE, WAVE]),
        column(["a.wav", "b.wav"]),
        np.array(["a.wav", "b.wav"]),
        ["a.wav", "b.wav"],
        [(WAVE, RATE), (WAVE, RATE)],
        iter([WAVE, WAVE]),
    ]
    for audio in many:
        assert not is_one(audio)
        assert len(several(audio)) == 2
    assert several(many[1])[0].shape == (400,)


def test_channels_are_not_clips():
    stereo = np.zeros((96000, 2), "float32")
    for function in (several, kas.data.from_arrays):
        with pytest.raises(
            ValueError, match=r"96,000 clips of 2 samples.*mean"
        ):
            function(stereo)
        with pytest.raises(ValueError, match=r"\(batch, samples\)"):
            function(np.zeros((4, 96000, 2)))
    # So short clips are clips still.
    assert len(several(np.zeros((4, 5)))) == 4


@pytest.mark.parametrize(
    "bad",
    [3, None, object(), {"label": 3}, {"array": WAVE, "sampling_rate": 0.5},
     (WAVE, -1), ["a", 3], [], np.zeros(0), np.zeros((2, 3, 4)), b"RIFF"],
)  # fmt: skip
def test_what_is_no_audio_is_named(bad):
    with pytest.raises(ValueError, match="the clip"):
        with open_given(bad, RATE, "the clip"):
            pass


def test_rates_are_whole():
    assert whole_rate(16000.0) == 16000
    assert whole_rate(np.int64(8000)) == 8000
    for bad in (0, -1, 44100.5, "16k", None, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="in Hz"):
            whole_rate(bad)
    with pytest.raises(ValueError, match="input_rate"):
        kas.data.from_arrays([WAVE], input_rate=-3)


def test_endings_and_rows_as_people_write_them(tmp_path):
    (tmp_path / "a.WAV").write_bytes(content())
    (tmp_path / "b.flac").write_bytes(b"")
    for endings in (["wav"], [".WAV"], "wav"):
        data = kas.data.from_folder(
            tmp_path, batch_size=1, sample_rate=RATE, extensions=endings
        )
        assert data.num_clips == 1
    table = tmp_path / "table.csv"
    table.write_text("file,fold\na.WAV,1\na.WAV,2\na.WAV,3\n")
    data = kas.data.from_manifest(
        table, batch_size=1, sample_rate=RATE, where={"fold": range(1, 3)}
    )
    assert data.num_clips == 2


def test_a_coding_that_nobody_decodes(tmp_path):
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    with pytest.raises(ValueError, match=r"\.m4a cannot be decoded: convert"):
        kas.data.read_audio(tmp_path / "a.m4a")


def test_what_a_data_set_says_of_itself(tmp_path):
    (tmp_path / "a.wav").write_bytes(content())
    data = kas.data.from_folder(tmp_path, 0.04, batch_size=1, sample_rate=16000)
    assert data.hours == pytest.approx(0.05 / 3600)
    assert repr(data) == (
        "<AudioDataset: 1 clips, 0.00 h; 0.04 s of clips at 16000 Hz, "
        "1 batches of 1>"
    )
    assert data.read_clip(0).shape == (800,)
    assert data.read_clip(0, RATE).shape == (400,)
    many = kas.data.from_arrays(np.zeros((300, 8000)), batch_size=100)
    assert many.hours == pytest.approx(300 * 0.5 / 3600)
    assert "300 clips, about 0.04 h; whole clips" in repr(many)


@pytest.mark.parametrize("options", [{"seconds": -1.0}, {"batch_size": 99}])
def test_a_dataset_that_could_not_be_made_can_be_printed(options):
    """As debuggers and tracebacks with local variables do."""
    data = object.__new__(AudioDataset)
    with pytest.raises(ValueError):
        data.__init__(ArrayClips(np.zeros((4, 100)), 1000), **options)
    assert repr(data) == "<AudioDataset that could not be made>"
