"""Chooses an installed Keras backend before Keras is first imported."""

import importlib.util
import json
import os
import sys
from pathlib import Path

BACKENDS = ("tensorflow", "jax", "torch")
INSTALL = "Install one: pip install jax (or tensorflow, or torch)."


def installed_backends() -> list[str]:
    """Names of the backends whose packages are installed, Keras' order."""
    return [b for b in BACKENDS if importlib.util.find_spec(b) is not None]


def configured_backend() -> str:
    """The backend Keras would take: KERAS_BACKEND, keras.json or default."""
    if os.environ.get("KERAS_BACKEND"):
        return os.environ["KERAS_BACKEND"]
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    try:
        return json.loads((home / "keras.json").read_text())["backend"]
    except (OSError, ValueError, KeyError, TypeError):
        return "tensorflow"


def choose_backend() -> str | None:
    """Sets KERAS_BACKEND to an installed backend where Keras' is missing.

    Does nothing once Keras is imported, if the user named a backend, or if
    none is installed, which `check_backend` says.

    Returns:
        What was chosen and why, a sentence; None if nothing was to choose.
    """
    if "keras" in sys.modules or os.environ.get("KERAS_BACKEND"):
        return None
    wanted, found = configured_backend(), installed_backends()
    if wanted in found or wanted not in BACKENDS:
        return None
    if not found:
        return None
    # JAX first: the quickest of the three to import and to train on a CPU.
    chosen = "jax" if "jax" in found else found[0]
    os.environ["KERAS_BACKEND"] = chosen
    return (
        f"keras_audio_ssl: {wanted} is not installed, using the {chosen} "
        "backend (set KERAS_BACKEND to choose)."
    )


def check_backend() -> None:
    """Refuses to begin without the backend that Keras would take.

    Keras itself would say no more than which module is missing.

    Raises:
        ImportError: It is not installed; says what to do.
    """
    wanted, found = configured_backend(), installed_backends()
    if not found:
        raise ImportError(
            f"Keras needs a backend and none is installed. {INSTALL}"
        )
    if wanted in BACKENDS and wanted not in found:
        raise ImportError(
            f"KERAS_BACKEND is {wanted}, which is not installed. Install it: "
            f"pip install {wanted}, or choose KERAS_BACKEND={found[0]}."
        )
