"""Which files below a folder are audio."""

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_audio_ssl.data.audio.source import FOREIGN
from keras_audio_ssl.data.audio.source import convert
from keras_audio_ssl.data.clips.base import Skipped

EXTENSIONS = (
    *(".wav", ".wave", ".bwf", ".rf64", ".w64", ".aif", ".aiff", ".aifc"),
    *(".au", ".snd", ".caf", ".flac", ".oga", ".ogg", ".opus"),
    *(".mp1", ".mp2", ".mp3", ".mpa", ".mpga"),
    *(".8svx", ".avr", ".ircam", ".nist", ".paf", ".pvf", ".sds", ".sph"),
    *(".svx", ".voc"),
)


def endings_of(extensions: str | Iterable[str]) -> list[str]:
    """Endings of file names as they are compared: `"WAV"` as `".wav"`."""
    given = [extensions] if isinstance(extensions, str) else extensions
    return ["." + str(ending).lower().lstrip(".") for ending in given]


def is_table(path: Any) -> bool:
    """Whether a file is a table, not sound: by the ending of its name."""
    name = os.fspath(path).lower()
    return os.path.isfile(path) and not name.endswith((*EXTENSIONS, *FOREIGN))


def scan_folder(
    folder: str, extensions: Iterable[str], max_files: int | None
) -> tuple[list[str], Skipped]:
    """Audio files below a folder, sorted by name, and what is none.

    Hidden files and folders are passed over; links are followed, each folder
    is entered once.

    Args:
        folder: Where to look.
        extensions: File name endings, any case.
        max_files: At most so many files, spread evenly over the list.

    Returns:
        Names relative to `folder`, and `(file, reason)` pairs.
    """
    wanted = {ending.lower() for ending in extensions}
    found: list[str] = []
    skipped: Skipped = []
    entered = set()
    stack = [""]
    while stack:
        below = stack.pop()
        path = os.path.join(folder, below)
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            entries = list(os.scandir(path))
        except OSError as error:
            skipped.append((path, error.strerror or str(error)))
            continue
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            name = f"{below}/{entry.name}" if below else entry.name
            ending = os.path.splitext(entry.name)[1].lower()
            directory = _is_folder(entry)
            if directory:
                stack.append(name)
            if ending in wanted:
                if directory:
                    skipped.append((entry.path, "a folder, not a file"))
                else:
                    found.append(name)
            elif ending in FOREIGN and not directory:
                skipped.append((entry.path, convert(ending)))
    found.sort()
    if max_files is not None and len(found) > max_files:
        pick = np.arange(max_files) * len(found) // max_files
        found = [found[i] for i in pick]
    return found, skipped


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False
