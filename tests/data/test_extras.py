"""Arrays that a source adds to each crop."""

import os
import pickle

import numpy as np
import pytest
import soundfile

from keras_audio_ssl.data import AudioDataset
from keras_audio_ssl.data import AudioError
from keras_audio_ssl.data import read_audio
from keras_audio_ssl.data.clips import ArrayClips
from keras_audio_ssl.data.clips import FileClips

pytestmark = pytest.mark.no_backend


class Where(FileClips):
    """Each crop with where it lies, and in which file."""

    extra_spec = {"where": ((4,), "int32")}

    def extras(self, i, start, samples, sample_rate):
        row = int(self.rows[i])
        return {"where": np.array([row, start, samples, sample_rate], "int32")}


class Waves(ArrayClips):
    """The same of arrays, with the label once more."""

    extra_spec = {"start": ((), "int64"), "label": ((1,), "int32")}

    def extras(self, i, start, samples, sample_rate):
        return {"start": np.int64(start), "label": self.labels[i : i + 1]}


def ramp(samples):
    """A clip whose every sample tells where it lies."""
    return np.arange(1, samples + 1, dtype="float32") / 20000


@pytest.fixture
def folder(tmp_path):
    for k in range(5):
        wave = (k % 2 * 2 - 1) * ramp(3000 + 500 * k)
        soundfile.write(tmp_path / f"{k}.wav", wave, 8000, "FLOAT")
    return tmp_path


def files(folder, count=5, spans=None, isolate=False, **options):
    names = [f"{k}.wav" for k in range(count)]
    clips = Where(str(folder), names, spans=spans, isolate=isolate)
    options = {"seconds": 0.1, "batch_size": 5, "seed": 2, **options}
    return AudioDataset(clips, **options)


def check(folder, x, rate):
    """Each crop lies in its file where it is said to; returns the starts."""
    for wave, length, (row, start, samples, said) in zip(
        x["waveform"], x["lengths"], x["where"], strict=True
    ):
        whole = read_audio(folder / f"{row}.wav", rate)
        assert said == rate and samples == length
        np.testing.assert_allclose(
            wave[:length], whole[start : start + samples], atol=2e-6
        )
        assert not wave[length:].any()
    return x["where"][:, 1]


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("rate", [8000, 16000, 5512])
def test_the_start_of_crops_of_files(folder, rate, isolate):
    data = files(folder, sample_rate=rate, isolate=isolate)
    starts = [check(folder, data.batch(e, 0), rate) for e in range(6)]
    assert len(np.unique(starts)) > 20
    assert np.max(starts) > 0.2 * rate


@pytest.mark.parametrize("crop", ["random", "start", "center"])
@pytest.mark.parametrize("seconds", [0.15, 0.5, None])
def test_the_start_of_parts_that_are_cut_or_padded(folder, seconds, crop):
    spans = np.array(
        [[0.05, 0.3], [np.nan, 0.2], [0.1, np.nan], [0.2, 0.25], [0.0, 0.4]]
    )
    data = files(
        folder, spans=spans, seconds=seconds, crop=crop, sample_rate=16000,
        max_seconds=None if seconds else 0.2,
    )  # fmt: skip
    for epoch in range(3):
        x = data.batch(epoch, 0)
        starts = check(folder, x, 16000)
        rows = x["where"][:, 0]
        first = np.nan_to_num(spans[rows, 0]) * 16000
        assert (starts >= np.round(first)).all()
        if crop == "start" or seconds == 0.5:
            np.testing.assert_array_equal(starts, np.round(first))
        ends = np.nan_to_num(spans[rows, 1], nan=1.0) * 16000
        assert (starts + x["lengths"] <= np.round(ends)).all()


def arrays(**options):
    x = [ramp(60 + 7 * k) * (-1) ** k for k in range(12)]
    options = {"seconds": 0.05, "batch_size": 4, "seed": 1, **options}
    labels = np.arange(12, dtype="int32")
    clips = Waves(x, 1000, labels, [str(k) for k in range(12)])
    return AudioDataset(clips, sample_rate=1000, **options)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_with_and_without_threads(workers):
    data, plain = arrays(workers=workers), arrays(workers=0)
    data.start(2)
    for step, ((x, y), label) in enumerate(zip(data, plain.labels)):
        assert x["start"].dtype == np.int64 and x["start"].shape == (4,)
        np.testing.assert_array_equal(x["label"], y[:, None])
        begin = np.round(np.abs(x["waveform"][:, 0]) * 20000) - 1
        np.testing.assert_array_equal(x["start"], begin)
        other, _ = plain.batch(2, step)
        assert other.keys() == x.keys()
        for name in x:
            np.testing.assert_array_equal(x[name], other[name])
    copy = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(
        copy.batch(1, 1)[0]["start"], data.batch(1, 1)[0]["start"]
    )


def test_a_replacement_brings_its_own(folder):
    data = files(folder, seconds=0.1, sample_rate=8000)
    os.unlink(folder / "3.wav")
    for epoch in range(4):
        x = data.batch(epoch, 0)
        check(folder, x, 8000)
        rows = x["where"][:, 0].tolist()
        assert 3 not in rows and len(rows) == 5
    assert [os.path.basename(name) for name, _ in data.skipped] == ["3.wav"]


def test_a_source_may_refuse_a_clip(folder):
    class Choosy(Where):
        def extras(self, i, start, samples, sample_rate):
            if self.rows[i] == 2:
                raise AudioError(self.name(i), "no words")
            return super().extras(i, start, samples, sample_rate)

    clips = Choosy(str(folder), [f"{k}.wav" for k in range(5)])
    data = AudioDataset(clips, 0.1, 5, sample_rate=8000)
    x = data.batch(0, 0)
    check(folder, x, 8000)
    assert 2 not in x["where"][:, 0]
    assert data.skipped == [(str(folder / "2.wav"), "no words")]


@pytest.mark.parametrize("name", ["waveform", "lengths"])
def test_names_that_are_taken(name):
    class Wrong(Where):
        extra_spec = {name: ((), "int32")}

    with pytest.raises(ValueError, match=rf"other arrays. .*\['{name}'\]"):
        AudioDataset(Wrong("", ["a.wav"]))


@pytest.mark.parametrize(
    "extras",
    [
        {},
        {"where": np.zeros(3, "int32")},
        {"where": np.zeros(4, "int64")},
        {"where": np.int32(1)},
        {"where": np.zeros(4, "int32"), "more": np.int32(1)},
    ],
)
def test_what_is_not_as_declared(folder, extras):
    class Wrong(Where):
        def extras(self, i, start, samples, sample_rate):
            return extras

    with pytest.raises(ValueError, match=r"`extras` must be .*0\.wav") as error:
        AudioDataset(Wrong(str(folder), ["0.wav"]), 0.1, 1)
    assert "(4,)" in str(error.value)


def test_signature_tells_sources_apart(folder):
    class Plain(Where):
        extra_spec = {}

        def extras(self, i, start, samples, sample_rate):
            return {}

    names = [f"{k}.wav" for k in range(5)]
    plain, more = (
        AudioDataset(kind(str(folder), names), 0.1, 5).signature()
        for kind in (Plain, Where)
    )
    assert more.pop("extras") == {"where": [[4], "int32"]}
    assert plain == more
