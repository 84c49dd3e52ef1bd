"""Python processes of our own that deal with what strangers made."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def start(script: Path, *arguments: str) -> subprocess.Popen:
    """Starts a script that answers on its standard output.

    It needs one thread, and none of what speeds up large tensors; signals of
    the terminal are not for it.

    Args:
        script: Its file.
        *arguments: Its arguments; `sys.path` of this process follows them.

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
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(script), *arguments, *paths],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env=env,
        **apart,
    )
