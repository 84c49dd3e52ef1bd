"""Kills and failing writes, many of them.

    KERAS_BACKEND=jax python -m tests.faults --kills 200

Runs of `pretrain` are killed at random moments and begun again by the same
command, until they end; then all arrays and the history must be those of the
run that nobody disturbed. Every third kill comes at a chosen file operation,
inside of a save. With `--writes N` every Nth file operation of a run fails as
on a full disk, a broken one, and in a folder that may not be written.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), "faults")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import numpy as np

from tests.faults.inject import ERRORS
from tests.faults.inject import Injector
from tests.faults.runs import METHODS
from tests.faults.runs import arguments
from tests.faults.runs import differing
from tests.faults.runs import make_audio
from tests.faults.runs import pretrain
from tests.faults.runs import result


def preload():
    """Imports what a run needs; nothing is computed, so forks are sound."""
    import keras

    import keras_audio_ssl.callbacks
    import keras_audio_ssl.cli.pretrain
    import keras_audio_ssl.data  # noqa: F401

    return keras.backend.backend()


def spawn(argv, log, root, at=0, error=None):
    """A run in a child process: its number."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        injector = Injector(root, at, error)
        with injector.at_work():
            code, _ = pretrain(argv, log)
        if not at:
            Path(log).with_suffix(".count").write_text(str(len(injector.done)))
    finally:
        os._exit(code)


def wait(child):
    """The exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def reference(backend, method, audio, folder, steps):
    """An undisturbed run: arrays, seconds, file operations."""
    root = folder / f"whole_{method}"
    root.mkdir()
    argv = arguments(method, audio, root / "x.keras", steps)
    log = root.with_suffix(".log")
    # The first fills caches of compiled code, which JAX alone keeps between
    # processes.
    for warm in (True, False) if backend == "jax" else (False,):
        begin = time.monotonic()
        if wait(spawn(argv, log, root)):
            sys.exit(f"the undisturbed run failed:\n{log.read_text()}")
        seconds = time.monotonic() - begin
        arrays = result(root / "x.keras")
        if warm:
            shutil.rmtree(root)
            root.mkdir()
    return arrays, seconds, int(log.with_suffix(".count").read_text())


def kills(backend, wanted, folder, steps, seed):
    """Kills runs; the number of kills and what went wrong."""
    rng = np.random.default_rng(seed)
    audio = make_audio(folder / "audio")
    whole = {}
    done, inside, wrong, turn = 0, 0, [], 0
    while done < wanted:
        method = METHODS[turn % len(METHODS)]
        if method not in whole:
            whole[method] = reference(backend, method, audio, folder, steps)
        arrays, seconds, count = whole[method]
        root = folder / f"run_{turn}"
        root.mkdir()
        log = root.with_suffix(".log")
        argv = arguments(method, audio, root / "x.keras", steps)
        hits = 0
        while True:
            last = hits >= 4 or done >= wanted
            at = 0
            if not last and (done + hits) % 3 == 0:
                at = int(rng.integers(1, count))
            child = spawn(argv, log, root, at)
            if not last and not at:
                time.sleep(rng.uniform(0.2, 1.0) * seconds)
                os.kill(child, signal.SIGKILL)
            code = wait(child)
            if code == -signal.SIGKILL:
                hits, done, inside = hits + 1, done + 1, inside + bool(at)
                continue
            if code and "is up to date" not in log.read_text():
                finished = (root / "x.keras").exists() and code == 2
                if not finished:
                    wrong.append(f"{root}: exit {code}: {log.read_text()}")
            break
        different = differing(arrays, result(root / "x.keras"))
        if different:
            wrong.append(f"{root}, {method}, {hits} kills: {different[:5]}")
        else:
            shutil.rmtree(root)
        turn += 1
        print(f"{done} kills, {inside} at a file operation; {turn} runs, "
              f"{len(wrong)} wrong", flush=True)  # fmt: skip
    return done, inside, turn, wrong


def writes(backend, every, folder, steps):
    """Lets file operations fail; how many, and what went wrong."""
    from keras_audio_ssl.callbacks import last_checkpoint

    audio = make_audio(folder / "audio_writes")
    arrays, _, count = reference(backend, "cola", audio, folder, steps)
    tried, refused, wrong = 0, 0, []
    for kind, error in ERRORS.items():
        for at in range(1, count + 1, every):
            root = folder / f"{kind} {at}".replace("/", "")
            root.mkdir()
            log = root.with_suffix(".log")
            argv = arguments("cola", audio, root / "x.keras", steps)
            code = wait(spawn(argv, log, root, at, error))
            said = log.read_text()
            tried += 1
            if code:
                refused += 1
                if not (code == 1 and str(root) in said and "bytes" in said):
                    wrong.append(f"{kind} at {at}: exit {code}: {said[-500:]}")
            kept = sorted((root / "x.run").glob("checkpoints/step_*.keras"))
            if kept and not loads(last_checkpoint, root / "x.run/checkpoints"):
                wrong.append(f"{kind} at {at}: {kept[-1]} does not load")
            code = wait(spawn(argv, log, root))
            if code not in (0, 2) or not (root / "x.keras").exists():
                wrong.append(f"{kind} at {at}, again: {log.read_text()[-500:]}")
            elif different := differing(arrays, result(root / "x.keras")):
                wrong.append(f"{kind} at {at}: {different[:5]}")
            shutil.rmtree(root)
        print(f"{kind}: {tried} writes failed so far, {refused} ended their "
              f"run, {len(wrong)} wrong", flush=True)  # fmt: skip
    return tried, refused, wrong


def loads(last_checkpoint, folder):
    """Whether the newest checkpoint is whole, tried in a child process."""
    child = os.fork()
    if child:
        return wait(child) == 0
    try:
        model, _ = last_checkpoint(folder, say=lambda text: None)
        newest = sorted(Path(folder).glob("step_*.keras"))[-1]
        os._exit(0 if model is not None and newest.exists() else 1)
    finally:
        os._exit(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--writes", type=int, default=0, metavar="EVERY")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    backend = preload()
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    wrong = []
    if args.kills:
        done, inside, runs, wrong = kills(
            backend, args.kills, folder, args.steps, args.seed
        )
        equal = runs - len(wrong)
        print(
            f"{backend}: {done} kills, {inside} of them at a file "
            f"operation, in {runs} runs, {equal} equal to the bit"
        )
    if args.writes:
        tried, refused, more = writes(backend, args.writes, folder, args.steps)
        wrong += more
        print(f"{backend}: {tried} failed writes, {refused} ended their run, "
              f"{tried - len(more)} went on to the bit")  # fmt: skip
    for text in wrong:
        print(text, file=sys.stderr)
    if wrong:
        sys.exit(f"{len(wrong)} wrong; see {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
