"""Vectors kept as they are computed, so that a command can go on."""

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_audio_ssl._types import FilePath
from keras_audio_ssl._types import Tensor

# Part of the settings' mark: a journal of another form begins anew.
FORM = 2
# Number of the file, second, and a check sum of both and the vector.
ROW = [("number", "<f8"), ("second", "<f8"), ("check", "<u4")]
ROW_BYTES = 20
CHECK_ROWS = 4096  # that are in memory at a time


class VectorJournal:
    """Rows `(number of the file, second, vector)` on disk, in order.

    Each row has a check sum. What follows a damaged one is dropped, and named:
    it is done again.

    Args:
        folder: Where; made anew unless it holds rows of the same settings.
        settings: What the rows depend on, JSON.
        dim: Width of a vector.
        say: Called with words about what is damaged.

    Attributes:
        rows: `(rows, 2)` float64, number of the file and second, of what is
            there already.
        skipped: `[number, reason]` of files that gave nothing.
    """

    def __init__(
        self,
        folder: FilePath,
        settings: Any,
        dim: int,
        say: Callable[[str], object] = print,
    ) -> None:
        self.folder, self.dim, self.say = Path(folder), dim, say
        text = json.dumps([FORM, settings], sort_keys=True)
        mark = hashlib.sha256(text.encode()).hexdigest()
        head = self.folder / "settings"
        if not self._is_of(head, mark):
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            head.write_text(mark)
        self._rows, self._vectors, self._skipped = self._files = [
            open(self.folder / name, "ab+")  # noqa: SIM115 (see `close`)
            for name in ("rows", "vectors.f32", "skipped.jsonl")
        ]
        # A row whose writing was interrupted is dropped, on both sides.
        self._keep(self._whole_rows())
        self.rows = self._read_rows()
        self._skipped.seek(0)
        lines = self._skipped.read()
        lines = lines[: lines.rfind(b"\n") + 1]
        self.skipped = self._read_skipped(lines)
        self._write_skipped()

    def _is_of(self, head: Path, mark: str) -> bool:
        """Whether there is a journal of these settings."""
        try:
            found = head.read_bytes()
        except FileNotFoundError:
            return False
        if len(found) != len(mark) or not found.isalnum():
            self.say(f"{head} is damaged: all vectors are computed again")
        return found == mark.encode()

    def _whole_rows(self) -> int:
        """How many rows are as they were written, from the first on."""
        import numpy as np

        width = 4 * self.dim
        count = min(
            self._rows.tell() // ROW_BYTES, self._vectors.tell() // width
        )
        self._rows.seek(0)
        self._vectors.seek(0)
        for at in range(0, count, CHECK_ROWS):
            size = min(CHECK_ROWS, count - at)
            rows = np.frombuffer(self._rows.read(ROW_BYTES * size), ROW)
            vectors = self._vectors.read(width * size)
            for k, row in enumerate(rows):
                vector = vectors[k * width : (k + 1) * width]
                number, second, check = row.tolist()
                if check != check_sum(number, second, vector):
                    self.say(
                        f"{self.folder} is damaged: {count - at - k} of "
                        f"{count} vectors are computed again"
                    )
                    return at + k
        return count

    def _read_skipped(self, lines: bytes) -> list[list[Any]]:
        """Entries of whole lines, up to one that is damaged."""
        entries = []
        for line in lines.splitlines():
            check, _, text = line.partition(b" ")
            if check != b"%08x" % zlib.crc32(text):
                self.say(
                    f"{self.folder / 'skipped.jsonl'} is damaged: the files "
                    "that it named are tried again"
                )
                break
            entries.append(json.loads(text))
        return entries

    def _write_skipped(self) -> None:
        self._skipped.truncate(0)
        for entry in self.skipped:
            self._skipped.write(entry_line(entry))
        self._skipped.flush()

    def _keep(self, rows: int) -> None:
        self._rows.truncate(ROW_BYTES * rows)
        self._vectors.truncate(4 * self.dim * rows)
        self._rows.seek(0, 2)
        self._vectors.seek(0, 2)

    def cut(self, rows: int, number: int) -> None:
        """Drops all but the first rows, and files from `number` on.

        Args:
            rows: How many stay.
            number: Files from here on are not skipped any more.
        """
        self._keep(rows)
        self.rows = self.rows[:rows]
        self.skipped = [s for s in self.skipped if s[0] < number]
        self._write_skipped()

    def __len__(self) -> int:
        return self._rows.tell() // ROW_BYTES

    def add(self, number: float, seconds: Any, vectors: Tensor) -> None:
        """Writes the vectors of one file, float32 `(rows, dim)`."""
        import numpy as np

        vectors = np.ascontiguousarray(vectors, "<f4")
        rows = np.zeros(len(vectors), ROW)
        rows["number"], rows["second"] = number, seconds
        for row, vector in zip(rows, vectors, strict=True):
            at, second, _ = row.tolist()
            row["check"] = check_sum(at, second, vector.tobytes())
        self._vectors.write(vectors.tobytes())
        self._vectors.flush()
        self._rows.write(rows.tobytes())
        self._rows.flush()

    def skip(self, number: int, reason: str) -> None:
        """Notes that a file gave nothing."""
        self.skipped.append([number, reason])
        self._skipped.write(entry_line([number, reason]))
        self._skipped.flush()

    def columns(self) -> tuple[Tensor, Tensor]:
        """`(rows, 2)` numbers and seconds, `(rows, dim)` mapped vectors."""
        import numpy as np

        rows = self._read_rows()
        path = self.folder / "vectors.f32"
        shape = (len(rows), self.dim)
        if not len(rows):
            return rows, np.zeros(shape, "float32")
        return rows, np.memmap(path, "<f4", "r", shape=shape)

    def _read_rows(self) -> Tensor:
        import numpy as np

        self._rows.seek(0)
        rows = np.frombuffer(self._rows.read(), ROW)
        return np.stack([rows["number"], rows["second"]], axis=1)

    def close(self) -> None:
        """Closes the files; what is there stays."""
        for file in self._files:
            file.close()

    def remove(self) -> None:
        """Closes and deletes it: the result is written elsewhere."""
        self.close()
        shutil.rmtree(self.folder)


def check_sum(number: float, second: float, vector: bytes) -> int:
    """The check sum of a row: file, second and the bytes of its vector."""
    import struct

    return zlib.crc32(vector, zlib.crc32(struct.pack("<dd", number, second)))


def entry_line(entry: list[Any]) -> bytes:
    """A line of what was skipped, with its check sum."""
    text = json.dumps(entry).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)
