"""`attention` as a user runs it."""

import json

import numpy as np
import pytest
import soundfile

import keras_audio_ssl as kas
from keras_audio_ssl.encoders import make_encoder
from tests.cli.test_cli import run
from tests.evaluation.test_attention import PAPER
from tests.evaluation.test_attention import SMALL


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two encoders, one with maps; two clips, one readable; phones."""
    folder = tmp_path_factory.mktemp("attention")
    make_encoder(SMALL, PAPER).save(folder / "small.keras")
    kas.COLA(preset="tiny").encoder.save(folder / "cola.keras")
    wave = 0.1 * np.random.default_rng(0).standard_normal(9000)
    soundfile.write(folder / "clip.wav", wave, 16000)
    (folder / "text.wav").write_text("no audio")
    rows = ["file,start,end,phone,word", "clip.wav,0.1,0.2,a,ab",
            "clip.wav,0.2,0.5,b,ab", "other.wav,0,1,a,c"]  # fmt: skip
    (folder / "phones.csv").write_text("\n".join(rows))
    (folder / "two.csv").write_text(
        "\n".join(row.rsplit(",", 1)[0] for row in rows)
    )
    return folder


@pytest.mark.any_backend
def test_a_clip(made, tmp_path, capsys):
    output = tmp_path / "maps"
    argv = ["attention", made / "small.keras", made / "clip.wav",
            "--output", output]  # fmt: skip
    code, out, err = run(capsys, *argv, "--phones", made / "two.csv", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["layers"] == result["heads_per_layer"] == 2
    assert len(result["heads"]) == 4 and result["phones"] == ["a", "b"]
    assert result["clip"] == "clip.wav" and result["encoder"] == "small"
    assert result["cut"] == ""
    names = {p.name for p in output.iterdir()}
    assert set(result["files"]) == names and "attention.html" in names
    assert len([n for n in names if n.endswith(".png")]) == 6
    table = json.loads((output / "heads.json").read_text())
    assert table["heads"] == result["heads"]
    # What is there stays, unless one says so.
    code, _, err = run(capsys, *argv)
    assert code == 2 and "--overwrite" in err
    code, out, err = run(capsys, *argv, "--overwrite", "--seconds", 0.3)
    assert code == 0 and "2 layers of 2 heads" in out
    assert "first 0.3 s are shown" in out
    text = (output / "attention.html").read_text(encoding="utf-8")
    assert "first 0.3 s are shown" in text and "data:audio/wav" in text


@pytest.mark.parametrize(
    "argv, code, words",
    [
        (["cola.keras", "clip.wav"], 2, "no attention maps"),
        (["small.keras", "text.wav"], 1, "text.wav: not readable"),
        (["small.keras", "gone.wav"], 2, "gone.wav"),
        (["gone.keras", "clip.wav"], 2, "gone.keras"),
        (["small.keras", "clip.wav", "--seconds", "0"], 2, "--seconds"),
        (["small.keras", "clip.wav", "--phones", "gone.csv"], 2, "gone.csv"),
        (["small.keras", "clip.wav", "--phones", "phones.csv"], 2, "'label'"),
        (["small.keras", "text.wav", "--phones", "two.csv"], 2,
         "no interval of text.wav"),
    ],
)  # fmt: skip
def test_what_is_refused(
    made, tmp_path, capsys, monkeypatch, argv, code, words
):
    monkeypatch.chdir(made)
    output = tmp_path / "maps"
    got, out, err = run(capsys, "attention", *argv, "--output", output)
    assert got == code, err
    assert not out and words in err and "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    assert not output.exists()
