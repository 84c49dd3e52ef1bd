import doctest
import importlib
import pkgutil

import keras
import numpy as np
import pytest

import keras_audio_ssl as kas
from keras_audio_ssl import features

MODULES = [m.name for m in pkgutil.iter_modules(features.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = importlib.import_module(f"keras_audio_ssl.features.{name}")
    names = {**vars(module), "kas": kas, "keras": keras, "np": np}
    result = doctest.testmod(module, globs=names)
    assert not result.failed
    assert result.attempted or name in ("backend", "__init__")


def test_all_names_are_there():
    for name in features.__all__:
        assert getattr(features, name).__doc__
