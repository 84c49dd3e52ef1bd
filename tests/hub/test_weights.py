"""The encoders that ship with the package, and their cards."""

import hashlib
import importlib
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import keras_audio_ssl as kas
from keras_audio_ssl.cli import main
from keras_audio_ssl.encoders import window_of
from keras_audio_ssl.hub import encoder_files
from keras_audio_ssl.hub import encoder_names
from keras_audio_ssl.hub import read_card
from keras_audio_ssl.hub.encoder_files import weights_folder
from keras_audio_ssl.methods import make_method

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "weights"
NAMES = sorted(path.stem for path in FOLDER.glob("*.keras"))


@pytest.fixture(scope="module")
def recipes():
    """`weights/train.py` as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        return importlib.import_module("train")


@pytest.fixture(scope="module")
def made(recipes):
    """`weights/cards.py` as a module."""
    return sys.modules["cards"]


@pytest.fixture(autouse=True)
def shipped(monkeypatch):
    monkeypatch.delenv("KERAS_AUDIO_SSL_WEIGHTS", raising=False)


@pytest.mark.no_backend
def test_every_recipe_has_its_weight_and_its_card(recipes, made):
    assert NAMES == encoder_names() == sorted(recipes.RECIPES)
    assert NAMES == sorted(made.cards())
    for name, recipe in recipes.RECIPES.items():
        assert recipe["method"] in kas.METHODS, name


@pytest.mark.no_backend
def test_their_checksums_are_known(made):
    # Else `python weights/train.py --table` writes them.
    assert made.SHIPPED.read_text(encoding="utf-8") == made.checksums()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_opens_an_encoder(name, monkeypatch):
    # No child process looks through a file that is known.
    monkeypatch.setattr(encoder_files, "told_of", None)
    encoder = kas.load_encoder(name)
    card = read_card(name)
    noise = 0.1 * np.random.default_rng(0).standard_normal(16000)
    vector = encoder.embed(noise.astype("float32"))
    assert vector.shape == (card["dim"],) and np.ptp(vector) > 0
    assert kas.Readout(encoder).embed(noise).ndim == 1
    for key in ("sample_rate", "frame_rate", "dim"):
        assert getattr(encoder, key) == card[key]
    assert encoder.count_params() == card["parameters"]
    # `pretrain --init-from NAME` goes on with it: no setting of the encoder's
    # own, or of the preset's, is in the way of what it is.
    model = make_method(card["method"], preset="tiny", encoder=encoder)
    assert model.encoder is encoder and encoder.frontend.adapted
    if frames := window_of(encoder):
        # Samples, where there are no frames.
        own = model.crop.length if name == "lim" else model.frames
        assert own == frames


@pytest.mark.no_backend
def test_from_preset_is_the_same():
    assert kas.from_preset is kas.load_encoder


@pytest.mark.no_backend
@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_that_of_the_file(name):
    content = (FOLDER / f"{name}.keras").read_bytes()
    card = read_card(name)
    assert card["sha256"] == hashlib.sha256(content).hexdigest()
    assert card["bytes"] == len(content) <= 4_500_000


@pytest.mark.no_backend
@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_complete(name, recipes):
    card = read_card(name)
    assert card["name"] == name and card["method"] in kas.METHODS
    assert card["summary"] and card["how_scored"]
    training = card["training"]
    for key in ("steps", "batch_size", "seconds", "seconds_trained"):
        assert training[key] > 0, key
    assert training["seed"] == 0 and training["hardware"]
    assert training["settings"] == recipes.RECIPES[name]["settings"]
    assert {"keras", "keras_audio_ssl", "python"} <= set(training["versions"])
    assert not re.search(r"/(work|home|tmp|root)/", json.dumps(card))
    corpora = {corpus["corpus"]: corpus for corpus in card["data"]}
    _, where = recipes.rows(dict(recipes.RECIPES[name]), None)
    assert training["where"] == where
    if where is None:
        assert set(corpora) == {"synthetic"}
        return
    # The seventh part is free for research only: no weight has heard it.
    public = {"esc10", "fsdd", "librispeech_mini", "philharmonia"}
    sentences = where == recipes.SENTENCES
    assert sentences or where == "split=train"
    assert set(corpora) == ({"librispeech_mini"} if sentences else public)
    for corpus in corpora.values():
        assert corpus["files"] > 0 and corpus["hours"] > 0
        assert corpus["licence"].startswith("CC BY") and corpus["title"]


@pytest.mark.no_backend
@pytest.mark.parametrize("name", NAMES)
def test_the_scores_are_beside_the_baselines(name, recipes, made):
    card = read_card(name)
    tasks = recipes.held_tasks()
    assert set(card["scores"]) == set(tasks)
    for key, task in card["scores"].items():
        assert task["title"] == tasks[key].title
        assert task["seen"] == "unseen" and task["n"] > 0
        for row in made.ROWS:
            low, high = task[row]["interval"]
            assert 0 <= low <= task[row]["accuracy"] <= high <= 1
            draws = task[row].get("draws", [])
            assert len(draws) == (3 if row.endswith("untrained") else 0)
            assert not draws or task[row]["accuracy"] == pytest.approx(
                sum(draws) / len(draws), abs=1e-4
            )
    for key, value in made.judge(card["scores"]).items():
        assert card[key] == value, key
    beaten = any(card["beats_untrained"].values())
    assert beaten != ("on no task" in card["verdict"])


def scores(trained, *untrained, n=100):
    return {
        "n": n,
        "clip": {"accuracy": trained},
        "clip_untrained": {"draws": list(untrained)},
        "levels": {"accuracy": 0.1},
        "levels_untrained": {"draws": [0.1]},
    }


@pytest.mark.no_backend
def test_a_verdict_calls_chance_chance(made):
    even = {"a": scores(0.6, 0.55), "b": scores(0.55, 0.6)}
    none = {"clip": [], "levels": []}
    assert made.judge(even) == {
        "beats_untrained": none,
        "loses_to_untrained": none,
        "verdict": "Clip: no difference. All levels: no difference. "
        "It beats its untrained self on no task.",
    }
    # Five points are chance in a hundred examples, and none in ten thousand.
    clear = {
        "a": scores(0.6, 0.55, n=10_000),
        "b": scores(0.55, 0.6, n=10_000),
    }
    told = made.judge(clear)
    assert told["beats_untrained"] == {"clip": ["a"], "levels": []}
    assert told["loses_to_untrained"] == {"clip": ["b"], "levels": []}
    # One reading's gain does not hide what the other loses.
    assert told["verdict"] == "Clip: better a; worse b. " + (
        "All levels: no difference."
    )


@pytest.mark.no_backend
def test_a_draw_of_random_weights_as_good_is_chance(made):
    wide = {
        "a": scores(0.6, 0.2, 0.3, 0.6, n=10_000),
        "b": scores(0.2, 0.2, 0.5, 0.6, n=10_000),
        "c": scores(0.61, 0.2, 0.3, 0.6, n=10_000),
    }
    told = made.judge(wide)
    assert told["beats_untrained"]["clip"] == ["c"]
    assert told["loses_to_untrained"]["clip"] == []


@pytest.mark.no_backend
def test_the_tables_are_made_from_the_cards(made):
    for path in made.PAGES:
        assert path.read_text(encoding="utf-8") == made.page(path)
    for name in NAMES:
        assert f"### {name}\n" in made.table()
    shown = [name for _, names, _ in made.FAMILIES for name in names]
    assert sorted(shown) == NAMES


@pytest.mark.no_backend
def test_list_shows_them(capsys):
    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["weights"]
    assert sorted(listed) == NAMES
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.split("Weights")[1].splitlines()[1:]
    for line, (name, about) in zip(lines, sorted(listed.items()), strict=True):
        size = (FOLDER / f"{name}.keras").stat().st_size
        assert about["bytes"] == size and about["summary"]
        words = [name, f"{size / 1e6:.1f}", "MB", *about["summary"].split()]
        assert line.split() == words


@pytest.mark.no_backend
def test_an_encoder_without_a_card(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_AUDIO_SSL_WEIGHTS", str(tmp_path))
    (tmp_path / "mine.keras").write_bytes(b"")
    assert read_card("mine") == {}
    assert main(["list"]) == 0
    assert capsys.readouterr().out.endswith("  mine\n")
    with pytest.raises(ValueError, match="no encoder 'yours'.*are: mine"):
        read_card("yours")
    (tmp_path / "mine.json").write_text("{")
    with pytest.raises(ValueError, match="mine.json is no card"):
        read_card("mine")
    (tmp_path / "mine.json").write_text("[]")
    with pytest.raises(ValueError, match="mine.json is no card"):
        read_card("mine")


@pytest.mark.no_backend
def test_an_installed_package_has_its_own(tmp_path, monkeypatch):
    package = tmp_path / "site" / "keras_audio_ssl"
    (package / "_weights").mkdir(parents=True)
    monkeypatch.setattr(kas, "__file__", str(package / "__init__.py"))
    assert weights_folder() == package / "_weights"


@pytest.mark.no_backend
def test_the_wheel_holds_them(tmp_path):
    pytest.importorskip("hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel",
         "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {
            name.removeprefix("keras_audio_ssl/_weights/"): archive.read(name)
            for name in archive.namelist()
            if name.startswith("keras_audio_ssl/_weights/")
        }
        assert "keras_audio_ssl/hub/encoder_files.py" in archive.namelist()
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert set(held) == {f"{n}.{kind}" for n in NAMES for kind in
                         ("keras", "json")}  # fmt: skip
    for name, content in held.items():
        assert content == (FOLDER / name).read_bytes(), name
    assert len(tops) == 2
