"""One run at a time into one place."""

import contextlib
import os
from pathlib import Path

from keras_audio_ssl._files import WriteError


@contextlib.contextmanager
def only_one(path):
    """Holds a lock file; the system lets go of it when the process ends.

    So a lock that a killed run left behind is taken over. Where the system,
    or a network's file system, has no such locks, there is none.

    Args:
        path: The lock file, deleted at the end.

    Raises:
        ValueError: Another process holds it; names the process.
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
        file = open(path, "a+")  # noqa: SIM115 (held, not closed here)
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


def _remove(path):
    # What ended the run is to be told, not that this could not be deleted.
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
