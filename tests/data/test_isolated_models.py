"""Encoders and commands whose audio child processes decode."""

import numpy as np

import keras_audio_ssl as kas
from keras_audio_ssl.cli import main
from keras_audio_ssl.data import isolated
from tests.broken import kinds
from tests.data.test_isolate import children
from tests.data.test_isolate import end_all
from tests.data.test_isolate import fresh  # noqa: F401
from tests.data.test_isolate import write


def test_a_stream_is_embedded_as_without(tmp_path):
    path = write(tmp_path / "a.wav", 3.0)
    encoder = kas.COLA(preset="tiny").encoder
    direct = [v for _, v in encoder.embed_stream(path, 0.5, batch_size=2)]
    with isolated():
        apart = [v for _, v in encoder.embed_stream(path, 0.5, batch_size=2)]
        assert len(children()) == 1
        clip = encoder.embed(path)
    np.testing.assert_array_equal(direct, apart)
    np.testing.assert_array_equal(clip, encoder.embed(path))


def test_the_commands_give_the_same_numbers(tmp_path):
    kinds.make(tmp_path / "c", 1, kinds=["cut WAV", "Inf"], goods=6)
    table = tmp_path / "table.csv"
    lines = [f"c/good/{i:03}.wav,{i % 2},{i % 3}" for i in range(6)]
    table.write_text("\n".join(["file,label,fold", *lines]) + "\n")
    encoder = tmp_path / "e.keras"
    kas.COLA(preset="tiny").encoder.save(encoder)
    found = {}
    for option in ([], ["--isolate"]):
        name = "apart" if option else "direct"
        out = tmp_path / name
        end_all()
        assert not main([
            "pretrain", "cola", "--preset", "tiny", "--data",
            str(tmp_path / "c"), "--batch-size", "4", "--steps", "2",
            "--output", f"{out}.keras", "--json", *option,
        ])  # fmt: skip
        assert bool(children()) == bool(option)
        end_all()
        assert not main([
            "embed", str(encoder), "--data", str(tmp_path / "c"),
            "--output", f"{out}.npz", "--json", *option,
        ])  # fmt: skip
        assert bool(children()) == bool(option)
        end_all()
        assert not main([
            "probe", "log_mel_statistics", "--manifest", str(table), "--label",
            "label", "--fold", "fold", "--json", *option,
        ])  # fmt: skip
        assert bool(children()) == bool(option)
        found[name] = [
            (tmp_path / f"{name}.run" / "history.csv").read_text(),
            (tmp_path / f"{name}.run" / "skipped.csv").read_text(),
            np.load(f"{out}.npz")["embedding"],
        ]
    for a, b in zip(found["direct"], found["apart"], strict=True):
        np.testing.assert_array_equal(a, b)
    assert found["apart"][1].count("\n") == 3
    assert len(found["apart"][2]) == 6
