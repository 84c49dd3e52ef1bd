"""Scores encoders on the standard tasks with real audio.

    python benchmarks/tasks.py DATA --tasks scene digit -- a.keras b.keras

Rows: log-mel statistics, then each encoder as trained and with random
weights, its clip embedding and the readout of all its levels.
"""

import argparse
import json
import time

import keras_audio_ssl as kas
from keras_audio_ssl import evaluation


def rows(paths):
    """Name and encoder of each row, made when its turn comes."""
    yield "log-mel statistics", evaluation.LogMelStatistics()
    for path in paths:
        trained = kas.load_encoder(path)
        for kind in ("trained", "untrained"):
            encoder = trained
            if kind == "untrained":
                encoder = evaluation.untrained(trained)
            yield f"{path}, {kind}, clip", encoder
            yield f"{path}, {kind}, all levels", kas.Readout(encoder)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="folder of the data sets")
    parser.add_argument("--tasks", nargs="+", required=True)
    parser.add_argument("--seen", default="seen unlabelled")
    parser.add_argument("--output", help="JSON lines to append to")
    parser.add_argument("encoders", nargs="+")
    args = parser.parse_args()
    for name, encoder in rows(args.encoders):
        begin = time.monotonic()
        results = evaluation.run_tasks(
            args.tasks, encoder, args.data, seen=args.seen
        )
        scores = {task: r.accuracy for task, r in results.items()}
        shown = "  ".join(f"{t} {s:.3f}" for t, s in scores.items())
        print(f"{name:<48} {shown}  ({time.monotonic() - begin:.0f} s)",
              flush=True)  # fmt: skip
        if args.output:
            with open(args.output, "a") as file:
                file.write(json.dumps({"row": name, **scores}) + "\n")


if __name__ == "__main__":
    main()
