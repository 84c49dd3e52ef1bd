"""Saved encoders, and published checkpoints of other libraries."""

import importlib
from typing import Any

# Loaded on first use: the command line lists formats without Keras.
_NAMES = {
    "CheckpointError": "unpickle",
    "FORMATS": "importers",
    "ImportReport": "report",
    "LicenceError": "importers",
    "encoder_names": "load",
    "from_preset": "load",
    "import_checkpoint": "importers",
    "load_encoder": "load",
    "load_model": "load",
    "read_card": "load",
    "read_checkpoint": "checkpoint",
    "save_encoder": "load",
}


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_NAMES[name]}")
    return getattr(module, name)


def __dir__():
    return sorted(_NAMES)
