"""Clips that are files, or parts of files."""

import os
import stat
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.audio import AudioSource
from keras_audio_ssl.data.audio.source import check_regular
from keras_audio_ssl.data.clips.base import Clips
from keras_audio_ssl.data.clips.base import Skipped
from keras_audio_ssl.data.clips.names import Names
from keras_audio_ssl.data.isolation import open_audio

BLOCK = 4096  # files that are handled together
# Where files lie far away, most of a look at one is waiting.
WEIGHING_THREADS = 16


class FileClips(Clips):
    """Clips that are files, or parts of files.

    Args:
        root: Folder of the files; names are relative to it.
        files: Names of the files.
        rows: For each clip the number of its file; each file once if `None`.
        spans: float64 `(clips, 2)`, start and end in seconds, NaN for the
            start and the end of the file; whole files if `None`.
        labels: int32 `(clips,)`.
        classes: Names of the labels.
        isolate: Whether files are decoded in child processes; `False` by
            default.

    Attributes:
        names: Of the files, relative to `root`.
        rows: The number of each clip's file.
        spans: Start and end of each clip, or `None`.
        sizes: int64 `(files,)`, bytes of each file that was looked at.
        weighed: Whether `weigh` has looked at the files.
    """

    def __init__(
        self,
        root: str,
        files: Sequence[str],
        rows: np.ndarray | None = None,
        spans: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        classes: list[str] | None = None,
        isolate: bool = False,
    ) -> None:
        self.root = root
        self.names = files if isinstance(files, Names) else Names(files)
        if rows is None:
            rows = np.arange(len(self.names), dtype="int32")
        self.rows, self.spans = rows, spans
        self.labels, self.classes = labels, classes
        self._facts = np.zeros((len(self.names), 2), "int64")
        self.sizes = np.zeros(len(self.names), "int64")
        self._isolate, self.weighed = isolate, False

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, i: int) -> str:
        return os.path.join(self.root, self.names[self.rows[i]])

    def key(self, i: int) -> str:
        start, end = self.span(i) or (0.0, 0.0)
        return f"{self.names[self.rows[i]]}\0{start}\0{end}"

    def open(self, i: int) -> AudioSource:
        frames, exact = self._facts[self.rows[i]]
        name = self.name(i)
        known = (int(frames), int(exact)) if frames else None
        if known and self._changed(i, name):
            known = None
        audio = open_audio(name, facts=known, isolate=self._isolate)
        self._facts[self.rows[i]] = audio.facts
        return audio

    def _changed(self, i: int, name: str) -> bool:
        """Whether a file is another than it was when it was sniffed."""
        size = self.sizes[self.rows[i]]
        try:
            return bool(size) and os.stat(name).st_size != size
        except OSError:
            return True

    def span(self, i: int) -> tuple[float, float] | None:
        if self.spans is None:
            return None
        start, end = self.spans[i]
        return float(start), float(end)

    def places(self) -> bytes:
        if self.spans is None:
            return self.rows.tobytes()
        return self.rows.tobytes() + self.spans.tobytes()

    def files(self) -> np.ndarray:
        """For each file in use, one clip in it."""
        return np.unique(self.rows, return_index=True)[1]

    def used(self) -> np.ndarray:
        """Whether each file is in use, bool `(files,)`."""
        used = np.zeros(len(self.names), bool)
        used[self.rows] = True
        return used

    def contents(self) -> Iterator[tuple[str, int]]:
        used, sizes = self.used().data, self.sizes.data
        for name, size, use in zip(self.names, sizes, used, strict=True):
            if use:
                yield os.path.join(self.root, name), size

    def weigh(self) -> Skipped:
        """Looks at kind and size of each file and drops what is none.

        That takes some 10 us a file, half of it in the system, and reads no
        file: the first look at very many. What is wrong inside of one is
        found when it is read.

        Returns:
            What was dropped, as `(file, reason)`.
        """

        def part(numbers: np.ndarray) -> list[tuple[int, str, str]]:
            bad = []
            for number in numbers.tolist():
                name = os.path.join(self.root, self.names[number])
                reason, self.sizes[number] = weigh(name)
                if reason is not None:
                    bad.append((number, name, reason))
            return bad

        numbers = np.flatnonzero(self.used())
        blocks = [
            numbers[at : at + BLOCK] for at in range(0, len(numbers), BLOCK)
        ]
        with ThreadPoolExecutor(WEIGHING_THREADS) as pool:
            bad = [found for one in pool.map(part, blocks) for found in one]
        self.weighed = True
        if bad:
            dropped = np.array([number for number, _, _ in bad], "int32")
            self.keep(np.flatnonzero(~np.isin(self.rows, dropped)))
        return [(name, reason) for _, name, reason in bad]

    def sniff(self, i: int) -> AudioError | None:
        """What is wrong with a clip's file at first sight."""
        name = self.name(i)
        reason, self.sizes[self.rows[i]] = sniff(name)
        return None if reason is None else AudioError(name, reason)

    def keep(self, clips: np.ndarray) -> None:
        self.rows = self.rows[clips]
        if self.spans is not None:
            self.spans = self.spans[clips]
        if self.labels is not None:
            self.labels = self.labels[clips]


def sniff(path: str) -> tuple[str | None, int]:
    """What is wrong with a file at first sight, or `None`, and its bytes.

    Looks at the file's kind, size and first bytes, some 20 us.
    """
    try:
        with open(path, "rb", buffering=0, opener=_open_quietly) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return "not a regular file", 0
            head = file.read(64)
    except (OSError, ValueError) as error:
        try:
            check_regular(path, path)
        except AudioError as found:
            return found.reason, 0
        return getattr(error, "strerror", None) or str(error), 0
    if not head:
        return "empty file (0 bytes)", 0
    if not head.strip(b"\0"):
        return "not audio: begins with zero bytes only", status.st_size
    return None, status.st_size


def weigh(path: str) -> tuple[str | None, int]:
    """`sniff` without opening the file, unless something is wrong."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return sniff(path)
    if stat.S_ISREG(status.st_mode) and status.st_size:
        return None, status.st_size
    return sniff(path)


def _open_quietly(path: str, flags: int) -> int:
    """Opens without waiting for the other end, should it be a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
