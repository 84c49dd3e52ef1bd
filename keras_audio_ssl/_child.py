"""What processes that deal with what strangers made have in common.

Runs as a script, in a Python of its own, and gives over to a module that
reads requests from standard input until there are no more. An answer has a
head (`ANSWER`) and a body of known size. `_process.py` is the parent's side.
"""

import contextlib
import importlib
import os
import signal
import struct
import sys
import types
from pathlib import Path
from typing import Any

# What it is, bytes of the body.
ANSWER = struct.Struct("<cQ")
READY, ERROR = b"+", b"E"
REASON_BYTES = 2000


def run(module: str, arguments: list[str], paths: list[str]) -> None:
    """Calls the `main` of a module, without what it need not load.

    Args:
        module: Its name.
        arguments: What `main` is called with.
        paths: Where modules are found, `sys.path` of the parent.
    """
    sys.path[:] = paths
    # Ctrl-C and a scheduler's warning are for the parent, which may need
    # more answers to come to its end. This process ends with its input.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    light_packages(module)
    importlib.import_module(module).main(*arguments)


def light_packages(module: str) -> None:
    """Stands in for a module's packages, whose `__init__` would load Keras."""
    root = Path(__file__).parent
    parts = module.split(".")[:-1]
    for k in range(1, len(parts) + 1):
        package = types.ModuleType(".".join(parts[:k]))
        package.__path__ = [str(root.joinpath(*parts[1:k]))]
        sys.modules[package.__name__] = package


def ready() -> int:
    """Says that requests may come.

    Returns:
        Where answers go from now on: what libraries print must not come
        between them.
    """
    answers = os.dup(1)
    with open(os.devnull, "r+b") as nothing:
        os.dup2(nothing.fileno(), 1)
        send(answers, READY)
        os.dup2(nothing.fileno(), 2)
    return answers


def limit(limits: dict[str, int], for_good: bool = False) -> None:
    """Limits this process, as far as its system can.

    Args:
        limits: By their names in the module `resource`.
        for_good: Whether the process may not raise them again.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    for name, most in limits.items():
        number = getattr(resource, name)
        hard = resource.getrlimit(number)[1]
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        # Not every system has every limit.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(number, (most, most if for_good else hard))


def receive(size: int, idle_seconds: float | None = None) -> bytes:
    """So many bytes of the input, or none at its end.

    Args:
        size: How many.
        idle_seconds: After how long a wait it counts as ended; `None`
            (default) waits for ever.
    """
    parts = []
    while size:
        if idle_seconds is not None and os.name == "posix":
            import select

            if not select.select([0], [], [], idle_seconds)[0]:
                return b""
        part = os.read(0, min(size, 1 << 20))
        if not part:
            return b""
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def send(answers: int, answer: bytes, body: Any = b"") -> None:
    """Sends an answer, in one piece where the system can."""
    head = memoryview(ANSWER.pack(answer, len(body)))
    if hasattr(os, "writev"):
        done = os.writev(answers, [head, body]) - len(head)
    else:
        os.write(answers, head)
        done = 0
    write(answers, memoryview(body)[done:])


def write(answers: int, body: Any) -> None:
    """Writes all of some bytes."""
    body = memoryview(body)
    while body:
        body = body[os.write(answers, body) :]


def reason(text: str) -> bytes:
    """Why there is no other answer, as the body of `ERROR`."""
    return text.encode("utf-8", "replace")[:REASON_BYTES]


if __name__ == "__main__":
    end = sys.argv.index("--")
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        run(sys.argv[1], sys.argv[2:end], sys.argv[end + 1 :])
    # Nothing is left to be tidied up, and it would take its time.
    os._exit(0)
