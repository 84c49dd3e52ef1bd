"""File operations that fail, or kill the process, at a chosen one."""

import builtins
import contextlib
import errno
import io
import os
import signal
from pathlib import Path

WRITING = set("wax+")
ERRORS = {
    "disk full": errno.ENOSPC,
    "I/O error": errno.EIO,
    "read-only folder": errno.EROFS,
}


class Injector:
    """Counts the file operations below a folder that change it.

    Args:
        root: The folder; operations elsewhere are let through.
        at: Number of the operation to fail at, from 1; 0 for none.
        error: `errno` to raise there and, as a full disk does, from there
            on; None to kill the process instead.

    Attributes:
        done: Operations so far, as `(name, path)`.
    """

    def __init__(self, root, at=0, error=None):
        self.root = str(Path(root).resolve()) + os.sep
        self.at, self.error = at, error
        self.done = []

    def meet(self, name, path):
        """Counts an operation on a path; fails if it is the one."""
        if isinstance(path, int):
            try:
                path = os.readlink(f"/proc/self/fd/{path}")
            except OSError:
                return
        path = os.path.abspath(os.fspath(path))
        if not path.startswith(self.root):
            return
        self.done.append((name, path))
        if not self.at or len(self.done) < self.at:
            return
        if self.error is None:
            os.kill(os.getpid(), signal.SIGKILL)
        # Deleting needs no room and is not refused by a full disk.
        if name != "unlink" or self.error != errno.ENOSPC:
            raise OSError(self.error, os.strerror(self.error))

    @contextlib.contextmanager
    def at_work(self):
        """Puts itself between the process and the system."""
        opened, old = io.open, {}

        def open_(file, mode="r", *args, **kwargs):
            if not WRITING & set(mode):
                return opened(file, mode, *args, **kwargs)
            if not isinstance(file, int):
                self.meet("open", file)
            return Watched(opened(file, mode, *args, **kwargs), self, file)

        def counted(name):
            function = old[name]

            def call(path, *args, **kwargs):
                if name != "open" or args[0] & (os.O_WRONLY | os.O_RDWR):
                    self.meet(name, path)
                return function(path, *args, **kwargs)

            return call

        for name in ("open", "fsync", "replace", "unlink", "mkdir"):
            old[name] = getattr(os, name)
            setattr(os, name, counted(name))
        builtins.open = io.open = open_
        try:
            yield self
        finally:
            builtins.open = io.open = opened
            for name, function in old.items():
                setattr(os, name, function)


class Watched:
    """A file whose writes are counted."""

    def __init__(self, file, injector, path):
        self.__dict__.update(_file=file, _injector=injector, _path=path)

    def write(self, content):
        self._injector.meet("write", self._path)
        return self._file.write(content)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __setattr__(self, name, value):
        setattr(self._file, name, value)

    def __enter__(self):
        self._file.__enter__()
        return self

    def __exit__(self, *error):
        return self._file.__exit__(*error)

    def __iter__(self):
        return iter(self._file)
