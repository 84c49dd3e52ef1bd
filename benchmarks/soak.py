"""Trains for many steps and watches memory, file handles and threads.

    python benchmarks/soak.py [--steps 20000] [--method cola] [--json FILE]

A real `fit`: the method's tiny preset, batches of a few short clips read from
a folder of WAV, FLAC and OGG files, with the callbacks and the settings
of memory of `pretrain` (`GLIBC_TUNABLES=` has the latter off). All files lie
in a temporary folder.

Every few hundred steps it prints the resident memory, the open file handles
and the threads. To reach: over the second half the memory grows by less than
1 MB a thousand steps (least squares), and handles and threads are the same
at the end as in the middle. The exit code is 1 where that is missed.
"""

import argparse
import json
import os
import runpy
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[1]
CALLBACKS_EVERY = 1000
TARGET = 1.0  # MB a thousand steps


def as_pretrain_starts():
    """Starts again with the command line's settings of memory."""
    # Tensors this small are quicker in one thread.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if "GLIBC_TUNABLES" in os.environ:
        return
    from keras_audio_ssl._backend import configured_backend

    memory = runpy.run_path(str(ROOT / "keras_audio_ssl/cli/memory.py"))
    os.environ["GLIBC_TUNABLES"] = memory["tunables"](configured_backend())
    os.execv(sys.executable, sys.orig_argv)


def write_clips(folder, count=48, rate=16000):
    """Files of 1 to 2 s, of several kinds, some at another rate."""
    rng = np.random.default_rng(0)
    for k in range(count):
        kind = ("wav", "flac", "ogg")[k % 3]
        at = 22050 if k % 8 == 7 else rate
        time_ = np.arange(int(at * rng.uniform(1, 2))) / at
        tone = np.sin(2 * np.pi * rng.uniform(100, 3000) * time_)
        noise = rng.standard_normal(len(time_))
        wave = 0.1 * rng.uniform(0.2, 1) * tone + 0.01 * noise
        soundfile.write(folder / f"{k:03}.{kind}", wave, at)


def sample():
    """Resident MB, file handles and threads of this process."""
    status = dict(
        line.split(":", 1)
        for line in Path("/proc/self/status").read_text().splitlines()
    )
    return (
        int(status["VmRSS"].split()[0]) * 1024 / 1e6,
        len(os.listdir("/proc/self/fd")),
        int(status["Threads"]),
    )


def soak(method, steps, every, batch_size, folder):
    """Rows of (step, MB, handles, threads)."""
    import keras

    import keras_audio_ssl as kas
    from keras_audio_ssl.callbacks import Checkpoint
    from keras_audio_ssl.callbacks import EmbeddingMonitor
    from keras_audio_ssl.callbacks import HistoryCSV
    from keras_audio_ssl.callbacks import SkippedBatches
    from keras_audio_ssl.callbacks import StepCallback
    from keras_audio_ssl.callbacks import StepCost
    from keras_audio_ssl.methods import make_method

    clips = folder / "clips"
    clips.mkdir()
    write_clips(clips)
    data = kas.data.from_folder(clips, 1.0, batch_size, repeat=True)
    model = make_method(method, preset="tiny", seed=0)
    model.compile()
    rows = []
    begin = time.perf_counter()

    class Watch(StepCallback):
        def on_step(self, step, logs):
            rows.append((step, *sample()))
            mb, handles, threads = rows[-1][1:]
            print(
                f"{step:8} {mb:10.1f} MB {handles:6} {threads:6}   "
                f"{time.perf_counter() - begin:7.0f} s",
                flush=True,
            )

    monitor = EmbeddingMonitor(data[0], None, CALLBACKS_EVERY)
    print(
        f"{keras.backend.backend()}, {method} tiny, batches of {batch_size}\n"
        f"{'step':>8} {'resident':>13} {'files':>6} {'threads':>6}",
        flush=True,
    )
    model.fit(
        data,
        steps_per_epoch=steps,
        callbacks=[
            StepCost(steps),
            monitor,
            HistoryCSV(folder / "history.csv", 20, 0, monitor),
            Checkpoint(folder / "checkpoints", CALLBACKS_EVERY),
            SkippedBatches(),
            Watch(every),
        ],
        verbose=0,
    )
    return rows


def growth(rows):
    """MB a thousand steps, least squares over the second half."""
    half = np.array([row[:2] for row in rows[len(rows) // 2 :]])
    return 1000 * np.polyfit(half[:, 0], half[:, 1], 1)[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--every", type=int, default=500)
    parser.add_argument("--method", default="cola")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--json", help="file to write every sample to")
    args = parser.parse_args()
    if args.steps < 6 * args.every:
        parser.error("--steps must be at least six times --every")
    as_pretrain_starts()
    with tempfile.TemporaryDirectory() as folder:
        rows = soak(
            args.method, args.steps, args.every, args.batch_size, Path(folder)
        )
    slope = growth(rows)
    middle, last = rows[len(rows) // 2], rows[-1]
    verdicts = {
        f"memory grows by {slope:+.3f} MB a thousand steps, "
        f"at most {TARGET:g}": slope < TARGET,
        f"file handles {middle[2]} in the middle, {last[2]} at the end": (
            last[2] <= middle[2]
        ),
        f"threads {middle[3]} in the middle, {last[3]} at the end": (
            last[3] <= middle[3]
        ),
    }
    for text, reached in verdicts.items():
        print(f"{text}: {'reached' if reached else 'MISSED'}")
    if args.json:
        names = ("step", "resident_mb", "files", "threads")
        table = [dict(zip(names, row, strict=True)) for row in rows]
        Path(args.json).write_text(json.dumps(table, indent=1))
    sys.exit(not all(verdicts.values()))


if __name__ == "__main__":
    main()
