"""Files that are written whole or not at all."""

import contextlib
import csv
import json
import math
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Ends the name of a draft, which so is nobody else's.
DRAFT = ".kas-draft"
DRAFT_NAME = re.compile(
    rf"\.(?P<stem>.+)-[a-z0-9_]{{8}}{re.escape(DRAFT)}(?P<suffix>(\.[^.]*)?)",
    re.DOTALL,
)


class FileError(ValueError):
    """What a file holds is broken, hostile or of another kind; it is named.

    The command line ends with exit code 1, as nothing is wrong with its
    arguments.
    """


class WriteError(OSError):
    """A file that could not be written: which, how far, and why.

    Args:
        path: The file that was to be written.
        error: What the system said.
        written: Bytes that were, before it failed.

    Attributes:
        path: The file.
    """

    def __init__(
        self, path: str | os.PathLike, error: OSError, written: int = 0
    ) -> None:
        reason = error.strerror or str(error)
        super().__init__(error.errno, reason, os.fspath(path))
        self.path, self.reason, self.written = Path(path), reason, written

    def __str__(self) -> str:
        text = f"{self.path} cannot be written: {self.reason}"
        text += f" after {self.written:,} bytes"
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(self.path.parent).free
            text += f" ({free:,} bytes free there)"
        return text


@contextlib.contextmanager
def written_whole(path: str | os.PathLike) -> Iterator[Path]:
    """A draft beside `path`, which takes its place when it is complete.

    The draft is forced to the disk before it is renamed, and the folder
    after: a killed process, a full disk or a power cut leaves the file that
    was there before, or none. A link at `path` is replaced itself: what it
    points to may be anyone's.

    Args:
        path: The file; its folder is made.

    Yields:
        Path of the draft, with the same ending.

    Raises:
        WriteError: The system refuses; the draft is gone.

    Example:
        >>> with written_whole("table.csv") as draft:
        ...     _ = draft.write_text("file,reason")
    """
    path, draft = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            DRAFT + path.suffix, f".{path.stem}-", os.fspath(path.parent)
        )
        os.close(handle)
        draft = Path(name)
        yield draft
        with draft.open("r+b") as stream:
            os.fsync(stream.fileno())
        # mkstemp's files are private; this is to be as any other file.
        mask = os.umask(0)
        os.umask(mask)
        draft.chmod(0o666 & ~mask)
        os.replace(draft, path)
        _sync_folder(path.parent)
    except OSError as error:
        if isinstance(error, WriteError):
            raise
        raise WriteError(path, error, _size(draft)) from error
    finally:
        if draft is not None:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)


def write_table(
    path: str | os.PathLike,
    head: tuple[str, ...],
    rows: Iterable[tuple],
    errors: str = "strict",
) -> None:
    """Writes a CSV table in UTF-8, whole or not at all.

    Args:
        path: The file.
        head: Names of the columns.
        rows: Values of each row.
        errors: What becomes of names that are no UTF-8, as for `open`.
    """
    with (
        written_whole(path) as draft,
        open(draft, "w", newline="", encoding="utf-8", errors=errors) as file,
    ):
        plain = csv.writer(file, lineterminator="\n")
        # Some versions of Python do not quote a carriage return.
        quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        plain.writerow(head)
        for row in rows:
            (quoted if "\r" in "".join(map(str, row)) else plain).writerow(row)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all.

    Args:
        path: The file.
        text: What it is to hold.
    """
    with written_whole(path) as draft:
        draft.write_text(text, encoding="utf-8")


def as_json(value: Any) -> str:
    """JSON text; what JSON has no number for becomes null.

    Args:
        value: Dicts, sequences, numbers, text; all else becomes text.

    Returns:
        The text, with a line feed at its end.
    """

    def plain(x: Any) -> Any:
        if isinstance(x, dict):
            return {str(k): plain(v) for k, v in x.items()}
        if isinstance(x, (list, tuple)):
            return [plain(v) for v in x]
        if hasattr(x, "item") and getattr(x, "ndim", 1) == 0:
            x = x.item()
        if isinstance(x, float) and not math.isfinite(x):
            return None
        return x

    return json.dumps(plain(value), indent=2, default=str) + "\n"


def cache_folder() -> Path | None:
    """The user's folder of what can be made again.

    `keras_audio_ssl` where the system keeps caches: in `XDG_CACHE_HOME`, by
    default in `~/.cache`, in `~/Library/Caches` on macOS and in the user's
    local application data on Windows. It need not exist, and may be deleted.

    Returns:
        The folder, or None for a user without a home.
    """
    # Not at the head: the processes that read files of strangers need none.
    from platformdirs import user_cache_path

    try:
        folder = user_cache_path("keras_audio_ssl", appauthor=False)
        if sys.platform in ("darwin", "win32"):
            # Where it lay at first, as on Linux.
            before = Path.home() / ".cache" / "keras_audio_ssl"
            if before.is_dir() and not os.environ.get("XDG_CACHE_HOME"):
                return before
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None


def drafts(path: str | os.PathLike) -> list[Path]:
    """Drafts that killed processes left behind.

    Args:
        path: A file, whose drafts are meant; or a folder: all in it.

    Returns:
        Plain files that have the name of a draft and can be no one else's.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            name = DRAFT_NAME.fullmatch(entry.name)
            if (
                name is not None
                and entry.is_file(follow_symlinks=False)
                and (
                    folder == path
                    or (name["stem"], name["suffix"])
                    == (path.stem, path.suffix)
                )
            ):
                found.append(Path(entry.path))
    return sorted(found)


def _size(path: Path | None) -> int:
    try:
        return path.stat().st_size if path else 0
    except OSError:
        return 0


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
