"""One run at a time into one place."""

import contextlib
import os
import stat
from pathlib import Path

from keras_audio_ssl._files import WriteError

# Of the number of a process.
MAX_DIGITS = 20


@contextlib.contextmanager
def only_one(path):
    """Holds a lock file; the system lets go of it when the process ends.

    So a lock that a killed run left behind is taken over. Where the system,
    or a network's file system, has no such locks, there is none.

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


def _take(path, stack):
    try:
        import fcntl
    except ImportError:
        return
    while True:
        file = _open(path)
        stack.callback(file.close)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise ValueError(
                f"another run, process {file.read() or 'unknown'}, is writing "
                f"there now ({path}). Wait for it, stop it, or choose another "
                "output."
            ) from None
        except OSError:
            _remove(path)
            return
        try:
            same = os.path.samestat(os.fstat(file.fileno()), path.stat())
        except FileNotFoundError:
            same = False
        if same:
            break
        # The run before deleted it between the two lines: take the new one.
    stack.callback(_remove, path)
    file.truncate(0)
    # Not through the file, which would try once more when it is closed.
    os.write(file.fileno(), str(os.getpid()).encode())


def _open(path):
    """A lock file, new or left behind; what else has its name stays."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    if path.is_symlink():
        raise ValueError(f"{path} is a link, and no lock of a run: remove it.")
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    status = os.fstat(handle)
    if (
        not stat.S_ISREG(status.st_mode)
        or status.st_nlink > 1
        or status.st_size > MAX_DIGITS
        or os.pread(handle, MAX_DIGITS, 0).strip(b"0123456789")
    ):
        os.close(handle)
        raise ValueError(
            f"{path} is there and no lock of a run: move it elsewhere, or "
            "choose another output."
        )
    return os.fdopen(handle, "r+")


def _remove(path):
    # What ended the run is to be told, not that this could not be deleted.
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
