"""The study of augmentations, as a user runs it."""

import json

import numpy as np
import pytest
import soundfile

from keras_audio_ssl import cli
from keras_audio_ssl.methods.augmented import augmentation_names
from keras_audio_ssl.methods.augmented import augmented
from keras_audio_ssl.runs import augmentations
from keras_audio_ssl.runs.augmentations import AugmentationStudy
from keras_audio_ssl.viz.study_page import study_page
from tests.contract import waves


@pytest.fixture
def manifest(tmp_path):
    rows = ["file,kind,part"]
    for i, wave in enumerate(waves(12, seconds=0.6)):
        soundfile.write(tmp_path / f"{i}.wav", wave, 16000)
        rows.append(f"{i}.wav,{'ab'[i % 2]},{i % 3}")
    path = tmp_path / "clips.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_study_goes_on_where_it_stopped(manifest, tmp_path, monkeypatch):
    trained = []

    def score(setting, names, seed):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append((names, seed))
        return 0.5 + 0.1 * len(names) + 0.01 * seed

    monkeypatch.setattr(augmentations, "trained_and_probed", score)
    output = tmp_path / "study.json"

    def study(**kwargs):
        return augmentations.augmentation_study(
            "clar", manifest, "kind", output, seeds=2,
            **{"augmentations": ["fade", "gain"], **kwargs},
        )  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        study()
    held = json.loads(output.read_text())["accuracies"]
    assert held == {"none": [0.5, 0.51], "fade": [0.6]}
    trained.clear()
    with pytest.raises(KeyboardInterrupt):
        study()
    # What is missing alone: the second fade, then the rest.
    assert trained[0] == (("fade",), 1) and len(trained) == 3
    trained.clear()
    result = study()
    assert trained == [(("fade", "gain"), 0), (("fade", "gain"), 1)]
    assert set(result.accuracies) == {"none", "fade", "gain", "fade+gain"}
    mean, half = result.row("fade+gain")
    assert mean == pytest.approx(0.705)
    assert half == pytest.approx(1.96 * 0.005)
    assert str(result).splitlines()[0].startswith("fade+gain")
    with pytest.raises(ValueError, match="another study"):
        study(steps=7)
    trained.clear()
    (tmp_path / "other.json").write_text(output.read_text())
    with pytest.raises(KeyboardInterrupt):
        study(steps=7, overwrite=True)
    assert trained[0] == ((), 0)


def test_the_command_writes_table_map_and_players(manifest, tmp_path, capsys):
    argv = [
        "augmentations", "clar", "--data", str(manifest), "--label", "kind",
        "--fold", "part", "--output", str(tmp_path / "study.html"),
        "--augmentations", "fade,gain", "--steps", "2", "--seeds", "1",
        "--batch-size", "4", "--no-pairs",
    ]  # fmt: skip
    assert cli.main(argv) == 0
    assert "fade" in capsys.readouterr().out
    page = (tmp_path / "study.html").read_text()
    assert page.count("<audio") == 3 and page.count("<img") == 3
    held = json.loads((tmp_path / "study.json").read_text())
    assert set(held["accuracies"]) == {"none", "fade", "gain"}
    for values in held["accuracies"].values():
        assert len(values) == 1 and 0 <= values[0] <= 1
    assert cli.main([*argv[:-1], "--steps", "3"]) == 2
    assert "another study" in capsys.readouterr().err
    assert cli.main([*argv[:9], "x.htm"]) == 2


def test_what_a_method_takes():
    assert "fade" in augmentation_names("clar")
    assert "mix_back" in augmentation_names("fonseca")
    with pytest.raises(ValueError, match="byol_a, clar, cola"):
        augmentation_names("apc")
    x = waves(3, seconds=0.5, sample_rate=22050)
    plain = augmented("fonseca", x, "", preset="tiny")
    mixed = augmented("fonseca", x, "compression", preset="tiny")
    assert plain.shape == mixed.shape and plain.ndim == 3
    ratio = mixed / plain
    assert 0.74 < ratio.min() and ratio.max() < 1.01
    faded = augmented("clar", x, "fade", preset="tiny")
    assert faded.shape == x.shape and np.abs(faded - x).max() > 0.01


def test_the_page_escapes_and_shows_pictures_of_features():
    setting = {
        "method": "fonseca", "data": "<b>", "label": "kind", "steps": 3,
        "seeds": 1, "augmentations": ["noise", "<i>"],
    }  # fmt: skip
    study = AugmentationStudy(
        setting, {"none": [0.2], "noise": [0.5], "<i>": [0.4],
                  "noise+<i>": [0.6]},
    )  # fmt: skip
    rows = {name: study.row(name) for name in study.accuracies}
    features = np.random.default_rng(0).standard_normal((20, 8))
    sounds = [{"name": "<u>", "text": "", "features": features}]
    page = study_page(setting, rows, sounds, "today")
    for tag in ("<b>", "<i>", "<u>"):
        assert tag not in page
    assert "60.0" in page and "<audio" not in page
    assert "one seed" in page and "data:image/png" in page
