"""Looks into every file of a folder or a manifest, once."""

import os
import threading
from collections import deque
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from keras_audio_ssl._text import column_list
from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.clips.folder import EXTENSIONS
from keras_audio_ssl.data.clips.folder import is_table
from keras_audio_ssl.data.clips.folder import scan_folder
from keras_audio_ssl.data.clips.manifest import read_manifest
from keras_audio_ssl.data.clips.names import Names
from keras_audio_ssl.data.isolation import open_audio
from keras_audio_ssl.doctor.cache import FactsCache
from keras_audio_ssl.doctor.facts import COLUMNS
from keras_audio_ssl.doctor.facts import RECORD
from keras_audio_ssl.doctor.facts import Facts
from keras_audio_ssl.doctor.facts import examine

TASK = 16  # files that a thread takes at a time
FLUSH = 2000  # files after which the cache is written


class Listing:
    """The files of a source, and the clips that a manifest makes of them.

    Args:
        source: The folder, manifest or file.
        root: Folder that names are relative to.
        names: Each file once.
        reasons: File number to why it cannot be read, where that is known.
        rows: int32 `(clips,)`, the file of each clip; each file one clip if
            `None`.
        spans: float64 `(clips, 2)`, start and end in seconds, NaN for the
            file's own; whole files if `None`.
        columns: Column of the manifest to its values, one a clip.
    """

    def __init__(
        self,
        source: str,
        root: str,
        names: Iterable[str],
        reasons: dict[int, str] | None = None,
        rows: np.ndarray | None = None,
        spans: np.ndarray | None = None,
        columns: dict[str, list[str]] | None = None,
    ) -> None:
        self.source, self.root = source, root
        self.names: Sequence[str] = Names(names)
        self.reasons = reasons or {}
        if rows is None:
            rows = np.arange(len(self.names), dtype="int32")
        self.rows, self.spans = rows, spans
        self.columns = columns or {}

    def path(self, file: int) -> str:
        """Path of a file, by its number."""
        return os.path.join(self.root, self.names[file])


def list_audio(source: Any, where: Any = None) -> Listing:
    """The audio files of a folder, a manifest, or one file.

    Args:
        source: A folder; a CSV with a column `file`, perhaps with `start` and
            `end`; or an audio file.
        where: Rows of the manifest to take; see `read_manifest`.

    Returns:
        A `Listing`. What is known to be no audio is in its `reasons`.

    Raises:
        ValueError: If the source is missing, no table, or names no file.
    """
    source = os.fspath(source)
    table = is_table(source)
    if where and not table:
        raise ValueError(f"--where needs a manifest. Received: {source}")
    if table:
        return _list_manifest(source, where)
    if os.path.isfile(source):
        root, name = os.path.split(source)
        return Listing(source, root, [name])
    if not os.path.isdir(source):
        raise ValueError(f"{source}: there is no such file or folder.")
    files, skipped = scan_folder(source, EXTENSIONS, None)
    reasons = {}
    for path, reason in skipped:
        reasons[len(files)] = reason
        files.append(os.path.relpath(path, source))
    if not files:
        raise ValueError(
            f"No audio found in {source}: no file ends with "
            f"{', '.join(EXTENSIONS)}"
        )
    return Listing(source, source, files, reasons)


def _list_manifest(source: str, where: Any) -> Listing:
    columns = read_manifest(source, where)
    if "file" not in columns:
        raise ValueError(
            f"No column 'file' in {source}. "
            f"Its columns: {column_list(list(columns))}"
        )
    number: dict[str, int] = {}
    reasons = {}
    rows = np.zeros(len(columns["file"]), "int32")
    for k, name in enumerate(columns.pop("file")):
        name = name.strip() or f"(row {k + 1})"
        rows[k] = number.setdefault(name, len(number))
        if name.startswith("(row "):
            reasons[int(rows[k])] = "no file name"
    spans = None
    if "start" in columns or "end" in columns:
        empty = [""] * len(rows)
        spans = np.array(
            [
                [_seconds(source, text) for text in columns.pop(name, empty)]
                for name in ("start", "end")
            ]
        ).T
    root = os.path.dirname(source)
    return Listing(source, root, number, reasons, rows, spans, columns)


def _seconds(source: str, text: str) -> float:
    try:
        return float(text.strip() or "nan")
    except ValueError:
        raise ValueError(
            f"{source}: times must be numbers, in seconds. Received: {text!r}"
        ) from None


class Survey:
    """What was found in the files of a listing.

    Attributes:
        listing: The files.
        facts: `(files,)`, with the columns of `Facts`; zeros for a file that
            cannot be read.
        reasons: File number to why it cannot be read.
        cached: How many files did not have to be read again.
    """

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self._records = bytearray(len(listing.names) * RECORD.size)
        self.facts = np.frombuffer(self._records, COLUMNS)
        self.reasons = dict(listing.reasons)
        self.cached = 0

    def of(self, file: int) -> Facts:
        """The facts of one file."""
        at = file * RECORD.size
        return Facts.unpack(bytes(self._records[at : at + RECORD.size]))

    def enter(self, file: int, record: bytes) -> None:
        """Notes the facts of one file, packed."""
        at = file * RECORD.size
        self._records[at : at + RECORD.size] = record


def survey(
    listing: Listing,
    cache: FactsCache | None = None,
    *,
    isolate: bool = True,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Survey:
    """Reads every file of a listing whole, but for what the cache knows.

    Args:
        listing: The files.
        cache: What was found before; nothing by default. What cannot be read
            is not kept there: it may be the disk, or a permission.
        isolate: `True` (default) decodes in child processes, which a file may
            crash.
        workers: Threads, 2 by default.
        progress: Is called with the number of files that are done, and of
            those that are to be read.

    Returns:
        A `Survey`.

    Raises:
        ValueError: If `workers` is less than 1.
        KeyboardInterrupt: What is done until then is noted in the cache.

    Example:
        >>> found = survey(list_audio("my_audio"))
        >>> found.facts["rate"].max()
        16000
    """
    if workers < 1:
        raise ValueError(f"`workers` must be positive. Received: {workers}")
    found = Survey(listing)
    todo = []
    for file in range(len(listing.names)):
        if file in found.reasons:
            continue
        known = None
        if cache is not None:
            path = listing.path(file)
            mark = _mark(path)
            known = cache.get(path, *mark) if mark else None
        if known is None:
            todo.append(file)
        else:
            found.enter(file, known)
            found.cached += 1
    done = 0
    progress(done, len(todo))
    stop = threading.Event()

    def read(files: list[int]) -> list[tuple]:
        answers = []
        for file in files:
            if stop.is_set():
                break
            answers.append((file, *_read(listing.path(file), isolate, stop)))
        return answers

    waiting: deque[Future] = deque()
    noted = 0

    def take() -> None:
        nonlocal done, noted
        for file, mark, answer in waiting.popleft().result():
            if isinstance(answer, AudioError):
                found.reasons[file] = answer.reason
            else:
                record = answer.pack()
                found.enter(file, record)
                if cache is not None and mark is not None:
                    cache.put(listing.path(file), mark[0], mark[1], record)
                    noted += 1
            done += 1
        progress(done, len(todo))
        if cache is not None and noted >= FLUSH:
            cache.flush()
            noted = 0

    with ThreadPoolExecutor(workers) as pool:
        try:
            for start in range(0, len(todo), TASK):
                waiting.append(pool.submit(read, todo[start : start + TASK]))
                if len(waiting) > 4 * workers:
                    take()
            while waiting:
                take()
        finally:
            stop.set()
            for future in waiting:
                future.cancel()
    return found


class _Stopped(Exception):
    """The survey ends; nobody waits for the answer."""


class _Stoppable:
    """A file whose reading ends between two blocks when it is asked to."""

    def __init__(self, audio: Any, stop: threading.Event) -> None:
        self._audio, self._stop = audio, stop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._audio, name)

    def read_channels(self, start: int, frames: int) -> np.ndarray:
        if self._stop.is_set():
            raise _Stopped
        return self._audio.read_channels(start, frames)


def _read(
    path: str, isolate: bool, stop: threading.Event
) -> tuple[tuple[int, int] | None, Facts | AudioError]:
    """A file's size and time, if it stayed the same, and what it holds."""
    mark = _mark(path)
    try:
        with open_audio(path, isolate=isolate) as audio:
            # It passes on what it has not itself, which no type says.
            facts = examine(_Stoppable(audio, stop))  # type: ignore[arg-type]
    except AudioError as error:
        return None, error
    except _Stopped:
        return None, AudioError(path, "was not read to its end")
    return (mark if mark == _mark(path) else None), facts


def _mark(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns
