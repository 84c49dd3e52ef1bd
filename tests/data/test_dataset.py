import csv
import logging
import os
import pickle
import threading

import numpy as np
import pytest
import soundfile

from keras_audio_ssl.data import from_arrays
from keras_audio_ssl.data import from_folder
from keras_audio_ssl.data import from_manifest
from keras_audio_ssl.data import read_audio
from keras_audio_ssl.data import resample
from keras_audio_ssl.data.audio import AudioFile
from tests.data.test_audio import REASONS
from tests.data.test_audio import broken
from tests.data.test_audio import sound

pytestmark = pytest.mark.no_backend


def ramp(samples, rate=1000):
    """A clip whose every sample tells where it lies."""
    return np.arange(1, samples + 1, dtype="float32") / 10000


def dataset(clips=20, samples=200, **options):
    """Clip k holds the value k + 1 throughout: batches tell their clips."""
    x = np.repeat(np.arange(1.0, clips + 1)[:, None], samples, axis=1)
    options = {"seconds": 0.05, "batch_size": 4, "seed": 1, **options}
    return from_arrays(x, sample_rate=1000, **options)


def clips(data, epoch):
    return [
        int(value)
        for step in range(len(data))
        for value in data.batch(epoch, step)["waveform"][:, 0]
    ]


@pytest.fixture
def folder(tmp_path):
    """Ten good files of 0.3 to 0.57 s."""
    for k in range(10):
        name = tmp_path / f"good{k}.wav"
        soundfile.write(name, sound(4800 + 480 * k, seed=k), 16000)
    return tmp_path


def test_batches(folder):
    data = from_folder(folder, seconds=0.25, batch_size=3)
    assert len(data) == 3 and data.num_clips == 10
    x = data.batch(0, 0)
    assert x["waveform"].shape == (3, 4000)
    assert x["waveform"].dtype == np.float32
    assert x["lengths"].dtype == np.int32
    assert x["lengths"].tolist() == [4000] * 3
    wholes = [read_audio(name, 16000) for name in data.files]
    views = [
        np.lib.stride_tricks.sliding_window_view(whole, 4000)
        for whole in wholes
    ]
    for wave in x["waveform"]:
        assert any((view == wave).all(axis=1).any() for view in views)


def test_short_clips_are_padded_with_zeros(folder):
    data = from_folder(folder, seconds=0.4, batch_size=10, shuffle=False)
    x = data.batch(0, 0)
    expected = [min(6400, 4800 + 480 * k) for k in range(10)]
    assert x["lengths"].tolist() == expected
    for wave, length, name in zip(
        x["waveform"], x["lengths"], data.files, strict=True
    ):
        assert not wave[length:].any() and wave[:length].any()
        if length < 6400:
            np.testing.assert_array_equal(wave[:length], read_audio(name))


def test_whole_clips_and_max_seconds(folder):
    data = from_folder(folder, batch_size=5, shuffle=False)
    sizes = [data.batch(0, s)["waveform"].shape[1] for s in range(2)]
    # four lengths an octave: 6720 and 9120 samples rounded up
    assert sizes == [7168, 10240]
    x = from_folder(
        folder, batch_size=5, shuffle=False, max_seconds=0.45
    ).batch(0, 1)
    assert x["waveform"].shape == (5, 7200)
    assert x["lengths"].tolist() == [7200] * 5


@pytest.mark.parametrize("crop", ["start", "center", "random"])
def test_crops(crop):
    data = from_arrays(
        [ramp(500), ramp(40)], sample_rate=1000, seconds=0.1, batch_size=2,
        shuffle=False, crop=crop,
    )  # fmt: skip
    starts = set()
    for epoch in range(40):
        x = data.batch(epoch, 0)
        begin = round(float(x["waveform"][0, 0]) * 10000) - 1
        np.testing.assert_array_equal(
            x["waveform"][0], ramp(500)[begin : begin + 100]
        )
        np.testing.assert_array_equal(x["waveform"][1, :40], ramp(40))
        starts.add(begin)
    if crop == "random":
        assert len(starts) > 20 and min(starts) < 60 and max(starts) > 340
    else:
        assert starts == {{"start": 0, "center": 200}[crop]}


def test_random_crops_reach_both_ends():
    data = from_arrays([ramp(12)], sample_rate=1000, seconds=0.01, batch_size=1)
    firsts = {
        round(float(data.batch(e, 0)["waveform"][0, 0]) * 1e4) - 1
        for e in range(60)
    }
    assert firsts == {0, 1, 2}


def test_epochs_are_permutations_that_differ():
    data = dataset()
    orders = [clips(data, epoch) for epoch in range(4)]
    assert all(sorted(order) == list(range(1, 21)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert clips(dataset(shuffle=False), 3) == list(range(1, 21))


def test_order_depends_on_the_seed_alone():
    first, second = dataset(), dataset(workers=0)
    assert clips(second, 2) == clips(first, 2)
    assert [clips(first, e) for e in (0, 2)] == [
        clips(dataset(), e) for e in (0, 2)
    ]
    assert clips(dataset(seed=2), 2) != clips(first, 2)


def test_order_is_fixed_for_all_versions():
    # a changed order would break runs that are to be resumed
    assert clips(dataset(), 0)[:6] == [4, 6, 3, 10, 8, 11]


def test_crops_do_not_depend_on_the_batch_size():
    x = [ramp(900 + k) for k in range(12)]
    make = lambda size: from_arrays(
        x, sample_rate=1000, seconds=0.1, batch_size=size
    )
    small, large = make(2), make(6)
    np.testing.assert_array_equal(
        np.concatenate([small.batch(1, s)["waveform"] for s in range(6)]),
        np.concatenate([large.batch(1, s)["waveform"] for s in range(2)]),
    )


def test_last_batch():
    assert len(dataset(clips=10)) == 2
    data = dataset(clips=10, drop_last=False)
    assert len(data) == 3
    assert data.batch(0, 2)["waveform"].shape == (2, 50)
    assert sorted(clips(data, 0)) == list(range(1, 11))


def test_crops_per_clip():
    data = dataset(clips=3, crops_per_clip=4, batch_size=6)
    assert len(data) == 2
    assert sorted(clips(data, 0)) == sorted([1, 2, 3] * 4)


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("size", [24, 25, 29])
def test_shards(size, drop_last):
    shards = [
        dataset(clips=size, shard=(k, 3), drop_last=drop_last) for k in range(3)
    ]
    assert len({len(data) for data in shards}) == 1
    seen = [clips(data, 1) for data in shards]
    together = sorted(sum(seen, []))
    if drop_last:
        assert len(together) == len(set(together)) == 24
    else:
        assert set(together) == set(range(1, size + 1))
        assert len(together) - size <= 2
    first = [clips(data, 0) for data in shards]
    assert first != seen


def test_items_and_iteration():
    data = dataset()
    np.testing.assert_array_equal(
        data[3]["waveform"], data.batch(0, 3)["waveform"]
    )
    data.start(2)
    seen = [x["waveform"][:, 0] for x in data]
    assert np.concatenate(seen).tolist() == clips(data, 2)
    assert data.epoch == 2
    for epoch, step in ((0, 5), (0, -1), (-1, 0)):
        with pytest.raises(IndexError, match="an epoch has 5 steps"):
            data.batch(epoch, step)


def test_pickle_and_threads():
    data = dataset()
    next(iter(data))
    copy = pickle.loads(pickle.dumps(data))
    assert clips(copy, 1) == clips(data, 1)
    got = {}

    def work(epoch):
        got[epoch] = clips(data, epoch)

    threads = [threading.Thread(target=work, args=(e,)) for e in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {e: clips(dataset(), e) for e in range(6)}


def test_resampling(folder):
    data = from_folder(
        folder, 0.2, 4, sample_rate=8000, crop="start", shuffle=False
    )
    x = data.batch(0, 0)["waveform"]
    whole = resample(read_audio(data.files[0]), 16000, 8000)
    np.testing.assert_allclose(x[0], whole[:1600], atol=1e-3)


# Files that are no sound are named, and others take their places.


@pytest.mark.parametrize("kind", [k for k in REASONS if "missing" not in k])
def test_a_broken_file_in_a_folder(folder, kind):
    path = broken(folder, kind)
    data = from_folder(folder, seconds=0.1, batch_size=4, drop_last=False)
    for epoch in range(2):
        for x in [data.batch(epoch, s) for s in range(len(data))]:
            assert len(x["waveform"]) in (4, 3, 2)
            assert np.isfinite(x["waveform"]).all()
            assert (x["lengths"] == 1600).all()
            assert (np.abs(x["waveform"]).max(axis=1) > 0).all()
    files = [file for file, _ in data.skipped]
    if kind == "flac-middle":
        # crops beside the damage are sound
        assert files in ([], [str(path)])
    else:
        assert files == [str(path)]
        assert REASONS[kind] in data.skipped[0][1]
        assert data.num_clips == 10


def test_all_broken_files_at_once(folder):
    paths = {
        str(broken(folder, kind))
        for kind in REASONS
        if kind not in ("wav-missing", "flac-middle")
    }
    data = from_folder(folder, seconds=0.1, batch_size=5)
    assert {file for file, _ in data.skipped} == paths
    assert len(data.skipped) == len(paths) > 20
    data.write_skipped(folder / "skipped.csv")
    with open(folder / "skipped.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["reason"]) for row in rows] == data.skipped
    assert sorted(os.listdir(folder))[-1] != "skipped.csv.tmp"


def test_skipped_names_are_quoted(folder):
    odd = 'a "b", c\nd.wav'
    (folder / odd).write_bytes(b"")
    data = from_folder(folder, seconds=0.1, batch_size=4)
    data.write_skipped(folder / "s.csv")
    with open(folder / "s.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["file", "reason"],
        [str(folder / odd), "empty file (0 bytes)"],
    ]


def test_nothing_skipped_gives_a_header_only(folder):
    data = from_folder(folder, seconds=0.1, batch_size=4)
    data.write_skipped(folder / "s.csv")
    assert (folder / "s.csv").read_text() == "file,reason\n"


def test_too_short(folder):
    data = from_folder(folder, seconds=0.1, batch_size=4, min_seconds=0.4)
    assert data.num_clips == 6 and len(data.skipped) == 4
    assert data.skipped[0] == (
        str(folder / "good0.wav"),
        "too short: 0.300 s, at least 0.4 s expected",
    )


def test_nothing_readable(tmp_path):
    for kind in ("wav-text", "flac-cut", "ogg-header_only", "mp3-empty"):
        broken(tmp_path, kind)
    with pytest.raises(ValueError) as caught:
        from_folder(tmp_path, seconds=0.1)
    message = str(caught.value)
    assert f"Nothing readable in {tmp_path}: 4 skipped" in message
    assert "truncated" in message and message.count(": ") > 4


def test_vanishing_files(folder):
    data = from_folder(folder, seconds=0.1, batch_size=5)
    expected = [data.batch(1, s)["waveform"] for s in range(2)]
    gone = [folder / "good3.wav", folder / "good7.wav"]
    for path in gone:
        path.unlink()
    got = [data.batch(1, s)["waveform"] for s in range(2)]
    changed = sum(
        not np.array_equal(a, b)
        for a, b in zip(
            np.concatenate(got), np.concatenate(expected), strict=True
        )
    )
    assert changed == 2
    assert {(f, "No such file" in r) for f, r in data.skipped} == {
        (str(path), True) for path in gone
    }
    again = [data.batch(1, s)["waveform"] for s in range(2)]
    np.testing.assert_array_equal(again, got)
    assert len(data.skipped) == 2


def test_a_file_that_shrinks(folder):
    data = from_folder(folder, seconds=0.1, batch_size=5)
    path = folder / "good9.wav"
    path.write_bytes(path.read_bytes()[:1000])
    for step in range(2):
        data.batch(0, step)
    assert [f for f, _ in data.skipped] in ([], [str(path)])
    for epoch in range(1, 8):
        for step in range(2):
            assert np.isfinite(data.batch(epoch, step)["waveform"]).all()
    assert [f for f, _ in data.skipped] == [str(path)]
    assert data.skipped[0][1].startswith("truncated: the header announces")


def test_everything_vanishes(folder):
    data = from_folder(folder, seconds=0.1, batch_size=5)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"Nothing readable.*No such file"):
        data.batch(0, 0)


def test_replacements_do_not_depend_on_when_a_file_was_found_broken(
    folder, monkeypatch
):
    # Beyond so many files they are looked at when their turn comes.
    monkeypatch.setattr("keras_audio_ssl.data.checks.CHECK_FILES", 5)
    for kind in ("wav-text", "flac-cut", "ogg-cut", "wav-nan"):
        broken(folder, kind)
    make = lambda: from_folder(folder, seconds=0.1, batch_size=7, seed=4)
    run, resumed = make(), make()
    assert run.num_clips == 14
    for epoch in range(3):
        for step in range(2):
            last = run.batch(epoch, step)["waveform"]
    np.testing.assert_array_equal(resumed.batch(2, 1)["waveform"], last)
    assert {"text.wav", "cut.flac", "cut.ogg"} <= {
        os.path.basename(file) for file, _ in run.skipped
    }


@pytest.mark.parametrize("crop", ["random", "start", "center"])
def test_a_whole_pass(crop):
    data = dataset(clips=13, samples=200, crop=crop, repeat=True)
    view = data.whole()
    assert (len(data), len(view), view.num_batches) == (3, 4, 4)
    assert data.num_batches is None and data.crop == crop
    for epoch in range(2):
        assert clips(view, epoch) == list(range(1, 14))
    assert view.crop == ("start" if crop == "start" else "center")
    assert clips(data, 1) == clips(dataset(clips=13, crop=crop), 1)
    assert len(list(view)[-1]["waveform"]) == 1 and not view._loader.pending
    assert clips(view.whole(), 0) == clips(view, 0)


def test_a_whole_pass_crops_in_the_middle():
    data = from_arrays([ramp(500)] * 3, None, 1000, 0.1, 2, crops_per_clip=5)
    x = [row for batch in data.whole() for row in batch["waveform"]]
    np.testing.assert_array_equal(x, [ramp(500)[200:300]] * 3)


def test_a_whole_pass_of_each_shard():
    views = [dataset(clips=13, shard=(k, 2)).whole() for k in range(2)]
    seen = [clips(view, 0) for view in views]
    assert seen[0] == list(range(1, 14, 2))
    assert set(seen[1]) == set(range(2, 14, 2))


def test_a_whole_pass_shares_threads_and_what_was_skipped(folder):
    data = from_folder(folder, seconds=0.1, batch_size=3)
    view = data.whole()
    (folder / "good4.wav").unlink()
    before = threading.active_count()
    assert sum(len(x["lengths"]) for x in view) == 10
    list(data)
    assert threading.active_count() <= before + data.threads
    assert [os.path.basename(name) for name, _ in data.skipped] == ["good4.wav"]
    assert view.skipped == data.skipped
    data.start(4)
    assert (view.epoch, data.epoch) == (0, 4)


def test_labels_go_with_the_replacement():
    x = [np.full(60, k / 100) for k in range(10)]
    x[3][:] = np.nan

    class Lazy:
        def __len__(self):
            return len(x)

        def __getitem__(self, k):
            return x[k]

    data = from_arrays(Lazy(), np.arange(10), 1000, 0.05, 10, crop="start")
    x_, y = data.batch(0, 0)
    np.testing.assert_allclose(x_["waveform"][:, 0], y / 100)
    assert 3 not in y and len(y) == 10
    assert data.skipped == [("array 3", "NaN or infinite sample at 0.00 s")]


def test_skipping_is_logged(folder, caplog):
    for k in range(15):
        (folder / f"bad{k:02}.wav").write_bytes(b"")
    with caplog.at_level(logging.WARNING, "keras_audio_ssl"):
        from_folder(folder, seconds=0.1, batch_size=4)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 11
    assert lines[0] == f"skipped {folder / 'bad00.wav'}: empty file (0 bytes)"
    assert "dataset.skipped" in lines[-1]


def test_only_the_crops_are_decoded(tmp_path, monkeypatch):
    for k in range(4):
        soundfile.write(tmp_path / f"{k}.flac", sound(16000 * 20, k), 16000)
    data = from_folder(tmp_path, seconds=0.5, batch_size=4)
    data.batch(0, 0)
    read = []
    decode = AudioFile._decode

    def counted(self, start, frames):
        wave = decode(self, start, frames)
        read.append(len(wave))
        return wave

    monkeypatch.setattr(AudioFile, "_decode", counted)
    data.batch(1, 0)
    assert read == [8000] * 4


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_threads_and_files_stay_few(folder):
    data = from_folder(folder, seconds=0.1, batch_size=5)
    for _ in range(3):
        list(data)
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        list(data)
    assert threading.active_count() <= threads
    assert len(os.listdir("/proc/self/fd")) <= files + 4


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("batch_size", 0, "a whole number, 1 or more"),
        ("batch_size", 2.5, "a whole number, 1 or more"),
        ("batch_size", "8", "a whole number, 1 or more"),
        ("seed", None, "a whole number, 0 or more"),
        ("seed", 2**64, "less than 2**64"),
        ("seconds", "1", "must be positive"),
        ("shard", 3, "0 <= index < count"),
        ("seconds", 0, "must be positive"),
        ("seconds", -1.0, "must be positive"),
        ("max_seconds", 0.0, "must be positive"),
        ("sample_rate", 0, "1 or more"),
        ("seed", -1, "0 or more"),
        ("workers", -1, "0 or more"),
        ("min_seconds", -0.1, "not be negative"),
        ("crop", "middle", "'random', 'start' or 'center'"),
        ("shard", (2, 2), r"0 <= index < count"),
        ("crops_per_clip", 0, "1 or more"),
        ("max_files", 0, "must be positive"),
    ],
)
def test_wrong_arguments(folder, name, value, expected):
    with pytest.raises(ValueError) as caught:
        from_folder(folder, **{"batch_size": 2, name: value})
    assert f"`{name}`" in str(caught.value)
    assert f"{name}={value!r}" in str(caught.value)
    assert expected in str(caught.value)


def test_batch_larger_than_the_data(folder):
    with pytest.raises(ValueError, match="`batch_size=64` is more than the 10"):
        from_folder(folder, seconds=0.1)
    with pytest.raises(ValueError, match="clips of .* on 3 hosts"):
        from_folder(folder, seconds=0.1, batch_size=4, shard=(0, 3))


def test_start_out_of_range():
    for epoch, step in ((-1, 0), (0, 6), (0, -1)):
        with pytest.raises(ValueError, match=f"epoch={epoch}, step={step}"):
            dataset().start(epoch, step)


def test_manifest_of_segments(folder):
    (folder / "m.csv").write_text(
        "file,start,end,phone\n"
        "good9.wav,0.1,0.2,a\n"
        "good9.wav,0.2,0.35,b\n"
        "good8.wav,,0.05,a\n"
        "good8.wav,0.5,,c\n"
        "good8.wav,0.3,0.3,c\n"
        "good8.wav,0.5,9.0,c\n"
    )
    data = from_manifest(
        folder / "m.csv", None, 5, label="phone", shuffle=False
    )
    assert len(data.skipped) == 1 and "line 6" in data.skipped[0][0]
    x, y = data.batch(0, 0)
    ends = [1600, 2400, 800, 640]
    assert x["lengths"][:4].tolist() == ends
    assert y[:4].tolist() == [0, 1, 0, 2]
    whole = read_audio(folder / "good9.wav")
    np.testing.assert_array_equal(x["waveform"][1, :2400], whole[3200:5600])
    assert "beyond the end" in data.skipped[1][1]
