"""What every page is built on: escaping, the one style, shipped templates."""

import re
import tomllib
from pathlib import Path

import jinja2
import numpy as np
import pytest
from markupsafe import Markup

from keras_audio_ssl.viz.charts import bars
from keras_audio_ssl.viz.charts import columns
from keras_audio_ssl.viz.charts import scatter
from keras_audio_ssl.viz.kit import TEMPLATES
from keras_audio_ssl.viz.kit import environment
from keras_audio_ssl.viz.kit import piece
from tests.viz.test_doctor_page import NASTY
from tests.viz.test_doctor_page import Page

pytestmark = pytest.mark.no_backend


def test_text_is_escaped_and_made_printable():
    made = environment().from_string("<p title='{{ x }}'>{{ x }}</p>{{ y }}")
    text = made.render(x=NASTY, y=Markup("<b>ours</b>"))
    page = Page(text)
    assert [tag for tag, _ in page.tags] == ["p", "b"]
    assert "\x1b" not in text and "\\x1b[2J" in text
    assert page.tags[0][1]["title"].startswith("<script>alert('x')")
    with pytest.raises(jinja2.UndefinedError):
        environment().from_string("{{ missing }}").render()


def test_no_template_switches_escaping_off():
    for path in TEMPLATES.glob("*.html"):
        text = path.read_text()
        assert not re.search(r"\|\s*safe|autoescape|\bMarkup\b", text), path


def test_pieces_escape_what_they_are_given():
    values = np.array([0.1, 0.5, 0.9])
    names, kinds = [NASTY] * 3, ["global"] * 3
    for text in (
        columns(NASTY, values, 0, 1, names, kinds, NASTY, NASTY),
        scatter(NASTY, values, -values, NASTY, NASTY, names, kinds, NASTY),
        bars(NASTY, {NASTY: 3}),
        piece("header", NASTY, NASTY, NASTY),
        piece("numbers", {NASTY: NASTY}),
        piece("chip", "note", NASTY),
        piece("table", [NASTY], [[NASTY, NASTY]]),
        piece("foot", {NASTY: NASTY}, NASTY),
    ):
        page = Page(text)
        assert "script" not in {tag for tag, _ in page.tags}
        assert any("alert('x')" in t for t in page.texts)


def test_columns_are_as_tall_as_their_values():
    text = columns("G", np.array([0.0, 1.0, 2.0]), 0, 2, "abc", ["global"] * 3)
    tall = [float(x) for x in re.findall(r'height="([\d.]+)"', text)]
    assert tall[1] == pytest.approx(tall[2] / 2, abs=0.1) and tall[0] == 2


@pytest.mark.parametrize("values", [[1.0], [3.0, 3.0], [-1e-9, 0.0]])
def test_a_scatter_of_few_values(values):
    values = np.array(values)
    count = len(values)
    text = scatter(
        "S", values, values, "x", "y", ["a"] * count, ["global"] * count
    )
    assert text.count("<circle") == count
    for x in re.findall(r'c[xy]="([-\d.]+)"', text):
        assert 0 <= float(x) <= 340


def test_the_wheel_ships_the_templates():
    root = Path(__file__).parents[2]
    settings = tomllib.loads((root / "pyproject.toml").read_text())
    project = settings["project"]["dependencies"]
    assert any(line.startswith("jinja2") for line in project)
    if not (root / "keras_audio_ssl").samefile(TEMPLATES.parents[1]):
        pytest.skip("another copy is installed")
    builder = pytest.importorskip("hatchling.builders.wheel").WheelBuilder
    files = {
        Path(file.relative_path).name
        for file in builder(str(root)).recurse_included_files()
        if "templates" in file.relative_path
    }
    assert files == {path.name for path in TEMPLATES.iterdir()}
    assert {"page.html", "kit.html", "style.css", "attention.js"} <= files
