"""CLAR with few labels: both losses together against each of them alone.

    python benchmarks/few_labels.py DATA --output few.jsonl [--seeds 0 1 2]

DATA is the folder of the data sets. Trains on folds 1 to 4 of ESC-10 and
tests on fold 5. A tenth of each class has its label, the same clips in all
arms: `joint`, CLAR's sum of NT-Xent and cross-entropies; `self-supervised`, the
same network with NT-Xent alone; and `labels`, which sees the clips with labels
only, so that all of a batch have one. All have the same network, augmentations,
rate and steps.

After some of the steps the frozen encoder's vectors of whole clips are read
by a linear probe: trained with the labels of all clips that were trained on (C
chosen among them), and with those of the tenth alone (C = 1).

A run is appended to `--output` when it is done, as a line of JSON; the same
command again does what is missing, and prints the table.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import keras
import numpy as np

import keras_audio_ssl as kas
from keras_audio_ssl import evaluation
from keras_audio_ssl.callbacks.steps import StepCallback

TESTED = "5"  # of the folds
# Factors of the cross-entropies and of NT-Xent, and whether clips without
# label are among the batches.
ARMS = {
    "joint": (1.0, 1.0, True),
    "self-supervised": (0.0, 1.0, True),
    "labels": (1.0, 0.0, False),
}
PROBES = {"all": "all labels", "few": "the few labels alone"}


class Clips:
    """ESC-10 in memory: waveforms, names of their classes, folds."""

    def __init__(self, folder, rate):
        folder = folder / "esc10"
        table = kas.data.read_manifest(folder / "manifest.csv")
        self.waves = [
            kas.data.read_audio(folder / f, rate) for f in table["file"]
        ]
        self.labels, self.folds = map(np.array, (table["label"], table["fold"]))
        self.classes = sorted(set(table["label"]))
        self.train = np.flatnonzero(self.folds != TESTED)
        self.test = np.flatnonzero(self.folds == TESTED)

    def stream(self, places, **options):
        """Crops of some of them, for ever."""
        return kas.data.from_arrays(
            [self.waves[i] for i in places], self.labels[places],
            classes=self.classes, repeat=True, **options,
        )  # fmt: skip


class Probing(StepCallback):
    """Accuracies of both probes after some steps."""

    def __init__(self, clips, few, at):
        super().__init__()
        self.clips, self.few, self.at, self.curve = clips, few, at, {}

    def on_train_begin(self, logs=None):
        if 0 in self.at:
            self.on_step(0, {})

    def on_step(self, step, logs):
        if step not in self.at:
            return
        clips = self.clips
        vectors = self.model.encoder.embed(clips.waves)
        found = {}
        for name, train in (("all", clips.train), ("few", self.few)):
            fold = evaluation.Fold("held", train, clips.test)
            result = evaluation.score(
                vectors, clips.labels, [fold], clips.folds,
                grid=None if name == "all" else [1.0],
            )  # fmt: skip
            found[name] = result.accuracy
        self.curve[step] = found | {k: float(v) for k, v in logs.items()}


def run(arm, seed, clips, at, fraction, preset):
    """Accuracies by step of one training."""
    supervised, contrastive, everything = ARMS[arm]
    keras.utils.set_random_seed(seed)
    model = kas.CLAR(
        classes=clips.classes, supervised_weight=supervised,
        contrastive_weight=contrastive, preset=preset, seed=seed,
    )  # fmt: skip
    plan = kas.CLAR.TRAINING[preset]
    options = {"seconds": plan["seconds"], "seed": seed,
               "sample_rate": model.encoder.sample_rate}  # fmt: skip
    data = clips.stream(
        clips.train, batch_size=plan["batch_size"], label_fraction=fraction,
        **options,
    )  # fmt: skip
    few = clips.train[np.asarray(data.labels) >= 0]
    if not everything:
        size = min(plan["batch_size"], len(few))
        data = clips.stream(few, batch_size=size, **options)
    model.compile(total_steps=max(at))
    probing = Probing(clips, few, at)
    model.fit(data, steps_per_epoch=max(at), verbose=0, callbacks=[probing])
    return probing.curve, len(few)


def table(rows, probe):
    """Markdown: a line an arm, a column for so many steps."""
    steps = [int(step) for step in rows[0]["curve"]]
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        f"A probe from {PROBES[probe]}, seeds {', '.join(map(str, seeds))}\n",
        "| arm | " + " | ".join(f"{s} steps" for s in steps) + " |",
        "|---|" + "---|" * len(steps),
    ]
    for arm in ARMS:
        told = []
        for step in steps:
            values = [
                row["curve"][str(step)][probe]
                for row in rows
                if row["arm"] == arm
            ]
            if values:
                low, mean, high = min(values), np.mean(values), max(values)
                told.append(
                    f"{mean:.3f} ({low:.3f}-{high:.3f})".replace("0.", ".")
                )
        if told:
            lines.append(f"| {arm} | " + " | ".join(told) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[0, 25, 50, 100, 200],
        help="after which to probe; the largest are those of a training",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--fraction", type=float, default=0.1)
    parser.add_argument("--preset", default="tiny", choices=("paper", "tiny"))
    args = parser.parse_args()
    rows, clips = [], None
    if args.output.exists():
        rows = [json.loads(line) for line in args.output.open()]
    setting = {
        "steps": sorted(set(args.steps)),
        "fraction": args.fraction,
        "preset": args.preset,
    }
    rows = [row for row in rows if setting.items() <= row.items()]
    done = {(row["arm"], row["seed"]) for row in rows}
    for seed in args.seeds:
        for arm in args.arms:
            if (arm, seed) in done:
                continue
            clips = clips or Clips(args.data, 16000)
            begin = time.monotonic()
            curve, few = run(arm, seed, clips, setting["steps"],
                             args.fraction, args.preset)  # fmt: skip
            passed = round(time.monotonic() - begin)
            row = {
                "arm": arm, "seed": seed, **setting, "labelled": few,
                "backend": keras.config.backend(), "seconds": passed,
                "curve": {str(step): found for step, found in curve.items()},
            }  # fmt: skip
            with args.output.open("a") as file:
                file.write(json.dumps(row) + "\n")
            rows.append(row)
            told = [round(found["all"], 3) for found in curve.values()]
            print(f"{arm}, seed {seed}: {told}, {passed} s",
                  file=sys.stderr, flush=True)  # fmt: skip
    for probe in PROBES:
        print(table(rows, probe), end="\n\n")


if __name__ == "__main__":
    main()
