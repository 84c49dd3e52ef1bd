"""The study of augmentations, as a user runs it."""

import json
import re

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


def test_an_interval_knows_of_all_rows():
    """A row whose two seeds agree by chance is no surer than the others."""
    study = AugmentationStudy({}, {"none": [0.5, 0.5], "fade": [0.4, 0.6]})
    # Squares 0.02 in 2 degrees of freedom; Student's 97.5 % point is 4.3027.
    for name in ("none", "fade"):
        assert study.row(name)[1] == pytest.approx(
            4.3027 * 0.1 / 2**0.5, rel=1e-4
        )
    study = AugmentationStudy({}, {"none": [0.5], "fade": [0.4]})
    assert np.isnan(study.row("fade")[1])
    assert study.row("fade")[0] == 0.4


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
            "clar", manifest, "kind", output,
            **{"augmentations": ["fade", "gain"], "seeds": 2, **kwargs},
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
    # Four rows of two seeds, 0.01 apart: t of 4 degrees of freedom.
    deviation = 0.005 * np.sqrt(2)
    assert half == pytest.approx(2.7764 * deviation / np.sqrt(2), rel=1e-4)
    assert str(result).splitlines()[0].startswith("fade+gain")
    # More seeds, and another augmentation, add to what is there.
    trained.clear()
    study(seeds=3, augmentations=["gain"])
    assert trained == [((), 2), (("gain",), 2)]
    trained.clear()
    more = study(augmentations=["fade", "faint_noise"], pairs=False)
    assert trained == [(("faint_noise",), 0), (("faint_noise",), 1)]
    assert len(more.accuracies["none"]) == 3
    assert "fade+gain" in more.accuracies
    with pytest.raises(ValueError, match="another study"):
        study(steps=7)
    with pytest.raises(ValueError, match=r"clar are fade, .*'mix_back'"):
        study(augmentations=["fade", "mix_back"])
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
    assert "Multiplies each waveform by a factor." in page
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
    # What the method augments: patches of 48 frames, not whole clips.
    assert plain.shape == mixed.shape == (3, 48, 32)
    ratio = mixed / plain
    assert 0.74 < ratio.min() and ratio.max() < 1.01
    # An odd number of clips, of which mix-back wants two views each.
    mixed = augmented("fonseca", x, "mix_back", preset="tiny")
    assert mixed.shape == plain.shape and np.abs(mixed - plain).max() > 0.01
    segment = augmented("byol_a", waves(3, seconds=2.0), "", preset="tiny")
    assert segment.shape[1] < 60
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
    assert 'class="heat"' in page and "+40.0" in page
    assert "noise + &lt;i&gt;" in page
    # All pictures have the scale of the first: half the contrast is seen.
    sounds.append({"name": "half", "text": "", "features": features / 2})
    page = study_page(setting, rows, sounds)
    first, second = re.findall(r"data:image/png;base64,[^\"]+", page)
    assert first != second
    # Without pairs there is no map, and without `none` nothing to be above.
    page = study_page(setting, {"noise": (0.5, 0.1)}, sounds)
    assert 'class="heat"' not in page and "without any" not in page
