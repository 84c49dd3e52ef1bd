"""Broken audio in a real run, and mutants of valid files.

    KERAS_BACKEND=jax python -m tests.broken --files 50 --fuzz 100000

Makes so many files of each kind (`kinds.py`) and some good ones, and runs
`pretrain cola --preset tiny` over them, while some of them vanish or change.
The run must end with exit code 0, every file that must be skipped must be
named with its reason in `skipped.csv`, and none that must be used. Then
decodes mutants of WAV, FLAC, OGG and MP3 in child processes and counts what
became of them.
"""

import argparse
import collections
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from keras_audio_ssl.data.audio import AudioFile
from tests.broken import fuzz
from tests.broken import kinds


def readable_by_all(folder):
    """Whether even a run without root's rights reads any file."""
    path = folder / "closed"
    path.write_bytes(b"1")
    path.chmod(0)
    command = [sys.executable, "-m", "tests.broken.humble", "cat", str(path)]
    done = subprocess.run(command, capture_output=True)
    path.unlink()
    return done.returncode == 0


def run(made, root, options, epochs, log):
    """Trains on the collection and disturbs it; exit code and seconds."""
    output = root / "x.keras"
    command = [
        sys.executable, "-m", "tests.broken.humble",
        sys.executable, "-m", "keras_audio_ssl", "pretrain", "cola",
        "--preset", "tiny", "--data", str(root / "audio"), "--output",
        str(output), "--batch-size", "16", "--epochs", str(epochs),
        "--json", *options,
    ]  # fmt: skip
    begin = time.monotonic()
    with open(log, "w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
        # Written after the check of all files, and before training.
        while not (root / "x.run" / "config.json").exists():
            if process.poll() is not None:
                break
            time.sleep(0.01)
        kinds.disturb(made)
        code = process.wait()
    return code, time.monotonic() - begin


def judge(made, skipped):
    """For each kind how many were named and used; and what is wrong."""
    table, wrong = {}, []
    for item in made:
        row = table.setdefault(item.kind, [item.fate, 0, 0, ""])
        reason = skipped.get(kinds.named(item.path))
        row[1 if reason else 2] += 1
        row[3] = row[3] or (reason or "").replace("\n", " ")
        if reason is None and item.fate == kinds.SKIPPED:
            wrong.append(f"{item.kind}: {item.path!r} is not named")
        if reason is not None and item.fate == kinds.USED:
            wrong.append(f"{item.kind}: {item.path!r} is named: {reason}")
        if reason == "":
            wrong.append(f"{item.kind}: {item.path!r} is named, not why")
        if item.fate == kinds.USED and item.wave is not None:
            wrong += misheard(item)
    return table, wrong


def misheard(item, most=50_000):
    """What is wrong with the samples of a file that is used."""
    with AudioFile(item.path) as audio:
        if audio.frames != len(item.wave):
            return [f"{item.path!r}: {audio.frames} samples"]
        samples = min(most, audio.frames)
        start = (audio.frames - samples) // 2
        wave = audio.read(start, samples)
    if not np.array_equal(wave, item.wave[start : start + samples]):
        return [f"{item.path!r}: other samples than were written"]
    return []


def read_skipped(path):
    with open(path, newline="", encoding="utf-8") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


def collection(files, goods, epochs, folder, isolate):
    """Makes the collection and a run over it; what is wrong."""
    root = folder / ("isolated" if isolate else "direct")
    root.mkdir()
    chosen = [*kinds.KINDS, *kinds.DURING]
    if readable_by_all(folder):
        chosen.remove("no permission")
        print("no permission: left out, as nothing is denied to this user")
    made = kinds.make(root / "audio", files, kinds=chosen, goods=goods)
    options = ["--isolate"] if isolate else []
    code, seconds = run(made, root, options, epochs, root / "log")
    if code:
        return [f"exit code {code}: {(root / 'log').read_text()[-2000:]}"]
    skipped = read_skipped(root / "x.run" / "skipped.csv")
    table, wrong = judge(made, skipped)
    print(f"{'kind':24}{'must be':>9}{'named':>7}{'used':>6}  first reason")
    for name, (fate, named, used, reason) in table.items():
        print(f"{name:24}{fate:>9}{named:7}{used:6}  {reason[:70]}")
    print(f"{len(made)} files, {len(skipped)} named, exit code {code}, "
          f"{seconds:.0f} s{', isolated' if isolate else ''}, "
          f"{len(wrong)} wrong", flush=True)  # fmt: skip
    return wrong


def mutants(count, seed, folder):
    """Decodes mutants; what is wrong."""
    place = folder / "mutants"
    place.mkdir()
    begin = time.monotonic()
    counts, bad = fuzz.fuzz(
        count, place, seed, lambda text: print(text, flush=True)
    )
    print(f"{'':6}" + "".join(f"{o:>10}" for o in fuzz.OUTCOMES))
    for format in sorted({format for format, _ in counts}):
        row = "".join(f"{counts[format, o]:10}" for o in fuzz.OUTCOMES)
        print(f"{format:6}{row}")
    for name, outcome, reason in bad:
        print(f"{name}: {outcome}: {reason}")
    total = collections.Counter()
    for (_, outcome), number in counts.items():
        total[outcome] += number
    print(f"{count} mutants in {time.monotonic() - begin:.0f} s: "
          f"{total['crashed']} children crashed, {total['too long']} took too "
          f"long, {total['wrong']} wrong, the parent lives")  # fmt: skip
    return [f"{n}: {r}" for n, outcome, r in bad if outcome == "wrong"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=0, help="of each kind")
    parser.add_argument("--good", type=int, default=100, help="files")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--fuzz", type=int, default=0, help="mutants")
    parser.add_argument("--seed", type=int, default=0, help="of the mutants")
    parser.add_argument("--isolate", action="store_true", help="for the run")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="broken-"))
    wrong = []
    if args.files:
        wrong += collection(
            args.files, args.good, args.epochs, folder, args.isolate
        )
    if args.fuzz:
        wrong += mutants(args.fuzz, args.seed, folder)
    for text in wrong:
        print(text, file=sys.stderr)
    left = any((folder / "mutants").glob("*")) if args.fuzz else False
    if wrong or left:
        print(f"kept: {folder}")
    else:
        shutil.rmtree(folder)
    if wrong:
        sys.exit(f"{len(wrong)} wrong")


if __name__ == "__main__":
    main()
