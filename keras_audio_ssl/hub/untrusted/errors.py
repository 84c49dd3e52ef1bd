"""Why a file is not read."""

from typing import Any

from keras_audio_ssl._files import FileError


class CheckpointError(FileError):
    """A checkpoint that cannot be read, or holds more than data.

    Attributes:
        report: `ImportReport` so far, where an importer raised it.
    """

    report: Any = None


class Refused(ValueError):
    """Why a file is not read; whoever knows its name adds that."""


class Unreadable(ValueError):
    """Why a file is not read; its text does not name it."""
