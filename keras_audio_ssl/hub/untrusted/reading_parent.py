"""Files of strangers, read in a child process that may cost so much."""

import atexit
import contextlib
import json
import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_audio_ssl._process import one_of
from keras_audio_ssl._process import start
from keras_audio_ssl._text import printable
from keras_audio_ssl.hub.untrusted import reading_child
from keras_audio_ssl.hub.untrusted.errors import Unreadable

# What reading a file may cost: this much, and so much a byte of it; more time
# where the child has started slowly.
SECONDS, BYTES_PER_SECOND = 1.0, 10e6
MEMORY, MEMORY_PER_BYTE = 256 << 20, 2
START_SECONDS = 120.0
# How often it is looked whether a child is late.
TICK = 0.5
# What may be told of a file, and its values that are no letters: more would
# take more memory than the file is worth.
MAX_TOLD, MAX_VALUES = 12 << 20, 2_000_000
# Arrays may be so many times as large as their file (`.npz` is compressed).
FREE_BYTES, BYTES_PER_BYTE = 64 << 20, 4


class Found:
    """What a child has told of a file.

    Args:
        child: The process, which has the arrays still to send.
        told: JSON of `reading_child.py`.

    Attributes:
        told: JSON of `reading_child.py`.
    """

    def __init__(self, child: "_Child", told: Any) -> None:
        self.told, self._child, self.begun = told, child, False

    def stopped(self) -> bool:
        """Whether no array was received, and none will be."""
        if self.begun:
            return False
        with contextlib.suppress(_Dead):
            self._child.tell(reading_child.ENOUGH)
            return True
        return False

    def array(self, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        """The next of the arrays, in the order in which they were told.

        Args:
            dtype: As numpy names it.
            shape: Its shape.

        Returns:
            Array `shape`, which cannot be written to.
        """
        if not self.begun:
            self.begun = True
            self._child.tell(reading_child.GO_ON)
        numpy_dtype = np.dtype(dtype)
        size = math.prod(shape) * numpy_dtype.itemsize
        flat = self._child.receive(size).view(numpy_dtype)
        flat.flags.writeable = False
        return flat.reshape(shape)


@contextlib.contextmanager
def told_of(expected: bytes, path: str | os.PathLike) -> Iterator[Found]:
    """Has a file read by a child process.

    Args:
        expected: What it is to be: `KERAS` or `CHECKPOINT` of
            `reading_child.py`.
        path: The file.

    Yields:
        `Found`, of which no array, or every one, is to be received.

    Raises:
        Unreadable: It is damaged or hostile, or costs too much to read.
        OSError: No child can be started.
    """
    path = os.path.abspath(path)
    size = os.stat(path).st_size
    child, found, whole = _take(), None, False
    try:
        with child.watched():
            reason, told = child.ask(expected, path, size)
            if reason is not None:
                whole = True
                raise Unreadable(reason)
            found = Found(child, told)
            yield found
            whole = found.begun
    except _Dead as dead:
        raise Unreadable(str(dead)) from None
    finally:
        # One that is in the middle of arrays has no more use.
        if whole or (found is not None and found.stopped()):
            _give_back(child)
        else:
            child.end()


class _Dead(Exception):
    """A child has ended, or had to be: why."""


class _Child:
    """A process that reads, one file at a time."""

    def __init__(self) -> None:
        self._process = start(reading_child.__name__)
        assert self._process.stdin and self._process.stdout
        self._to: Any = self._process.stdin
        self._from: Any = self._process.stdout
        self._late, self._left, self._seconds = False, 0, 0.0
        self._until = math.inf
        self._owner = os.getpid()
        try:
            with self.watched(), self._within(START_SECONDS):
                self._hear()
        except _Dead as dead:
            self.end()
            raise OSError(
                f"no process for reading could be started: {dead}"
            ) from None

    @property
    def alive(self) -> bool:
        return self._owner == os.getpid() and self._process.poll() is None

    def ask(
        self, expected: bytes, path: str, size: int
    ) -> tuple[str | None, Any]:
        """What is in a file, as JSON; its arrays follow.

        Args:
            expected: As for `told_of`.
            path: Absolute.
            size: Its bytes.

        Returns:
            Why it is not read, or None, and what it holds.
        """
        self._seconds = SECONDS + size / BYTES_PER_SECOND
        memory = MEMORY + MEMORY_PER_BYTE * size
        self._left = FREE_BYTES + BYTES_PER_BYTE * size
        body = os.fsencode(path)
        request = reading_child.REQUEST.pack(
            expected, self._seconds, memory, len(body)
        )
        with self._within(120 + 20 * self._seconds):
            self.tell(request + body)
            answer, text = self._hear()
        if answer == reading_child.ERROR:
            return printable(text.decode("utf-8", "replace")), None
        if sum(map(text.count, (b",", b"[", b"{"))) > MAX_VALUES:
            raise Unreadable("it holds more values than it may: refused.")
        return None, json.loads(text)

    def tell(self, request: bytes) -> None:
        try:
            self._to.write(request)
        except OSError:
            raise _Dead(self._cause()) from None

    def receive(self, size: int) -> np.ndarray:
        """The next bytes of an answer, `(size,)`."""
        self._left -= size
        if self._left < 0:
            raise _Dead("it unfolds to more than a file of its size may")
        with self._within(120 + size / 1e6):
            return self._read(size)

    def end(self) -> None:
        """Ends the process, and what it may have started."""
        if self._owner == os.getpid():
            self._kill()
            self._process.wait()
        self._to.close()
        self._from.close()

    def _hear(self) -> tuple[bytes, bytes]:
        answer, size = reading_child.ANSWER.unpack(
            self._read(reading_child.ANSWER.size).data
        )
        most = {
            reading_child.READY: 0,
            reading_child.FOUND: MAX_TOLD,
            reading_child.ERROR: reading_child.REASON_BYTES,
        }
        if size > most.get(answer, -1):
            raise _Dead("the reader crashed (an impossible answer)")
        return answer, bytes(self._read(size))

    def _read(self, size: int) -> np.ndarray:
        body = np.empty(size, "uint8")
        left = body.data
        while left:
            got = self._from.readinto(left)
            if not got:
                raise _Dead(self._cause())
            left = left[got:]
        return body

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Ends the process if anything in this takes longer than it may.

        A thread for all of a file: it may hold thousands of small arrays.
        """
        done = threading.Event()

        def watch() -> None:
            while not done.wait(TICK):
                if time.monotonic() > self._until:
                    self._late = True
                    self._kill()
                    return

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            done.set()

    @contextlib.contextmanager
    def _within(self, seconds: float) -> Iterator[None]:
        """This may take so long, where the process is `watched`."""
        self._until = time.monotonic() + seconds
        try:
            yield
        finally:
            self._until = math.inf

    def _kill(self) -> None:
        with contextlib.suppress(OSError):
            if os.name == "posix" and self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()

    def _cause(self) -> str:
        """Why there is no more, in words."""
        try:
            code = self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._kill()
            code = self._process.wait()
        number = (
            code - reading_child.SIGNAL
            if code > reading_child.SIGNAL
            else max(0, -code)
        )
        slow = [
            getattr(signal, name, None)
            for name in ("SIGPROF", "SIGXCPU", "SIGALRM")
        ]
        if self._late or number in slow:
            return (
                f"reading it takes more than {self._seconds:.1f} s of the "
                "processor: refused."
            )
        if code == reading_child.CHANGED:
            return "it changed while it was read."
        if number:
            word: int | str = number
            with contextlib.suppress(ValueError):
                word = signal.Signals(number).name
            return f"the reader crashed (signal {word}): refused."
        return f"the reader crashed (exit code {code}): refused."


_lock = threading.Lock()
_idle: list[_Child] = []


def _take() -> _Child:
    return one_of(_idle, _lock, _Child)


def _give_back(child: _Child) -> None:
    with _lock:
        _idle.append(child)


@atexit.register
def _end_all() -> None:
    while _idle:
        _idle.pop().end()


def _forget() -> None:
    """After a fork: the children are the parent's."""
    global _lock
    _lock = threading.Lock()
    for child in _idle:
        child.end()
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
