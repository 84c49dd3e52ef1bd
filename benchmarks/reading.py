"""Reading speed: crops, whole files, child processes, libsndfile alone.

    python benchmarks/reading.py [--seconds 0.95] [--rounds 5] [--json]

Reads each corpus of the real recordings (KERAS_AUDIO_SSL_DATA) in several
ways, taking turns, and prints clips per second (the best round) and ratios:

- crops / whole: an epoch of crops over an epoch of whole files (one worker);
  to reach: 3 on esc10 and librispeech_mini.
- 2 workers / raw: an epoch of crops with two workers over one thread that
  opens, seeks and reads as many crops with soundfile, without resampling;
  to reach: 1.6. Both at the files' own rate, so that both only decode.

- isolated / 2 workers: the same, decoded in child processes.

The last ratio, processor time a clip over that of soundfile, tells what the
two workers would reach on idle cores: 2 over it.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import soundfile

from keras_audio_ssl.data import from_folder
from keras_audio_ssl.data import read_audio_native
from tests.data_folder import data_folder

CORPORA = ("esc10", "librispeech_mini", "fsdd", "philharmonia", "emodb")


def epoch(data, number):
    """Seconds and processor seconds a clip, of an epoch not begun before.

    What is read ahead for the epoch after it counts too: it is waited for.
    """
    data.start(number)
    clips = len(data) + data.threads + 1
    wall, busy = time.perf_counter(), time.process_time()
    for _ in data:
        pass
    for batch in data._loader.pending.values():
        for future in batch.parts:
            future.result()
    clips *= data.batch_size
    wall = (time.perf_counter() - wall) / clips
    return wall, (time.process_time() - busy) / clips


def raw(files, seconds, seed):
    """The same for soundfile alone, in this thread."""
    rng = np.random.default_rng(seed)
    wall, busy = time.perf_counter(), time.process_time()
    for file in files:
        with soundfile.SoundFile(file) as sound:
            wanted = round(seconds * sound.samplerate)
            sound.seek(int(rng.integers(max(1, sound.frames - wanted + 1))))
            sound.read(wanted, dtype="float32", always_2d=True)
    wall = (time.perf_counter() - wall) / len(files)
    return wall, (time.process_time() - busy) / len(files)


def measure(folder, seconds, rounds, max_files):
    rate = read_audio_native(next(iter(from_folder(folder).files)))[1]
    options = {"sample_rate": rate, "max_files": max_files, "batch_size": 32}
    ways = {
        "whole": from_folder(folder, workers=1, **options),
        "crops": from_folder(folder, seconds, workers=1, **options),
        "2 workers": from_folder(folder, seconds, workers=2, **options),
        "isolated": from_folder(
            folder, seconds, workers=2, isolate=True, **options
        ),
        "16 kHz": from_folder(
            folder, seconds, workers=2, **{**options, "sample_rate": 16000}
        ),
    }
    files = ways["crops"].files
    times = {name: [] for name in (*ways, "raw")}
    for k in range(rounds + 1):
        for name, data in ways.items():
            # far apart: what was read ahead is of no use to the next round
            times[name].append(epoch(data, 10 * k))
        times["raw"].append(raw(files, seconds, k))
    # The first round warms up.
    best = {n: np.min(values[1:], axis=0) for n, values in times.items()}
    result = {
        "clips": len(files),
        "rate": rate,
        **{f"{name} clips/s": 1 / wall for name, (wall, _) in best.items()},
        "crops / whole": best["whole"][0] / best["crops"][0],
        "2 workers / raw": best["raw"][0] / best["2 workers"][0],
        "isolated / 2 workers": best["2 workers"][0] / best["isolated"][0],
        "processor time / raw": best["2 workers"][1] / best["raw"][1],
    }
    return {key: float(value) for key, value in result.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.95)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-files", type=int, default=256)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    data = data_folder()
    if data is None:
        sys.exit("No real audio: set KERAS_AUDIO_SSL_DATA to its folder.")
    results = {
        name: measure(data / name, args.seconds, args.rounds, args.max_files)
        for name in CORPORA
        if (data / name).is_dir()
    }
    if args.json:
        print(json.dumps(results, indent=1))
        return
    for name, row in results.items():
        print(f"{name}: {row['clips']:.0f} clips at {row['rate']:.0f} Hz")
        for key, value in list(row.items())[2:]:
            print(f"  {key:20} {value:10.2f}")


if __name__ == "__main__":
    main()
