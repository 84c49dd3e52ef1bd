"""Audio self-supervised learning for Keras 3 on TensorFlow, JAX and PyTorch."""

import importlib
import sys
from typing import TYPE_CHECKING
from typing import Any

from keras_audio_ssl._backend import choose_backend
from keras_audio_ssl._registration import register_with_keras

if TYPE_CHECKING:
    from keras_audio_ssl import augment as augment
    from keras_audio_ssl import blocks as blocks
    from keras_audio_ssl import callbacks as callbacks
    from keras_audio_ssl import data as data
    from keras_audio_ssl import doctor as doctor
    from keras_audio_ssl import encoders as encoders
    from keras_audio_ssl import engine as engine
    from keras_audio_ssl import evaluation as evaluation
    from keras_audio_ssl import features as features
    from keras_audio_ssl import hub as hub
    from keras_audio_ssl import losses as losses
    from keras_audio_ssl import methods as methods
    from keras_audio_ssl import runs as runs
    from keras_audio_ssl import viz as viz
    from keras_audio_ssl.encoders import Encoder as Encoder
    from keras_audio_ssl.encoders import Readout as Readout
    from keras_audio_ssl.encoders import WeightedSum as WeightedSum
    from keras_audio_ssl.evaluation import Classifier as Classifier
    from keras_audio_ssl.hub import from_preset as from_preset
    from keras_audio_ssl.hub import load_encoder as load_encoder
    from keras_audio_ssl.methods import *
    from keras_audio_ssl.runs import pretrain as pretrain

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
    "engine",
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
    "WeightedSum": "encoders",
    "from_preset": "hub",
    "load_encoder": "hub",
    "pretrain": "runs",
}

if not TYPE_CHECKING:
    # Out of a type checker's sight, for which every name would be right.

    def __getattr__(name: str) -> Any:
        if name in _ROOMS:
            announce_backend()
            return importlib.import_module(f"keras_audio_ssl.{name}")
        from keras_audio_ssl import methods

        if name not in _NAMES and name not in methods.__all__:
            raise AttributeError(
                f"module 'keras_audio_ssl' has no attribute {name!r}"
            )
        announce_backend()
        room = _NAMES.get(name, "methods")
        return getattr(importlib.import_module(f"keras_audio_ssl.{room}"), name)

    def __dir__() -> list[str]:
        from keras_audio_ssl import methods

        return sorted({*_ROOMS, *_NAMES, *methods.__all__, "__version__"})


register_with_keras()
