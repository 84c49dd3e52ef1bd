"""Runs a command without root's right to read every file.

    python -m tests.broken.humble COMMAND ...

So that a file without permissions cannot be read even where tests run as
root. Does nothing for other users, and where that right cannot be given up.
"""

import ctypes
import os
import sys

PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2


def give_up():
    """Gives the rights up for all programs that this process turns into."""
    if sys.platform == "linux" and os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        for right in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            libc.prctl(PR_CAPBSET_DROP, right, 0, 0, 0)


if __name__ == "__main__":
    give_up()
    os.execvp(sys.argv[1], sys.argv[1:])
