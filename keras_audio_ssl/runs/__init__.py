"""Runs: from audio to an encoder's file, and what is left beside it."""

import importlib
from typing import Any

# Loaded on first use: the command line answers `--help` without Keras.
_NAMES = {
    "Failure": "stopping",
    "Interrupted": "stopping",
    "Run": "report",
    "pretrain": "pretraining",
}


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_NAMES[name]}")
    return getattr(module, name)


def __dir__():
    return sorted(_NAMES)
