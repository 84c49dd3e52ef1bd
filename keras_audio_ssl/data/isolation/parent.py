"""Decoding in child processes: what crashes the decoder costs one file."""

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from typing import NoReturn

import numpy as np

from keras_audio_ssl._process import one_of
from keras_audio_ssl._process import start
from keras_audio_ssl._text import printable
from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.audio.source import name_of
from keras_audio_ssl.data.isolation import decoder

# A child may have so many bytes of address space; a part that takes more
# cannot be read at once.
MEMORY = 4 << 30
# Seconds to open a file or to read a part of it, and what is added for long
# ones: hundreds of times of what decoding takes.
SECONDS = 60.0
BYTES_PER_SECOND = 1e6
FRAMES_PER_SECOND = 1e5
START_SECONDS = 120.0
# Children that have had nothing to do for so long are ended.
IDLE_SECONDS = 60.0
TICK = 0.25
CHILD = decoder.__name__
# A crop of some seconds passes a pipe of this size at one go.
PIPE_BYTES = 1 << 20


class IsolatedFile:
    """An `AudioFile` that is decoded in a child process.

    libsndfile and the libraries below it have had errors by which a file
    overwrites the memory of the process that decodes it. Here that process
    is a child, which is told what to read and gives samples. If it dies or
    takes too long, that is an error of the file, and the next one gets
    another child. There are as many children as files are open at a time;
    they are kept for the files after. This is no sandbox: a child has all the
    rights of its user.

    Args:
        file: A path, or the bytes of a file.
        name: Name used in errors; the path by default.
        facts: `facts` of an earlier look at the same file.

    Attributes:
        rate: Sample rate in Hz.
        channels: Number of channels in the file.
        format: Container and coding, such as `"WAV PCM_16"`.
        floating: Whether the file stores floating point, so may hold NaN.
        frames: Length in samples, verified at the end of the file.
        facts: Two integers, to be handed to the next `IsolatedFile`.

    Raises:
        AudioError: As `AudioFile`; or the decoder crashes, takes too long or
            needs too much memory.
        OSError: If no child can be started.

    Example:
        >>> with IsolatedFile("stranger.flac") as audio:
        ...     wave = audio.read(0, audio.frames)
    """

    def __init__(
        self,
        file: Any,
        name: Any = None,
        facts: tuple[int, int] | None = None,
    ) -> None:
        self._child: _Child | None = None
        self.name = name_of(file, name)
        self._file = file
        reason = _deadly.get(_mark(file)) if _deadly else None
        if reason is not None:
            raise AudioError(self.name, reason)
        self._shape: tuple | None = None
        self.facts = facts or (0, 0)
        self._child = _take()
        try:
            self._shape = self._ask()
        except BaseException:
            self.close()
            raise
        self.rate, self.frames, exact, self.channels, *rest = self._shape
        self.facts = (self.frames, exact)
        self.floating, text = rest
        self.format = printable(text.rstrip(b"\0").decode("utf-8", "replace"))

    def __enter__(self) -> "IsolatedFile":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Ends the child process, and closes the file."""
        child, self._child = self._child, None
        if child is not None:
            _give_back(child)

    def read(self, start: int, frames: int) -> np.ndarray:
        """Reads samples `[start, start + frames)`, channels averaged.

        Args:
            start: First sample, at the file's own rate.
            frames: Number of samples, at most to the end of the file.

        Returns:
            float32 array `(frames,)`.

        Raises:
            AudioError: If decoding fails or a sample is NaN or infinite.
        """
        return self._samples(decoder.READ, start, frames, 1)[:, 0]

    def read_channels(self, start: int, frames: int) -> np.ndarray:
        """Reads samples `[start, start + frames)` as the file has them.

        Args:
            start: First sample, at the file's own rate.
            frames: Number of samples, at most to the end of the file.

        Returns:
            float32 array `(frames, channels)`, which may hold NaN.

        Raises:
            AudioError: If decoding fails.
        """
        return self._samples(
            decoder.READ_CHANNELS, start, frames, self.channels
        )

    def _samples(
        self, task: bytes, start: int, frames: int, channels: int
    ) -> np.ndarray:
        size = 4 * frames * channels
        # What the child announces is not to be trusted with our memory.
        if size > MEMORY:
            raise AudioError(
                self.name,
                f"{frames} samples of {channels} channels are too many to be "
                f"read at once: at most {MEMORY >> 30} GiB",
            )
        seconds = SECONDS + max(0, frames) / FRAMES_PER_SECOND
        request = (task, start, frames, seconds, b"")
        try:
            answer = self._ask(
                lambda child: child.ask(
                    self.name, request, (decoder.WAVE, size)
                )
            )
        except MemoryError:
            raise AudioError(
                self.name, f"no memory for {frames} samples"
            ) from None
        return answer.view("float32").reshape(frames, channels)

    def _ask(self, task: Callable | None = None) -> Any:
        """What a child says; another is asked if this one dies of it.

        A child that has had other files may have been harmed by these.
        """
        if self._child is None:
            raise ValueError(f"{self.name} is closed")
        try:
            return (task or self._open)(self._child)
        except _Dead as dead:
            if dead.late or self._child.files == 1:
                self._give_up(dead)
        try:
            self._child = _Child()
            shape = self._open(self._child)
            if task is None:
                return shape
            if shape != self._shape:
                raise AudioError(self.name, "changed while it was read")
            return task(self._child)
        except _Dead as dead:
            self._give_up(dead)

    def _give_up(self, dead: "_Dead") -> NoReturn:
        reason = str(dead)
        mark = _mark(self._file)
        if mark is not None:
            _deadly[mark] = reason
        raise AudioError(self.name, reason) from None

    def _open(self, child: "_Child") -> tuple:
        seconds = SECONDS
        if isinstance(self._file, bytes):
            task, body = decoder.OPEN_BYTES, self._file
        else:
            path = os.fspath(self._file)
            if not os.path.isabs(path):
                # From where this process is now; the child is elsewhere.
                path = os.path.join(os.getcwd(), path)
            task, body = decoder.OPEN_PATH, os.fsencode(path)
        if not self.facts[0]:
            seconds += _size(self._file) / BYTES_PER_SECOND
        child.files += 1
        answer = child.ask(
            self.name,
            (task, *self.facts, seconds, body),
            (decoder.OPENED, decoder.SHAPE.size),
        )
        shape = decoder.SHAPE.unpack(answer.data)
        if min(shape[0], shape[1], shape[3]) < 1:
            child.end()
            raise _Dead("the decoder crashed (an impossible answer)")
        return shape


class _Dead(Exception):
    """A child has died, or had to be killed: why.

    Args:
        reason: In words.
        late: Whether it took too long.
    """

    def __init__(self, reason: str, late: bool = False) -> None:
        super().__init__(reason)
        self.late = late


class _Child:
    """A process that decodes, one file at a time.

    Attributes:
        files: How many files it was to open.
        idle_since: When it was last given back.
    """

    def __init__(self) -> None:
        self.files, self.idle_since = 0, 0.0
        self._lock = threading.Lock()
        self._left: float | None = None
        self._late = False
        self._process = start(CHILD, str(MEMORY))
        assert self._process.stdin and self._process.stdout
        self._to: Any = self._process.stdin
        self._from: Any = self._process.stdout
        _enlarge(self._from.fileno())
        _register(self)
        try:
            self._hear((decoder.READY, 0), START_SECONDS)
        except _Dead as dead:
            raise OSError(
                f"no process for decoding could be started: {dead}"
            ) from None

    @property
    def alive(self) -> bool:
        return not self._to.closed and self._process.poll() is None

    def ask(self, name: str, request: tuple, expected: tuple) -> np.ndarray:
        """Sends a request and waits for its answer.

        Args:
            name: Of the file, for errors.
            request: Task, two numbers, seconds allowed, body.
            expected: Kind and bytes of the answer.

        Returns:
            uint8 `(bytes,)`, the answer's body.

        Raises:
            AudioError: What the child says of the file.
            _Dead: If it dies, is late, or answers something else.
        """
        answer, body = self._hear(expected, request[3], request)
        if answer == decoder.ERROR:
            text = bytes(body).decode("utf-8", "replace")
            raise AudioError(name, printable(text))
        return body

    def tell(
        self, task: bytes, a: int, b: int, seconds: float, body: bytes
    ) -> None:
        head = decoder.REQUEST.pack(task, a, b, int(seconds), len(body))
        for part in (head + body,) if len(body) < 4096 else (head, body):
            left = memoryview(part)
            while left:
                left = left[self._to.write(left) :]

    def tick(self) -> None:
        """Ends the process if it is late; called every `TICK` seconds.

        Counts ticks, not time: none passes while this process is stopped.
        """
        with self._lock:
            if self._left is not None:
                self._left -= TICK
                if self._left < 0:
                    self._left, self._late = None, True
                    self._process.kill()

    def end(self) -> None:
        """Ends the process and waits until it is gone."""
        _unregister(self)
        self._to.close()
        self._from.close()
        self._wait(0.5)

    def forget(self) -> None:
        """Lets go of it in a fork of the process whose child it is."""
        self._to.close()
        self._from.close()
        self._process.returncode = 0
        # What is asked of it next fails, and not for the file's sake.
        self.files += 1

    def _hear(
        self,
        expected: tuple[bytes, int],
        seconds: float,
        request: tuple | None = None,
    ) -> tuple[bytes, np.ndarray]:
        with self._lock:
            self._left = seconds
        try:
            if request is not None:
                self.tell(*request)
            head = self._receive(decoder.ANSWER.size)
            answer, size = decoder.ANSWER.unpack(head.data)
            known = size <= decoder.REASON_BYTES and answer == decoder.ERROR
            if (answer, size) != expected and not known:
                raise _Dead("the decoder crashed (an impossible answer)")
            body = self._receive(size)
            with self._lock:
                self._left = None
            if self._late:
                raise EOFError
            return answer, body
        except (EOFError, OSError, ValueError):
            # `ValueError` is a pipe that is closed: by the end of a fork.
            code = self._wait(5.0)
            self.end()
            raise _Dead(_cause(code, self._late, seconds), self._late) from None
        except BaseException:
            # Whatever it was, the next answer would be to this request.
            self._process.kill()
            self.end()
            raise

    def _receive(self, size: int) -> np.ndarray:
        body = np.empty(size, "uint8")
        left = body.data
        while left:
            got = self._from.readinto(left)
            if not got:
                raise EOFError
            left = left[got:]
        return body

    def _wait(self, seconds: float) -> int:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _cause(code: int, late: bool, seconds: float) -> str:
    if late:
        return f"decoding takes too long: more than {seconds:.0f} s"
    if code >= 0:
        return f"the decoder crashed (exit code {code})"
    try:
        return f"the decoder crashed (signal {signal.Signals(-code).name})"
    except ValueError:
        return f"the decoder crashed (signal {-code})"


def _mark(file: Any) -> tuple | None:
    """A file as it is now, or `None` if it is not there."""
    if isinstance(file, bytes):
        return None
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        return None
    return os.path.abspath(file), status.st_size, status.st_mtime_ns


def _size(file: Any) -> int:
    if isinstance(file, bytes):
        return len(file)
    mark = _mark(file)
    return mark[1] if mark else 0


def _enlarge(pipe: int) -> None:
    if sys.platform == "linux":
        import fcntl

        # A user may have so many large pipes only; smaller ones do too.
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


# Files of which a child died, as they were then: every epoch would wait for
# them, or lose a child, again.
_deadly: dict[tuple | None, str] = {}
# Reentrant: collecting garbage may close a file at any moment.
_lock = threading.RLock()
_children: set[_Child] = set()
_idle: list[_Child] = []
_watcher: threading.Thread | None = None


def _take() -> _Child:
    return one_of(_idle, _lock, _Child)


def _give_back(child: _Child) -> None:
    try:
        child.tell(decoder.CLOSE, 0, 0, 0, b"")
    except (OSError, ValueError):  # it is dead
        child.end()
        return
    child.idle_since = time.monotonic()
    with _lock:
        if child in _children:
            _idle.append(child)


def _register(child: _Child) -> None:
    global _watcher
    with _lock:
        _children.add(child)
        if _watcher is None:
            _watcher = threading.Thread(
                target=_watch, name="keras_audio_ssl-watch", daemon=True
            )
            _watcher.start()


def _unregister(child: _Child) -> None:
    with _lock:
        _children.discard(child)


def _watch() -> None:
    """Ends children that are late, or that nobody needs any more."""
    global _watcher
    while True:
        time.sleep(TICK)
        with _lock:
            if not _children:
                _watcher = None
                return
            children, old = list(_children), []
            while _idle and (
                time.monotonic() - _idle[0].idle_since > IDLE_SECONDS
            ):
                old.append(_idle.pop(0))
        for child in children:
            child.tick()
        for child in old:
            child.end()


@atexit.register
def _end_all() -> None:
    with _lock:
        children = list(_children)
        _children.clear()
        _idle.clear()
    for child in children:
        child.end()


def _forget_all() -> None:
    """After a fork: the children, and the thread, are the parent's."""
    global _lock, _watcher
    _lock, _watcher = threading.RLock(), None
    for child in _children:
        child.forget()
    _children.clear()
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
