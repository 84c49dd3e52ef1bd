import os
import pickle
import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from keras_audio_ssl._files import cache_folder
from keras_audio_ssl.data import builders
from keras_audio_ssl.data import from_folder
from keras_audio_ssl.data import from_manifest
from keras_audio_ssl.data.clips import files
from keras_audio_ssl.data.clips import index
from keras_audio_ssl.data.clips import manifest as manifest_module
from keras_audio_ssl.data.clips.manifest import scan_manifest
from tests.data.test_sources import write

pytestmark = pytest.mark.no_backend

TABLE = "file,start,end,kind,split\n" + "".join(
    f"é{k % 12:02}.wav,{0.01 * (k % 3)},{'' if k % 2 else 0.09},"
    f"{'dog cat owl'.split()[k % 3]},{'test' if k % 5 else 'train'}\n"
    for k in range(30)
)


@pytest.fixture(autouse=True)
def many_are_few(tmp_path, monkeypatch):
    """More than five files are many; the cache is the test's own."""
    monkeypatch.setattr("keras_audio_ssl.data.checks.CHECK_FILES", 5)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def manifest(tmp_path):
    for k in range(12):
        write(tmp_path / f"é{k:02}.wav", seed=k)
    (tmp_path / "é03.wav").write_bytes(b"")
    (tmp_path / "é05.wav").unlink()
    (tmp_path / "manifest.csv").write_text(
        TABLE + ",0,1,dog,test\né01.wav,0.5,0.2,dog,test\n", encoding="utf-8"
    )
    return tmp_path / "manifest.csv"


def load(path, label="kind", **options):
    options = {"batch_size": 4, "seed": 3, **options}
    return from_manifest(path, 0.05, label=label, **options)


def same(data, other):
    assert data.files == other.files and data.num_clips > 0
    np.testing.assert_array_equal(data._clips.rows, other._clips.rows)
    np.testing.assert_array_equal(data._clips.spans, other._clips.spans)
    np.testing.assert_array_equal(data.labels, other.labels)
    assert data.classes == other.classes
    assert data.skipped == other.skipped
    assert data.signature() == other.signature()
    assert list(data.contents()) == list(other.contents())
    for step in range(len(data)):
        x, y = data.batch(1, step), other.batch(1, step)
        if data.labels is not None:
            (x, labels), (y, others) = x, y
            np.testing.assert_array_equal(labels, others)
        np.testing.assert_array_equal(x["waveform"], y["waveform"])
        np.testing.assert_array_equal(x["lengths"], y["lengths"])


def index_files(tmp_path):
    return sorted((tmp_path / "cache/keras_audio_ssl").rglob("*.index"))


@pytest.fixture
def no_scan(monkeypatch):
    """From here on a table that is read, or a file that is looked at, fails."""

    def begin():
        def fail(*_, **__):
            raise AssertionError("looked anew")

        monkeypatch.setattr(builders, "scan_manifest", fail)
        monkeypatch.setattr(files, "weigh", fail)

    return begin


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"label": None},
        {"where": "split=test"},
        {"where": ["kind=dog", "kind=owl"]},
        {"classes": ["owl", "dog", "cat", "cow"]},
        {"max_files": 9},
        {"start": "start", "end": "end", "min_seconds": 0.02},
        {"label_fraction": 0.4},
    ],
)
def test_the_second_start_gives_the_same(manifest, tmp_path, no_scan, options):
    first = load(manifest, **options)
    (path,) = index_files(tmp_path)
    no_scan()
    again = load(manifest, **options)
    same(again, first)
    assert [path] == index_files(tmp_path)
    names = [os.path.basename(file) for file, _ in first.skipped]
    assert {"é03.wav", "é05.wav"} <= set(names)
    assert any("line 32" in name for name in names)


def test_clips_without_label_are_kept_so(manifest, tmp_path, no_scan):
    text = TABLE.replace("dog", "").replace("cat", "-1")
    manifest.write_text(text, encoding="utf-8")
    first = load(manifest, unlabelled=True)
    owls = [k for k in range(30) if k % 3 == 2 and k % 12 not in (3, 5)]
    assert first.classes == ["owl"]
    assert sorted(np.unique(first.labels)) == [-1, 0]
    assert (first.labels == 0).sum() == len(owls)
    (path,) = index_files(tmp_path)
    no_scan()
    same(load(manifest, unlabelled=True), first)
    path.write_bytes(forged(path.read_bytes(), labels=with_first(-2)))
    with pytest.raises(AssertionError, match="looked anew"):
        load(manifest, unlabelled=True)


def test_a_column_without_any_label_is_refused_each_time(manifest, caplog):
    text = TABLE.replace("dog", "").replace("cat", "-1").replace("owl", " ")
    manifest.write_text(text, encoding="utf-8")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"None of the \d+ clips of .*"):
            load(manifest, unlabelled=True)
    assert "thrown away" not in caplog.text


def test_many_files_are_looked_at_as_few_are(manifest, monkeypatch):
    many = load(manifest)
    monkeypatch.setattr("keras_audio_ssl.data.checks.CHECK_FILES", 100)
    few = load(manifest)
    assert sorted(many.skipped) == sorted(few.skipped)
    # A run may go on where the bound lies elsewhere.
    assert many.signature() == few.signature()


def test_few_files_are_looked_at_each_time(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_audio_ssl.data.checks.CHECK_FILES", 12)
    data = load(manifest)
    assert index_files(tmp_path) == []
    write(tmp_path / "é00.wav", 3200)
    assert load(manifest).signature() != data.signature()


def test_a_changed_table_is_read_anew(manifest, tmp_path):
    first = load(manifest)
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text + "é00.wav,,,cat,test\n", encoding="utf-8")
    assert load(manifest).num_clips == first.num_clips + 1
    # The same size, another time.
    manifest.write_text(text.replace("owl", "cow"), encoding="utf-8")
    status = manifest.stat()
    os.utime(manifest, ns=(status.st_atime_ns, status.st_mtime_ns + 10**7))
    assert load(manifest).classes == ["cat", "cow", "dog"]
    assert len(index_files(tmp_path)) == 1


def test_touching_the_table_looks_at_the_files_anew(manifest, tmp_path):
    first = load(manifest)
    (tmp_path / "é07.wav").unlink()
    stale = load(manifest)
    assert stale.num_clips == first.num_clips
    for step in range(len(stale)):
        stale.batch(0, step)
    assert (str(tmp_path / "é07.wav"), "No such file or directory") in (
        stale.skipped
    )
    os.utime(manifest, ns=(1, 1))
    assert load(manifest).num_clips < first.num_clips


@pytest.mark.parametrize(
    "options",
    [
        {"where": "split=test"},
        {"label": "split"},
        {"label": None},
        {"classes": ["owl", "dog", "cat"]},
        {"max_files": 8},
        {"unlabelled": True},
        {"start": "end", "end": "start"},
    ],
)
def test_other_options_are_another_table(manifest, tmp_path, options):
    load(manifest)
    before = index_files(tmp_path)
    load(manifest, **options)
    assert len(before) == 1 and len(index_files(tmp_path)) == 2


def test_conditions_that_can_be_read_once(manifest):
    first = load(manifest, where=iter(["kind=dog", "kind=cat"]))
    same(load(manifest, where=["kind=cat", "kind=dog"]), first)


def test_the_path_as_it_was_given(manifest, tmp_path, monkeypatch):
    load(manifest)
    monkeypatch.chdir(tmp_path)
    data = load("manifest.csv")
    assert data.files[0] == "é00.wav"
    same(load("manifest.csv"), data)


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def damages():
    """Name and function of what may be wrong with the bytes of an index."""
    size = index.HEAD.size
    yield "empty", lambda old, trap: b""
    yield "half a head", lambda old, trap: old[: size // 2]
    yield "a head alone", lambda old, trap: old[:size]
    yield "cut", lambda old, trap: old[:-1]
    yield "longer", lambda old, trap: old + b"\0"
    yield "another kind", lambda old, trap: b"X" + old[1:]
    for at in (size, size + 100, len(index.MAGIC) + 33):
        yield (
            f"a bit at {at}",
            lambda old, trap, at=at: (
                old[:at] + bytes([old[at] ^ 4]) + old[at + 1 :]
            ),
        )
    yield "pickle", lambda old, trap: pickle.dumps(Bomb(trap))
    yield "object array", lambda old, trap: object_array(trap)


def object_array(trap):
    import io

    memory = io.BytesIO()
    np.savez(memory, text=np.array([Bomb(trap)], object), allow_pickle=True)
    return memory.getvalue()


@pytest.mark.parametrize(
    "damage", [pytest.param(d, id=n) for n, d in damages()]
)
def test_a_damaged_index_is_thrown_away(manifest, tmp_path, damage, caplog):
    first = load(manifest)
    (path,) = index_files(tmp_path)
    good = path.read_bytes()
    path.write_bytes(damage(good, tmp_path / "trap"))
    assert path.read_bytes() != good
    same(load(manifest), first)
    assert not (tmp_path / "trap").exists()
    assert "thrown away" in caplog.text
    assert path.read_bytes() == good


def forged(good, **changed):
    """The index with other arrays, counts and check sum put right."""
    head, body = good[: index.HEAD.size], good[index.HEAD.size :]
    magic, key, _, *counts = index.HEAD.unpack(head)
    arrays, at = {}, 0
    for (name, kind), count in zip(index.TYPES.items(), counts, strict=True):
        arrays[name] = np.frombuffer(body, kind, count, at)
        at += arrays[name].nbytes
    for name, change in changed.items():
        arrays[name] = np.asarray(change(arrays[name]), index.TYPES[name])
    check = 0
    for array in arrays.values():
        check = zlib.crc32(array.tobytes(), check)
    head = index.HEAD.pack(magic, key, check, *map(len, arrays.values()))
    return head + b"".join(a.tobytes() for a in arrays.values())


def with_first(value):
    return lambda a: np.concatenate([[value], a[1:]])


@pytest.mark.parametrize(
    "changed",
    [
        {"rows": with_first(-1)},
        {"rows": with_first(10**6)},
        {"rows": lambda a: a[:-1]},
        {"rows": lambda a: a[:0]},
        {"ends": with_first(-5)},
        {"ends": with_first(10**9)},
        {"ends": lambda a: a[::-1]},
        {"ends": lambda a: a[:0]},
        {"text": lambda a: a[:-1]},
        {"sizes": lambda a: a[:-1]},
        {"spans": lambda a: a[:-2]},
        {"labels": with_first(3)},
        {"labels": with_first(-1)},
        {"labels": lambda a: a[:0]},
        {"class_ends": lambda a: a[:-1]},
        {"skipped_ends": lambda a: a[1:]},
        {"skipped_text": lambda a: a[1:]},
    ],
)
def test_arrays_that_do_not_fit_are_thrown_away(
    manifest, tmp_path, changed, caplog
):
    first = load(manifest)
    (path,) = index_files(tmp_path)
    good = path.read_bytes()
    assert forged(good) == good
    path.write_bytes(forged(good, **changed))
    same(load(manifest), first)
    assert "thrown away" in caplog.text
    assert path.read_bytes() == good


@pytest.mark.parametrize("count", [-1, 2**40, 2**62])
def test_counts_are_believed_only_if_the_file_is_as_long(
    manifest, tmp_path, count
):
    first = load(manifest)
    (path,) = index_files(tmp_path)
    good = path.read_bytes()
    at = index.HEAD.size - 8 * len(index.TYPES)
    path.write_bytes(good[:at] + struct.pack("<q", count) + good[at + 8 :])
    same(load(manifest), first)
    assert path.read_bytes() == good


def test_without_a_cache_folder(manifest, tmp_path, caplog, monkeypatch):
    (tmp_path / "cache").write_text("a file, not a folder")
    first = load(manifest)
    assert "the next start will take as long" in caplog.text
    same(load(manifest), first)
    monkeypatch.setattr(index, "cache_folder", lambda: None)
    same(load(manifest), first)


def test_it_is_its_users_alone(manifest, tmp_path):
    own = tmp_path / "cache/keras_audio_ssl"
    own.mkdir(parents=True, mode=0o755)
    load(manifest)
    [path] = own.rglob("*.index")
    modes = [p.stat().st_mode & 0o777 for p in (own, path.parent, path)]
    assert modes == [0o700, 0o700, 0o600]


def test_cache_folder(tmp_path, monkeypatch):
    assert cache_folder() == tmp_path / "cache/keras_audio_ssl"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for value in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder() == tmp_path / "home/.cache/keras_audio_ssl"


def test_a_folder_of_many_files(tmp_path, monkeypatch):
    for k in range(8):
        write(tmp_path / f"audio/{k}.wav", seed=k)
    (tmp_path / "audio/empty.wav").write_bytes(b"")
    (tmp_path / "audio/gone.wav").symlink_to(tmp_path / "nowhere")
    opened = []
    monkeypatch.setattr(
        files,
        "sniff",
        lambda p, old=files.sniff: opened.append(p) or old(p),
    )
    data = from_folder(tmp_path / "audio", 0.05, 4)
    assert data.num_clips == 8
    assert [reason for _, reason in data.skipped][0] == "empty file (0 bytes)"
    assert [os.path.basename(p) for p in opened] == ["empty.wav", "gone.wav"]
    size = (tmp_path / "audio/0.wav").stat().st_size
    assert list(data.contents()) == [
        (str(tmp_path / f"audio/{k}.wav"), size) for k in range(8)
    ]


def test_names_with_one_hash_are_told_apart():
    class Same(str):
        def __hash__(self):
            return 7

    numbers = manifest_module._Numbers()
    names = [Same(name) for name in "abcabcda"]
    assert [numbers.number(n) for n in names] == [0, 1, 2, 0, 1, 2, 3, 0]
    assert list(numbers.names) == list("abcd")


def test_memory_of_a_scan_does_not_grow_with_the_names(tmp_path):
    """A row costs its name and some numbers, not a Python object of each."""
    rows = 50_000
    below = "a/rather/long/folder/as/they/are/in/large/collections" * 2
    with open(tmp_path / "m.csv", "w") as file:
        file.write("file,start,end,label\n")
        for k in range(rows):
            file.write(f"{below}/{k:08}.wav,0.0,1.5,{k % 7}\n")
    tracemalloc.start()
    try:
        clips, skipped = scan_manifest(tmp_path / "m.csv", label="label")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(clips) == rows and not skipped
    name = len(below) + 13
    assert most < rows * (2 * name + 220)
