"""What was found in files before, by path, size and time of change."""

import contextlib
import os
import sqlite3
import zlib
from pathlib import Path

from keras_audio_ssl._files import cache_folder
from keras_audio_ssl.data.clips.index import private_folder
from keras_audio_ssl.doctor.facts import RECORD

# Part of the file's name: other facts, or other rules, begin anew.
VERSION = 2
WAIT_SECONDS = 30.0  # for another process that is writing
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def cache_file() -> Path | None:
    """The cache of the user, or None for a user without a home."""
    folder = cache_folder()
    return folder and folder / f"facts-{VERSION}.sqlite3"


class FactsCache:
    """A table of `Facts` on disk, which several processes may use at once.

    It holds numbers and text, no code. A damaged one is thrown away; one that
    cannot be used (a read-only disk, say) is done without.

    Args:
        path: The file; its folder is made.

    Attributes:
        trouble: Why it is not used, or `None`.

    Example:
        >>> with FactsCache("facts.sqlite3") as cache:
        ...     cache.put("a.wav", 1044, 17 * 10**17, bytes(RECORD.size))
        ...     cache.flush()
        ...     found = cache.get("a.wav", 1044, 17 * 10**17)
        >>> len(found) == RECORD.size
        True
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.trouble: str | None = None
        self._waiting: list[tuple] = []
        self._table: sqlite3.Connection | None = None
        try:
            private_folder(self.path.parent)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            os.close(handle)
            self.path.chmod(0o600)
        except OSError as error:
            self.trouble = f"{self.path}: {error.strerror}"
            return
        try:
            self._open()
        except sqlite3.Error as error:
            self._recover(error)

    def __enter__(self) -> "FactsCache":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def get(self, path: str, size: int, changed: int) -> bytes | None:
        """What was found in a file, if it is still the same.

        Args:
            path: The file.
            size: Its bytes now.
            changed: When it was changed, in nanoseconds.

        Returns:
            A record, as of `Facts.pack`, or `None`.
        """
        if self._table is None:
            return None
        key = os.fsencode(os.path.abspath(path))
        try:
            row = self._table.execute(
                "SELECT size, changed, record, crc FROM facts WHERE path = ?",
                (key,),
            ).fetchone()
        except sqlite3.Error as error:
            self._recover(error)
            return None
        if row is None or row[:2] != (size, changed):
            return None
        record, crc = row[2:]
        # SQLite would not notice a bit that has changed on the disk.
        whole = isinstance(record, bytes) and len(record) == RECORD.size
        return record if whole and crc == _crc(key, record) else None

    def put(self, path: str, size: int, changed: int, record: bytes) -> None:
        """Notes what was found; written with the next `flush`."""
        key = os.fsencode(os.path.abspath(path))
        self._waiting.append((key, size, changed, record, _crc(key, record)))

    def flush(self) -> None:
        """Writes what is noted, all of it or nothing."""
        rows, self._waiting = self._waiting, []
        if self._table is None or not rows:
            return
        try:
            with self._table:
                self._table.executemany(
                    "INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?)", rows
                )
        except sqlite3.Error as error:
            self._recover(error)

    def close(self) -> None:
        """Writes what is noted, and closes the file."""
        self.flush()
        self._close()

    def _open(self) -> None:
        self._table = sqlite3.connect(self.path, timeout=WAIT_SECONDS)
        with self._table:
            self._table.execute(
                "CREATE TABLE IF NOT EXISTS facts (path BLOB PRIMARY KEY, "
                "size INTEGER, changed INTEGER, record BLOB, crc INTEGER) "
                "WITHOUT ROWID"
            )
        # Its loss costs time only.
        self._table.execute("PRAGMA synchronous = OFF")

    def _close(self) -> None:
        table, self._table = self._table, None
        if table is not None:
            table.close()

    def _recover(self, error: sqlite3.Error) -> None:
        """Begins anew after damage; goes without a cache otherwise."""
        self._close()
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in DAMAGED:
            try:
                for ending in ("", "-journal"):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(f"{self.path}{ending}")
                self._open()
                return
            except (OSError, sqlite3.Error) as again:
                self._close()
                self.trouble = f"{self.path}: {again}"
                return
        self.trouble = f"{self.path}: {error}"


def _crc(key: bytes, record: bytes) -> int:
    return zlib.crc32(record, zlib.crc32(key))
