"""Python processes of our own that deal with what strangers made.

This is the parent's side; `_child.py` is the other.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHILD = Path(__file__).with_name("_child.py")


def start(module: str, *arguments: str) -> subprocess.Popen:
    """Starts a process that answers on its standard output.

    It needs one thread, and none of what speeds up large tensors; signals of
    the terminal are not for it.

    Args:
        module: What it runs: the `main` of this module, which is found as in
            this process. The packages that it lies in are not loaded.
        *arguments: What `main` is called with.

    Returns:
        The process, with unbuffered pipes to its input and from its output.
    """
    env = {
        **os.environ,
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    env.pop("GLIBC_TUNABLES", None)
    apart: dict[str, Any] = {"start_new_session": True}
    if os.name == "nt":
        group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        apart = {"creationflags": group}
    paths = [p for p in sys.path if isinstance(p, str) and p]
    # Without site packages' hooks: they cost time, and are not needed.
    command = [sys.executable, "-I", "-S", str(CHILD)]
    return subprocess.Popen(
        [*command, module, *arguments, "--", *paths],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env=env,
        **apart,
    )


def one_of(idle: list, lock: Any, make: Callable[[], Any]) -> Any:
    """A child that has nothing to do, or a new one.

    Args:
        idle: Those that have nothing to do, some of which may have ended.
        lock: Held while one is taken from them.
        make: Makes a new one.

    Returns:
        The last of `idle` that is `alive`, or a new one.
    """
    while True:
        with lock:
            child = idle.pop() if idle else None
        if child is None:
            return make()
        if child.alive:
            return child
        child.end()
