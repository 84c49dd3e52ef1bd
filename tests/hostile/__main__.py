"""Brings the collection of hostile files to the doors of the package.

    KERAS_BACKEND=torch python -m tests.hostile --files 1000 --inside 100000

Each file must be refused with a `FileError` that names it, without running
what is in it, within a second and 500 MB. A mutant may be readable: then it
is counted as opened. `--inside` brings so many mutants to the child process
that reads weights, with a byte or some of HDF5's own changed and the archive's
checksums right, and every hundredth to `load_encoder`. Prints a line a kind,
and what went wrong.
"""

import argparse
import collections
import functools
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from keras_audio_ssl._files import FileError
from tests.hostile import bombs
from tests.hostile import cases

SECONDS, BYTES = 1.0, 500e6


def memory():
    """Most memory since `forget_memory`, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    return 0


def forget_memory():
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def read_parts(path):
    """What a child tells of a file, all of it, and no Keras."""
    from keras_audio_ssl.hub.untrusted import reading_child
    from keras_audio_ssl.hub.untrusted import reading_parent
    from keras_audio_ssl.hub.untrusted.errors import Unreadable

    try:
        with reading_parent.told_of(reading_child.KERAS, path) as found:
            for _, dtype, shape in found.told["arrays"]:
                found.array(dtype, tuple(shape))
    except Unreadable as error:
        raise FileError(f"{path}: {error}") from error


def bring(case, folder):
    """What became of a case: refused, opened, or how it went wrong.

    Returns:
        `(outcome, words, seconds, bytes)`.
    """
    from keras_audio_ssl.hub import import_checkpoint
    from keras_audio_ssl.hub import load_encoder
    from keras_audio_ssl.hub import load_model
    from keras_audio_ssl.hub import read_checkpoint

    doors = {
        "encoder": load_encoder,
        "model": load_model,
        "import": read_checkpoint,
        "parts": read_parts,
    }
    door, _, format = case.door.partition(" ")
    if format:
        doors["import"] = functools.partial(
            import_checkpoint, format, accept_licence=True
        )
    path = Path(folder) / f"case{case.suffix}"
    path.write_bytes(case.content)
    forget_memory()
    before, begin = memory(), time.monotonic()
    try:
        doors[door](path)
        outcome, words = "opened", ""
    except FileError as error:
        words = str(error)
        outcome = "refused" if str(path) in words else "unnamed"
    except ValueError as error:
        # Of a name that is no encoder's, by its ending.
        words = str(error)
        outcome = "refused" if case.suffix in (".h5", ".hdf5") else "crashed"
    except BaseException as error:
        outcome, words = "crashed", f"{type(error).__name__}: {error}"
    return outcome, words, time.monotonic() - begin, memory() - before


def judge(case, folder, canary, limit=SECONDS):
    """`bring`, with what is too slow, too large or has run code.

    The suite knows no `limit`: how long a file takes depends on what else the
    machine does.
    """
    outcome, words, seconds, size = bring(case, folder)
    if canary.exists():
        canary.unlink()
        outcome = "RAN"
    elif limit is not None and seconds > limit:
        outcome, words = "slow", f"{seconds:.1f} s, {outcome}: {words}"
    elif size > BYTES:
        outcome, words = "large", f"{size / 1e6:.0f} MB, {outcome}: {words}"
    return outcome, words, seconds, size


def may_open(case):
    """Whether a file may be harmless.

    Damage, a number that is no size, a tensor that nobody needs, what nobody
    asked for, or a graph that costs nothing until it is used.
    """
    harmless = ("axis_", "graph_", "mutant_", "shape_")
    return case.name.startswith(harmless) or case.name.endswith("_dropped")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--inside", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    canary = folder / "canary"
    valid = cases.valid_files(folder)
    for door in ("encoder", "model"):
        # Imports and caches are no part of a file's cost.
        outcome, words, seconds, _ = bring(
            cases.Case("valid", door, valid[door]), folder
        )
        assert outcome == "opened", words
        print(f"a valid {door}: {seconds:.2f} s")
    table = collections.defaultdict(collections.Counter)
    wrong, longest, largest = [], 0.0, 0

    def take(case):
        nonlocal longest, largest
        outcome, words, seconds, size = judge(case, folder, canary)
        longest, largest = max(longest, seconds), max(largest, size)
        kind = case.name.split("_")[0]
        table[f"{case.door}, {kind}"][outcome] += 1
        good = outcome == "refused" or (outcome == "opened" and may_open(case))
        if not good:
            wrong.append(f"{case.name} ({case.door}): {outcome}: {words[:300]}")

    for case in bombs.all_bombs(valid):
        take(case)
    for case in cases.named(valid, canary):
        take(case)
    for case in cases.all_mutants(valid, args.seed):
        if sum(t["refused"] for t in table.values()) >= args.files:
            done = sum(t["refused"] for k, t in table.items() if "mutant" in k)
            if done >= 200:
                break
        take(case)
    rng = np.random.default_rng(args.seed)
    mutants = bombs.inside_hdf5(valid["encoder"], rng)
    for number, case in enumerate(itertools.islice(mutants, args.inside)):
        take(case if number % 100 == 0 else case._replace(door="parts"))
    for kind in sorted(table):
        print(f"{kind:<28}", dict(table[kind]))
    total = sum((t for t in table.values()), collections.Counter())
    print(f"{total['refused']} refused, {total['opened']} opened and harmless, "
          f"{len(wrong)} wrong; longest {longest:.2f} s, most "
          f"{largest / 1e6:.0f} MB")  # fmt: skip
    for text in wrong:
        print(text, file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
