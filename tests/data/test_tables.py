"""Tables from strangers: times, sizes and names of any kind."""

import os

import numpy as np
import pytest
import soundfile

from keras_audio_ssl.data import from_arrays
from keras_audio_ssl.data import from_folder
from keras_audio_ssl.data import from_manifest
from keras_audio_ssl.data import read_audio
from keras_audio_ssl.data import read_manifest
from keras_audio_ssl.data.clips import FileClips
from keras_audio_ssl.data.clips import manifest
from keras_audio_ssl.data.dataset import AudioDataset
from keras_audio_ssl.data.levels import odd_levels
from keras_audio_ssl.doctor import Diagnosis
from keras_audio_ssl.doctor import Settings
from keras_audio_ssl.doctor import list_audio
from keras_audio_ssl.doctor import survey
from keras_audio_ssl.evaluation import probe
from tests.evaluation.fakes import BandEncoder
from tests.evaluation.fakes import write_corpus

pytestmark = pytest.mark.no_backend

STRANGE = ["0,inf", "1e308,", "1e308,1e309", "-inf,0.2", "0,1e300", "nan,1e18"]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(3):
        wave = 0.1 * rng.standard_normal(8000)
        soundfile.write(tmp_path / f"{k}.wav", wave, 16000)
    return tmp_path


def table(folder, text):
    (folder / "m.csv").write_text(text)
    return folder / "m.csv"


def test_rows_of_impossible_times_are_named_and_the_others_used(folder):
    rows = [f"{k % 3}.wav,{times}\n" for k, times in enumerate(STRANGE)]
    path = table(folder, "file,start,end\n2.wav,0,0.25\n" + "".join(rows))
    data = from_manifest(path, 0.1, 1, drop_last=False)
    assert data.num_clips == 1 and data.batch(0, 0)["lengths"][0] == 1600
    lines = [file.partition(", ")[2] for file, _ in data.skipped]
    assert lines == [f"line {k + 3}" for k in range(len(STRANGE))]
    found = Diagnosis(survey(list_audio(path), isolate=False))
    [beyond] = [f for f in found.findings if f.kind == "beyond"]
    assert len(beyond.files) == len(STRANGE)
    assert max(len(words) for _, words in beyond.files) < 60
    assert int(found.clip_usable.sum()) == 1


def test_impossible_times_past_the_table(folder):
    """Of a source that no table was read for, of a probe, of a reader."""
    spans = np.array([[0, np.inf], [1e308, np.nan], [0.1, 0.2]])
    clips = FileClips(str(folder), ["0.wav", "1.wav", "2.wav"], spans=spans)
    data = AudioDataset(clips, 0.1, 1)
    for step in range(3):
        data.batch(0, step)
    assert len(data.skipped) == 2
    for times in ({"start": np.inf}, {"seconds": np.nan}, {"seconds": np.inf}):
        with pytest.raises(ValueError, match="both finite"):
            read_audio(folder / "0.wav", **times)


def test_a_probe_skips_rows_of_impossible_times(tmp_path):
    path = write_corpus(tmp_path)
    head, first, *rest = path.read_text().splitlines()
    rows = [f"{head},start,end", f"{first},0,inf", *(f"{r},," for r in rest)]
    path.write_text("\n".join(rows))
    result = probe(BandEncoder(), path, "label")
    assert result.n == 23 and "no part" in result.skipped[0][1]


def test_a_probe_counts_rows_without_label_or_fold(tmp_path):
    path = write_corpus(tmp_path)
    read = read_manifest(path)
    for column, row, cell in (
        ("label", 0, " "), ("label", 1, ""), ("speaker", 2, ""),
        ("label", 3, f" {read['label'][3]} "),
    ):  # fmt: skip
        read[column][row] = cell
    lines = [",".join(read), *map(",".join, zip(*read.values(), strict=True))]
    path.write_text("\n".join(lines))
    result = probe(BandEncoder(), path, "label", fold="speaker")
    assert result.classes == ["class0", "class1", "class2"]
    assert list(result.per_fold) == ["s0", "s1", "s2", "s3"]
    assert result.n == 21
    reasons = [why for _, why in result.skipped]
    assert reasons == ["no label", "no label", "no speaker"]
    assert "2 of them: no label" in str(result)


def test_doctor_counts_rows_without_label(folder):
    path = table(folder, "file,kind\n0.wav, a\n1.wav,a \n2.wav, \n")
    found = survey(list_audio(path), isolate=False)
    diagnosis = Diagnosis(found, Settings(label="kind"))
    assert diagnosis.classes() == {"a": 2}
    [finding] = [f for f in diagnosis.findings if f.kind == "unlabelled"]
    assert finding.title == "no kind"
    assert finding.files == [(2, "of 3 rows 1 have none")]


def test_levels_that_are_wrong_are_said_at_the_start_of_a_run(tmp_path):
    rng = np.random.default_rng(0)
    wave = 0.1 * rng.standard_normal((9, 8000))
    files = [tmp_path / f"{k}.wav" for k in range(9)]
    for k, file in enumerate(files):
        sound = wave[k]
        if k in (2, 5):
            sound = np.round(sound * 200_000).clip(-32768, 32767)
        if k == 7:
            sound = (100 * sound).clip(-1, 1)
        soundfile.write(file, sound, 16000, "FLOAT" if k in (2, 5) else None)
    said = odd_levels(from_folder(tmp_path, 0.2, 4))
    assert len(said) == 2
    assert said[0].startswith(f"2 of 9 clips go beyond full scale, {tmp_path}")
    assert "up to 32768" in said[0] or "up to 32767" in said[0]
    assert "of 9 clips are mostly clipped" in said[1]
    assert odd_levels(from_arrays(wave, batch_size=4)) == []
    loud = odd_levels(from_arrays(32768 * wave, batch_size=4))
    assert len(loud) == 1 and loud[0].startswith("9 of 9 clips go beyond")
    # Integers are scaled by the range of their type; a flat wave is not cut.
    whole = (9000 * wave).astype("int16")
    assert odd_levels(from_arrays(whole, batch_size=4)) == []
    assert odd_levels(from_arrays(np.full((4, 800), 0.1), batch_size=4)) == []


def test_what_a_table_may_fill_the_memory_with_is_bounded(folder):
    path = table(folder, "file\n0.wav\n")
    os.truncate(path, 3 << 30)  # a line of zeros: 3 GB
    with pytest.raises(ValueError, match="row at line 3 has more than 1,048"):
        read_manifest(path)
    os.truncate(path, 0)
    os.truncate(path, 3 << 30)
    with pytest.raises(ValueError, match="row at line 1 has more than"):
        read_manifest(path)
    # A row of many lines, each of them short.
    path = table(folder, "file\n" + '"\n",' * 500_000)
    with pytest.raises(ValueError, match="has more than 1,048,576 letters"):
        read_manifest(path)
    names = ",".join(f"c{k}" for k in range(20_000))
    path = table(folder, f"file,{names}\n0.wav,{names}\n")
    with pytest.raises(ValueError, match="20,001 columns, at most 16,384"):
        read_manifest(path)


def test_many_long_names_of_columns_do_not_fill_an_error(folder):
    names = ",".join(f"{k}" + "x" * 1000 for k in range(900))
    path = table(folder, f"{names}\n{names}\n")
    with pytest.raises(ValueError, match="and 870 more") as caught:
        from_manifest(path)
    assert len(str(caught.value)) < 8000


def test_a_long_table_is_read_as_before(folder, monkeypatch):
    monkeypatch.setattr(manifest, "ROW", 200)
    text = "file,note\n" + '0.wav,"a\r\nb ""c"""\r\n' * 300
    path = table(folder, text)
    read = read_manifest(path)
    assert read["note"] == ['a\r\nb "c"'] * 300
