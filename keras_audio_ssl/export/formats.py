"""The formats, and what it takes to write and to check each."""

import importlib.util
from pathlib import Path
from typing import NamedTuple

from keras_audio_ssl._types import FilePath


class ExportError(ValueError):
    """A model that cannot be written in a format, and why."""


class Format(NamedTuple):
    """A format.

    Attributes:
        title: Its name in words.
        suffix: The ending of its files; empty for a folder.
        backend: Keras' backend that traces the model.
        packages: Those that write and run it.
        transforms: Whether it has a Fourier transform.
    """

    title: str
    suffix: str
    backend: str
    packages: tuple[str, ...]
    transforms: bool


# By Keras' own names.
FORMATS = {
    "onnx": Format(
        "ONNX",
        ".onnx",
        "torch",
        ("torch", "onnx", "onnxscript", "onnxruntime"),
        False,
    ),
    "tf_saved_model": Format(
        "SavedModel", "", "tensorflow", ("tensorflow",), True
    ),
    "litert": Format("LiteRT", ".tflite", "tensorflow", ("tensorflow",), False),
}


def format_of(path: FilePath, name: str | None = None) -> str:
    """The format of a file.

    Args:
        path: The file, or the folder of a SavedModel.
        name: A key of `FORMATS`; None for what the path's ending says.

    Returns:
        A key of `FORMATS`.

    Raises:
        ValueError: There is no such format, or it has another ending.
    """
    suffix = Path(path).suffix.lower()
    if name is None:
        name = next((k for k, f in FORMATS.items() if f.suffix == suffix), None)
        if name is None:
            raise ValueError(
                "An export ends in .onnx (ONNX) or .tflite (LiteRT), or is a "
                f"folder without an ending (SavedModel). Received: {path}"
            )
    if name not in FORMATS:
        raise ValueError(
            f"`format` must be one of {', '.join(FORMATS)}. Received: {name!r}"
        )
    wanted = FORMATS[name].suffix
    # A folder may have a dot in its name, but not be taken for a file.
    files = {f.suffix for f in FORMATS.values()} | {".keras"}
    if suffix != wanted and (wanted or suffix in files - {""}):
        ending = f"ends in {wanted}" if wanted else "is a folder"
        raise ValueError(f"A {name} export {ending}. Received: {path}")
    return name


def check_installed(name: str) -> None:
    """Refuses a format for which packages are missing.

    Args:
        name: A key of `FORMATS`.

    Raises:
        ImportError: A package is missing; says how to install it.
    """
    packages = FORMATS[name].packages
    missing = [m for m in packages if importlib.util.find_spec(m) is None]
    if not missing:
        return
    extras = {"torch", "tensorflow"} & set(missing)
    if set(missing) - extras:
        extras.add("export")
    raise ImportError(
        f"Writing {FORMATS[name].title} needs "
        f"{', '.join(missing)}: pip install "
        f"'keras_audio_ssl[{','.join(sorted(extras))}]'"
    )
