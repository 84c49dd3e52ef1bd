"""Chooses an installed Keras backend before Keras is first imported."""

import importlib.util
import json
import os
import sys
from pathlib import Path

BACKENDS = ("tensorflow", "jax", "torch")


def installed_backends():
    """Names of the backends whose packages are installed, Keras' order."""
    return [b for b in BACKENDS if importlib.util.find_spec(b) is not None]


def configured_backend():
    """The backend Keras would take: KERAS_BACKEND, keras.json or default."""
    if os.environ.get("KERAS_BACKEND"):
        return os.environ["KERAS_BACKEND"]
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    try:
        return json.loads((home / "keras.json").read_text())["backend"]
    except (OSError, ValueError, KeyError, TypeError):
        return "tensorflow"


def choose_backend():
    """Sets KERAS_BACKEND to an installed backend where Keras' is missing.

    Does nothing once Keras is imported, or if the user named a backend.

    Returns:
        What was chosen and why, a sentence; None if nothing was to choose.

    Raises:
        ImportError: No backend is installed.
    """
    if "keras" in sys.modules or os.environ.get("KERAS_BACKEND"):
        return None
    wanted, found = configured_backend(), installed_backends()
    if wanted in found or wanted not in BACKENDS:
        return None
    if not found:
        raise ImportError(
            "Keras needs a backend and none is installed. Install one: "
            'pip install "keras_audio_ssl[jax]" (or [tensorflow], [torch]).'
        )
    # JAX first: the quickest of the three to import and to train on a CPU.
    chosen = "jax" if "jax" in found else found[0]
    os.environ["KERAS_BACKEND"] = chosen
    return (
        f"keras_audio_ssl: {wanted} is not installed, using the {chosen} "
        "backend (set KERAS_BACKEND to choose)."
    )
