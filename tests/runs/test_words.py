"""Runs of methods that learn from words."""

import csv

import numpy as np
import pytest

import keras_audio_ssl as kas
from keras_audio_ssl.cli import main

QUICK = {"preset": "tiny", "steps": 2, "batch_size": 4, "progress": False}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder of speech, with a table of its syllables."""
    folder = tmp_path_factory.mktemp("corpus")
    speech = kas.data.SyntheticCorpus(8, 1.5, seed=1, kind="speech")
    manifest = speech.write(folder)
    return manifest.parent


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setitem(QUICK, "say", lambda words: None)


@pytest.mark.any_backend
def test_a_run_on_a_folder_with_alignments(corpus, tmp_path):
    output, table = tmp_path / "words.keras", corpus / "syllables.csv"
    copy = tmp_path / "syllables.csv"
    lines = table.read_text().splitlines()
    lines.insert(3, lines[1])  # once more, out of order
    copy.write_text("\n".join(lines) + "\n")
    kas.pretrain(
        "speech2vec_skipgram", corpus, output, alignments=copy, **QUICK
    )
    encoder = kas.load_encoder(output)
    assert encoder.embed(np.zeros(3000, "float32")).shape == (32,)
    skipped = (tmp_path / "words.run" / "skipped.csv").read_text()
    assert f"{copy}, line 4" in skipped and "out of order" in skipped
    with (tmp_path / "words.run" / "history.csv").open() as file:
        row = list(csv.DictReader(file))[-1]
    assert {"loss", "trajectory_mse", "embedding_std"} <= set(row)
    # It goes on, and not with other alignments.
    more = {**QUICK, "steps": 3, "resume": True}
    kas.pretrain("speech2vec_skipgram", corpus, output, alignments=copy, **more)
    with pytest.raises(ValueError, match="alignments"):
        kas.pretrain(
            "speech2vec_skipgram", corpus, output, alignments=table,
            **{**more, "steps": 4},
        )  # fmt: skip


@pytest.mark.any_backend
def test_a_run_on_rows_of_a_manifest(corpus, tmp_path):
    where = "speaker=voice01", "speaker=voice02"
    run = kas.pretrain(
        "speech2vec_cbow", corpus / "manifest.csv", tmp_path / "words.keras",
        alignments=corpus / "syllables.csv", where=where,
        **{**QUICK, "batch_size": 2},
    )  # fmt: skip
    files = (run.folder / "files.csv").read_text().splitlines()
    assert len(files) == 3 and run.metrics["skipped"] == 0


@pytest.mark.any_backend
def test_a_run_on_synthetic_speech(tmp_path):
    run = kas.pretrain(
        "speech2vec_skipgram", "synthetic", tmp_path / "words.keras",
        estimate=True, **QUICK,
    )  # fmt: skip
    assert run.metrics


def test_what_is_missing_or_too_much_is_said(corpus, tmp_path, capsys):
    output = tmp_path / "x.keras"
    with pytest.raises(ValueError, match="give `alignments`, .*TextGrid"):
        kas.pretrain("speech2vec_cbow", corpus, output, **QUICK)
    for method, data in (("apc", corpus), ("speech2vec_cbow", "synthetic")):
        with pytest.raises(ValueError, match="^`alignments`"):
            kas.pretrain(
                method, data, output, alignments=corpus / "syllables.csv",
                **QUICK,
            )  # fmt: skip
    assert not output.exists()
    argv = ["pretrain", "speech2vec_cbow", "--data", str(corpus)]
    argv += ["--output", str(output), "--preset", "tiny"]
    assert main(argv) == 2
    assert "give --alignments, a file or folder" in capsys.readouterr().err
