"""What a table of very many files was found to hold, kept for next time."""

import hashlib
import json
import logging
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from keras_audio_ssl._files import cache_folder
from keras_audio_ssl._files import written_whole
from keras_audio_ssl.data.clips.base import Skipped
from keras_audio_ssl.data.clips.files import FileClips
from keras_audio_ssl.data.clips.names import Names

log = logging.getLogger("keras_audio_ssl")

# Part of the file's head: other rules of reading tables begin anew.
MAGIC = b"kas-manifest-2\n\0"
# The arrays of a file, in their order.
TYPES = {
    "text": "u1",
    "ends": "<i8",
    "sizes": "<i8",
    "rows": "<i4",
    "spans": "<f8",
    "labels": "<i4",
    "class_text": "u1",
    "class_ends": "<i8",
    "skipped_text": "u1",
    "skipped_ends": "<i8",
}
# Magic, what it was made from, check sum, and the lengths of the arrays. Not
# `np.savez`, whose reader reserves what an array's own head says, however
# short the file.
HEAD = struct.Struct(f"<{len(MAGIC)}s32sI{len(TYPES)}q")


class ManifestIndex:
    """The clips of a manifest as a file in the user's cache folder.

    The file holds arrays of numbers and text after a head of fixed size, no
    code and nothing to be unpacked. It is used as long as the manifest has
    the same size and time of change; one that is damaged is thrown away.

    Args:
        manifest: The CSV file.
        options: What else the clips depend on, as JSON.

    Attributes:
        path: The file, or `None`: there is no manifest, or no cache folder.
    """

    def __init__(self, manifest: Any, options: dict[str, Any]) -> None:
        self.root = os.path.dirname(os.fspath(manifest))
        self.path: Path | None = None
        self._key = b""
        self._least_label = -1 if options.get("unlabelled") else 0
        folder = cache_folder()
        try:
            status = os.stat(manifest)
        except (OSError, ValueError):
            return
        if folder is None:
            return
        # Skipped lines are named with the path as it was given.
        what = [os.fspath(manifest), os.path.abspath(manifest), options]
        name = _digest(what).hex()[:32]
        self.path = folder / "manifests" / f"{name}.index"
        self._key = _digest([*what, status.st_size, status.st_mtime_ns])

    def read(self, isolate: bool) -> tuple[FileClips, Skipped] | None:
        """The clips and what was skipped, or `None`: to be found anew.

        Args:
            isolate: As for `FileClips`.
        """
        if self.path is None:
            return None
        try:
            arrays = self._load(self.path)
            return None if arrays is None else self._unpack(arrays, isolate)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("%s is thrown away: %s", self.path, error)
            self._throw_away(self.path)
            return None

    def write(self, clips: FileClips, skipped: Skipped) -> None:
        """Keeps what was found, if the cache folder can be written to."""
        if self.path is None or not len(clips):
            return
        arrays = self._pack(clips, skipped)
        head = HEAD.pack(
            MAGIC, self._key, _check_sum(arrays), *map(len, arrays)
        )
        try:
            private_folder(self.path.parent)
            with written_whole(self.path) as draft, open(draft, "wb") as file:
                file.write(head)
                for part in arrays:
                    file.write(part.data)
            self.path.chmod(0o600)
        except OSError as error:
            log.warning("the next start will take as long: %s", error)

    def _load(self, path: Path) -> list[np.ndarray] | None:
        """The arrays of a file; `None` if it is of another table."""
        with open(path, "rb") as file:
            head = file.read(HEAD.size)
            if len(head) < HEAD.size:
                raise ValueError("it ends in its head")
            magic, key, check, *counts = HEAD.unpack(head)
            if magic != MAGIC:
                raise ValueError("it is no index of a manifest")
            if key != self._key:
                return None
            types = [np.dtype(dtype) for dtype in TYPES.values()]
            size = HEAD.size + sum(
                dtype.itemsize * count
                for dtype, count in zip(types, counts, strict=True)
            )
            if min(counts) < 0 or size != os.fstat(file.fileno()).st_size:
                raise ValueError("it has another size than its head says")
            arrays = [
                np.fromfile(file, dtype, count)
                for dtype, count in zip(types, counts, strict=True)
            ]
        if _check_sum(arrays) != check:
            raise ValueError("its check sum is wrong")
        return arrays

    def _pack(self, clips: FileClips, skipped: Skipped) -> list[np.ndarray]:
        spans = clips.spans
        arrays = (
            *clips.names.arrays(),
            clips.sizes,
            clips.rows,
            np.zeros(0) if spans is None else spans.ravel(),
            np.zeros(0) if clips.labels is None else clips.labels,
            *Names(clips.classes or ()).arrays(),
            *Names(text for pair in skipped for text in pair).arrays(),
        )
        return [
            np.ascontiguousarray(part, dtype)
            for part, dtype in zip(arrays, TYPES.values(), strict=True)
        ]

    def _unpack(
        self, arrays: list[np.ndarray], isolate: bool
    ) -> tuple[FileClips, Skipped]:
        """The clips of arrays that may be wrong in any way.

        Raises:
            ValueError: If they do not fit each other.
        """
        part = dict(zip(TYPES, arrays, strict=True))
        names = Names.from_arrays(part["text"], part["ends"])
        classes = Names.from_arrays(part["class_text"], part["class_ends"])
        words = Names.from_arrays(part["skipped_text"], part["skipped_ends"])
        rows, spans, labels = part["rows"], part["spans"], part["labels"]
        clips = len(rows)
        if (
            not clips
            or len(part["sizes"]) != len(names)
            or not _within(rows, len(names))
            or len(spans) not in (0, 2 * clips)
            or len(labels) not in (clips, clips if len(classes) else 0)
            or not _within(labels, len(classes), self._least_label)
            or len(words) % 2
        ):
            raise ValueError("its parts do not fit each other")
        found = FileClips(
            self.root,
            names,
            rows,
            spans.reshape(-1, 2) if len(spans) else None,
            labels if len(labels) else None,
            list(classes) if len(labels) else None,
            isolate,
        )
        found.sizes, found.weighed = part["sizes"], True
        pairs = iter(words)
        return found, list(zip(pairs, pairs, strict=True))

    def _throw_away(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s cannot be deleted: %s", path, error)


def private_folder(folder: Path) -> None:
    """Makes a folder of the cache, for its user alone.

    What lies there names the user's files.

    Raises:
        OSError: That cannot be done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = cache_folder()
    for path in (folder, *folder.parents):
        if own is not None and (path == own or own in path.parents):
            path.chmod(0o700)


def _check_sum(arrays: list[np.ndarray]) -> int:
    check = 0
    for part in arrays:
        check = zlib.crc32(part.data, check)
    return check


def _within(numbers: np.ndarray, count: int, least: int = 0) -> bool:
    """Whether all are whole numbers below `count`, `least` or more."""
    return not len(numbers) or (
        int(numbers.min()) >= least and int(numbers.max()) < count
    )


def _digest(what: Any) -> bytes:
    text = json.dumps(what, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).digest()
