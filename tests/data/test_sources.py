import io
import os

import numpy as np
import pytest
import soundfile

from keras_audio_ssl.data import from_arrays
from keras_audio_ssl.data import from_folder
from keras_audio_ssl.data import from_huggingface
from keras_audio_ssl.data import from_manifest
from keras_audio_ssl.data import read_audio
from keras_audio_ssl.data import read_manifest
from keras_audio_ssl.data.clips.names import Names
from tests.data.test_audio import sound

pytestmark = pytest.mark.no_backend


def write(path, samples=1600, seed=0, channels=1, rate=16000):
    path.parent.mkdir(parents=True, exist_ok=True)
    form = {"wav": "WAV", "wave": "WAV"}.get(path.suffix[1:].lower())
    with open(path, "wb") as file:
        soundfile.write(
            file, sound(samples, seed, channels), rate,
            format=form or path.suffix[1:].upper(),
        )  # fmt: skip


def load(folder, **options):
    options = {"batch_size": 1, "drop_last": False, "shuffle": False, **options}
    return from_folder(folder, 0.05, **options)


def test_names():
    names = ["a/b.wav", "", "é音.wav", "caf\udce9.wav"]
    packed = Names(names)
    assert list(packed) == names and len(packed) == 4
    with pytest.raises(IndexError):
        packed[4]


def test_folder(tmp_path):
    good = [
        "a b.wav",
        "deep/er/é音.flac",
        "deep/new\nline.ogg",
        "LOUD.WAV",
        "x.mp3",
    ]
    for name in good:
        write(tmp_path / name)
    write(tmp_path / "many.wav", 30000, channels=8, rate=192000)
    write(tmp_path / ".hidden.wav")
    write(tmp_path / ".folder/a.wav")
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / "music.m4a").write_bytes(b"x" * 100)
    (tmp_path / "inside.wav").mkdir()
    write(tmp_path / "inside.wav/a.wav")
    data = load(tmp_path)
    expected = sorted([*good, "many.wav", "inside.wav/a.wav"])
    assert data.files == [os.path.join(tmp_path, name) for name in expected]
    assert dict(data.skipped) == {
        str(tmp_path / "inside.wav"): "a folder, not a file",
        str(tmp_path / "music.m4a"): ".m4a cannot be decoded: convert it to "
        "WAV, FLAC, OGG or MP3",
    }
    for step in range(len(data)):
        assert np.abs(data.batch(0, step)["waveform"]).max() > 0
    assert len(data.skipped) == 2


def test_links(tmp_path):
    folder = tmp_path / "data"
    write(folder / "a.wav")
    write(tmp_path / "elsewhere/b.wav")
    (folder / "link.wav").symlink_to(folder / "a.wav")
    (folder / "elsewhere").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    (tmp_path / "elsewhere/back").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")
    data = load(folder)
    names = [os.path.relpath(file, folder) for file in data.files]
    assert sorted(os.path.basename(name) for name in names) == [
        "a.wav",
        "b.wav",
        "link.wav",
    ]
    assert data.skipped == []


def test_extensions_and_max_files(tmp_path):
    for k in range(10):
        write(tmp_path / f"{k}.wav", seed=k)
    write(tmp_path / "x.flac")
    assert load(tmp_path, extensions=[".FLAC"]).num_clips == 1
    data = load(tmp_path, max_files=3)
    assert [os.path.basename(f) for f in data.files] == [
        "0.wav",
        "3.wav",
        "7.wav",
    ]


def test_no_folder(tmp_path):
    with pytest.raises(ValueError, match="No such folder: .*nowhere"):
        from_folder(tmp_path / "nowhere")
    (tmp_path / "m.csv").write_text("file\na.wav\n")
    with pytest.raises(ValueError, match="`from_manifest` reads CSV"):
        from_folder(tmp_path / "m.csv")
    with pytest.raises(ValueError, match=r"no file ends with \.wav, "):
        from_folder(tmp_path)


TABLE = """file,speaker,split,number
a/0.wav,ann,train,10
a/1.wav,bob,train,9
a/2.wav,cat,test,10
a/3.wav,ann,test,100
a/4.wav,bob,train,9
"""


@pytest.fixture
def manifest(tmp_path):
    for k in range(5):
        write(tmp_path / f"a/{k}.wav", seed=k)
    (tmp_path / "manifest.csv").write_text(TABLE)
    return tmp_path / "manifest.csv"


def labelled(manifest, label, **options):
    data = from_manifest(
        manifest, 0.05, 1, label=label, shuffle=False, **options
    )
    names = [os.path.basename(file)[0] for file in data.files]
    labels = [data.batch(0, s)[1].tolist()[0] for s in range(len(data))]
    assert labels == data.labels.tolist()
    return "".join(names), labels, data.classes


def test_manifest(manifest):
    assert labelled(manifest, "speaker") == (
        "01234",
        [0, 1, 2, 0, 1],
        ["ann", "bob", "cat"],
    )
    data = from_manifest(manifest, 0.05, 5, shuffle=False, crop="start")
    assert data.classes is None and data.labels is None
    np.testing.assert_array_equal(
        data.batch(0, 0)["waveform"][3],
        read_audio(manifest.parent / "a/3.wav")[:800],
    )
    assert data.batch(0, 0)["lengths"].tolist() == [800] * 5


def test_parts_of_a_manifest_agree_on_the_classes(manifest):
    names = ["ann", "bob", "cat"]
    where = "split=train"
    assert labelled(manifest, "speaker", where=where) == (
        "014",
        [0, 1, 1],
        names,
    )
    assert labelled(manifest, "speaker", where={"split": "test"}) == (
        "23",
        [2, 0],
        names,
    )
    # whole numbers are sorted by their value
    assert labelled(manifest, "number", where=["split=test"]) == (
        "23",
        [1, 2],
        ["9", "10", "100"],
    )
    mine = ["cat", "bob", "ann"]
    assert labelled(manifest, "speaker", classes=mine)[1:] == (
        [2, 1, 0, 2, 1],
        mine,
    )


@pytest.mark.parametrize(
    "where, kept",
    [
        (None, "01234"),
        ("speaker=ann", "03"),
        (["speaker=ann", "split=test"], "3"),
        (["speaker=ann", "speaker=cat"], "023"),
        ({"speaker": ["bob", "cat"], "split": "train"}, "14"),
        ({"number": 9}, "14"),
    ],
)
def test_where(manifest, where, kept):
    files = read_manifest(manifest, where)["file"]
    assert files == [f"a/{k}.wav" for k in kept]
    data = from_manifest(manifest, 0.05, 1, where=where)
    assert data.files == [str(manifest.parent / file) for file in files]


def test_read_manifest(manifest):
    table = read_manifest(manifest, columns=["number", "split"])
    assert table == {
        "number": ["10", "9", "10", "100", "9"],
        "split": ["train", "train", "test", "test", "train"],
    }
    text = TABLE.replace(",", ";").replace("\n", "\r\n")
    manifest.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_manifest(manifest, columns=["number", "split"]) == table


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"label": "language"},
            "No column 'language' in .* Its columns: file, speaker, split",
        ),
        ({"where": "language=de"}, "No column 'language' in .* Its columns"),
        ({"file": "path"}, "No column 'path' in .* Its columns: file"),
        ({"start": "begin"}, "No column 'begin'"),
        (
            {"where": "split=dev"},
            r"No row of .*split=dev.* split: \['test', 'train'\]",
        ),
        ({"where": "split"}, "`where` must be 'COLUMN=VALUE'.*'split'"),
        (
            {"label": "speaker", "classes": ["ann", "bob"]},
            r"line 4: label 'cat' is not one of classes=\['ann', 'bob'\]",
        ),
    ],
)
def test_wrong_manifest_arguments(manifest, options, message):
    with pytest.raises(ValueError, match=message):
        from_manifest(manifest, 0.05, 1, **options)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is empty"),
        ("name,split\na.wav,test\n", "No column 'file'.* name, split"),
        ("file\n", "has no rows"),
        ("file,a\nx.wav,1,2\n", "line 2: 3 values, expected 2"),
        ("file,start\nx.wav,soon\n", "line 2: times must be numbers"),
        ("file\nnone.wav\nnor.wav\n", "Nothing readable .* 2 skipped"),
        ("file\n\xff\n", "not a CSV table in UTF-8"),
    ],
)
def test_wrong_manifests(tmp_path, text, message):
    (tmp_path / "m.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        from_manifest(tmp_path / "m.csv", 0.05, 1)


def test_no_manifest(tmp_path):
    with pytest.raises(ValueError, match=r"No such manifest.*none\.csv"):
        from_manifest(tmp_path / "none.csv")


def test_rows_without_a_file(manifest):
    manifest.write_text(TABLE + ",ann,train,1\nmissing.wav,bob,test,2\n")
    data = from_manifest(manifest, 0.05, 1)
    assert data.num_clips == 5
    assert [reason for _, reason in data.skipped] == [
        "no file name",
        "No such file or directory",
    ]
    assert "line 7" in data.skipped[0][0]


def test_many_rows_of_one_file_are_one_look(manifest, monkeypatch):
    rows = "".join(f"a/{k % 5}.wav,0.0{k % 3},0.09\n" for k in range(300))
    manifest.write_text("file,start,end\n" + rows)
    looks = []
    from keras_audio_ssl.data.audio import AudioFile

    look = AudioFile._look
    monkeypatch.setattr(
        AudioFile, "_look", lambda self: looks.append(self) or look(self)
    )
    data = from_manifest(manifest, None, 10)
    for step in range(len(data)):
        data.batch(0, step)
    assert data.num_clips == 300 and len(looks) == 5


def test_arrays_at_another_rate():
    x = np.stack([sound(4410, seed)[:, 0] for seed in range(4)])
    data = from_arrays(
        x, list("bbca"), 16000, None, 4, input_rate=44100, shuffle=False
    )
    waves, y = data.batch(0, 0)
    assert waves["lengths"].tolist() == [1600] * 4
    assert y.tolist() == [1, 1, 2, 0] and data.classes == ["a", "b", "c"]


def test_broken_arrays_are_skipped():
    x = [np.zeros(100), np.full(100, np.nan), np.zeros(0), np.ones((3, 3, 3))]
    data = from_arrays(x, seconds=0.001, batch_size=1)
    assert data.num_clips == 1
    assert [name for name, _ in data.skipped] == [
        "array 1",
        "array 2",
        "array 3",
    ]
    assert data.skipped[1][1] == "no samples"
    assert "(3, 3, 3)" in data.skipped[2][1]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((np.zeros(9),), r"`x` must have the shape.*Received: \(9,\)"),
        ((np.zeros((2, 3, 4)),), r"Received: \(2, 3, 4\)"),
        ((7,), "Received: int"),
        ((np.zeros((4, 9)), [1, 2]), r"shape \(4,\).*Received: \(2,\)"),
        ((np.zeros((2, 9)), [0.5, 1.5]), "integers or names.*float64"),
        ((np.zeros((2, 9)), [-1, 1]), "0 to 1. Received: -1 to 1"),
        (([],), "No audio found"),
        ((np.full((2, 9), np.nan),), "Nothing readable in `x`: 2 skipped"),
    ],
)
def test_wrong_arrays(arguments, message):
    with pytest.raises(ValueError, match=message):
        from_arrays(*arguments, batch_size=1)


class Rows:
    """What `datasets.Dataset` looks like."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, k):
        if isinstance(k, str):
            return [row[k] for row in self.rows]
        return self.rows[k]


class Samples:
    data = np.full((2, 320), 0.25)
    sample_rate = 32000


class Decoder:
    def get_all_samples(self):
        return Samples()


def test_huggingface(tmp_path):
    write(tmp_path / "a.flac", 320)
    memory = io.BytesIO()
    soundfile.write(memory, sound(320, 1), 16000, format="OGG")
    array = sound(320, 2)[:, 0]
    rows = [
        {"array": array, "sampling_rate": 16000},
        {"bytes": memory.getvalue(), "path": None},
        {"bytes": None, "path": str(tmp_path / "a.flac")},
        str(tmp_path / "a.flac"),
        Decoder(),
        {"array": array * np.nan, "sampling_rate": 16000},
        {"nothing": 1},
        {"bytes": b"no sound", "path": "x.wav"},
    ]
    rows = [{"audio": a, "kind": k % 3} for k, a in enumerate(rows)]
    data = from_huggingface(
        Rows(rows), label="kind", batch_size=5, shuffle=False
    )
    x, y = data.batch(0, 0)
    assert x["lengths"].tolist() == [320, 320, 320, 320, 160]
    assert y.tolist() == [0, 1, 2, 0, 1] and data.classes == ["0", "1", "2"]
    np.testing.assert_array_equal(x["waveform"][0], array)
    np.testing.assert_array_equal(x["waveform"][2], x["waveform"][3])
    np.testing.assert_allclose(x["waveform"][4, 20:140], 0.25, atol=1e-3)
    with pytest.raises(IndexError):
        data.batch(0, 1)
    data = from_huggingface(
        Rows(rows), batch_size=4, shuffle=False, drop_last=False
    )
    data.batch(0, 1)
    skipped = dict(data.skipped)
    assert sorted(skipped) == ["row 5", "row 6", "row 7 (x.wav)"]
    assert "expected a dict with 'array'" in skipped["row 6"]


def test_huggingface_names_of_classes():
    rows = Rows([{"audio": Decoder(), "kind": k} for k in (1, 0, 1)])
    rows.column_names = ["audio", "kind"]
    rows.features = {"kind": type("ClassLabel", (), {"names": ["no", "yes"]})}
    data = from_huggingface(rows, label="kind", batch_size=1)
    assert data.classes == ["no", "yes"] and data.labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "rows, options, message",
    [
        (iter([1]), {}, "`__len__` and `__getitem__`.*iterator"),
        (Rows([]), {}, "no rows"),
        (Rows([{"sound": 1}]), {}, "No column 'audio'.*Its columns: sound"),
        (Rows([{"audio": 1}]), {"label": "y"}, "No column 'y'"),
        (Rows([{"audio": 1}]), {}, "Nothing readable .* row 0: column"),
    ],
)
def test_wrong_rows(rows, options, message):
    with pytest.raises(ValueError, match=message):
        from_huggingface(rows, batch_size=1, **options)
