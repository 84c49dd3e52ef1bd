"""The process that reads files of strangers, and says what is in them.

A request names a file, what it is to be and what reading it may cost; each is
read by a fork of this process, which has these limits. What is told is JSON of
a bounded size, and arrays, byte for byte: nothing that whoever reads it would
have to run or trust.
"""

import contextlib
import json
import os
import signal
import stat
import struct
import time
from pathlib import Path
from typing import Any

from keras_audio_ssl._child import ANSWER as ANSWER
from keras_audio_ssl._child import ERROR
from keras_audio_ssl._child import READY as READY
from keras_audio_ssl._child import REASON_BYTES as REASON_BYTES
from keras_audio_ssl._child import limit
from keras_audio_ssl._child import ready
from keras_audio_ssl._child import reason
from keras_audio_ssl._child import receive
from keras_audio_ssl._child import send
from keras_audio_ssl._child import write

# What it is to be, seconds of the processor, bytes of memory, bytes of path.
REQUEST = struct.Struct("<cdQQ")
KERAS, CHECKPOINT = b"K", b"C"
# An answer, beside `READY` and `ERROR`.
FOUND = b"F"
# Whether the arrays are wanted.
GO_ON, ENOUGH = b"+", b"-"
# A process that nobody asks any more goes.
IDLE_SECONDS = 60
# Seconds of the processor that it takes to start on a common machine; on one
# that is slower a file may take as many times longer, to a limit.
START_SECONDS, SLOWEST = 0.25, 4.0
# Exit codes: a file that changed while it was read; a signal, added to it.
CHANGED, SIGNAL = 3, 64


def main() -> None:
    """Answers requests from standard input on standard output."""
    import h5py  # noqa: F401

    import keras_audio_ssl.hub.untrusted.checkpoint_layouts  # noqa: F401

    pace = min(SLOWEST, max(1.0, time.process_time() / START_SECONDS))
    answers = ready()
    while head := receive(REQUEST.size, IDLE_SECONDS):
        expected, seconds, memory, size = REQUEST.unpack(head)
        path = os.fsdecode(receive(size, IDLE_SECONDS))
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


def _limit(seconds: float, memory: int) -> None:
    """This process may have so much more than it has now.

    Args:
        seconds: Of the processor.
        memory: Bytes of address space.
    """
    # Its default is to end the process.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(60 + 10 * int(seconds))
    limits = {
        "RLIMIT_AS": _address_space() + memory,
        "RLIMIT_CPU": 2 + int(seconds),
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": 0,
    }
    limit(limits, for_good=True)


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
            send(answers, ERROR, reason(str(error)))
            return
        except MemoryError:
            why = "needs more memory than a file of its size may: refused."
            send(answers, ERROR, reason(why))
            return
        except DAMAGE as error:
            send(answers, ERROR, reason(f"damaged file: {error}"))
            return
        send(answers, FOUND, text)
        if (wanted := receive(1, IDLE_SECONDS)) != GO_ON:
            if wanted != ENOUGH:
                os._exit(CHANGED)
            return
        for size, pieces in arrays:
            for piece in pieces():
                size -= len(piece)
                if size < 0:
                    os._exit(CHANGED)
                write(answers, piece)
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

    def whole(array: Any) -> list[memoryview]:
        flat = np.asarray(array.node[()]).reshape(-1)
        little = flat.dtype.newbyteorder("<")
        # Not copied: it may be all that the file holds.
        return [flat.astype(little, copy=False).view("u1").data]

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
