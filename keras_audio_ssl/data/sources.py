"""Where clips come from: folders, manifests, arrays, rows of a data set."""

import os
import stat
from array import array
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from keras_audio_ssl.data.audio import FOREIGN
from keras_audio_ssl.data.audio import AudioArray
from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.audio import AudioFile
from keras_audio_ssl.data.audio import check_regular
from keras_audio_ssl.data.audio import convert
from keras_audio_ssl.data.given import open_given
from keras_audio_ssl.data.isolate import IsolatedFile
from keras_audio_ssl.data.reading import open_audio

EXTENSIONS = (
    *(".wav", ".wave", ".bwf", ".rf64", ".w64", ".aif", ".aiff", ".aifc"),
    *(".au", ".snd", ".caf", ".flac", ".oga", ".ogg", ".opus"),
    *(".mp1", ".mp2", ".mp3", ".mpa", ".mpga"),
    *(".8svx", ".avr", ".ircam", ".nist", ".paf", ".pvf", ".sds", ".sph"),
    *(".svx", ".voc"),
)
Skipped = list[tuple[str, str]]

BLOCK = 4096  # files that are handled together
# Where files lie far away, most of a look at one is waiting.
WEIGHING_THREADS = 16


class Names(Sequence):
    """A list of strings in one buffer, for millions of files.

    Args:
        names: the strings; `append` adds more.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._text, self._ends = bytearray(), array("q")
        for name in names:
            self.append(name)

    @classmethod
    def from_arrays(cls, text: np.ndarray, ends: np.ndarray) -> "Names":
        """The names that `arrays` took apart.

        Raises:
            ValueError: if the arrays do not fit each other.
        """
        edges = np.concatenate([[0], ends, [len(text)]])
        if (np.diff(edges) < 0).any() or edges[-2] != len(text):
            raise ValueError("the ends of the names do not fit their text")
        names = cls()
        names._text = bytearray(text.data)
        names._ends.frombytes(ends.astype("int64").tobytes())
        return names

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """All text, uint8, and where each name ends in it, int64."""
        text = np.frombuffer(self._text, "uint8")
        return text, np.array(self._ends, "int64")

    def append(self, name: str) -> None:
        self._text += os.fsencode(name)
        self._ends.append(len(self._text))

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[str]:
        start = 0
        for end in self._ends:
            yield os.fsdecode(bytes(self._text[start:end]))
            start = end

    def __getitem__(self, i):
        if not 0 <= i < len(self):
            raise IndexError(i)
        start = self._ends[i - 1] if i else 0
        return os.fsdecode(bytes(self._text[start : self._ends[i]]))


class Clips:
    """What a dataset reads: numbered clips, opened one at a time.

    Attributes:
        labels: int32 `(clips,)`, -1 for a clip that has none; or `None`.
        classes: names of the labels, in their order; `None` without labels.
        in_memory: whether looking at all clips costs little.
        extra_spec: shape and dtype of what `extras` gives, by name; nothing
            by default.
    """

    labels: np.ndarray | None = None
    classes: list[str] | None = None
    in_memory = False
    extra_spec: Mapping[str, tuple[tuple[int, ...], str]] = {}

    def __len__(self) -> int:
        raise NotImplementedError

    def name(self, i: int) -> str:
        """The file (or item) of clip `i`, as errors name it."""
        raise NotImplementedError

    def key(self, i: int) -> str:
        """What tells clip `i` from others, wherever the data lie."""
        return self.name(i)

    def open(self, i: int) -> AudioFile | AudioArray | IsolatedFile:
        """Opens clip `i`; use it in a `with` statement."""
        raise NotImplementedError

    def span(self, i: int) -> tuple[float, float] | None:
        """Start and end of clip `i` in its file, in seconds, if not all."""
        return None

    def extras(
        self, i: int, start: int, samples: int, sample_rate: int
    ) -> dict[str, np.ndarray]:
        """Arrays that go with a crop, beside its waveform.

        Called in the threads that read, once for each crop.

        Args:
            i: the clip.
            start: the crop's first sample, counted from the start of the
                file (or array) at `sample_rate`.
            samples: samples of the crop, without padding.
            sample_rate: of the batches, in Hz.

        Returns:
            For each name in `extra_spec` an array of its shape and dtype.

        Raises:
            AudioError: if the clip cannot be used: another takes its place.
        """
        return {}

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

    Attributes:
        names: of the files, relative to `root`.
        rows: the number of each clip's file.
        spans: start and end of each clip, or `None`.
        sizes: int64 `(files,)`, bytes of each file that was looked at.
        weighed: whether `weigh` has looked at the files.
        isolate: whether files are decoded in child processes; `False`.
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
        self.names = files if isinstance(files, Names) else Names(files)
        if rows is None:
            rows = np.arange(len(self.names), dtype="int32")
        self.rows, self.spans = rows, spans
        self.labels, self.classes = labels, classes
        self._facts = np.zeros((len(self.names), 2), "int64")
        self.sizes = np.zeros(len(self.names), "int64")
        self.isolate = self.weighed = False

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, i: int) -> str:
        return os.path.join(self.root, self.names[self.rows[i]])

    def key(self, i: int) -> str:
        start, end = self.span(i) or (0.0, 0.0)
        return f"{self.names[self.rows[i]]}\0{start}\0{end}"

    def open(self, i: int) -> AudioFile | IsolatedFile:
        frames, exact = self._facts[self.rows[i]]
        name = self.name(i)
        known = (int(frames), int(exact)) if frames else None
        if known and self._changed(i, name):
            known = None
        audio = open_audio(name, facts=known, isolate=self.isolate)
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
        """Which part of which file each clip is, as bytes."""
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
        """Name and bytes of each file in use."""
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
        self.in_memory = isinstance(arrays, (np.ndarray, list, tuple))
        self._rows = np.arange(len(arrays))
        self.labels, self.classes = labels, classes

    def __len__(self) -> int:
        return len(self._rows)

    def name(self, i: int) -> str:
        return f"array {self._rows[i]}"

    def open(self, i: int) -> AudioFile | AudioArray | IsolatedFile:
        return open_given(
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
        self.in_memory = False
        self._column, self.isolate = column, False

    def name(self, i: int) -> str:
        return f"row {self._rows[i]}"

    def open(self, i: int) -> AudioFile | AudioArray | IsolatedFile:
        name = self.name(i)
        try:
            audio = self._arrays[int(self._rows[i])][self._column]
        except Exception as error:  # whatever the data set's decoder raises
            raise AudioError(
                name, f"cannot be read: {type(error).__name__}: {error}"
            ) from None
        holder = f"column {self._column!r} holds "
        return open_given(audio, None, name, self.isolate, holder)


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
