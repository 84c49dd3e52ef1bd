"""A model as a file of another format: written, checked, then put in place."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from keras_audio_ssl._files import written_whole
from keras_audio_ssl._types import FilePath
from keras_audio_ssl.export.formats import FORMATS
from keras_audio_ssl.export.formats import ExportError
from keras_audio_ssl.export.formats import check_installed
from keras_audio_ssl.export.formats import format_of

# Names of files in the folder that a child process is given.
MODEL, REQUEST, RESULT, DRAFT = (
    "model.keras",
    "request.json",
    "result.json",
    "x",
)
# What the child says at its end where something went wrong that no one
# foresaw: so many characters.
LAST_WORDS = 2000


def export_model(
    model: Any,
    path: FilePath,
    format: str | None = None,
    samples: int | None = None,
) -> Path:
    """Writes a model of waveforms in another format, and checks the file.

    A process of its own rebuilds the model on the CPU, on the backend that
    writes the format best, so the file does not depend on the backend in use.
    See `Encoder.export`.

    Args:
        model: A `keras.Model` with `sample_rate` and `min_samples`.
        path: The file; or the folder, of a SavedModel.
        format: A key of `FORMATS`, by default what the ending says.
        samples: Samples of each clip, for a file that takes no other; by
            default it takes clips of any length.

    Returns:
        The path.

    Raises:
        ImportError: A package that the format needs is missing.
        ValueError: The path, the format or `samples` is wrong.
        ExportError: The model cannot be written so, or the file gives other
            vectors; there is no file then.
    """
    path = Path(path)
    name = format_of(path, format)
    check_installed(name)
    check_place(path, name)
    if samples is not None and samples < model.min_samples:
        raise ValueError(
            f"`samples` must be at least {model.min_samples}, which the model "
            f"needs. Received: {samples}"
        )
    classes = own_classes(model)
    with tempfile.TemporaryDirectory(prefix="keras_audio_ssl_") as folder:
        work = Path(folder)
        model.save(work / MODEL)
        request = {
            "format": name,
            "samples": samples,
            "classes": classes,
            "facts": {
                fact: getattr(model, fact)
                for fact in ("sample_rate", "frame_rate", "min_samples", "dim")
                if hasattr(model, fact)
            },
        }
        (work / REQUEST).write_text(json.dumps(request), encoding="utf-8")
        ask_child(work, name)
        put_in_place(work / (DRAFT + FORMATS[name].suffix), path)
    return path


def check_place(path: Path, name: str) -> None:
    """Refuses to put a file where a folder is, and a folder where else is."""
    if FORMATS[name].suffix:
        if path.is_dir():
            raise ValueError(f"{path} is a folder; name a file in it.")
    elif path.exists() and not (
        path.is_dir()
        and ((path / "saved_model.pb").is_file() or not any(path.iterdir()))
    ):
        raise ValueError(
            f"{path} is there and no SavedModel; name a folder that is new."
        )


def own_classes(model: Any) -> list[tuple[str, str]]:
    """`[module, name]` of the user's own classes in a model.

    Raises:
        ExportError: One of them is in no module that can be imported.
    """
    found = set()
    for layer in model._flatten_layers():
        cls = type(layer)
        if cls.__module__.split(".")[0] in ("keras", "keras_audio_ssl"):
            continue
        if cls.__module__ == "__main__" or "<" in cls.__qualname__:
            raise ExportError(
                f"{cls.__qualname__} is defined in the running script or "
                "notebook, or in a function. An export is written by a process "
                "of its own: put the class into a module that it can import."
            )
        found.add((cls.__module__, cls.__qualname__))
    return sorted(found)


def ask_child(work: Path, name: str) -> None:
    """Runs `child` on a folder.

    Raises:
        ExportError: What it refused, or how it failed.
    """
    environment = {
        **os.environ,
        "KERAS_BACKEND": FORMATS[name].backend,
        # A model that is written once needs no accelerator, which the
        # process that asks may hold.
        "CUDA_VISIBLE_DEVICES": "-1",
        "KERAS_TORCH_DEVICE": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    ran = subprocess.run(
        [sys.executable, "-m", "keras_audio_ssl.export.child", str(work)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    try:
        result = json.loads((work / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ExportError(
            f"The process that writes {FORMATS[name].title} ended with code "
            f"{ran.returncode}: {ran.stderr.strip()[-LAST_WORDS:]}"
        ) from None
    if result["refused"]:
        raise ExportError(result["refused"])


def put_in_place(draft: Path, path: Path) -> None:
    """Moves what was written and checked to where it belongs."""
    if draft.is_file():
        with written_whole(path) as beside:
            shutil.copyfile(draft, beside)
        return
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        shutil.copytree(draft, beside / "new")
        if path.exists():
            os.replace(path, beside / "old")
        os.replace(beside / "new", path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
