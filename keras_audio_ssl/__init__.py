"""Audio self-supervised learning for Keras 3 on TensorFlow, JAX and PyTorch."""

import importlib
import sys
from pathlib import PurePath
from typing import Any

from keras_audio_ssl._backend import choose_backend

__version__ = "0.1.0"

_choice = choose_backend()


def announce_backend() -> None:
    """Says, once, which backend was taken in place of a missing one."""
    global _choice
    if _choice:
        print(_choice, file=sys.stderr)
        _choice = None


_ROOMS = (
    "augment",
    "blocks",
    "callbacks",
    "data",
    "doctor",
    "encoders",
    "evaluation",
    "features",
    "hub",
    "losses",
    "methods",
    "runs",
    "viz",
)
_NAMES = {
    "Classifier": "evaluation",
    "Encoder": "encoders",
    "Readout": "encoders",
    "load_encoder": "hub",
    "PretextModel": "methods",
    "METHODS": "methods",
    "pretrain": "runs",
}


def __getattr__(name: str) -> Any:
    announce_backend()
    if name in _ROOMS:
        return importlib.import_module(f"keras_audio_ssl.{name}")
    room = importlib.import_module(
        f"keras_audio_ssl.{_NAMES.get(name, 'methods')}"
    )
    try:
        return getattr(room, name)
    except AttributeError:
        raise AttributeError(
            f"module 'keras_audio_ssl' has no attribute {name!r}"
        ) from None


def __dir__():
    from keras_audio_ssl.methods import METHODS

    classes = {cls for _, cls, _ in METHODS.values()}
    return sorted({*_ROOMS, *_NAMES, *classes, "__version__"})


# `keras.saving` opens files of classes that are imported. The command line
# imports them when a command needs them, so that `--help` answers at once.
if PurePath(sys.argv[0] if sys.argv else "").stem not in (
    "keras-audio-ssl",
    "-m",
):
    from keras_audio_ssl.methods import import_all

    announce_backend()
    import_all()
