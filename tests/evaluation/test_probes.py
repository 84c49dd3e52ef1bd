import numpy as np
import pytest
import soundfile

from keras_audio_ssl.evaluation import Embeddings
from keras_audio_ssl.evaluation import probe
from tests.evaluation.fakes import RATE
from tests.evaluation.fakes import BandEncoder
from tests.evaluation.fakes import tone
from tests.evaluation.fakes import write_corpus
from tests.evaluation.fakes import write_table

pytestmark = pytest.mark.no_backend


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path)


def test_cross_validation_without_columns(corpus):
    result = probe(BandEncoder(), corpus, "label")
    assert result.n == 24 and len(result.per_fold) == 5
    assert result.classes == ["class0", "class1", "class2"]
    assert result.accuracy > 0.9
    assert result.dim == 16 and result.embedding_seconds > 0
    assert probe(BandEncoder(), corpus, "label").per_fold == result.per_fold


@pytest.mark.parametrize("way", ["fold", "leave_one_out"])
def test_each_value_of_a_column_is_tested_once(corpus, way):
    result = probe(BandEncoder(), corpus, "label", **{way: "speaker"})
    assert list(result.per_fold) == ["s0", "s1", "s2", "s3"]
    assert result.n == 24 and result.accuracy > 0.9
    assert result.task == "label, unseen speaker"


def test_folds_are_listed_in_the_order_of_their_numbers(tmp_path):
    rows = []
    for i in range(24):
        name = f"{i}.wav"
        soundfile.write(tmp_path / name, tone(500 + 900 * (i % 2)), RATE)
        rows.append([name, f"c{i % 2}", str(8 + i // 8)])
    path = write_table(tmp_path / "m.csv", ["file", "label", "fold"], rows)
    result = probe(BandEncoder(), path, "label", fold="fold")
    assert list(result.per_fold) == ["8", "9", "10"]


def test_a_split_column(corpus):
    result = probe(BandEncoder(), corpus, "label", split="split", seen="unseen")
    assert result.n == 6 and list(result.per_fold) == ["test"]
    assert "audio in pretraining: unseen" in str(result)


def test_a_split_by_values(corpus):
    split = {"speaker": {"train": ["s0", "s1"], "test": ["s2"]}}
    result = probe(
        BandEncoder(), corpus, "label", split=split, groups="speaker"
    )
    assert result.n == 6 and result.accuracy > 0.9


def test_a_validation_part_is_neither_trained_nor_tested_on(tmp_path):
    rows = []
    for i in range(30):
        name, part = f"{i}.wav", ("train", "valid", "test")[i % 3]
        soundfile.write(tmp_path / name, tone(500 + 900 * (i % 2)), RATE)
        rows.append([name, f"c{i % 2}", part])
    path = write_table(tmp_path / "m.csv", ["file", "label", "part"], rows)
    result = probe(BandEncoder(), path, "label", split="part")
    assert result.n == 10


def test_where_and_single_value_of_c(corpus):
    result = probe(
        BandEncoder(),
        corpus,
        "label",
        leave_one_out="speaker",
        where={"speaker": ["s1", "s2"]},
        grid=[0.5],
    )
    assert result.n == 12
    assert result.chosen == {"s1": 0.5, "s2": 0.5}


def test_nearest_neighbours(corpus):
    result = probe(
        BandEncoder(), corpus, "label", fold="speaker", classifier="knn"
    )
    assert result.accuracy > 0.9
    assert set(result.chosen.values()) <= {1, 3, 10, 30}
    assert "k: s0" in str(result)


def test_halves_train_on_the_first_and_test_on_the_second(tmp_path):
    rows = []
    for k in range(5):
        first = tone(400 + 500 * k, seed=k)
        soundfile.write(tmp_path / f"{k}.wav", first, RATE)
        # The second half of this one is the first half of another.
        second = tone(400 + 500 * ((k + 1) % 5), seed=k + 9)
        wave = np.concatenate([first, second])
        soundfile.write(tmp_path / f"moved{k}.wav", wave, RATE)
        rows.append([f"{k}.wav", f"moved{k}.wav", str(k)])
    path = write_table(tmp_path / "m.csv", ["file", "other", "who"], rows)
    assert probe(BandEncoder(), path, "who", halves=True).accuracy == 1
    rows = [[other, file, who] for file, other, who in rows]
    path = write_table(tmp_path / "m2.csv", ["file", "other", "who"], rows)
    result = probe(BandEncoder(), path, "who", halves=True)
    assert result.n == 5 and result.accuracy == 0
    moved = result.confusion[np.arange(5), (np.arange(5) + 1) % 5]
    assert moved.tolist() == [1] * 5


def test_parts_of_files(tmp_path):
    wave = np.concatenate([tone(500, 0.2), tone(2000, 0.2)] * 5)
    soundfile.write(tmp_path / "long.wav", wave, RATE)
    rows = [
        ["long.wav", f"{0.2 * i:.1f}", f"{0.2 * i + 0.2:.1f}", "ab"[i % 2]]
        for i in range(10)
    ]
    path = write_table(
        tmp_path / "m.csv", ["file", "start", "end", "label"], rows
    )
    assert probe(BandEncoder(), path, "label").accuracy == 1
    rows[3][1:3] = ["0.5", "0.5"]
    rows[4][1] = "9.0"
    rows[9][2] = ""  # to the end of the file
    path = write_table(path, ["file", "start", "end", "label"], rows)
    result = probe(BandEncoder(), path, "label")
    assert result.n == 8 and len(result.skipped) == 1


@pytest.fixture
def phones(tmp_path):
    """Two phones in turn, 0.1 s each, and pauses without a label."""
    files, intervals = [], []
    for speaker in range(3):
        for take in range(2):
            name = f"{speaker}{take}.wav"
            pieces = []
            for i in range(6):
                hz = (600 if (i + take) % 2 else 2500) + 30 * speaker
                pieces += [tone(hz, 0.1), tone(1500, 0.06)]
                start = 0.16 * i
                intervals.append(
                    [name, f"{start:.2f}", f"{start + 0.1:.2f}", f"{hz < 1e3}"]
                )
            soundfile.write(tmp_path / name, np.concatenate(pieces), RATE)
            files.append([name, f"s{speaker}"])
    write_table(
        tmp_path / "phones.csv", ["file", "start", "end", "phone"], intervals
    )
    return write_table(tmp_path / "manifest.csv", ["file", "speaker"], files)


def test_frames_at_the_middle_of_phones_and_all_of_them(phones):
    result = probe(
        BandEncoder(), phones, frames="phones.csv", leave_one_out="speaker"
    )
    assert result.n == 36 and result.classes == ["False", "True"]
    assert result.accuracy == 1 and result.frame_accuracy > 0.95
    # 5 frames of 20 ms in each of 36 phones of 0.1 s, none in the pauses.
    assert result.frames == 180
    assert "over all 180 frames" in str(result)


def test_the_middles_alone_where_every_frame_is_not_wanted(phones):
    options = {"frames": "phones.csv", "leave_one_out": "speaker"}
    every = probe(BandEncoder(), phones, **options)
    middles = probe(BandEncoder(), phones, every_frame=False, **options)
    assert middles.per_fold == every.per_fold
    assert (middles.frame_accuracy, middles.frames) == (None, 0)
    assert "frames" not in str(middles)


def test_frames_are_labelled_by_their_time(phones, monkeypatch):
    # Labels moved by one phone and pause: the tone tells the wrong one.
    text = (phones.parent / "phones.csv").read_text()
    rows = [line.split(",") for line in text.splitlines()[1:]]
    kept = [
        [a[0], a[1], a[2], b[3]]
        for a, b in zip(rows, rows[1:], strict=False)
        if a[0] == b[0]
    ]
    for row in kept[:15]:
        row[3] = rows[kept.index(row)][3]
    path = write_table(
        phones.parent / "moved.csv", ["file", "start", "end", "phone"], kept
    )
    straight = probe(
        BandEncoder(), phones, "phone", frames=path, leave_one_out="speaker"
    )
    assert straight.n == 30
    monkeypatch.setattr(
        "keras_audio_ssl.evaluation.frame_probes.TRAIN_FRAMES", 20
    )
    few = probe(
        BandEncoder(), phones, "phone", frames=path, leave_one_out="speaker"
    )
    assert few.accuracy == straight.accuracy
    assert few.frames == straight.frames


def test_intervals_past_the_end_are_left_out(phones):
    rows = [
        ["00.wav", "0.0", "0.1", "a"],
        ["10.wav", "0.0", "0.1", "a"],
        ["00.wav", "0.16", "0.26", "b"],
        ["10.wav", "0.16", "0.26", "b"],
        ["10.wav", "7.0", "7.1", "b"],
    ]
    path = write_table(
        phones.parent / "late.csv", ["file", "start", "end", "phone"], rows
    )
    result = probe(
        BandEncoder(), phones, frames=path, leave_one_out="speaker",
        where={"speaker": ["s0", "s1"]},
    )  # fmt: skip
    assert result.n == 4
    assert ("01.wav", "no interval in late.csv") in result.skipped


def test_broken_files_are_skipped_and_named(corpus):
    folder = corpus.parent
    (folder / "0_0_0.wav").write_bytes(b"")
    (folder / "1_1_1.wav").write_text("not audio")
    (folder / "2_2_0.wav").unlink()
    result = probe(BandEncoder(), corpus, "label", leave_one_out="speaker")
    assert result.n == 21
    names = {name.rsplit("/", 1)[-1] for name, _ in result.skipped}
    assert names == {"0_0_0.wav", "1_1_1.wav", "2_2_0.wav"}
    assert all(reason for _, reason in result.skipped)
    assert "skipped 3: " in str(result)
    for clip in ("0_0_0", "1_1_1"):
        assert clip in str(result)


def test_rows_without_a_label_are_skipped_and_named(corpus):
    text = corpus.read_text().replace("0_0_0.wav,class0", "0_0_0.wav,")
    corpus.write_text(text)
    result = probe(BandEncoder(), corpus, "label", leave_one_out="speaker")
    assert result.n == 23
    assert result.skipped == [("0_0_0.wav", "no label")]


def test_nothing_readable_is_an_error(corpus):
    for file in corpus.parent.glob("*.wav"):
        file.write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match=r"None of 24 files.*0_0_0\.wav"):
        probe(BandEncoder(), corpus, "label")


def test_a_broken_encoder_is_an_error(corpus):
    encoder = BandEncoder()
    encoder.embed = lambda waves: np.full((len(waves), 4), np.nan)
    with pytest.raises(ValueError, match="NaN or infinite"):
        probe(encoder, corpus, "label")
    with pytest.raises(ValueError, match="without `embed`"):
        probe(object(), corpus, "label")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "`label` must name.*file, label, speaker"),
        ({"label": "nope"}, "No column 'nope'.*label, speaker, split"),
        ({"label": "label", "fold": "nope"}, "No column 'nope'"),
        ({"label": "label", "split": {"nope": {}}}, "No column 'nope'"),
        ({"label": "label", "where": "nope=1"}, "nope"),
        ({"label": "same"}, "one value 'x'.*2 classes"),
        ({"label": "label", "fold": "same"}, "'same' holds the one value"),
        ({"label": "label", "split": "speaker"}, "no row to train.*s0, s1"),
        ({"label": "file"}, "single one.*'0_0_0.wav'.*and 19 more"),
        ({"label": "label", "fold": "a", "split": "b"}, "one of.*fold, split"),
        ({"label": "label", "classifier": "svm"}, "logistic, knn"),
        ({"label": "label", "seen": "perhaps"}, "'seen unlabelled'"),
        ({"frames": "none.csv", "label": "phone"}, "none.csv"),
        ({"frames": "f.csv", "halves": True}, "`halves` is for clips"),
    ],
)
def test_wrong_arguments_say_what_is_there(corpus, options, message):
    with pytest.raises(ValueError, match=message):
        probe(BandEncoder(), corpus, **options)


def test_wrong_frame_tables_say_what_is_there(phones):
    folder = phones.parent
    for header, row, message in (
        (["file", "start", "end", "a"], ["00.wav", 0, 1, "x"], "one value 'x'"),
        (["file", "begin", "end", "a"], ["00.wav", 0, 1, "x"], "begin, end, a"),
        (["file", "start", "end", "a", "b"], ["00.wav", 0, 1, 2, 3], "'label'"),
    ):
        path = write_table(folder / "t.csv", header, [row])
        with pytest.raises(ValueError, match=message):
            probe(BandEncoder(), phones, frames=path)
    rows = [["00.wav", "0", "soon", "a"], ["00.wav", "1", "2", "b"]]
    path = write_table(folder / "t.csv", ["file", "start", "end", "a"], rows)
    with pytest.raises(ValueError, match=r"'end' of .* seconds.*soon"):
        probe(BandEncoder(), phones, frames=path)
    rows = [["00.wav", "0", "", "a"], ["00.wav", "1", "2", "b"]]
    path = write_table(folder / "t.csv", ["file", "start", "end", "a"], rows)
    with pytest.raises(ValueError, match="needs a start and an end"):
        probe(BandEncoder(), phones, frames=path)
    rows = [["zz.wav", "0", "1", "a"], ["zz.wav", "1", "2", "b"]]
    path = write_table(folder / "t.csv", ["file", "start", "end", "a"], rows)
    with pytest.raises(ValueError, match=r"none of the files.*'zz\.wav'"):
        probe(BandEncoder(), phones, frames=path)


def test_embeddings_are_computed_once(corpus):
    encoder, seen = BandEncoder(), []
    embeddings = Embeddings(encoder, lambda done, all_: seen.append(done))
    first = probe(embeddings, corpus, "label", fold="speaker")
    assert encoder.calls == 24 and seen == list(range(1, 25))
    second = probe(embeddings, corpus, "speaker", fold="label")
    assert encoder.calls == 24
    assert second.embedding_seconds < first.embedding_seconds
    probe(embeddings, corpus, "label", halves=True)
    assert encoder.calls == 24 * 5


def test_few_clips_in_memory_at_a_time(corpus, monkeypatch):
    module = "keras_audio_ssl.evaluation.embeddings"
    whole = probe(BandEncoder(), corpus, "label")
    monkeypatch.setattr(f"{module}.CHUNK_FILES", 5)
    assert probe(BandEncoder(), corpus, "label").per_fold == whole.per_fold
    monkeypatch.setattr(f"{module}.CHUNK_SAMPLES", 1000)
    assert probe(BandEncoder(), corpus, "label").per_fold == whole.per_fold
