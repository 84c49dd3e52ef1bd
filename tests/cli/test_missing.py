"""Without a backend, or a package that a command needs: one good line."""

import importlib.util
import subprocess
import sys

import pytest

from keras_audio_ssl._backend import installed_backends
from keras_audio_ssl.cli import COMMANDS
from keras_audio_ssl.cli import main

pytestmark = pytest.mark.no_backend

# A process in which no backend is installed.
BARE = """
import importlib.util, os, sys
os.environ.pop("KERAS_BACKEND", None)
os.environ.update(ENVIRON)
find = importlib.util.find_spec
gone = GONE
importlib.util.find_spec = lambda name, *a: None if name in gone else find(name)
CODE
"""
COMMAND = """
from keras_audio_ssl.cli import main
codes = []
for argv in ARGV:
    codes.append(main(argv))
    assert "keras" not in sys.modules
sys.stdout.write(repr(codes))
"""
ARGUMENTS = {
    "list": [],
    "doctor": ["."],
    "pretrain": ["cola", "--data", "synthetic", "--output", "x.keras"],
    "embed": ["cola", "--data", ".", "--output", "x.npz"],
    "probe": ["cola", "--manifest", "x.csv", "--label", "y"],
    "search": ["cola", "--data", ".", "--query", "x.wav"],
    "attention": ["tera", "x.wav", "--output", "x"],
    "augmentations": [
        "clar", "--data", "x.csv", "--label", "y", "--output", "x.html",
    ],
    "export": ["cola", "x.onnx"],
    "import": ["apc_s3prl", "x.ckpt", "--output", "x.keras"],
}  # fmt: skip


def bare(code, gone=("tensorflow", "jax", "torch"), **environ):
    text = BARE.replace("ENVIRON", repr(environ)).replace("GONE", repr(gone))
    return subprocess.run(
        [sys.executable, "-c", text.replace("CODE", code)],
        capture_output=True,
        text=True,
    )


def test_without_a_backend_each_command_ends_in_one_line():
    assert set(ARGUMENTS) == set(COMMANDS)
    argv = [[name, *arguments] for name, arguments in ARGUMENTS.items()]
    done = bare(COMMAND.replace("ARGV", repr(argv)))
    assert done.stdout == repr([1] * len(argv)), done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(argv)
    for name, line in zip(ARGUMENTS, lines, strict=True):
        assert line.startswith(f"keras-audio-ssl {name}: Keras needs a backend")
        assert "pip install jax" in line


def test_a_backend_that_was_asked_for_and_is_not_there():
    code = COMMAND.replace("ARGV", "[['list']]")
    done = bare(code, gone=("tensorflow",), KERAS_BACKEND="tensorflow")
    assert done.stdout == "[1]", done.stderr
    assert done.stderr.count("\n") == 1
    assert "pip install tensorflow, or choose KERAS_BACKEND=" in done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "import keras_audio_ssl as kas; kas.COLA",
        "from keras_audio_ssl.data import from_folder",
        "import keras_audio_ssl, keras",
    ],
)
def test_python_is_told_too_whatever_is_first_imported(code):
    last = bare(code).stderr.splitlines()[-1]
    assert last.startswith("ImportError: Keras needs a backend")


def test_help_and_version_need_no_backend():
    code = "from keras_audio_ssl.cli import main; main(['FLAG'])"
    for flag in ("--help", "--version"):
        done = bare(code.replace("FLAG", flag))
        assert done.returncode == 0 and done.stdout, done.stderr


@pytest.mark.parametrize(
    "argv, package",
    [
        (["pretrain", "cola", "--data", "synthetic", "--output", "x.keras",
          "--tensorboard"], "tensorboardX"),
        (["embed", "cola", "--data", "nowhere", "--output", "x.parquet"],
         "pyarrow"),
        (["attention", "tera", __file__, "--output", "x"], "matplotlib"),
    ],
)  # fmt: skip
def test_missing_packages_are_told_before_any_work(
    argv, package, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == package else find(name, *more),
    )
    assert main(argv) == 1
    error = capsys.readouterr().err
    assert f"pip install {package}" in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name, package",
    [("TensorBoard", "tensorboardX"), ("ReconstructionPictures", "matplotlib")],
)
def test_callbacks_tell_of_missing_packages_when_they_are_made(
    name, package, monkeypatch, tmp_path
):
    from keras_audio_ssl import callbacks

    kind = getattr(callbacks, name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda *more: None)
    arguments = [tmp_path] if name == "TensorBoard" else [[0.0], tmp_path]
    with pytest.raises(ImportError, match=f"`{name}` needs {package}: pip"):
        kind(*arguments)


def test_on_a_terminal_it_is_said_that_keras_is_being_loaded():
    code = (
        "import importlib.machinery as m\n"
        "look = m.PathFinder.find_spec\n"
        "m.PathFinder.find_spec = lambda name, *a: (\n"
        "    None if name == 'keras' else look(name, *a))\n"
        "sys.stderr.isatty = lambda: True\n"
        + COMMAND.replace("ARGV", "[['list']]")
    )
    # Named, so that nothing is said of one that is chosen.
    done = bare(code, gone=(), KERAS_BACKEND=installed_backends()[0])
    assert done.stderr.splitlines()[0] == "loading Keras"
