"""The code of the README and of the recipes, as it stands, on a little audio.

Python blocks of a page run in turn, in one namespace, and commands as the
shell would run them; epochs and steps are fewer.
"""

import csv
import importlib
import inspect
import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from keras_audio_ssl import methods
from keras_audio_ssl.cli import main
from keras_audio_ssl.cli import make_parser
from keras_audio_ssl.hub import encoder_names
from keras_audio_ssl.methods import METHODS
from keras_audio_ssl.methods import make_method
from tests.methods.test_lim import on_torch_alone

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs/recipes").glob("*.md"))]
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.M | re.S)
RATE = 16000


def blocks(path):
    """(language, code) of each block of a page that runs."""
    return BLOCK.findall(path.read_text(encoding="utf-8"))


def commands(text):
    """Arguments of the package's commands in a shell block."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("keras-audio-ssl "):
            yield shlex.split(line, comments=True)[1:]


def fewer(text):
    """Python code with as few epochs and steps as show that it runs."""
    return re.sub(r"\b(epochs|steps)=\d+", r"\1=2", text)


def shorter(argv):
    """A command with two steps, four where it goes on."""
    if argv[0] not in ("pretrain", "augmentations"):
        return argv
    if "--steps" in argv:
        at = argv.index("--steps")
        argv = argv[:at] + argv[at + 2 :]
    return [*argv, "--steps", "4" if "--resume" in argv else "2"]


@pytest.fixture(scope="session")
def audio(tmp_path_factory):
    """What the pages speak of: two kinds of birds, a night, spoken words."""
    folder = tmp_path_factory.mktemp("pages")
    rng = np.random.default_rng(0)

    def write(name, seconds, pitch):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        t = np.arange(round(seconds * RATE)) / RATE
        wave = 0.3 * np.sin(2 * np.pi * pitch * t)
        wave += 0.01 * rng.standard_normal(len(t))
        soundfile.write(path, wave, RATE)
        return name

    rows = [["file", "species", "split"]]
    for i in range(64):
        kind = i % 2
        name = write(f"my_audio/{i:04d}.wav", 1.2, 400 + 900 * kind + 5 * i)
        rows.append(
            [name, ("wren", "robin")[kind], "test" if i > 39 else "train"]
        )
    write("clip.flac", 1.5, 700)
    write("nights/night.flac", 25, 500)
    words = [["file", "start", "end", "label"]]
    for i in range(16):
        write(f"speech/u{i:02d}.wav", 2.0, 150 + 10 * i)
        for j in range(4):
            start = 0.1 + 0.4 * j
            word = ("seven", "nine", "one", "two", "three")[(i + j) % 5]
            words.append([f"u{i:02d}.wav", start, start + 0.35, word])
    for name, table in (("labels.csv", rows), ("words.csv", words)):
        with open(folder / name, "w", newline="") as file:
            csv.writer(file).writerows(table)
    return folder


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_the_code_of_a_page_runs(path, audio, tmp_path, monkeypatch, capsys):
    on_torch_alone()  # Nothing is compiled there.
    for one in audio.iterdir():
        (tmp_path / one.name).symlink_to(one)
    monkeypatch.chdir(tmp_path)
    found = blocks(path)
    names = {"__name__": path.stem}
    for kind, text in found:
        if kind == "python":
            exec(compile(fewer(text), str(path), "exec"), names)
        elif path != README:
            for argv in commands(text):
                code = main(shorter(argv))
                assert code == 0, (argv, capsys.readouterr().err)


@pytest.mark.no_backend
def test_the_commands_of_other_pages_are_right():
    pages = [README, *sorted((ROOT / "docs").glob("*.md"))]
    texts = [t for page in pages for kind, t in blocks(page) if kind == "sh"]
    found = [argv for text in texts for argv in commands(text)]
    assert len(found) > 10
    for argv in found:
        make_parser(argv[0]).parse_args(argv)


@pytest.mark.no_backend
def test_the_site_begins_with_the_lines_of_the_readme():
    first, site = (
        next(text for kind, text in blocks(page) if kind == "python")
        for page in (README, ROOT / "docs/index.md")
    )
    assert first == site


@pytest.mark.no_backend
def test_the_reference_shows_bases_that_users_know(monkeypatch):
    pytest.importorskip("sphinx")
    monkeypatch.setattr(sys, "path", [*sys.path])
    conf = runpy.run_path(str(ROOT / "docs/conf.py"))
    told = {}
    for room in conf["ROOMS"]:
        module = importlib.import_module(room)
        for name in conf["public_names"](room):
            thing = getattr(module, name)
            if inspect.isclass(thing):
                told[name] = [*thing.__bases__]
                conf["show_bases"](None, "", thing, None, told[name])
    assert told["AudioDataset"] == ["``keras.utils.PyDataset``"]
    assert told["COLA"] == [methods.PretextModel]
    assert told["PretextModel"] == ["``keras.Model``"]
    for bases in told.values():
        for base in bases:
            assert isinstance(base, str) or (
                base.__name__ in told or not base.__module__.startswith("keras")
            ), base


def test_the_page_of_the_methods_tells_what_they_are():
    on_torch_alone()
    text = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(\w+)` \| ([\d.]+) ([Mk]) \| (\d+) h \| ([a-z\d.]+)", text, re.M
    )
    # Other tests add methods of their own.
    own = {n for n, (file, *_) in METHODS.items() if "." not in file}
    assert [row[0] for row in rows] == sorted(own)
    learns = re.findall(r"^\| `(\w+)` \| [a-z]", text, re.M)
    assert own <= set(learns)
    for name, size, unit, hours, shortest in rows:
        model = make_method(name, preset="tiny")
        found = model.count_params() / {"M": 1e6, "k": 1e3}[unit]
        assert f"{found:.{unit == 'M':d}f}" == size, name
        plan = model.TRAINING["tiny"]
        passed = plan["steps"] * plan["batch_size"] * plan["seconds"] / 3600
        assert f"{passed:.0f}" == hours, name
        least = model.min_samples / model.encoder.sample_rate
        assert shortest == ("any" if least < 0.005 else f"{least:.2f}"), name


@pytest.mark.no_backend
def test_its_measured_rows_are_those_of_the_cards():
    page = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    cards = (ROOT / "weights/README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| [\d,]+ steps, (.*)$", page, re.M)
    assert len(rows) == len(encoder_names())
    for name, row in rows:
        card = cards.split(f"### {name}\n")[1].split("###")[0]
        for score in re.findall(r"\.\d{3}", row):
            assert score in card, (name, score)
