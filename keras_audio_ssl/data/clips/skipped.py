"""What was left out of a dataset, and why."""

import logging
import threading
from typing import Any

from keras_audio_ssl._text import some_skipped
from keras_audio_ssl.data.audio import AudioError

log = logging.getLogger("keras_audio_ssl")

SAID = 10  # files that the log is told of one by one


class SkippedClips:
    """Clips that cannot be used, in the order of discovery.

    Args:
        source: What the clips are of, for errors.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._reasons: dict[str, str] = {}
        self._logged = 0  # of them, those that the log was told of
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    def add(self, error: AudioError, quiet: bool = False) -> None:
        """Takes a file, once, and says so unless that is to be `quiet`."""
        with self._lock:
            if error.file in self._reasons:
                return
            self._reasons[error.file] = error.reason
            self._logged += not quiet
            count = self._logged
        if quiet:
            return
        if count <= SAID:
            log.warning("skipped %s", error)
        elif count == SAID + 1:
            log.warning("skipped more files: see `dataset.skipped`")

    def pairs(self) -> list[tuple[str, str]]:
        """Each as `(file, reason)`."""
        with self._lock:
            return list(self._reasons.items())

    def nothing_left(self) -> ValueError:
        """The error where no clip is left."""
        pairs = self.pairs()
        if not pairs:
            return ValueError(f"No audio found in {self.source}")
        return ValueError(
            f"Nothing readable in {self.source}: {len(pairs)} skipped. "
            f"First: {some_skipped(pairs[:3])}"
        )
