"""Encoders in `.keras` files: opened, saved, found by their names."""

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import keras

import keras_audio_ssl
from keras_audio_ssl._files import FileError
from keras_audio_ssl._files import written_whole
from keras_audio_ssl._text import printable
from keras_audio_ssl._types import FilePath
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.hub.shipped import SHIPPED
from keras_audio_ssl.hub.untrusted import keras_file
from keras_audio_ssl.hub.untrusted import reading_child
from keras_audio_ssl.hub.untrusted.errors import Refused
from keras_audio_ssl.hub.untrusted.errors import Unreadable
from keras_audio_ssl.hub.untrusted.keras_config import check_config
from keras_audio_ssl.hub.untrusted.keras_config import class_of
from keras_audio_ssl.hub.untrusted.reading_parent import told_of
from keras_audio_ssl.hub.untrusted.variable_limits import limited
from keras_audio_ssl.methods import PretextModel


def weights_folder() -> Path:
    """Where named encoders lie.

    Returns:
        The folder named by the environment variable
        `KERAS_AUDIO_SSL_WEIGHTS`, else `_weights/` in an installed package,
        else `weights/` beside the package, as in a checkout.
    """
    named = os.environ.get("KERAS_AUDIO_SSL_WEIGHTS")
    if named:
        return Path(named)
    package = Path(keras_audio_ssl.__file__).resolve().parent
    installed = package / "_weights"
    return installed if installed.is_dir() else package.parent / "weights"


def encoder_names() -> list[str]:
    """Names that `load_encoder` knows.

    Example:
        >>> "cola" in encoder_names()
        True
    """
    return sorted(path.stem for path in weights_folder().glob("*.keras"))


def read_card(name: str) -> dict[str, Any]:
    """What is known of a named encoder: how it was made, what it is worth.

    Args:
        name: A name of `encoder_names()`.

    Returns:
        Its card: `summary`, `training`, `data` with licences, `scores` and
        more, as `weights/README.md` says; empty for an encoder without one.

    Raises:
        ValueError: There is no encoder of this name, or its card is damaged.

    Example:
        >>> read_card("cola")["training"]["where"]
        'split=train'
    """
    if name not in encoder_names():
        raise ValueError(_unknown(name))
    path = weights_folder() / f"{name}.json"
    if not path.is_file():
        return {}
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no card: {error}") from error
    if not isinstance(card, dict):
        raise ValueError(f"{path} is no card: it must hold an object.")
    return card


def load_encoder(
    name_or_path: FilePath,
    custom_objects: dict[str, Any] | None = None,
    trusted: bool = False,
) -> Encoder:
    """Opens an encoder, whichever backend it was saved under.

    The file is checked before Keras sees it: it may name plain Keras layers
    and classes of this package alone, so that files from strangers stay
    data. A child process reads it, with limits of memory and time that follow
    its size. That is left out for the encoders that come with the package,
    files that `save_encoder` wrote in this process, and those you trust.

    Args:
        name_or_path: A name of `encoder_names()`, or a `.keras` file: an
            encoder, or a pretext model, whose encoder is taken.
        custom_objects: Further classes that the file may name, by the name
            they were registered under, or by their class name.
        trusted: `True` for a file that you made, or whose maker you trust:
            this process reads it, however large and costly it is. What it
            names is looked at all the same.

    Returns:
        An `Encoder`.

    Raises:
        ValueError: There is no such file, it is damaged or of another kind,
            it holds no encoder, it names something not allowed, or it takes
            more to open than a file of its size.
        OSError: No child process can be started, or there is no room for a
            copy in the folder of temporary files.

    Example:
        >>> encoder = kas.load_encoder("cola")
        >>> encoder.embed("clip.flac").shape == (encoder.dim,)
        True
    """
    path = find_encoder(name_or_path)
    model = _open(path, custom_objects, False, trusted)
    return model if isinstance(model, Encoder) else model.encoder


# KerasHub's name for the same.
from_preset = load_encoder


def load_model(
    path: FilePath,
    custom_objects: dict[str, Any] | None = None,
    trusted: bool = False,
) -> PretextModel:
    """Opens a pretext model with its optimizer, to train on.

    The file is checked as in `load_encoder`. Its optimizer may be one of
    Keras' with plain numbers, and a schedule of Keras' or this package's.

    Args:
        path: A `.keras` file, as `model.save` or a checkpoint writes.
        custom_objects: Further classes that the file may name.
        trusted: As for `load_encoder`.

    Returns:
        A compiled `PretextModel`, if it was compiled.

    Raises:
        ValueError: There is no such file, it is damaged or of another kind,
            it holds no pretext model, or it names something not allowed.
    """
    model = _open(find_encoder(path), custom_objects, True, trusted)
    if not isinstance(model, PretextModel):
        raise FileError(
            f"{path} holds {type(model).__name__}, no pretext model."
        )
    return model


def _open(
    path: Path, custom: dict[str, Any] | None, compiled: bool, trusted: bool
) -> Any:
    """What a file holds, once it is checked."""
    custom = dict(custom or {})
    try:
        apart = not (trusted or _is_own(path))
        if apart:
            return _opened_apart(path, custom, compiled)
        return _opened_here(path, custom, compiled, trusted)
    except (FileError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and apart:
            # No fault of the file's: no room for a copy, or no process.
            raise
        if isinstance(error, (Unreadable, Refused)):
            raise FileError(f"{path}: {error}") from error
        # Keras, zipfile and HDF5 each have errors of their own.
        raise FileError(f"{path} cannot be opened: {error}") from error


def _opened_here(
    path: Path, custom: dict[str, Any], compiled: bool, trusted: bool
) -> Any:
    """A file that is ours, or that the user trusts."""
    with path.open("rb") as stream:
        members = keras_file.members_of(stream, path.stat().st_size)
        config = keras_file.config_of(members)
    config = check_config(config, path, custom, compiled, not trusted)
    _check_class(config, path, custom)
    return keras.saving.load_model(
        path, custom_objects=custom or None, compile=compiled
    )


def _opened_apart(path: Path, custom: dict[str, Any], compiled: bool) -> Any:
    """A stranger's file.

    A child process reads it. What it tells is written down anew, and that
    is what Keras opens.
    """
    with tempfile.TemporaryDirectory(prefix="keras_audio_ssl-") as folder:
        held, arrays = _written_anew(path, custom, compiled, Path(folder))
        with limited(held, arrays, path):
            return keras.saving.load_model(
                folder, custom_objects=custom or None, compile=compiled
            )


def _written_anew(
    path: Path, custom: dict[str, Any], compiled: bool, folder: Path
) -> tuple[int, int]:
    """Writes what a child tells of a file, as Keras lays it out in a folder.

    Returns:
        Bytes of its arrays, and how many they are.
    """
    import h5py

    with told_of(reading_child.KERAS, path) as found:
        config = check_config(found.told["config"], path, custom, compiled)
        _check_class(config, path, custom)
        text = json.dumps(config)
        (folder / "config.json").write_text(text, encoding="utf-8")
        held = 0
        with h5py.File(folder / "model.weights.h5", "w") as file:
            for name, dtype, shape in found.told["arrays"]:
                array = found.array(dtype, tuple(shape))
                held += array.nbytes
                node = file.create_dataset(name, data=array)
                if dtype == "bfloat16":
                    # As Keras notes what HDF5 has no type for.
                    node.attrs["dtype"] = dtype
        return held, len(found.told["arrays"])


def _check_class(
    config: dict[str, Any], path: Path, custom: dict[str, Any]
) -> None:
    """Whether a checked configuration's top is something with an encoder."""
    cls = class_of(config)
    for name in (config.get("registered_name", ""), config["class_name"]):
        cls = custom.get(name, cls)
    if not isinstance(cls, type) or not issubclass(
        cls, (Encoder, PretextModel)
    ):
        raise FileError(
            f"{path} holds {printable(config['class_name'], 100)}, and "
            "neither an Encoder nor a pretext model that has one."
        )


# Files that this process wrote, as they were then. Nobody can set the time of
# the last change of a file's status (`st_ctime`).
_written: dict[str, tuple] = {}


def _mark(path: FilePath) -> tuple[int, ...]:
    status = os.stat(path)
    return (
        status.st_dev, status.st_ino, status.st_size,
        status.st_mtime_ns, status.st_ctime_ns,
    )  # fmt: skip


def _is_own(path: Path) -> bool:
    """Whether this process wrote a file, or it came with the package."""
    if os.name == "posix" and _written.get(os.path.realpath(path)) == _mark(
        path
    ):
        return True
    if path.stat().st_size not in SHIPPED.values():
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() in SHIPPED


def find_encoder(name_or_path: str | os.PathLike) -> Path:
    """The file of an encoder's name or path; see `load_encoder`."""
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise ValueError(
            "An encoder is given by its name or its path. "
            f"Received: {name_or_path!r}"
        )
    path = Path(name_or_path)
    if path.suffix in (".h5", ".hdf5"):
        raise ValueError(
            f"{path}: HDF5 models are refused, they may hold code. Save it as "
            "`.keras`."
        )
    if path.name == os.fspath(name_or_path) and not path.suffix:
        named = weights_folder() / f"{path}.keras"
        if named.is_file():
            return named
    if path.is_file():
        if path.suffix != ".keras":
            raise ValueError(
                f"{path} is not a `.keras` file. Checkpoints of other "
                "libraries are for `keras-audio-ssl import`."
            )
        return path
    raise ValueError(_unknown(name_or_path))


def _unknown(name: FilePath) -> str:
    """That there is no such encoder, and which there are."""
    known = ", ".join(encoder_names()) or "none"
    return (
        f"There is no encoder {os.fspath(name)!r}: no such file, and the "
        f"names in {weights_folder()} are: {known}."
    )


def save_encoder(
    encoder: keras.Model, path: FilePath, overwrite: bool = True
) -> Path:
    """Saves an encoder, whole or not at all.

    It is written beside `path`, forced to the disk and then renamed: a
    killed run or a full disk leaves the file that was there before.

    Args:
        encoder: `Encoder`, or a pretext model, which keeps its optimizer and
            heads.
        path: File, ending in `.keras`; its folder is made.
        overwrite: Whether a file that is there is replaced.

    Returns:
        The path.

    Raises:
        ValueError: Not an encoder, another ending, or a file is there.
        OSError: The file cannot be written; says how far it came.

    Example:
        >>> save_encoder(encoder, "mine.keras").name
        'mine.keras'
    """
    path = Path(path)
    if not isinstance(encoder, (Encoder, PretextModel)):
        raise ValueError(
            "`encoder` must be an Encoder or a pretext model. "
            f"Received: {type(encoder).__name__}"
        )
    if path.suffix != ".keras":
        raise ValueError(f"`path` must end in `.keras`. Received: {path}")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} is there already, and `overwrite` is False.")
    with written_whole(path) as draft:
        encoder.save(draft, overwrite=True)
    with contextlib.suppress(OSError):
        _written[os.path.realpath(path)] = _mark(path)
    return path
