"""The suite on the Keras of tomorrow: `python -m tests.nightly`.

`keras-nightly` is installed in place of Keras into a virtual environment of
its own, in a temporary folder. Not part of what a change must pass: it says
what a coming release of Keras will break.

    python -m tests.nightly torch jax -- -k contract

Backends are named before `--` (default: all three), arguments of pytest
after it.
"""

import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
BACKENDS = ("torch", "jax", "tensorflow")
# A build for CPUs, where plain `torch` may bring CUDA.
REQUIREMENTS = {
    "torch": "torch==2.13.0",
    "jax": f"{ROOT}[jax]",
    "tensorflow": f"{ROOT}[tensorflow]",
}


def install(folder, backends):
    """Makes the environment; its Python."""
    venv.create(folder, with_pip=True)
    python = Path(folder) / "bin" / "python"

    def pip(*arguments):
        subprocess.run(
            [python, "-m", "pip", "install", "-q", *arguments], check=True
        )

    pip(*(REQUIREMENTS[b] for b in backends), f"{ROOT}[dev]")
    # In place of Keras, whose files it shares.
    subprocess.run(
        [python, "-m", "pip", "uninstall", "-q", "-y", "keras"], check=True
    )
    pip("--force-reinstall", "--no-deps", "keras-nightly")
    return python


def run(python, backend, options):
    """Runs the suite on a backend; pytest's last line, and its exit code."""
    with subprocess.Popen(
        [python, "-m", "pytest", "-q", *options],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        last = ""
        for line in process.stdout:
            print(line, end="", flush=True)
            if re.search(r"\d+ (passed|failed|errors?)\b", line):
                last = line.strip("= \n")
    return last, process.returncode


def main(arguments):
    if "--" in arguments:
        cut = arguments.index("--")
        arguments, options = arguments[:cut], arguments[cut + 1 :]
    else:
        options = ["-n", "2"]
    backends = arguments or BACKENDS
    for backend in backends:
        if backend not in BACKENDS:
            sys.exit(
                f"a backend must be one of {', '.join(BACKENDS)}. "
                f"Received: {backend}"
            )
    results, codes = [], []
    with tempfile.TemporaryDirectory(prefix="nightly-") as folder:
        python = install(folder, backends)
        version = subprocess.run(
            [python, "-c", "import keras; print(keras.__version__)"],
            env={**os.environ, "KERAS_BACKEND": backends[0]},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()
        for i, backend in enumerate(backends):
            # What computes with no backend runs once.
            once = ["-m", "not no_backend"] if i else []
            line, code = run(python, backend, [*once, *options])
            results.append(f"{backend}: {line}")
            codes.append(code)
    print(f"\nKeras {version}", *results, sep="\n")
    sys.exit(max(codes))


if __name__ == "__main__":
    main(sys.argv[1:])
