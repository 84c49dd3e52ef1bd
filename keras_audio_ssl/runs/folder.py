"""What a run leaves beside its encoder, and who may write there."""

import json
import re
from collections.abc import Callable
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from typing import NoReturn

from keras_audio_ssl._files import as_json
from keras_audio_ssl._files import drafts
from keras_audio_ssl._files import write_text
from keras_audio_ssl._types import FilePath


def claim(
    output: Path, folder: Path, resume: bool = False, overwrite: bool = False
) -> bool:
    """Says whether a run goes on or begins, or refuses to begin it.

    Args:
        output: The encoder to write.
        folder: The run's.
        resume: Whether a run is to be there.
        overwrite: Whether what is there may go.

    Returns:
        Whether there is a run to go on with.

    Raises:
        ValueError: Something is there, or for `resume` nothing; or what may
            go is none of a run.
    """
    if overwrite:
        check_own(folder)
        return False
    begun = config_file(folder).exists()
    if resume:
        if not begun:
            raise ValueError(f"`resume=True`: there is no run in {folder}.")
    elif (
        is_finished([output], folder)
        if begun
        else output.exists() or (folder.exists() and any_in(folder))
    ):
        refuse(f"{output} or {folder}")
    return begun


def refuse(there: FilePath) -> NoReturn:
    """Says that there is something, and how it may be dealt with."""
    raise ValueError(
        f"{there} exists. Go on with `resume=True`, or "
        "replace it with `overwrite=True`."
    )


def config_file(folder: Path) -> Path:
    """The settings of a run; that it is there says that there is a run."""
    return folder / "config.json"


def contents_file(folder: Path) -> Path:
    """The table of the files that a run reads."""
    return folder / "files.csv"


def metrics_file(folder: Path) -> Path:
    """What a run measured; it is the last of its files."""
    return folder / "metrics.json"


def is_finished(outputs: Iterable[Path], folder: Path) -> bool:
    """Whether a run came to its end."""
    return (
        all(path.exists() for path in outputs) and metrics_file(folder).exists()
    )


def any_in(folder: Path) -> bool:
    """Whether there is more than the table of files, which comes first."""
    return any(
        path.name != contents_file(folder).name
        and not path.name.startswith(".")
        for path in folder.iterdir()
    )


# What runs write in their folder, and in the folders in it.
FILES = ("config.json", "files.csv", "history.csv", "history.damaged.csv",
         "metrics.json", "skipped.csv")  # fmt: skip
FOLDERS = {
    "checkpoints": re.compile(r"step_\d{9}\.keras"),
    "tensorboard": re.compile(r"events\.out\.tfevents\..+"),
}


def check_own(folder: Path) -> None:
    """Refuses to empty a folder that no run made.

    Raises:
        ValueError: It is a link or a file, or holds something and no
            `config.json` of a run.
    """
    if folder.is_symlink():
        raise ValueError(
            f"{folder} is a link, and `overwrite=True` deletes nothing behind "
            "one. Remove the link, or choose another output."
        )
    if not folder.exists():
        return
    if folder.is_dir() and (is_run(folder) or not any_in(folder)):
        return
    raise ValueError(
        f"{folder} is there, and its config.json does not say that a run made "
        "it: `overwrite=True` deletes runs alone. Move it elsewhere, or "
        "choose another output."
    )


def is_run(folder: Path) -> bool:
    """Whether a folder's `config.json` is that of a run."""
    path = config_file(folder)
    if path.is_symlink() or not path.is_file():
        return False
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and {"method", "versions"} <= config.keys()


def empty(outputs: Iterable[Path], folder: Path) -> None:
    """Deletes a run: its encoders and what it wrote in its folder.

    What else lies there stays, and so does what a link points to.
    """
    check_own(folder)
    if folder.exists():
        for name, pattern in FOLDERS.items():
            delete_in(folder / name, pattern.fullmatch)
        delete_in(folder, set(FILES[1:]).__contains__)
        # Last: killed before, it is a run that can be overwritten.
        config_file(folder).unlink(missing_ok=True)
    for path in outputs:
        path.unlink(missing_ok=True)


def delete_in(folder: Path, is_ours: Callable[[str], object]) -> None:
    """Deletes files by their names, newest first, and drafts."""
    if folder.is_symlink() or not folder.is_dir():
        return
    ours = [path for path in folder.iterdir() if is_ours(path.name)]
    for path in [*sorted(ours, reverse=True), *drafts(folder)]:
        if path.is_symlink() or path.is_file():
            path.unlink(missing_ok=True)


def drop_drafts(paths: Iterable[Path]) -> None:
    """Deletes what killed runs left of files that they were writing."""
    for path in paths:
        for draft in drafts(path):
            draft.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes a value as JSON, whole or not at all."""
    write_text(path, as_json(value))
