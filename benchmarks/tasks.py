"""Scores encoders on the standard tasks with real audio.

    python benchmarks/tasks.py DATA --tasks scene digit -- a.keras b.keras

Rows: log-mel statistics, then each encoder as trained and with random weights
(`--draws` of them), its clip embedding and the readout of all its levels, or
one of the two (`--read`).
"""

import argparse
import json
import time

import keras_audio_ssl as kas
from keras_audio_ssl import evaluation

READINGS = {"clip": lambda encoder: encoder, "all levels": kas.Readout}


def rows(paths, draws, readings):
    """Name and encoder of each row, made when its turn comes."""
    yield "log-mel statistics", evaluation.LogMelStatistics()
    for path in paths:
        trained = kas.load_encoder(path)
        for draw in (None, *range(draws)):
            encoder, kind = trained, "trained"
            if draw is not None:
                encoder = evaluation.untrained(trained, draw)
                kind = f"untrained {draw}"
            for read in readings:
                yield f"{path}, {kind}, {read}", READINGS[read](encoder)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="folder of the data sets")
    parser.add_argument("--tasks", nargs="+", required=True)
    parser.add_argument("--seen", default="seen unlabelled")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument(
        "--read", nargs="+", default=list(READINGS), choices=READINGS
    )
    parser.add_argument("--output", help="JSON lines to append to")
    parser.add_argument("encoders", nargs="+")
    args = parser.parse_args()
    for name, encoder in rows(args.encoders, args.draws, args.read):
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
