"""One set of names, whichever backend is chosen."""

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_audio_ssl.backend as backend
from keras_audio_ssl.backend import portable

ROOM = Path(backend.__file__).parent
MODULES = {
    "jax": "jax/__init__.py",
    "tensorflow": "tensorflow.py",
    "torch": "torch.py",
}


def exported(path):
    """The entries of `__all__`, without importing the module's library."""
    for node in ast.parse((ROOM / path).read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            return ast.literal_eval(node.value)
    raise AssertionError(f"{path} has no __all__")


@pytest.mark.parametrize("name", MODULES)
def test_a_backend_has_no_name_that_the_plain_module_lacks(name):
    own = exported(MODULES[name])
    assert set(own) < set(portable.__all__)
    assert own == sorted(own)


@pytest.mark.parametrize("name", portable.__all__)
def test_arguments_are_those_of_the_plain_function(name):
    parameters = [
        list(inspect.signature(getattr(module, name)).parameters)
        for module in (backend, portable)
    ]
    assert parameters[0] == parameters[1]


CHOSEN = """
import sys
import keras_audio_ssl.backend as backend
from keras_audio_ssl.backend import portable
import keras_audio_ssl.engine, keras_audio_ssl.blocks
room = "keras_audio_ssl.backend."
print(*[n for n in MODULES if room + n in sys.modules])
print(*[n for n in portable.__all__
        if getattr(backend, n) is getattr(portable, n)])
"""


def choose(name):
    """The modules that are imported, and the names that stay the plain ones."""
    done = subprocess.run(
        [sys.executable, "-c", CHOSEN.replace("MODULES", repr([*MODULES]))],
        env={**os.environ, "KERAS_BACKEND": name},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def test_the_chosen_module_alone_is_imported():
    name = keras.backend.backend()
    modules, plain = choose(name)
    assert modules == [name]
    own = set(exported(MODULES[name]))
    assert set(plain) == set(portable.__all__) - own


def test_on_another_backend_the_plain_functions_serve():
    pytest.importorskip("jax", reason="NumPy's backend of Keras takes it")
    modules, plain = choose("numpy")
    assert not modules
    assert plain == portable.__all__


def test_a_processor_is_no_accelerator():
    import keras_audio_ssl.backend as backend

    assert backend.is_accelerated() is False
