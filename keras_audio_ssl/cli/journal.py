"""Vectors kept as they are computed, so that a command can go on."""

import hashlib
import json
import shutil
from pathlib import Path


class Journal:
    """Rows `(number of the file, second, vector)` on disk, in order.

    Args:
        folder: Where; made anew unless it holds rows of the same settings.
        settings: What the rows depend on, JSON.
        dim: Width of a vector.

    Attributes:
        rows: `(rows, 2)` float64, number of the file and second, of what is
            there already.
        skipped: `[number, reason]` of files that gave nothing.
    """

    def __init__(self, folder, settings, dim):
        self.folder, self.dim = Path(folder), dim
        text = json.dumps(settings, sort_keys=True)
        mark = hashlib.sha256(text.encode()).hexdigest()
        head = self.folder / "settings"
        if not head.exists() or head.read_text() != mark:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            head.write_text(mark)
        self._rows, self._vectors, self._skipped = self._files = [
            open(self.folder / name, "ab+")  # noqa: SIM115 (see `close`)
            for name in ("rows.f64", "vectors.f32", "skipped.jsonl")
        ]
        # A row whose writing was interrupted is dropped, on both sides.
        whole = min(self._rows.tell() // 16, self._vectors.tell() // (4 * dim))
        self._rows.truncate(16 * whole)
        self._vectors.truncate(4 * dim * whole)
        self.rows = self._read_rows()
        self._skipped.seek(0)
        lines = self._skipped.read()
        lines = lines[: lines.rfind(b"\n") + 1]
        self._skipped.truncate(len(lines))
        self.skipped = [json.loads(line) for line in lines.splitlines()]

    def cut(self, rows, number):
        """Drops all but the first rows, and files from `number` on.

        Args:
            rows: How many stay.
            number: Files from here on are not skipped any more.
        """
        self._rows.truncate(16 * rows)
        self._vectors.truncate(4 * self.dim * rows)
        self._rows.seek(0, 2)
        self._vectors.seek(0, 2)
        self.rows = self.rows[:rows]
        self.skipped = [s for s in self.skipped if s[0] < number]
        self._skipped.truncate(0)
        for entry in self.skipped:
            self._skipped.write(json.dumps(entry).encode() + b"\n")
        self._skipped.flush()

    def __len__(self):
        return self._rows.tell() // 16

    def add(self, number, seconds, vectors):
        """Writes the vectors of one file, float32 `(rows, dim)`."""
        import numpy as np

        rows = np.empty((len(vectors), 2))
        rows[:, 0], rows[:, 1] = number, seconds
        self._vectors.write(np.ascontiguousarray(vectors, "float32").tobytes())
        self._vectors.flush()
        self._rows.write(rows.tobytes())
        self._rows.flush()

    def skip(self, number, reason):
        """Notes that a file gave nothing."""
        self.skipped.append([number, reason])
        self._skipped.write(json.dumps([number, reason]).encode() + b"\n")
        self._skipped.flush()

    def columns(self):
        """`(rows, 2)` numbers and seconds, `(rows, dim)` mapped vectors."""
        import numpy as np

        rows = self._read_rows()
        path = self.folder / "vectors.f32"
        shape = (len(rows), self.dim)
        if not len(rows):
            return rows, np.zeros(shape, "float32")
        return rows, np.memmap(path, "float32", "r", shape=shape)

    def _read_rows(self):
        import numpy as np

        self._rows.seek(0)
        return np.frombuffer(self._rows.read()).reshape(-1, 2)

    def close(self):
        """Closes the files; what is there stays."""
        for file in self._files:
            file.close()

    def remove(self):
        """Closes and deletes it: the result is written elsewhere."""
        self.close()
        shutil.rmtree(self.folder)
