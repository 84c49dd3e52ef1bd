"""Commands as a user gives them, in this process."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import keras
import numpy as np
import pytest
import soundfile

import keras_audio_ssl as kas
from keras_audio_ssl import _long_clips
from keras_audio_ssl import _text
from keras_audio_ssl.cli import main
from keras_audio_ssl.cli.vector_journal import VectorJournal
from keras_audio_ssl.data.isolation import opening
from keras_audio_ssl.methods import METHODS
from keras_audio_ssl.runs import pretraining as pretrain
from keras_audio_ssl.runs.progress import Progress


def run(capsys, *argv):
    """Exit code, standard output, standard error."""
    try:
        code = main([str(a) for a in argv])
    except SystemExit as stop:
        code = stop.code
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    """A folder with eight clips of two kinds, and three broken files."""
    folder = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    lines = ["file,kind,speaker"]
    t = np.arange(20000) / 16000
    for i in range(12):
        wave = 0.3 * np.sin(2 * np.pi * (300 + 900 * (i % 2)) * t)
        wave += 0.01 * rng.standard_normal(len(t))
        soundfile.write(folder / f"clip {i}.wav", wave, 16000)
        lines.append(f"clip {i}.wav,{'ab'[i % 2]},{i // 4}")
    (folder / "text.wav").write_text("no audio")
    (folder / "empty.flac").touch()
    soundfile.write(folder / "nan.wav", np.full(9000, np.nan), 16000, "FLOAT")
    lines += ["text.wav,a,0", "gone.wav,b,1"]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def trained(audio, tmp_path_factory):
    """A finished run: the path of its encoder."""
    output = tmp_path_factory.mktemp("run") / "cola.keras"
    code = main(
        ["pretrain", "cola", "--data", str(audio), "--preset", "tiny",
         "--steps", "4", "--batch-size", "4", "--checkpoint-every", "2",
         "--output", str(output), "--json"]
    )  # fmt: skip
    assert code == 0
    return output


def test_help_and_version(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0 and "pretrain" in out and "embed" in out
    code, out, _ = run(capsys, "--version")
    assert (code, out.strip()) == (0, kas.__version__)
    code, out, _ = run(capsys, "pretrain", "--help")
    assert code == 0 and "--resume" in out


def test_list(capsys):
    code, out, _ = run(capsys, "list", "--json")
    found = json.loads(out)
    assert code == 0
    assert {"cola", "byol_a", "apc"} <= set(found["methods"])
    assert "apc_s3prl" in found["formats"]
    assert "byol_a" in run(capsys, "list")[1]


def test_a_run_leaves_its_folder(trained):
    folder = trained.with_suffix(".run")
    assert kas.load_encoder(trained).sample_rate == 16000
    config = json.loads((folder / "config.json").read_text())
    assert config["method"] == "cola" and config["steps"] == 4
    assert config["versions"]["keras"] and config["seed"] == 0
    rows = (folder / "history.csv").read_text().splitlines()
    assert rows[0].startswith("step,loss,")
    assert [r.split(",")[0] for r in rows[1:]] == ["1", "2", "3", "4"]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["steps"] == 4 and metrics["clips_per_second"] > 0
    skipped = (folder / "skipped.csv").read_text()
    for name in ("text.wav", "empty.flac", "nan.wav"):
        assert name in skipped
    names = sorted(p.name for p in (folder / "checkpoints").iterdir())
    assert names == ["step_000000002.keras", "step_000000004.keras"]


def test_a_second_run_is_refused_and_a_resumed_one_goes_on(
    trained, audio, capsys
):
    argv = ["pretrain", "cola", "--data", audio, "--preset", "tiny",
            "--batch-size", "4", "--output", trained]  # fmt: skip
    code, _, err = run(capsys, *argv, "--steps", 4)
    assert code == 2 and "--resume" in err and "--overwrite" in err
    code, _, err = run(
        capsys, *argv, "--steps", 6, "--resume", "--set", "noise=0.5"
    )
    assert code == 2 and "settings" in err
    code, out, _ = run(capsys, *argv, "--steps", 6, "--resume", "--json")
    result = json.loads(out)
    assert code == 0 and (result["steps"], result["resumed_at"]) == (6, 4)
    rows = (trained.with_suffix(".run") / "history.csv").read_text()
    assert rows.splitlines()[-1].startswith("6,")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_run_goes_on_to_the_bit(
    audio, tmp_path, capsys, monkeypatch, number, heeding_ctrl_c
):
    argv = ["pretrain", "cola", "--data", audio, "--preset", "tiny",
            "--batch-size", "4", "--steps", 5]  # fmt: skip
    assert run(capsys, *argv, "--output", tmp_path / "whole.keras")[0] == 0
    advance = Progress.advance

    def sent(self, *args, **kwargs):
        advance(self, *args, **kwargs)
        if self.done == 3:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Progress, "advance", sent)
    before = signal.getsignal(number)
    code, _, err = run(capsys, *argv, "--output", tmp_path / "cut.keras")
    assert code == 1 and "after step 3" in err and "--resume" in err
    assert signal.getsignal(number) == before
    monkeypatch.setattr(Progress, "advance", advance)
    code, _, err = run(
        capsys, *argv, "--output", tmp_path / "cut.keras", "--resume"
    )
    assert code == 0
    whole, cut = (
        kas.load_encoder(tmp_path / f"{n}.keras") for n in ("whole", "cut")
    )
    for a, b in zip(whole.weights, cut.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_a_process_that_was_asked_to_stop_ends(audio, tmp_path):
    # Reading ahead and the end of Python once waited for each other.
    output = tmp_path / "x.keras"
    argv = ["pretrain", "cola", "--data", audio, "--preset", "tiny",
            "--batch-size", "4", "--steps", 100_000, "--checkpoint-every", 1,
            "--output", output]  # fmt: skip
    with open(tmp_path / "log", "w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "keras_audio_ssl", *map(str, argv)],
            stdout=log,
            stderr=log,
        )
        try:
            while not list(output.with_suffix(".run").glob("*/step_*.keras")):
                assert process.poll() is None
                time.sleep(0.1)
            process.terminate()
            assert process.wait(timeout=120) == 1
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        assert "--resume" in log.read().splitlines()[-1]


def test_a_resumed_run_is_the_run_that_was_never_stopped(audio, tmp_path):
    def go(name, steps, *more):
        code = main(
            ["pretrain", "cola", "--data", str(audio), "--preset", "tiny",
             "--batch-size", "4", "--steps", str(steps), "--output",
             str(tmp_path / name), "--json", *more]
        )  # fmt: skip
        assert code == 0
        return kas.load_encoder(tmp_path / name)

    whole = go("whole.keras", 5)
    go("parts.keras", 2)
    parts = go("parts.keras", 5, "--resume")
    for a, b in zip(whole.weights, parts.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def arguments(audio, output, steps):
    return ["pretrain", "cola", "--data", audio, "--preset", "tiny",
            "--batch-size", 4, "--checkpoint-every", 2, "--output", output,
            "--steps", steps]  # fmt: skip


def equal(one, other):
    one, other = (kas.load_encoder(p).weights for p in (one, other))
    return all(
        np.array_equal(a.numpy(), b.numpy())
        for a, b in zip(one, other, strict=True)
    )


def test_more_steps_that_are_cut_short_are_not_up_to_date(
    audio, tmp_path, capsys, monkeypatch
):
    whole, cut = tmp_path / "whole.keras", tmp_path / "cut.keras"
    assert run(capsys, *arguments(audio, whole, 6))[0] == 0
    assert run(capsys, *arguments(audio, cut, 4))[0] == 0

    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "close", killed)
        assert run(capsys, *arguments(audio, cut, 6), "--resume")[0] == 130
    assert not equal(cut, whole)
    # Fewer steps than are done are another run.
    code, _, err = run(capsys, *arguments(audio, cut, 5))
    assert code == 2 and "6 steps already" in err
    code, _, err = run(capsys, *arguments(audio, cut, 6))
    assert code == 0 and "up to date" not in err
    assert equal(cut, whole)


@pytest.mark.any_backend
def test_a_linked_run_folder_is_not_emptied_by_overwrite(
    audio, tmp_path, capsys
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "x.run").symlink_to(elsewhere)
    output = tmp_path / "x.keras"
    assert run(capsys, *arguments(audio, output, 4), "--seed", 1)[0] == 0
    before = sorted(elsewhere.rglob("*"))
    code, _, err = run(
        capsys, *arguments(audio, output, 4), "--seed", 2, "--overwrite"
    )
    assert code == 2 and f"{tmp_path / 'x.run'} is a link" in err
    assert sorted(elsewhere.rglob("*")) == before and output.exists()


def test_damaged_checkpoints_do_not_push_good_ones_out(audio, tmp_path, capsys):
    output = tmp_path / "x.keras"
    assert run(capsys, *arguments(audio, output, 4))[0] == 0
    folder = output.with_suffix(".run")
    for step in (1000, 1500):
        path = folder / "checkpoints" / f"step_{step:09d}.keras"
        path.write_bytes(b"damaged")
    history = folder / "history.csv"
    columns = history.read_text().splitlines()[0].count(",")
    with history.open("ab") as file:
        file.write(b"\0" * 20 + b",1" * columns + b"\n")
    code, _, err = run(capsys, *arguments(audio, output, 8), "--resume")
    assert code == 0 and err.count("passed over") == 2
    names = sorted(p.name for p in (folder / "checkpoints").iterdir())
    assert names == ["step_000000006.keras", "step_000000008.keras"]
    rows = [r.split(",")[0] for r in history.read_text().splitlines()]
    assert rows == ["step", *map(str, range(1, 9))]


def test_embed(trained, audio, tmp_path, capsys):
    output = tmp_path / "emb.npz"
    code, out, _ = run(
        capsys, "embed", trained, "--data", audio, "--output", output, "--json"
    )
    result = json.loads(out)
    assert code == 0 and result["vectors"] == 12
    assert len(result["skipped"]) == 3
    with np.load(output) as saved:
        assert saved["embedding"].shape == (12, result["dim"])
        one = str(saved["file"][0])
        want = kas.load_encoder(trained).embed(one)
        np.testing.assert_allclose(saved["embedding"][0], want, atol=1e-4)
    code, _, err = run(
        capsys, "embed", trained, "--data", audio, "--output", output
    )
    assert code == 2 and "--overwrite" in err
    code, _, _ = run(
        capsys, "embed", trained, "--data", one, "--output", output,
        "--overwrite", "--window", 0.5, "--hop", 0.25, "--levels", "all",
    )  # fmt: skip
    with np.load(output) as saved:
        assert code == 0
        np.testing.assert_allclose(saved["start"], [0, 0.25, 0.5, 0.75])


@pytest.mark.parametrize("window", [[], ["--window", 0.5]])
def test_embed_decodes_nothing_in_this_process_if_so_asked(
    trained, audio, tmp_path, monkeypatch, capsys, window
):
    def here(*args):
        raise AssertionError("decoded in this process")

    monkeypatch.setattr(opening, "AudioFile", here)
    for source, clips in ((audio, 12), (audio / "clip 0.wav", 1)):
        argv = ["embed", trained, "--data", source, *window, "--overwrite"]
        argv += ["--output", tmp_path / "emb.npz", "--json"]
        code, out, err = run(capsys, *argv, "--isolate")
        assert code == 0, err
        assert json.loads(out)["vectors"] == clips * (3 if window else 1)
    code, _, err = run(capsys, *argv)
    assert code == 1 and "decoded in this process" in err


@pytest.mark.parametrize("window", [[], ["--window", 0.3, "--hop", 0.2]])
@pytest.mark.parametrize("rows", [0, 1, 5, 8])
def test_an_interrupted_embed_goes_on(
    trained, audio, tmp_path, capsys, monkeypatch, window, rows
):
    whole, cut = tmp_path / "whole.npz", tmp_path / "cut.npz"
    argv = ["embed", trained, "--data", audio, *window, "--batch-size", 4]
    assert run(capsys, *argv, "--output", whole)[0] == 0
    add, added = VectorJournal.add, []

    def interrupted(self, number, seconds, vectors):
        if len(added) == rows:
            # In the middle of a row.
            self._vectors.write(b"half")
            raise KeyboardInterrupt
        add(self, number, seconds, vectors)
        added.append(number)

    monkeypatch.setattr(VectorJournal, "add", interrupted)
    code, _, err = run(capsys, *argv, "--output", cut)
    assert code == 1 and "goes on from there" in err and not cut.exists()
    monkeypatch.setattr(VectorJournal, "add", add)
    if rows == 8:
        # Other settings begin anew.
        code, _, err = run(capsys, *argv, "--output", cut, "--levels", "all")
        assert code == 0 and "going on" not in err
        return
    code, out, err = run(capsys, *argv, "--output", cut)
    # Without windows a row is a file, and batches of four are done anew.
    kept = rows > 0 if window else rows >= 4
    assert code == 0 and ("going on after" in err) == kept
    assert "nan.wav" in out and "text.wav" in out
    with np.load(whole) as want, np.load(cut) as got:
        assert sorted(got) == sorted(want)
        for key in want:
            if key == "embedding" and keras.backend.backend() == "tensorflow":
                # Its last bit is not the same in each call.
                np.testing.assert_allclose(got[key], want[key], atol=1e-5)
            else:
                # To the bit: the same clips are computed together.
                assert (got[key] == want[key]).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "cut.npz",
        "whole.npz",
    ]


def test_a_long_recording_is_embedded_in_blocks(
    trained, audio, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(_long_clips, "LONG_SECONDS", 2)
    monkeypatch.setattr(_long_clips, "BLOCK_SECONDS", 1)
    for name in ("clip 0.wav", "clip 1.wav"):
        (tmp_path / name).write_bytes((audio / name).read_bytes())
    rng = np.random.default_rng(0)
    wave = 0.1 * rng.standard_normal(40001)  # 2.5 s: three blocks
    soundfile.write(tmp_path / "long.wav", wave, 16000, "FLOAT")
    lengths = []
    plain = kas.encoders.Encoder.embed

    def watched(self, audio, *args, **kwargs):
        many = audio if isinstance(audio, list) else [audio]
        lengths.extend(map(len, many))
        return plain(self, audio, *args, **kwargs)

    monkeypatch.setattr(kas.encoders.Encoder, "embed", watched)
    argv = ["embed", trained, "--data", tmp_path, "--output"]
    code, out, _ = run(capsys, *argv, tmp_path / "e.npz")
    assert code == 0 and "1 clips are longer than 2 s" in out
    assert max(lengths) == 20000 and sorted(lengths)[0] == 13333
    encoder = kas.load_encoder(trained)
    blocks = np.split(wave.astype("float32"), [13334, 26667])
    with np.load(tmp_path / "e.npz") as saved:
        assert [os.path.basename(f)[:4] for f in saved["file"]] == [
            "clip", "clip", "long",
        ]  # fmt: skip
        want = plain(encoder, blocks).mean(axis=0)
        np.testing.assert_allclose(saved["embedding"][2], want, atol=1e-4)


def test_what_needs_too_much_memory_loses_no_others(
    trained, audio, tmp_path, capsys, monkeypatch
):
    plain = kas.encoders.Encoder.embed

    def short(self, waves, *args, **kwargs):
        # The fifth clip is 100 samples longer.
        if any(len(wave) == 20100 for wave in waves):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return plain(self, waves, *args, **kwargs)

    for k in range(6):
        wave = np.full(20000 + 100 * (k == 4), 0.1)
        soundfile.write(tmp_path / f"{k}.wav", wave, 16000)
    monkeypatch.setattr(kas.encoders.Encoder, "embed", short)
    argv = ["embed", trained, "--data", tmp_path, "--output"]
    code, out, _ = run(capsys, *argv, tmp_path / "e.npz", "--json")
    result = json.loads(out)
    assert code == 0 and result["vectors"] == 5
    [skipped] = result["skipped"]
    assert "4.wav" in skipped["file"] and "more memory" in skipped["reason"]

    def broken(self, *args, **kwargs):
        raise RuntimeError("something else")

    monkeypatch.setattr(kas.encoders.Encoder, "embed", broken)
    code, _, err = run(capsys, *argv, tmp_path / "f.npz")
    assert code == 1 and "something else" in err


def test_embed_reads_the_tables_that_pretrain_reads(
    trained, audio, tmp_path, capsys
):
    text = "file\tstart\tend\tsplit\nclip 0.wav\t\t\ttest\n"
    text += "clip 1.wav\t0.5\t\ttest\nclip 2.wav\t\t\ttrain\n"
    path = audio / "table.tsv"
    path.write_text(text)
    argv = ["embed", trained, "--data", path, "--where", "split=test"]
    code, out, err = run(capsys, *argv, "--output", tmp_path / "e.npz")
    assert code == 0, err
    encoder = kas.load_encoder(trained)
    part = kas.data.read_audio(audio / "clip 1.wav", start=0.5)
    with np.load(tmp_path / "e.npz") as saved:
        want = encoder.embed([str(audio / "clip 0.wav"), part])
        np.testing.assert_allclose(saved["embedding"], want, atol=1e-4)
    more = ["--window", 0.5, "--output", tmp_path / "w.npz"]
    code, _, err = run(capsys, *argv, *more)
    assert code == 2 and "parts of files" in err
    path.unlink()


def test_damage_of_an_interrupted_embed_is_named(
    trained, audio, tmp_path, capsys, monkeypatch
):
    argv = ["embed", trained, "--data", audio, "--batch-size", 4]
    whole, cut = tmp_path / "whole.npz", tmp_path / "cut.npz"
    assert run(capsys, *argv, "--output", whole)[0] == 0
    add = VectorJournal.add

    def interrupted(self, number, *args):
        if number == 9:
            raise KeyboardInterrupt
        add(self, number, *args)

    monkeypatch.setattr(VectorJournal, "add", interrupted)
    assert run(capsys, *argv, "--output", cut)[0] == 1
    monkeypatch.setattr(VectorJournal, "add", add)
    folder = tmp_path / ".cut.npz.partial"
    content = bytearray((folder / "vectors.f32").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    (folder / "vectors.f32").write_bytes(content)
    code, _, err = run(capsys, *argv, "--output", cut)
    assert code == 0 and f"{folder} is damaged" in err
    with np.load(whole) as want, np.load(cut) as got:
        np.testing.assert_array_equal(got["file"], want["file"])
        np.testing.assert_allclose(
            got["embedding"], want["embedding"], atol=1e-5
        )


ODD = b"odd \xff\x1b[2J\n.wav"


@pytest.mark.any_backend
def test_names_of_strangers_steer_no_terminal(trained, tmp_path, capsys):
    """In each command that names files, classes and columns."""
    folder = tmp_path / "in"
    folder.mkdir()
    names = ["0.wav", "1.wav", "2.wav", "3.wav"]
    for k, name in enumerate(names):
        t = np.arange(16000) * (300 + 500 * k) / 16000
        soundfile.write(folder / name, 0.3 * np.sin(2 * np.pi * t), 16000)
    os.symlink("nowhere", os.fsencode(folder) + b"/" + ODD)
    red = "\x1b[31mred"
    rows = [f"{n},{k % 2}{red},{k // 4}" for k, n in enumerate(names * 2)]
    text = f"file,kind{red},fold\n" + "\n".join(rows) + "\n"
    table = folder / "m.csv"
    table.write_text(text)
    for argv, expected in (
        (["embed", trained, "--data", folder, "--output",
          tmp_path / "e.npz"], 0),
        (["doctor", folder, "--no-isolate", "--no-cache"], 0),
        (["doctor", table, "--label", f"kind{red}", "--no-isolate"], 0),
        (["doctor", table, "--label", "none", "--no-isolate"], 2),
        (["probe", trained, "--manifest", table, "--label", f"kind{red}",
          "--fold", "fold", "--alone"], 0),
        (["probe", trained, "--manifest", table, "--label", "none"], 2),
        (["embed", trained, "--data", table, "--where", f"kind{red}=x",
          "--output", tmp_path / "g.npz"], 2),
        (["search", trained, "--query", folder / "0.wav", "--data",
          folder], 0),
        (["pretrain", "cola", "--data", folder, "--preset", "tiny",
          "--steps", 1, "--batch-size", 4, "--output",
          tmp_path / "c.keras"], 0),
    ):  # fmt: skip
        code, out, err = run(capsys, *argv)
        assert code == expected, (argv, err)
        assert "\x1b" not in out + err
        (out + err).encode()  # it can be written
        if "m.csv" not in str(argv):
            assert "odd \\udcff\\x1b[2J\\n.wav" in out + err, argv


def test_what_a_streams_encoding_lacks_is_escaped():
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    _text.write("Vögel\n\udcff\x1b[2J", stream)
    stream.seek(0)
    assert stream.read() == "V\\xf6gel\n\\udcff\\x1b[2J\n"


@pytest.mark.any_backend
def test_a_small_folder_is_one_batch(audio, tmp_path, capsys):
    argv = ["pretrain", "cola", "--data", audio, "--preset", "tiny",
            "--steps", 1, "--output", tmp_path / "few.keras"]  # fmt: skip
    code, _, err = run(capsys, *argv, "--batch-size", 48)
    assert code == 2 and "12 clips" in err
    code, out, err = run(capsys, *argv)
    config = json.loads((tmp_path / "few.run" / "config.json").read_text())
    assert code == 0 and config["batch_size"] == 12
    assert "12 clips instead of the preset's 48" in out + err


@pytest.mark.any_backend
def test_estimate_writes_nothing(audio, tmp_path, capsys):
    argv = ["pretrain", "cola", "--data", audio, "--preset", "tiny",
            "--batch-size", 4, "--steps", 5000, "--estimate",
            "--output", tmp_path / "x.keras"]  # fmt: skip
    code, out, _ = run(capsys, *argv)
    assert code == 0 and "s a step, 5,000 steps in" in out
    code, out, _ = run(capsys, *argv, "--json")
    cost = json.loads(out)
    assert cost["seconds"] >= 5000 * cost["seconds_per_step"] > 0
    assert not list(tmp_path.iterdir())


def test_probe(trained, audio, capsys):
    argv = ["probe", trained, "--manifest", audio / "manifest.csv",
            "--label", "kind", "--json"]  # fmt: skip
    code, out, _ = run(capsys, *argv, "--leave-one-out", "speaker")
    result = json.loads(out)
    assert code == 0
    assert result["accuracy"] == 1.0
    assert "text.wav" in out and "gone.wav" in out
    rows = result["rows"]
    assert list(rows) == ["log_mel", "clip", "clip_untrained", "levels",
                          "levels_untrained"]  # fmt: skip
    assert rows["clip"]["accuracy"] == result["accuracy"]
    assert len(rows["levels_untrained"]["draws"]) == 3
    assert "draws" not in rows["levels"]
    # It was trained on these files.
    assert result["seen"] == "seen unlabelled"
    code, out, _ = run(capsys, *argv[:-1], "--leave-one-out", "speaker",
                       "--draws", 1)  # fmt: skip
    assert code == 0 and out.count("the same, untrained") == 2
    assert "one draw of random weights" in out
    assert f"{trained}, all levels" in out
    code, out, _ = run(capsys, *argv, "--alone", "--seen", "unseen")
    assert "rows" not in json.loads(out)
    assert json.loads(out)["seen"] == "unseen"
    code, _, err = run(capsys, *argv[:-3], "--label", "colour")
    assert code == 2 and "colour" in err and "speaker" in err


def test_search_finds_the_clip_itself_first(trained, audio, capsys):
    query = audio / sorted(p.name for p in audio.glob("*.wav"))[0]
    argv = ["search", trained, "--query", query, "--data", audio]
    code, out, _ = run(capsys, *argv, "--top", 3, "--json")
    result = json.loads(out)
    assert code == 0 and len(result["found"]) == 3
    first = result["found"][0]
    assert first["file"] == str(query)
    assert first["similarity"] == pytest.approx(1.0, abs=1e-3)
    values = [one["similarity"] for one in result["found"]]
    assert values == sorted(values, reverse=True)
    code, out, _ = run(capsys, *argv)
    assert code == 0 and "clips searched" in out and str(query) in out
    code, _, err = run(capsys, *argv, "--top", 0)
    assert code == 2 and "--top" in err


@pytest.mark.parametrize("method", sorted(METHODS))
def test_list_tells_a_methods_settings(method, capsys):
    code, out, _ = run(capsys, "list", method)
    assert code == 0 and "--set encoder.NAME=VALUE" in out
    assert "sample_rate" in out and "paper" in out
    result = json.loads(run(capsys, "list", method, "--json")[1])
    assert result["encoder"]["sample_rate"] > 0
    assert result["training"]["tiny"]["steps"] > 0
    assert result["settings"]["sample_rate"] > 0
    for plan in result["training"].values():
        # Whatever the settings of the preset are called.
        for key, value in plan.items():
            assert f"{key}={value!r}" in out


PROBE = ["probe", "--manifest", "m.csv", "--label", "a"]


@pytest.mark.parametrize(
    "argv, words",
    [
        (["pretrain", "nothing", "--data", "x", "--output", "y.keras"],
         "nothing"),
        (["pretrain", "cola", "--data", "x", "--output", "y.h5"], ".keras"),
        (["pretrain", "cola", "--data", "no/such", "--output", "y.keras"],
         "no/such"),
        (["pretrain", "cola", "--data", "synthetic", "--output", "y.keras",
          "--set", "colour=1"], "colour"),
        (["pretrain", "apc", "--data", "synthetic", "--output", "y.keras",
          "--set", "encoder=cnn"], "encoder"),
        (["pretrain", "cola", "--data", "synthetic", "--output", "y.keras",
          "--set", "encoder=alexnet"], "efficientnet_b0"),
        (["pretrain", "cola", "--data", "synthetic", "--output", "y.keras",
          "--set", "encoder=cnn", "--init-from", "e.keras"], "--init-from"),
        (["pretrain", "cola", "--data", "synthetic", "--output", "y.keras",
          "--preset", "huge"], "huge"),
        (["embed", "none.keras", "--data", ".", "--output", "e.npz"],
         "none.keras"),
        (["embed", "none.keras", "--data", ".", "--output", "e.txt"], ".npz"),
        (["import", "nothing", "x.pt", "--output", "y.keras"], "nothing"),
        (["import", "byol_s", "x.pt", "--output", "y.keras"], "x.pt"),
        *[([*PROBE, "cola", *alone, "--draws", "2"], words)
          for alone in (["--alone"], ["--untrained"], ["--levels", "all"])
          for words in ("--draws 2", alone[0])],
        *[([*PROBE, "log_mel_statistics", *more], more[0])
          for more in (["--draws", "2"], ["--untrained"],
                       ["--levels", "all"])],
        (["fly"], "fly"),
    ],
)  # fmt: skip
def test_wrong_arguments_exit_with_2(
    argv, words, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *argv)
    assert code == 2
    assert words in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "argv",
    [
        ["embed", "x.keras", "--data", ".", "--output", "e.npz"],
        ["search", "x.keras", "--data", ".", "--query", "a.wav"],
        ["probe", "x.keras", "--manifest", "m.csv", "--label", "a"],
        ["import", "byol_s", "x.keras", "--output", "y.keras"],
        ["pretrain", "byol_a", "--data", "synthetic", "--output", "y.keras",
         "--steps", "1", "--init-from", "x.keras"],
    ],
    ids=lambda argv: argv[0],
)  # fmt: skip
def test_a_hostile_file_exits_with_1(argv, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("x.keras", "w", zipfile.ZIP_BZIP2) as archive:
        for name in ("config.json", "metadata.json", "model.weights.h5"):
            archive.writestr(name, b"{}")
    (tmp_path / "m.csv").write_text("file,a\na.wav,1\n")
    soundfile.write("a.wav", np.zeros(20000), 16000)
    code, _, err = run(capsys, *argv)
    assert code == 1
    assert "x.keras" in err and "Traceback" not in err
