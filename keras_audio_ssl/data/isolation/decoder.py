"""The process behind `IsolatedFile`, which decodes what it is asked for.

Runs as a script, in a Python of its own, and reads requests until there are
no more. A request has a head (`REQUEST`) and a body, and so has an answer
(`ANSWER`): nothing but numbers, text and samples, in known sizes.
"""

import contextlib
import os
import signal
import struct
import sys
import types
from pathlib import Path
from typing import Any

# What to do, two numbers, seconds allowed, bytes of the body.
REQUEST = struct.Struct("<cqqqQ")
OPEN_PATH, OPEN_BYTES, CLOSE = b"P", b"B", b"C"
READ, READ_CHANNELS = b"R", b"A"
# What it is, bytes of the body.
ANSWER = struct.Struct("<cQ")
READY, OPENED, WAVE, ERROR = b"+", b"O", b"W", b"E"
# Body of OPENED: rate, the two facts, channels, floating point or not, format.
SHAPE = struct.Struct("<qqqq?64s")
REASON_BYTES = 2000
# The parent ends a decoder that is late; this is for one that is gone.
ALONE_SECONDS = 10


def main(memory: int, paths: list[str]) -> None:
    """Answers requests from standard input on standard output.

    Args:
        memory: bytes of address space the process may have.
        paths: where modules are found, `sys.path` of the parent.
    """
    sys.path[:] = paths
    # Ctrl-C and a scheduler's warning are for the parent, which may need
    # more audio to come to its end. This process ends with its input.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    _light_packages()
    import keras_audio_ssl.data.audio  # noqa: F401

    answers = os.dup(1)
    # What libraries print must not come between the answers.
    with open(os.devnull, "r+b") as nothing:
        os.dup2(nothing.fileno(), 1)
        _send(answers, READY)
        os.dup2(nothing.fileno(), 2)
    _limit(memory)
    _serve(answers)


def _light_packages() -> None:
    """Stands in for the packages' `__init__`, which load Keras."""
    folder = Path(__file__).parents[1]
    for name, path in (
        ("keras_audio_ssl", folder.parent),
        ("keras_audio_ssl.data", folder),
    ):
        package = types.ModuleType(name)
        package.__path__ = [str(path)]
        sys.modules[name] = package


def _limit(memory: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        # Not every system has every limit.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (most, hard))


def _serve(answers: int) -> None:
    from keras_audio_ssl.data.audio import AudioError
    from keras_audio_ssl.data.audio import AudioFile

    alarm = getattr(signal, "alarm", None)
    if alarm:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    audio: Any = None
    while head := _receive(REQUEST.size):
        task, a, b, seconds, size = REQUEST.unpack(head)
        body: Any = _receive(size)
        if alarm:
            alarm(seconds + ALONE_SECONDS)
        try:
            if task in (READ, READ_CHANNELS):
                read = audio.read if task == READ else audio.read_channels
                kind, body = WAVE, read(a, b).reshape(-1).view("uint8").data
            else:
                if audio is not None:
                    audio.close()
                    audio = None
                if task == CLOSE:
                    continue
                if task == OPEN_PATH:
                    body = os.fsdecode(body)
                audio = AudioFile(body, facts=(a, b) if a > 0 else None)
                kind = OPENED
                body = SHAPE.pack(
                    audio.rate,
                    *audio.facts,
                    audio.channels,
                    audio.floating,
                    audio.format.encode(),
                )
        except AudioError as error:
            kind, body = ERROR, _text(error.reason)
        except MemoryError:
            kind, body = ERROR, _text("needs more memory than it may have")
        except Exception as error:
            kind = ERROR
            body = _text(f"cannot be read: {type(error).__name__}: {error}")
        finally:
            if alarm:
                alarm(0)
        _send(answers, kind, body)


def _text(reason: str) -> bytes:
    return reason.encode("utf-8", "replace")[:REASON_BYTES]


def _receive(size: int) -> bytes:
    """So many bytes, or none at the end of the input."""
    parts = []
    while size:
        part = os.read(0, min(size, 1 << 20))
        if not part:
            return b""
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _send(answers: int, kind: bytes, body: Any = b"") -> None:
    head = memoryview(ANSWER.pack(kind, len(body)))
    if hasattr(os, "writev"):
        done = os.writev(answers, [head, body]) - len(head)
    else:
        os.write(answers, head)
        done = 0
    body = memoryview(body)
    while done < len(body):
        done += os.write(answers, body[done:])


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        main(int(sys.argv[1]), sys.argv[2:])
    # Nothing is left to be tidied up, and it would take its time.
    os._exit(0)
