"""A short turn of `python -m tests.faults`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract import BACKEND

# PyTorch, which compiles nothing, is disturbed more often.
WIDTHS = ("8", "20") if BACKEND == "torch" else ("4", "80")


@pytest.mark.parametrize(
    "options", [("--kills", WIDTHS[0]), ("--writes", WIDTHS[1])]
)
def test_what_was_disturbed_goes_on_to_the_bit(options):
    # A process of its own: one that has computed cannot be forked.
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--steps", "2", *options],
        cwd=Path(__file__).parents[2],
        # As it is without a test around it.
        env={**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert "to the bit" in last and " 0 equal" not in last
