"""Settings of memory that are quicker for large tensors."""

import os
import platform
import sys

# Large tensors are given back to the system after each step, which zeroes
# them, page by page, for the next: a tenth of a convolutional step, and a
# quarter on PyTorch. Large pages help on all backends; to keep the memory
# helps PyTorch alone (`benchmarks/run.py`).
LARGE_PAGES = ("glibc.malloc.hugetlb=1",)
KEEP = (
    "glibc.malloc.mmap_max=0",
    "glibc.malloc.trim_threshold=17179869184",
    "glibc.malloc.top_pad=67108864",
)
COMMANDS = ("pretrain", "embed", "probe")


def tunables(backend: str) -> str:
    """The value of `GLIBC_TUNABLES` for a backend."""
    return ":".join(LARGE_PAGES + (KEEP if backend == "torch" else ()))


def tune_memory() -> None:
    """Starts this process again with `tunables`, which count at start only.

    Does nothing where they mean nothing, for quick commands, and where
    `GLIBC_TUNABLES` is set already.
    """
    wanted = any(a in COMMANDS for a in sys.argv[1:2])
    if not wanted or "GLIBC_TUNABLES" in os.environ:
        return
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return
    from keras_audio_ssl._backend import configured_backend

    os.environ["GLIBC_TUNABLES"] = tunables(configured_backend())
    os.execv(sys.executable, sys.orig_argv)
