"""`doctor` as a user runs it, on a folder with one file of each kind."""

import csv
import json
import os
import re
import sqlite3

import numpy as np
import pytest
import soundfile
import soxr

import keras_audio_ssl as kas
from keras_audio_ssl.doctor import files
from keras_audio_ssl.doctor import findings
from keras_audio_ssl.doctor.cache import FactsCache
from keras_audio_ssl.doctor.cache import cache_file
from tests.cli.test_cli import run

pytestmark = pytest.mark.no_backend

RATE = 16000


def wave(seed, seconds=1.0, level=0.1, rate=RATE):
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * (300 + 10 * seed) * t)
    return level * (tone + 0.3 * rng.standard_normal(len(t)))


def with_nan(wave):
    wave[50] = np.nan
    return wave


# Finding: the files that have it, with how they are made.
ODD = {
    "unreadable": ["text.wav", "empty.flac", "cut.wav", "song.m4a"],
    "nan": ["nan.wav"],
    "short": ["short.wav"],
    "silent": ["zero.wav", "quiet.wav"],
    "cancelled": ["opposite.wav", "nearly.wav"],
    "clipped": ["clipped.wav", "clipped low.wav"],
    "loud": ["loud.wav"],
    "dc": ["offset.wav"],
    "duplicate": ["z copy.flac"],
    "narrow": ["telephone.wav"],
    "mostly_silent": ["mostly.wav"],
    "odd_rate": ["telephone.wav", "rate.wav"],
    "odd_channels": ["opposite.wav", "nearly.wav", "six.wav"],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with 110 good files and those of `ODD`."""
    folder = tmp_path_factory.mktemp("doctor") / "my audio"
    (folder / "good").mkdir(parents=True)
    for k in range(110):
        soundfile.write(
            folder / "good" / f"{k:03}.wav", wave(k, 0.5 + k / 100), RATE
        )

    def write(name, samples, rate=RATE, **options):
        soundfile.write(folder / name, samples, rate, **options)

    (folder / "text.wav").write_text("no audio")
    (folder / "empty.flac").touch()
    (folder / "song.m4a").write_bytes(b"12345678")
    data = (folder / "good" / "003.wav").read_bytes()
    (folder / "cut.wav").write_bytes(data[:3000])
    write("nan.wav", with_nan(wave(200)), subtype="FLOAT")
    write("short.wav", wave(201, 0.05))
    write("zero.wav", np.zeros(9000))
    write("quiet.wav", wave(202, level=2e-4))
    write("opposite.wav", np.stack([wave(203), -wave(203)], 1))
    write("nearly.wav", np.stack([wave(220), -0.95 * wave(220)], 1))
    cut = np.clip(wave(204, level=3), -1, 1)
    write("clipped.wav", cut)
    write("clipped low.wav", 0.5 * cut[::-1])
    write("loud.wav", wave(205, level=9000), subtype="FLOAT")
    write("offset.wav", wave(206) + 0.05)
    good = soundfile.read(folder / "good" / "007.wav", dtype="int16")[0]
    write("z copy.flac", good)
    write("telephone.wav", soxr.resample(wave(207, 2, rate=8000), 8000, 44100),
          44100)  # fmt: skip
    write("mostly.wav", np.r_[wave(208), np.zeros(15 * RATE)])
    write("rate.wav", wave(209, rate=13000), 13000)
    write("six.wav", np.stack([wave(210 + k) for k in range(6)], 1))
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def decoded(monkeypatch):
    """Names of the files that were decoded, since it was last cleared."""
    names = []
    plain = files.open_audio

    def counted(path, *args, **kwargs):
        names.append(os.path.basename(path))
        return plain(path, *args, **kwargs)

    monkeypatch.setattr(files, "open_audio", counted)
    return names


def doctor(capsys, *argv, isolate=False):
    """The result of a run that succeeds."""
    more = [] if isolate else ["--no-isolate"]
    code, out, err = run(capsys, "doctor", *argv, *more, "--json")
    assert code == 0, err
    return json.loads(out)


def named(result):
    return {
        finding["kind"]: sorted({f["file"] for f in finding["files"]})
        for finding in result["findings"]
    }


def few(tmp_path, count=6):
    folder = tmp_path / "few"
    folder.mkdir()
    for k in range(count):
        soundfile.write(folder / f"{k}.wav", wave(k), RATE)
    return folder


def test_each_kind_is_found_and_nothing_else(made, capsys):
    result = doctor(capsys, made)
    assert named(result) == {k: sorted(v) for k, v in ODD.items()}
    assert result["files"] == 110 + len({f for v in ODD.values() for f in v})
    assert result["unreadable"] == 4
    # Unreadable, NaN, short, silent, cancelled.
    assert result["usable_clips"] == result["files"] - 4 - 1 - 1 - 2 - 2
    assert 0 < result["usable_hours"] < result["hours"]
    text = str(result["findings"])
    for words in ("z copy.flac", "same as good/007.wav", "truncated",
                  ".m4a cannot be decoded", "13,000 Hz"):  # fmt: skip
        assert words in text


def test_kinds_and_levels_are_those_of_the_table(made, capsys):
    result = doctor(capsys, made)
    for finding in result["findings"]:
        kind = findings.KINDS[finding["kind"]]
        assert finding["level"] == kind.severity in ("skipped", "check", "note")
        assert finding["advice"] == kind.advice
    order = [f["kind"] for f in result["findings"]]
    assert order == [kind for kind in findings.KINDS if kind in order]


def test_decoding_in_children_finds_the_same(made, tmp_path, capsys):
    here = doctor(capsys, made, "--no-cache")
    apart = doctor(capsys, made, "--no-cache", isolate=True)
    assert here == apart


def test_children_are_the_default(tmp_path, capsys, monkeypatch):
    asked = []
    plain = files.open_audio

    def noted(path, isolate):
        asked.append(isolate)
        return plain(path)

    monkeypatch.setattr(files, "open_audio", noted)
    folder = few(tmp_path)
    assert run(capsys, "doctor", folder, "--no-cache")[0] == 0
    assert asked == [True] * 6
    assert run(capsys, "doctor", folder, "--no-cache", "--no-isolate")[0] == 0
    assert asked[6:] == [False] * 6


def test_json_has_plain_values_of_the_same_shape(made, tmp_path, capsys):
    def shape(value):
        if isinstance(value, dict):
            return {k: shape(v) for k, v in value.items()}
        return type(value).__name__

    quantiles = dict.fromkeys(
        ("min", "p02", "p25", "median", "p75", "p98", "max"), "float"
    )
    want = {
        "source": "str", "files": "int", "clips": "int", "unreadable": "int",
        "usable_clips": "int", "hours": "float", "usable_hours": "float",
        "silent_share": "float", "seconds": quantiles, "level_db": quantiles,
        "bandwidth": quantiles, "rates": {"16000": "int"},
        "channels": {"1": "int"}, "formats": {"WAV PCM_16": "int"},
        "classes": {}, "folds": {}, "findings": "list", "advice": "list",
        "cached": "int",
    }  # fmt: skip
    assert shape(doctor(capsys, few(tmp_path))) == want
    # What JSON has no number for is never printed as one.
    code, out, _ = run(capsys, "doctor", made, "--no-isolate", "--json")
    json.loads(out, parse_constant=pytest.fail)


def manifest(folder, rows, columns="file,label,fold,source"):
    path = folder / "table.csv"
    path.write_text("\n".join([columns, *rows]) + "\n")
    return path


def test_leakage_across_folds(made, tmp_path, capsys):
    rows = [f"good/{k:03}.wav,{'ab'[k % 2]},{k % 2},r{k}" for k in range(20)]
    clean = doctor(capsys, manifest(made, rows))
    assert named(clean) == {}
    assert clean["folds"] == {"fold": {"0": 10, "1": 10}}
    assert clean["classes"] == {"a": 10, "b": 10}
    rows += [
        "z copy.flac,b,0,r99",  # the sound of 007.wav, which is in fold 1
        "good/050.wav,a,1,r2",  # the recording of 002.wav, in fold 0
        "good/007.wav,a,1,r7",  # the same file in the same fold
        "good/008.wav,a,1,r8",  # the same file in both folds
        "zero.wav,a,0,", "zero.wav,a,1,",  # silence leaks nothing
    ]  # fmt: skip
    result = doctor(capsys, manifest(made, rows), "--group", "source")
    found = named(result)
    assert found["leak"] == ["good/008.wav", "z copy.flac"]
    assert found["group_leak"] == ["good/008.wav", "good/050.wav"]
    assert found["contradiction"] == ["good/007.wav"]
    details = {
        (f["kind"], x["file"]): x["detail"]
        for f in result["findings"]
        for x in f["files"]
    }
    assert details["leak", "z copy.flac"] == "fold 0 and 1 (good/007.wav)"
    assert details["group_leak", "good/050.wav"].startswith("r2: fold 1 and 0")
    # Rows that are not taken leak nothing.
    only = doctor(capsys, manifest(made, rows), "--where", "fold=1")
    assert not {"leak", "group_leak"} & set(named(only))


def test_columns_that_are_named(made, capsys):
    rows = ["good/001.wav,x,1,anna", "good/002.wav,x,2,anna"]
    path = manifest(made, rows, "file,species,part,speaker")
    assert named(doctor(capsys, path)) == {}
    result = doctor(capsys, path, "--fold", "part", "--group", "speaker",
                    "--label", "species")  # fmt: skip
    assert named(result) == {"group_leak": ["good/002.wav"]}
    assert result["findings"][0]["title"] == "same speaker across part"
    assert result["classes"] == {"x": 2}


def test_parts_of_files(made, capsys):
    rows = ["good/050.wav,0.1,0.2", "good/050.wav,0.5,", "good/050.wav,0.9,2",
            "good/051.wav,,0.05"]  # fmt: skip
    result = doctor(capsys, manifest(made, rows, "file,start,end"))
    assert result["files"] == 2 and result["clips"] == 4
    # The file is 1.0 s long; short parts are what was asked for.
    assert named(result) == {"beyond": ["good/050.wav"]}
    assert result["usable_clips"] == 3
    assert result["hours"] * 3600 == pytest.approx(0.75, abs=1e-4)
    result = doctor(capsys, made / "table.csv", "--min-seconds", 0.08)
    assert named(result)["short"] == ["good/051.wav"]
    assert result["usable_clips"] == 2


def test_what_did_not_change_is_not_read_again(tmp_path, capsys, decoded):
    folder = few(tmp_path)
    (folder / "broken.wav").write_text("no audio")
    first = doctor(capsys, folder)
    assert len(decoded) == 7 and first["cached"] == 0
    decoded.clear()
    second = doctor(capsys, folder)
    # What failed may have been the disk.
    assert decoded == ["broken.wav"] and second["cached"] == 6
    assert {**second, "cached": 0} == first
    # Another size, the same size at another time, and a new name.
    soundfile.write(folder / "1.wav", wave(20, 1.5), RATE)
    soundfile.write(folder / "2.wav", wave(21), RATE)
    status = os.stat(folder / "2.wav")
    os.utime(folder / "2.wav", ns=(0, status.st_mtime_ns + 1))
    (folder / "3.wav").rename(folder / "new.wav")
    decoded.clear()
    third = doctor(capsys, folder)
    assert sorted(decoded) == ["1.wav", "2.wav", "broken.wav", "new.wav"]
    assert third["hours"] > first["hours"]
    decoded.clear()
    doctor(capsys, folder, "--no-cache")
    assert len(decoded) == 7


def test_an_interrupted_look_goes_on(tmp_path, capsys, monkeypatch):
    folder = few(tmp_path, 100)
    plain, calls = files.examine, []

    def interrupted(audio):
        calls.append(audio)
        if len(calls) == 70:
            raise KeyboardInterrupt
        return plain(audio)

    monkeypatch.setattr(files, "examine", interrupted)
    code, _, err = run(capsys, "doctor", folder, "--no-isolate",
                       "--workers", 1)  # fmt: skip
    assert code == 130 and "Interrupted" in err
    monkeypatch.setattr(files, "examine", plain)
    assert 40 < doctor(capsys, folder)["cached"] < 70


def damage_whole(path):
    path.write_bytes(b"no database" * 1000)


def damage_pages(path):
    data = bytearray(path.read_bytes())
    data[200:] = os.urandom(len(data) - 200)
    path.write_bytes(data)


def damage_records(path):
    with sqlite3.connect(path) as table:
        table.execute("UPDATE facts SET record = zeroblob(length(record))")
    table.close()


def damage_types(path):
    with sqlite3.connect(path) as table:
        table.execute("UPDATE facts SET record = 'text', crc = NULL")
    table.close()


@pytest.mark.parametrize(
    "damage", [damage_whole, damage_pages, damage_records, damage_types]
)
def test_a_damaged_cache_is_thrown_away(tmp_path, capsys, decoded, damage):
    folder = few(tmp_path)
    first = doctor(capsys, folder)
    damage(cache_file())
    decoded.clear()
    assert doctor(capsys, folder) == first
    assert len(decoded) == 6
    assert doctor(capsys, folder)["cached"] == 6


def test_a_cache_that_cannot_be_used_is_done_without(
    tmp_path, capsys, monkeypatch
):
    folder = few(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    code, out, err = run(capsys, "doctor", folder, "--no-isolate")
    assert code == 0 and "6 files" in out
    assert "nothing is kept for the next time" in err


def test_the_cache_is_its_users_alone(tmp_path, capsys):
    doctor(capsys, few(tmp_path))
    path = cache_file()
    modes = [p.stat().st_mode & 0o777 for p in (path.parent, path)]
    assert modes == [0o700, 0o600]
    # One that an earlier version left.
    path.chmod(0o644)
    FactsCache(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_processes_share_the_cache(tmp_path):
    path = tmp_path / "facts.sqlite3"
    record = bytes(files.RECORD.size)
    with FactsCache(path) as one, FactsCache(path) as two:
        one.put("a.wav", 1, 2, record)
        one.flush()
        two.put("b.wav", 1, 2, record)
        two.flush()
        assert one.get("b.wav", 1, 2) == two.get("a.wav", 1, 2) == record
        assert one.get("b.wav", 1, 3) is one.get("b.wav", 2, 2) is None
        assert one.trouble is two.trouble is None


def test_the_page(made, tmp_path, capsys):
    bad = tmp_path / "few" / "<img src=x onerror=alert(1)>&.wav"
    folder = few(tmp_path)
    soundfile.write(bad, wave(9) + 0.1, RATE)
    page = tmp_path / "report.html"
    code, out, err = run(
        capsys, "doctor", folder, "--no-isolate", "--output", page
    )
    assert code == 0 and str(page) in err
    text = page.read_text(encoding="utf-8")
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;.wav" in text
    assert "<img src=x" not in text and "<script" not in text
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    assert not re.findall(r"https?://", text)
    # Four at random and the one with an offset.
    assert text.count("<audio") == text.count("data:image/png") == 5
    assert "prefers-color-scheme: dark" in text and "DC offset" in text
    code, _, err = run(capsys, "doctor", folder, "--output", page)
    assert code == 2 and "--overwrite" in err
    assert page.read_text(encoding="utf-8") == text
    code, _, err = run(capsys, "doctor", made, "--no-isolate", "--output",
                       page, "--overwrite")  # fmt: skip
    other = page.read_text(encoding="utf-8")
    # Sixteen, less the one around a NaN.
    assert code == 0 and other.count("<audio") == 15
    for kind in ODD:
        assert findings.KINDS[kind].advice[:20] in other
    # An example of each kind that can be read, but for the one with NaN.
    chips = re.findall(r'<strong>[^<]*</strong><span class="chip[^>]*>([^<]*)',
                       other)  # fmt: skip
    assert chips.count("at random") == 4
    titles = {findings.KINDS[kind].title for kind in ODD}
    assert set(chips) - {"at random"} == titles - {
        "unreadable", "NaN or infinite"
    }  # fmt: skip


def test_the_table_is_a_manifest_of_what_is_good(made, tmp_path, capsys):
    path = tmp_path / "files.csv"
    result = doctor(capsys, made, "--csv", path)
    data = kas.data.from_manifest(path, 0.5, 8, where="usable=yes")
    assert data.num_clips == result["usable_clips"] and not data.skipped
    with open(path, newline="") as file:
        rows = {os.path.basename(r["file"]): r for r in csv.DictReader(file)}
    assert len(rows) == result["files"]
    for kind, names in ODD.items():
        for name in names:
            assert kind in rows[name]["problems"].split()
    assert rows["050.wav"]["usable"] == "yes"
    assert float(rows["050.wav"]["seconds"]) == 1.0
    assert rows["text.wav"]["usable"] == "no" and not rows["text.wav"]["dc"]


def test_the_table_keeps_the_columns_of_the_manifest(made, tmp_path, capsys):
    rows = ["good/001.wav,x,9,0.1,0.3", "good/001.wav,y,9,0.3,0.5"]
    table = manifest(made, rows, "file,species,channels,start,end")
    path = tmp_path / "files.csv"
    doctor(capsys, table, "--csv", path)
    with open(path, newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["species"], second["species"]) == ("x", "y")
    assert (first["channels"], first["found_channels"]) == ("9", "1")
    assert (second["start"], second["end"]) == ("0.3", "0.5")
    assert float(second["seconds"]) == pytest.approx(0.2)
    data = kas.data.from_manifest(path, where="usable=yes", batch_size=2)
    assert data.batch(0, 0)["lengths"].tolist() == [3200, 3200]


def test_the_summary_in_words(made, tmp_path, capsys):
    folder = few(tmp_path)
    soundfile.write(folder / "esc\x1b[2J.wav", wave(8) + 0.1, RATE)
    code, out, err = run(capsys, "doctor", folder, "--no-isolate")
    assert code == 0 and "\x1b" not in out and "esc\\x1b[2J.wav" in out
    assert "7 files" in out and "16 kHz, all" in out and "mono, all" in out
    assert "98 % of the usable clips last 1 s or longer" in out
    assert len(out.splitlines()) <= 25
    soundfile.write(folder / "short.wav", wave(8, 0.5), RATE)
    code, out, err = run(capsys, "doctor", folder, "--no-isolate")
    found = re.search(r"pretrain .* --seconds ([\d.]+) --output", out)
    assert 0.5 <= float(found[1]) < 1
    # Two crops of half a second of a clip would be one.
    joint = re.search(r"pretrain joint (.*) --output joint.keras", out)
    assert "--seconds" not in joint[1]
    assert "half of them 1 s" in out
    assert "7 of 8 files did not change" in err


def test_one_file(made, capsys):
    result = doctor(capsys, made / "offset.wav")
    assert named(result) == {"dc": ["offset.wav"]}


@pytest.mark.parametrize(
    "argv, words",
    [
        (["gone"], "gone"),
        (["few", "--output", "x.txt"], ".html"),
        (["few", "--csv", "x.html"], ".csv"),
        (["few", "--where", "a=b"], "--where"),
        (["few", "--workers", "0"], "--workers"),
        (["few", "--min-seconds", "-1"], "--min-seconds"),
        (["few", "--fold", "x"], "'x'"),
        (["empty"], "No audio"),
        (["table.csv", "--group", "speaker"], "'speaker'"),
        (["table.csv", "--where", "fold=7"], "fold=7"),
        (["table.csv", "--csv", "table.csv", "--overwrite"], "to be read"),
        (["none.csv"], "'file'"),
    ],
)
def test_wrong_arguments(tmp_path, capsys, monkeypatch, argv, words):
    monkeypatch.chdir(tmp_path)
    few(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.csv").write_text("file,fold\nfew/1.wav,1\n")
    (tmp_path / "none.csv").write_text("name,fold\nfew/1.wav,1\n")
    code, out, err = run(capsys, "doctor", *argv)
    assert code == 2 and not out
    assert words in err and "Traceback" not in err
    assert "fold\nfew" in (tmp_path / "table.csv").read_text()


def test_nothing_readable_is_a_failure(tmp_path, capsys):
    (tmp_path / "a.wav").write_text("no audio")
    (tmp_path / "b.wav").touch()
    code, out, err = run(capsys, "doctor", tmp_path, "--no-isolate")
    assert code == 1 and not out
    assert "none of the 2 files" in err and "a.wav: not readable" in err
