"""The process that reads files of strangers, and says what is in them.

Runs as a script, in a Python of its own. A request names a file, what it is
to be and what reading it may cost; each is read by a fork of this process,
which has these limits. What is told is JSON of a bounded size, and arrays,
byte for byte: nothing that whoever reads it would have to run or trust.
"""

import contextlib
import json
import os
import signal
import stat
import struct
import sys
import time
import types
from pathlib import Path
from typing import Any

# What it is to be, seconds of the processor, bytes of memory, bytes of path.
REQUEST = struct.Struct("<cdQQ")
KERAS, CHECKPOINT = b"K", b"C"
# What it is, bytes of the body.
ANSWER = struct.Struct("<cQ")
READY, FOUND, ERROR = b"+", b"F", b"E"
# Whether the arrays are wanted.
GO_ON, ENOUGH = b"+", b"-"
REASON_BYTES = 2000
# A process that nobody asks any more goes.
IDLE_SECONDS = 60
# Seconds of the processor that it takes to start on a common machine; on one
# that is slower a file may take as many times longer, to a limit.
START_SECONDS, SLOWEST = 0.25, 4.0
# Exit codes: a file that changed while it was read; a signal, added to it.
CHANGED, SIGNAL = 3, 64


def main(paths: list[str]) -> None:
    """Answers requests from standard input on standard output.

    Args:
        paths: Where modules are found, `sys.path` of the parent.
    """
    sys.path[:] = paths
    # Ctrl-C is for the parent; this process ends with its input.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    _light_packages()
    import h5py  # noqa: F401

    import keras_audio_ssl.hub.untrusted.checkpoint_layouts  # noqa: F401

    pace = min(SLOWEST, max(1.0, time.process_time() / START_SECONDS))
    answers = os.dup(1)
    # What libraries print must not come between the answers.
    with open(os.devnull, "r+b") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.write(answers, ANSWER.pack(READY, 0))
        os.dup2(nothing.fileno(), 2)
    while head := _receive(REQUEST.size):
        expected, seconds, memory, size = REQUEST.unpack(head)
        path = os.fsdecode(_receive(size))
        if not hasattr(os, "fork"):
            _answer(answers, expected, path)
            return
        fork = os.fork()
        if not fork:
            code = 1
            try:
                _limit(pace * seconds, memory)
                _answer(answers, expected, path)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(fork, 0)
        if status:
            code = os.waitstatus_to_exitcode(status)
            # What was told may end anywhere: so does this.
            os._exit(code if code >= 0 else SIGNAL - code)


def _light_packages() -> None:
    """Stands in for the packages' `__init__`, which choose a backend."""
    folder = Path(__file__).parent
    for name, path in (
        ("keras_audio_ssl", folder.parents[1]),
        ("keras_audio_ssl.hub", folder.parent),
        ("keras_audio_ssl.hub.untrusted", folder),
    ):
        package = types.ModuleType(name)
        package.__path__ = [str(path)]
        sys.modules[name] = package


def _limit(seconds: float, memory: int) -> None:
    """This process may have so much more than it has now.

    Args:
        seconds: Of the processor.
        memory: Bytes of address space.
    """
    import resource

    # Its default is to end the process.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(60 + 10 * int(seconds))
    for limit, most in (
        (resource.RLIMIT_AS, _address_space() + memory),
        (resource.RLIMIT_CPU, 2 + int(seconds)),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        # Not every system has every limit.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (most, most))


def _address_space() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 1 << 30


def _answer(answers: int, expected: bytes, path: str) -> None:
    from keras_audio_ssl.hub.untrusted.errors import CheckpointError
    from keras_audio_ssl.hub.untrusted.errors import Refused
    from keras_audio_ssl.hub.untrusted.keras_file import DAMAGE

    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(_open(path))
            size = os.fstat(stream.fileno()).st_size
            if expected == KERAS:
                told, arrays = _keras(stream, size, stack)
            else:
                told, arrays = _checkpoint(stream, size)
            text = json.dumps(told).encode()
        except (Refused, CheckpointError) as error:
            _send(answers, ERROR, _text(str(error)))
            return
        except MemoryError:
            reason = "needs more memory than a file of its size may: refused."
            _send(answers, ERROR, _text(reason))
            return
        except DAMAGE as error:
            _send(answers, ERROR, _text(f"damaged file: {error}"))
            return
        _send(answers, FOUND, text)
        if (wanted := _receive(1)) != GO_ON:
            if wanted != ENOUGH:
                os._exit(CHANGED)
            return
        for size, pieces in arrays:
            for piece in pieces():
                size -= len(piece)
                if size < 0:
                    os._exit(CHANGED)
                _write(answers, piece)
            if size:
                os._exit(CHANGED)


def _open(path: str) -> Any:
    """A plain file; one that is a pipe or a device would have no end."""
    flags = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    stream = os.fdopen(os.open(path, os.O_RDONLY | flags), "rb")
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        raise OSError("it is no plain file")
    return stream


def _keras(stream: Any, size: int, stack: contextlib.ExitStack) -> tuple:
    import numpy as np

    from keras_audio_ssl.hub.untrusted import keras_file

    members = keras_file.members_of(stream, size)
    config = keras_file.config_of(members)
    found = stack.enter_context(keras_file.weights_of(members))

    def whole(array):
        flat = np.asarray(array.node[()]).reshape(-1)
        little = flat.dtype.newbyteorder("<")
        # Not copied: it may be all that the file holds.
        return [memoryview(flat.astype(little, copy=False).view("u1"))]

    return (
        {
            "config": config,
            "arrays": [[a.name, a.dtype, list(a.shape)] for a in found],
        },
        [(a.node.nbytes, lambda a=a: whole(a)) for a in found],
    )


def _checkpoint(stream: Any, size: int) -> tuple:
    from keras_audio_ssl.hub.untrusted import checkpoint_layouts

    told = checkpoint_layouts.Told(
        *checkpoint_layouts.read_layout(stream, size)
    )
    return (
        {
            "rows": told.rows,
            "root": told.root,
            "storages": [[c.dtype, c.size] for c in told.storages],
        },
        [(c.size, c.pieces) for c in told.storages],
    )


def _text(reason: str) -> bytes:
    return reason.encode("utf-8", "replace")[:REASON_BYTES]


def _receive(size: int) -> bytes:
    """So many bytes, or none at the end of the input."""
    parts = []
    while size:
        if os.name == "posix":
            import select

            if not select.select([0], [], [], IDLE_SECONDS)[0]:
                return b""
        part = os.read(0, min(size, 1 << 20))
        if not part:
            return b""
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _send(answers: int, answer: bytes, body: bytes) -> None:
    _write(answers, ANSWER.pack(answer, len(body)))
    _write(answers, body)


def _write(answers: int, body: Any) -> None:
    body = memoryview(body)
    while body:
        body = body[os.write(answers, body) :]


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        main(sys.argv[1:])
    # Nothing is left to be tidied up, and it would take its time.
    os._exit(0)
