"""Docstrings: everything public has one, and their examples run."""

import ast
import builtins
import csv
import doctest
import functools
import importlib
import inspect
import pkgutil
import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile

import keras_audio_ssl as kas
from keras_audio_ssl.backend import portable
from tests.methods.test_lim import on_torch_alone

# They say in their own words what `portable.py` says in plain ones.
WORDS = tuple(
    f"{kas.__name__}.backend.{name}" for name in ("jax", "tensorflow", "torch")
)
RATE = 16000


def modules():
    """Every module of the package but those in a backend's own words."""
    for found in pkgutil.walk_packages(kas.__path__, f"{kas.__name__}."):
        name = found.name
        if "__main__" not in name and not name.startswith(WORDS):
            yield importlib.import_module(name)


def public(module):
    """(name, what it is, class it stands in or None) of what is its own."""
    for name, thing in vars(module).items():
        own = getattr(thing, "__module__", None) == module.__name__
        if name.startswith("_") or not own or not callable(thing):
            continue
        yield name, thing, None
        if inspect.isclass(thing):
            for inner, member in vars(thing).items():
                kinds = (property, functools.cached_property, classmethod)
                if not inner.startswith("_") and (
                    isinstance(member, (*kinds, staticmethod))
                    or inspect.isfunction(member)
                ):
                    yield inner, getattr(thing, inner), thing


def is_described(name, thing, owner):
    """Whether somebody says what it does, be it where it comes from."""
    if thing.__doc__ if inspect.isclass(thing) else inspect.getdoc(thing):
        return True
    # What Keras or Python's own machinery calls does what they say.
    made_of = getattr(inspect.unwrap(thing), "__module__", "")
    if made_of.split(".")[0] == "keras":
        return True
    return owner is not None and any(
        name in vars(base)
        and base.__module__.split(".")[0] != kas.__name__
        and not base.__module__.startswith("tests.")
        for base in owner.__mro__[1:]
    )


@pytest.mark.no_backend
def test_everything_public_has_a_docstring():
    missing = []
    for module in modules():
        for name, thing, owner in public(module):
            if not is_described(name, thing, owner):
                where = f"{owner.__name__}.{name}" if owner else name
                missing.append(f"{module.__name__}: {where}")
    assert not missing, "\n".join(missing)


@pytest.mark.no_backend
def test_what_backends_have_in_their_own_words_is_described_once():
    room = Path(kas.__path__[0]) / "backend"
    files = [*room.glob("*.py"), *room.glob("jax/*.py")]
    missing = []
    for file in files:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if (
                isinstance(node, (ast.FunctionDef, ast.ClassDef))
                and not node.name.startswith("_")
                and not hasattr(portable, node.name)
                and not ast.get_docstring(node)
            ):
                missing.append(f"{file.name}: {node.name}")
    assert len(files) > 10
    assert not missing, "\n".join(missing)


# Their docstrings say whose arguments they take.
ELSEWHERE = {"Arguments", "SincNetChunk", "SpectralFrontEnd"}


@pytest.mark.no_backend
def test_classes_describe_what_their_constructor_takes():
    missing, count = [], 0
    for module in modules():
        for name, thing, owner in public(module):
            own = inspect.isclass(thing) and vars(thing).get("__init__")
            if owner or not own or name in ELSEWHERE:
                continue
            _, *parameters = inspect.signature(own).parameters.values()
            for p in parameters:
                rest = p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
                # That of sizes is put in wherever a class has some.
                if rest or p.name == "preset":
                    continue
                count += 1
                told = rf"^ +[\w, ]*\b{p.name}\b[\w, ]*:|`{p.name}`"
                if not re.search(told, thing.__doc__ or "", re.M):
                    missing.append(f"{module.__name__}: {name}, {p.name}")
    assert count > 500
    assert not missing, "\n".join(missing)


class Example(keras.layers.Layer):
    def call(self, x):
        return x

    def other(self, x):
        return x


@pytest.mark.no_backend
def test_only_what_keras_calls_may_go_without():
    assert is_described("call", Example.call, Example)
    assert not is_described("other", Example.other, Example)
    assert not is_described("Example", Example, None)


def plainly(value):
    """Tensors as lists and shapes as tuples, whatever the backend."""
    if type(value).__name__ in ("Size", "TensorShape"):
        return tuple(value)
    if keras.ops.is_tensor(value):
        array = keras.ops.convert_to_numpy(value)
        whole = array.dtype.kind in "biu"
        return (array if whole else np.round(array.astype(float), 6)).tolist()
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (tuple, list):
        return type(value)(plainly(v) for v in value)
    return value


def show(value):
    """What an example's line is worth, as `>>>` would print it."""
    if value is not None:
        builtins._ = value
        print(repr(plainly(value)))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The files that the examples speak of."""
    root = tmp_path_factory.mktemp("examples")
    rng = np.random.default_rng(0)

    def write(name, seconds, gain=1.0):
        path = root / name
        path.parent.mkdir(exist_ok=True)
        t = np.arange(round(seconds * RATE)) / RATE
        wave = 0.3 * np.sin(2 * np.pi * rng.integers(200, 2000) * t)
        wave += 0.1 * rng.standard_normal(len(t))
        soundfile.write(path, np.clip(gain * wave, -1, 1), RATE)

    def table(name, *rows):
        with open(root / name, "w", newline="") as file:
            csv.writer(file).writerows(rows)

    for i in range(45):
        write(f"my_audio/{i:02d}.wav", 1.2, gain=1.0 if i > 2 else 9.0)
    for name in ("clip.flac", "speech.flac", "stranger.flac", "night.flac"):
        write(name, 3.0)
    (root / "broken.flac").write_bytes(b"no audio")
    words, digits = [], []
    for i in range(8):
        write(f"speech/{i}.wav", 2.0)
        write(f"digits/{i}_george.wav", 0.6)
        for j in range(3):
            words.append([f"{i}.wav", 0.5 * j, 0.5 * j + 0.45, f"word{j}"])
        digits.append([f"{i}_george.wav", "george", "train"])
    table("speech/words.csv", ["file", "start", "end", "label"], *words)
    table("digits/manifest.csv", ["file", "speaker", "split"], *digits)
    return root


def examples():
    """Every docstring with examples."""
    for module in modules():
        finder = doctest.DocTestFinder(exclude_empty=True)
        yield from (test for test in finder.find(module) if test.examples)


def test_the_examples_run(world, monkeypatch):
    on_torch_alone()  # Nothing is compiled there.
    monkeypatch.chdir(world)
    monkeypatch.setattr(sys, "__displayhook__", show)
    model = kas.TERA(preset="tiny")
    model.compile()
    names = {"np": np, "keras": keras, "ops": keras.ops, "kas": kas}
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    runner, told, count = doctest.DocTestRunner(optionflags=flags), [], 0
    for test in examples():
        test.globs = {**test.globs, **names, "model": model}
        test.globs["encoder"] = model.encoder
        count += runner.run(test, out=told.append).attempted
    assert not runner.summarize(verbose=False).failed, "".join(told)
    assert count > 100
