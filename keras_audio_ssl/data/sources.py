"""Where clips come from: folders, manifests, arrays, rows of a data set."""

import csv
import os
import stat
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_audio_ssl.data.audio import AudioArray
from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.audio import AudioFile
from keras_audio_ssl.data.audio import check_regular

EXTENSIONS = (
    ".aif .aiff .au .caf .flac .mp3 .oga .ogg .opus .rf64 .w64 .wav .wave"
).split()
# Sound that libsndfile does not decode: named, never passed in silence.
FOREIGN = ".3gp .aac .ac3 .amr .ape .m4a .mka .mp4 .webm .wma .wv".split()

Skipped = list[tuple[str, str]]


class Names(Sequence):
    """A list of strings in one buffer, for millions of files.

    Args:
        names: the strings.
    """

    def __init__(self, names: Iterable[str]) -> None:
        coded = [os.fsencode(name) for name in names]
        self._ends = np.cumsum([len(name) for name in coded], dtype="int64")
        self._text = b"".join(coded)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, i):
        if not 0 <= i < len(self):
            raise IndexError(i)
        start = self._ends[i - 1] if i else 0
        return os.fsdecode(self._text[start : self._ends[i]])


class Clips:
    """What a dataset reads: numbered clips, opened one at a time.

    Attributes:
        labels: int32 `(clips,)`, or `None`.
        classes: names of the labels, in their order; `None` without labels.
    """

    labels: np.ndarray | None = None
    classes: list[str] | None = None

    def __len__(self) -> int:
        raise NotImplementedError

    def name(self, i: int) -> str:
        """The file (or item) of clip `i`, as errors name it."""
        raise NotImplementedError

    def open(self, i: int) -> AudioFile | AudioArray:
        """Opens clip `i`; use it in a `with` statement."""
        raise NotImplementedError

    def span(self, i: int) -> tuple[float, float] | None:
        """Start and end of clip `i` in its file, in seconds, if not all."""
        return None

    def same(self, i: int) -> int:
        """Number of the file of clip `i`: several clips may share one."""
        return i

    def keep(self, clips: np.ndarray) -> None:
        """Drops all clips but these, int `(clips,)`."""
        raise NotImplementedError


class FileClips(Clips):
    """Clips that are files, or parts of files.

    Args:
        root: folder of the files; names are relative to it.
        files: names of the files.
        rows: for each clip the number of its file; each file once if `None`.
        spans: float64 `(clips, 2)`, start and end in seconds, NaN for the
            start and the end of the file; whole files if `None`.
        labels: int32 `(clips,)`.
        classes: names of the labels.
    """

    def __init__(
        self,
        root: str,
        files: Sequence[str],
        rows: np.ndarray | None = None,
        spans: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        classes: list[str] | None = None,
    ) -> None:
        self.root = root
        self._files = Names(files)
        if rows is None:
            rows = np.arange(len(self._files), dtype="int32")
        self._rows, self._spans = rows, spans
        self.labels, self.classes = labels, classes
        self._facts = np.zeros((len(self._files), 2), "int64")

    def __len__(self) -> int:
        return len(self._rows)

    def name(self, i: int) -> str:
        return os.path.join(self.root, self._files[self._rows[i]])

    def open(self, i: int) -> AudioFile:
        frames, exact = self._facts[self._rows[i]]
        known = (int(frames), int(exact)) if frames else None
        audio = AudioFile(self.name(i), facts=known)
        self._facts[self._rows[i]] = audio.facts
        return audio

    def span(self, i: int) -> tuple[float, float] | None:
        if self._spans is None:
            return None
        start, end = self._spans[i]
        return float(start), float(end)

    def same(self, i: int) -> int:
        return int(self._rows[i])

    def keep(self, clips: np.ndarray) -> None:
        self._rows = self._rows[clips]
        if self._spans is not None:
            self._spans = self._spans[clips]
        if self.labels is not None:
            self.labels = self.labels[clips]


class ArrayClips(Clips):
    """Clips that are arrays.

    Args:
        arrays: a sequence of waveforms, or one array `(clips, samples)`.
        rate: their sample rate in Hz.
        labels: int32 `(clips,)`.
        classes: names of the labels.
    """

    def __init__(
        self,
        arrays: Any,
        rate: int,
        labels: np.ndarray | None = None,
        classes: list[str] | None = None,
    ) -> None:
        self._arrays, self._rate = arrays, rate
        self._rows = np.arange(len(arrays))
        self.labels, self.classes = labels, classes

    def __len__(self) -> int:
        return len(self._rows)

    def name(self, i: int) -> str:
        return f"array {self._rows[i]}"

    def open(self, i: int) -> AudioFile | AudioArray:
        return AudioArray(
            self._arrays[int(self._rows[i])], self._rate, self.name(i)
        )

    def keep(self, clips: np.ndarray) -> None:
        self._rows = self._rows[clips]
        if self.labels is not None:
            self.labels = self.labels[clips]


class RowClips(ArrayClips):
    """Clips that are rows of a data set in the manner of Hugging Face's.

    Args:
        rows: an object with `__len__` and `__getitem__`, which gives dicts.
        column: key of the audio: a dict with `array` and `sampling_rate`,
            or with `bytes` or `path`; a path; or a decoder object with
            `get_all_samples()`.
        labels: int32 `(clips,)`.
        classes: names of the labels.
    """

    def __init__(
        self,
        rows: Any,
        column: str,
        labels: np.ndarray | None = None,
        classes: list[str] | None = None,
    ) -> None:
        super().__init__(rows, 0, labels, classes)
        self._column = column

    def name(self, i: int) -> str:
        return f"row {self._rows[i]}"

    def open(self, i: int) -> AudioFile | AudioArray:
        name = self.name(i)
        try:
            audio = self._arrays[int(self._rows[i])][self._column]
        except Exception as error:  # whatever the data set's decoder raises
            raise AudioError(
                name, f"cannot be read: {type(error).__name__}: {error}"
            ) from None
        if hasattr(audio, "get_all_samples"):
            found = audio.get_all_samples()
            return AudioArray(found.data, int(found.sample_rate), name)
        if isinstance(audio, (str, os.PathLike)):
            return AudioFile(audio)
        if isinstance(audio, Mapping):
            if audio.get("array") is not None:
                rate = audio.get("sampling_rate") or 0
                if rate < 1:
                    raise AudioError(name, f"sample rate of {rate} Hz")
                return AudioArray(audio["array"], rate, name)
            if audio.get("bytes"):
                return AudioFile(bytes(audio["bytes"]), name=name)
            if audio.get("path"):
                return AudioFile(audio["path"])
        raise AudioError(
            name,
            f"column {self._column!r} holds {type(audio).__name__}, expected "
            "a dict with 'array' and 'sampling_rate', 'bytes' or 'path'",
        )


def scan_folder(
    folder: str, extensions: Iterable[str], max_files: int | None
) -> tuple[list[str], Skipped]:
    """Audio files below a folder, sorted by name, and what is none.

    Hidden files and folders are passed over; links are followed, each folder
    is entered once.

    Args:
        folder: where to look.
        extensions: file name endings, any case.
        max_files: at most so many files, spread evenly over the list.

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
                skipped.append(
                    (
                        entry.path,
                        f"{ending} cannot be decoded: convert it to WAV, "
                        "FLAC, OGG or MP3",
                    )
                )
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


def sniff(path: str) -> str | None:
    """What is wrong with a file at first sight, or `None`.

    Looks at the file's kind, size and first bytes, some 20 us.
    """
    try:
        with open(path, "rb", buffering=0, opener=_open_quietly) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return "not a regular file"
            head = file.read(64)
    except (OSError, ValueError):
        try:
            check_regular(path, path)
        except AudioError as error:
            return error.reason
        return "cannot be opened: no permission"
    if not head:
        return "empty file (0 bytes)"
    if not head.strip(b"\0"):
        return "not audio: begins with zero bytes only"
    return None


def _open_quietly(path: str, flags: int) -> int:
    """Opens without waiting for the other end, should it be a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_manifest(
    path: Any,
    where: Any = None,
    columns: Iterable[str] | None = None,
) -> dict[str, list[str]]:
    """Reads a CSV table that names audio files.

    Args:
        path: the CSV file; its first line names the columns.
        where: which rows to keep: `"COLUMN=VALUE"`, a list of these, or a
            dict of column to value or values. Conditions on several columns
            must all hold; of several values of one column, any.
        columns: the columns wanted; all by default.

    Returns:
        For each column its values, as text.

    Raises:
        ValueError: if the file is missing or no such table, lacks a column,
            or `where` leaves no row.

    Example:
        >>> table = read_manifest("manifest.csv", where="split=train")
        >>> table["file"][0]
        'audio/0_george_5.wav'
    """
    with _Table(path) as table:
        names = list(table.header if columns is None else columns)
        at = [table.find(name) for name in names]
        values: list[list[str]] = [[] for _ in names]
        for row in table.rows(where):
            for k, column in zip(at, values, strict=True):
                column.append(row[k])
    return dict(zip(names, values, strict=True))


class _Table:
    """An open CSV file, read row by row."""

    def __init__(self, path: Any) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ValueError(f"No such manifest (a CSV file): {path}")

    def __enter__(self) -> "_Table":
        try:
            self._file = open(self.path, newline="", encoding="utf-8-sig")
        except OSError as error:
            raise ValueError(f"{self.path}: {error.strerror}") from None
        try:
            first = self._file.readline(1 << 20)
            self._file.seek(0)
            delimiter = max(",;\t", key=first.count)
            self._reader = csv.reader(self._file, delimiter=delimiter)
            self.header = [name.strip() for name in self._next() or []]
            if not self.header:
                raise ValueError(f"{self.path} is empty, expected a CSV table")
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *exception: Any) -> None:
        self._file.close()

    @property
    def line(self) -> int:
        return self._reader.line_num

    def find(self, column: str) -> int:
        if column not in self.header:
            raise ValueError(
                f"No column {column!r} in {self.path}. "
                f"Its columns: {', '.join(self.header)}"
            )
        return self.header.index(column)

    def rows(self, where: Any = None) -> Iterator[list[str]]:
        wanted = _conditions(where)
        checks = [(self.find(name), name) for name in wanted]
        met: dict[str, set[str]] = {name: set() for name in wanted}
        kept = total = 0
        while (row := self._next()) is not None:
            if not row:
                continue
            if len(row) != len(self.header):
                raise ValueError(
                    f"{self.path}, line {self.line}: {len(row)} values, "
                    f"expected {len(self.header)} as in the first line"
                )
            total += 1
            keep = True
            for k, name in checks:
                if len(met[name]) < 1000:
                    met[name].add(row[k])
                keep = keep and row[k] in wanted[name]
            if keep:
                kept += 1
                yield row
        if not total:
            raise ValueError(f"{self.path} has no rows below its first line")
        if not kept:
            some = "; ".join(
                f"{name}: {_few(sort_classes(values))}"
                for name, values in met.items()
            )
            raise ValueError(
                f"No row of {self.path} fulfils where={where!r}. "
                f"Its values: {some}"
            )

    def _next(self) -> list[str] | None:
        try:
            return next(self._reader, None)
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(
                f"{self.path} is not a CSV table in UTF-8: {error}"
            ) from None


def _conditions(where: Any) -> dict[str, set[str]]:
    """`where` as column to accepted values."""
    if where is None:
        return {}
    if isinstance(where, Mapping):
        return {
            str(name): {
                str(value)
                for value in (
                    values
                    if isinstance(values, (list, tuple, set, frozenset))
                    else [values]
                )
            }
            for name, values in where.items()
        }
    conditions: dict[str, set[str]] = {}
    for text in [where] if isinstance(where, str) else where:
        name, equals, value = str(text).partition("=")
        if not equals or not name.strip():
            raise ValueError(
                "`where` must be 'COLUMN=VALUE', a list of these or a dict. "
                f"Received: where={where!r}"
            )
        conditions.setdefault(name.strip(), set()).add(value.strip())
    return conditions


def scan_manifest(
    path: Any,
    where: Any = None,
    label: str | None = None,
    file: str = "file",
    start: str = "start",
    end: str = "end",
    classes: Sequence[str] | None = None,
    max_files: int | None = None,
) -> tuple[FileClips, Skipped]:
    """The clips of a manifest; see `from_manifest`."""
    number: dict[str, int] = {}
    code: dict[str, int] = {}
    rows, codes, spans = [], [], []
    skipped: Skipped = []
    with _Table(path) as table:
        at_file = table.find(file)
        at_label = None if label is None else table.find(label)
        at_span = []
        for name, usual in ((start, "start"), (end, "end")):
            if name in table.header or name != usual:
                at_span.append(table.find(name))
            else:
                at_span.append(-1)
        if label is not None and classes is None:
            # All rows: parts of one manifest must agree on the classes.
            seen = sort_classes({row[at_label] for row in table.rows()})
        else:
            seen = list(classes or [])
    code = {name: k for k, name in enumerate(seen)}
    with _Table(path) as table:
        for row in table.rows(where):
            name = row[at_file].strip()
            if not name:
                skipped.append((f"{path}, line {table.line}", "no file name"))
                continue
            span = (np.nan, np.nan)
            if max(at_span) >= 0:
                try:
                    span = tuple(
                        float(row[k]) if k >= 0 and row[k].strip() else np.nan
                        for k in at_span
                    )
                except ValueError:
                    raise ValueError(
                        f"{path}, line {table.line}: times must be numbers, "
                        f"in seconds. Received: {[row[k] for k in at_span]}"
                    ) from None
                if span[0] < 0 or span[1] <= max(span[0], 0):
                    skipped.append(
                        (
                            f"{name}, line {table.line}",
                            f"the part ends at {span[1]} s, "
                            f"not after its start at {span[0]} s",
                        )
                    )
                    continue
                spans.append(span)
            if at_label is not None:
                if row[at_label] not in code:
                    raise ValueError(
                        f"{path}, line {table.line}: label "
                        f"{row[at_label]!r} is not one of "
                        f"classes={_few(seen)}"
                    )
                codes.append(code[row[at_label]])
            rows.append(number.setdefault(name, len(number)))
    if max_files is not None and len(number) > max_files:
        keep = np.array(rows) < max_files
    else:
        keep = None
    clips = FileClips(
        os.path.dirname(os.fspath(path)),
        list(number),
        np.array(rows, "int32"),
        np.array(spans, "float64") if spans else None,
        np.array(codes, "int32") if label is not None else None,
        seen if label is not None else None,
    )
    if keep is not None:
        clips.keep(np.flatnonzero(keep))
    return clips, skipped


def sort_classes(names: Iterable[str]) -> list[str]:
    """Sorted by value where all are whole numbers, else by name."""
    names = list(names)
    try:
        return sorted(names, key=int)
    except ValueError:
        return sorted(names)


def encode_labels(
    labels: Any, size: int, classes: Sequence[str] | None = None
) -> tuple[np.ndarray, list[str]]:
    """Labels, integers or names, as int32 `(clips,)` and their names."""
    values = np.asarray(labels)
    if values.shape != (size,):
        raise ValueError(
            f"Labels must have the shape ({size},), one a clip. "
            f"Received: {values.shape}"
        )
    if values.dtype.kind in "iu":
        top = int(values.max(initial=-1)) + 1
        least = int(values.min(initial=0))
        known = [str(k) for k in range(top)] if classes is None else classes
        if least < 0 or top > len(known):
            raise ValueError(
                f"Labels must lie in 0 to {len(known) - 1}. "
                f"Received: {least} to {top - 1}"
            )
        return values.astype("int32"), list(known)
    if values.dtype.kind not in "UO":
        raise ValueError(
            f"Labels must be integers or names. Received: {values.dtype}"
        )
    words = [str(value) for value in values]
    known = sort_classes(set(words)) if classes is None else list(classes)
    code = {name: k for k, name in enumerate(known)}
    unknown = sorted(set(words) - set(known))
    if unknown:
        raise ValueError(
            f"Labels {_few(unknown)} are not among classes={_few(known)}"
        )
    return np.array([code[word] for word in words], "int32"), list(known)


def _few(names: Sequence[str], limit: int = 10) -> str:
    text = ", ".join(repr(str(name)) for name in names[:limit])
    more = len(names) - limit
    return f"[{text}]" if more <= 0 else f"[{text}, and {more} more]"
