"""One run at a time into one place."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock
from filelock import Timeout

from keras_audio_ssl._files import WriteError
from keras_audio_ssl._types import FilePath

# Of the number of a process.
MAX_DIGITS = 20
# Windows lets nobody read the byte that is locked, the first.
UNREADABLE = b"0" if os.name == "nt" else b""
NO_LINK = getattr(os, "O_NOFOLLOW", 0)


@contextlib.contextmanager
def only_one(path: FilePath) -> Iterator[None]:
    """Holds a lock file; the system lets go of it when the process ends.

    So a lock that a killed run left behind is taken over. Where a network's
    file system has no such locks, there is none.

    Args:
        path: The lock file, deleted at the end.

    Raises:
        ValueError: Another process holds it; names the process. Or a file of
            this name is none of ours.
    """
    path = Path(path)
    made = not path.parent.exists()
    try:
        with contextlib.ExitStack() as stack:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                _take(path, stack)
            except OSError as error:
                raise WriteError(path, error) from error
            yield
    finally:
        if made:
            # Empty where the run was refused.
            with contextlib.suppress(OSError):
                path.parent.rmdir()


def _take(path: Path, stack: contextlib.ExitStack) -> None:
    lock = FileLock(path, fallback_to_soft=False)
    while True:
        _check_own(path)
        try:
            lock.acquire(blocking=False)
            break
        except Timeout:
            # Where it is gone, the run before ended between the two lines.
            if path.exists():
                raise ValueError(
                    f"another run, process {_holder(path)}, is writing there "
                    f"now ({path}). Wait for it, stop it, or choose another "
                    "output."
                ) from None
        except OSError:
            _remove(path)
            return
    stack.callback(lock.release)
    # While it is held: after that, it may be the next run's.
    stack.callback(_remove, path)
    handle = os.open(path, os.O_WRONLY | os.O_TRUNC | NO_LINK)
    try:
        os.write(handle, UNREADABLE + str(os.getpid()).encode())
    finally:
        os.close(handle)


def _holder(path: Path) -> str:
    """The process that holds a lock, as it has noted there itself."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        file.seek(len(UNREADABLE))
        return file.read(MAX_DIGITS).decode("ascii", "replace") or "unknown"
    return "unknown"


def _check_own(path: Path) -> None:
    """Makes a lock file, unless a run has; what else has its name stays."""
    if path.is_symlink():
        raise ValueError(f"{path} is a link, and no lock of a run: remove it.")
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags | NO_LINK, 0o666)
    try:
        status = os.fstat(handle)
        if (
            not stat.S_ISREG(status.st_mode)
            or status.st_nlink > 1
            or status.st_size > MAX_DIGITS
            or _noted(handle).strip(b"0123456789")
        ):
            raise ValueError(
                f"{path} is there and no lock of a run: move it elsewhere, or "
                "choose another output."
            )
    finally:
        os.close(handle)


def _noted(handle: int) -> bytes:
    try:
        return os.read(handle, MAX_DIGITS)
    except PermissionError:  # held, on Windows
        return b""


def _remove(path: Path) -> None:
    # What ended the run is to be told, not that this could not be deleted.
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
