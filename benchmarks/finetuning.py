"""Is a fine-tuned classifier better than a probe, and than random weights?

    python benchmarks/finetuning.py DATA [--output finetuning.jsonl]

DATA is the folder of the data sets; of ESC-10, folds 1 to 4 train and fold 5
tests. The weights that ship have heard folds 1 to 4 without their labels, and
nothing of fold 5. All see whole clips, of 5 s. With fewer `--seconds`, of the
test clips and of those that are embedded once it is the segment in the middle,
and in fine-tuning another in each epoch.

- *probe*: frozen vectors, standardised, multinomial logistic regression, its C
  chosen within the training folds; at the clip's vector and at all levels;
- *frozen*: `Classifier(freeze=True)`, the same two;
- *tuned*: `Classifier` as it comes, of the clip's vector;
- each also from random weights, a draw a seed.

A run that stands in the output is not repeated, so the command can be stopped
and goes on. Settings are chosen on fold 4 alone:

    python benchmarks/finetuning.py DATA --train 1 2 3 --test 4 --seeds 0 \
        --encoders byol_a --ways tuned --rates 1e-4 3e-4 1e-3 3e-3
"""

import argparse
import functools
import itertools
import json
import sys
import time
from pathlib import Path

import keras
import numpy as np

import keras_audio_ssl as kas
from keras_audio_ssl import evaluation
from keras_audio_ssl.engine import WarmUpDecay
from keras_audio_ssl.evaluation.scoring import check_classifier

WAYS = (
    "probe", "frozen", "probe, all levels", "frozen, all levels", "tuned",
)  # fmt: skip
WEIGHTS = ("pretrained", "random")


class AtRate(kas.Classifier):
    """The classifier with another peak of the learning rate."""

    rate = None

    def default_optimizer(self, total_steps=None):
        optimizer = super().default_optimizer(total_steps)
        if None not in (self.rate, total_steps):
            optimizer.learning_rate = WarmUpDecay(self.rate, total_steps, 0.1)
        return optimizer


class Scenes:
    """ESC-10 in memory.

    Args:
        folder: Of the data sets.
        train: Folds, as numbers.
        test: Likewise.
        seconds: Of a segment.
        batch_size: Of fine-tuning.
        sample_rate: Of the encoder, in Hz.
    """

    def __init__(self, folder, train, test, seconds, batch_size, sample_rate):
        self.seconds, self.batch_size = seconds, batch_size
        self.sample_rate = sample_rate
        self.parts, groups = {}, []
        for part, folds in (("train", train), ("test", test)):
            waves, labels = [], []
            for fold in folds:
                data = kas.data.from_manifest(
                    Path(folder) / "esc10" / "manifest.csv",
                    batch_size=1, label="label", where={"fold": str(fold)},
                    sample_rate=sample_rate,
                ).whole()  # fmt: skip
                self.classes = data.classes
                for i in range(len(data)):
                    x, y = data[i]
                    waves.append(x["waveform"][0, : x["lengths"][0]])
                    labels.append(self.classes[int(y[0])])
                    groups += [fold] * (part == "train")
            self.parts[part] = waves, labels
        self.groups = np.array(groups + [0] * len(self.parts["test"][0]))

    def data(self, part, seed=0):
        waves, labels = self.parts[part]
        return kas.data.from_arrays(
            waves, labels, seconds=self.seconds, batch_size=self.batch_size,
            classes=self.classes, seed=seed, sample_rate=self.sample_rate,
        )  # fmt: skip

    def middle(self, part):
        """`(batch, labels)` of all clips, the segment in the middle."""
        view = self.data(part).whole()
        x, y = zip(*(view[i] for i in range(len(view))), strict=True)
        x = keras.tree.map_structure(lambda *v: np.concatenate(v), *x)
        return x, np.concatenate(y)


def probe(encoder, scenes, seed):
    """Whether each test clip was told, and the C that was chosen."""
    parts = [scenes.middle(part) for part in ("train", "test")]
    x = np.concatenate(
        [encoder.predict(part[0], verbose=0)["clip"] for part in parts]
    )
    y = np.concatenate([part[1] for part in parts])
    train, test = np.split(np.arange(len(y)), [len(parts[0][1])])
    fold = evaluation.Fold("test", train, test)
    names = [scenes.classes[i] for i in y]
    result = evaluation.score(x, names, [fold], scenes.groups, seed=seed)
    strength = result.chosen["test"]
    # The result has no answers, only how many are right.
    model, _ = check_classifier("logistic", None)
    known, asked = model.prepare(x[train], x[test])
    told = model.predict(known, y[train], asked, [strength])[0] == y[test]
    assert np.mean(told) == result.accuracy
    return told, {"C": strength}


def classify(encoder, scenes, seed, epochs, freeze, rate):
    """Whether each test clip was told, and the training's last numbers."""
    keras.utils.set_random_seed(seed)
    model = AtRate(encoder, scenes.classes, freeze=freeze)
    model.rate = rate
    model.compile()
    history = model.fit(
        scenes.data("train", seed), epochs=epochs, verbose=0
    ).history
    x, y = scenes.middle("test")
    told = model.predict(x, verbose=0).argmax(-1) == y
    return told, {f"train_{k}": round(v[-1], 4) for k, v in history.items()}


def run(job, scenes_at):
    encoder = kas.load_encoder(job["encoder"])
    scenes = scenes_at(encoder.sample_rate)
    began, cpu = time.monotonic(), time.process_time()
    if job["weights"] == "random":
        encoder = evaluation.untrained(encoder, job["seed"])
    if "levels" in job["way"]:
        encoder = kas.Readout(encoder)
    if job["way"].startswith("probe"):
        told, more = probe(encoder, scenes, job["seed"])
    else:
        freeze = job["way"].startswith("frozen")
        told, more = classify(
            encoder, scenes, job["seed"], job["epochs"], freeze, job["rate"]
        )
    return {
        **job, "accuracy": float(np.mean(told)),
        "told": "".join("01"[int(t)] for t in told), **more,
        "backend": keras.config.backend(),
        "seconds_taken": round(time.monotonic() - began),
        "cpu_seconds": round(time.process_time() - cpu),
    }  # fmt: skip


def jobs(args):
    for seed, name, weights, way in itertools.product(
        args.seeds, args.encoders, args.weights, args.ways
    ):
        for rate in args.rates if way == "tuned" else [None]:
            yield {
                "encoder": name, "way": way, "weights": weights, "seed": seed,
                "rate": rate, "train": args.train, "test": args.test,
                "seconds": args.seconds, "epochs": args.epochs,
                "batch_size": args.batch_size,
            }  # fmt: skip


def table(rows):
    """Markdown: means over the seeds, smallest and largest."""
    print("| encoder | trained | pretrained | random weights |")
    print("|---|---|---|---|")
    groups = {}
    for row in rows:
        key = row["encoder"], row["way"], row["rate"]
        groups.setdefault(key, {}).setdefault(row["weights"], []).append(row)
    for (name, way, rate), found in groups.items():
        cells = []
        for weights in WEIGHTS:
            scores = [row["accuracy"] for row in found.get(weights, [])]
            cells.append(
                f"{np.mean(scores):.3f} ({min(scores):.3f}-{max(scores):.3f})"
                if scores
                else ""
            )
        shown = way if rate is None else f"{way}, {rate:g}"
        print(f"| {name} | {shown} | {' | '.join(cells)} |")


def pairs(rows):
    """Clips that one way tells and the other does not, over all seeds."""
    print("\n| encoder | first | second | only first | only second |")
    print("|---|---|---|---|---|")
    found = {
        (r["encoder"], r["way"], r["weights"], r["seed"]): r["told"]
        for r in rows
        if r["rate"] is None
    }
    for (encoder, seeds), (one, other) in itertools.product(
        {
            e: sorted({r["seed"] for r in rows if r["encoder"] == e})
            for e in dict.fromkeys(r["encoder"] for r in rows)
        }.items(),
        (
            (("tuned", "pretrained"), ("probe", "pretrained")),
            (("tuned", "pretrained"), ("tuned", "random")),
            (("tuned", "pretrained"), ("probe, all levels", "pretrained")),
            (("frozen", "pretrained"), ("probe", "pretrained")),
        ),
    ):
        told = [
            (found[encoder, *one, seed], found[encoder, *other, seed])
            for seed in seeds
            if (encoder, *one, seed) in found
            and (encoder, *other, seed) in found
        ]
        if told:
            clips = [c for a, b in told for c in zip(a, b, strict=True)]
            only = [clips.count(c) for c in (("1", "0"), ("0", "1"))]
            print(f"| {encoder} | {', '.join(one)} | {', '.join(other)} "
                  f"| {only[0]} | {only[1]} |")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", help="folder of the data sets")
    parser.add_argument("--output", default="finetuning.jsonl")
    parser.add_argument(
        "--encoders", nargs="+", default=["byol_a", "cola", "small", "npc"]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument(
        "--weights", nargs="+", default=WEIGHTS, choices=WEIGHTS
    )
    parser.add_argument(
        "--rates", nargs="+", type=float, default=[None],
        help="peaks for fine-tuning in place of the default",
    )  # fmt: skip
    parser.add_argument("--train", nargs="+", type=int, default=[1, 2, 3, 4])
    parser.add_argument("--test", nargs="+", type=int, default=[5])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args()
    output = Path(args.output)
    done = []
    if output.exists():
        done = [json.loads(line) for line in output.read_text().splitlines()]

    @functools.cache
    def scenes_at(sample_rate):
        return Scenes(
            args.data, args.train, args.test, args.seconds, args.batch_size,
            sample_rate,
        )  # fmt: skip

    rows = []
    for job in jobs(args):
        row = next((d for d in done if job.items() <= d.items()), None)
        if row is None:
            row = run(job, scenes_at)
            with output.open("a") as file:
                file.write(json.dumps(row) + "\n")
            note = {k: v for k, v in row.items() if k != "told"}
            print(json.dumps(note), file=sys.stderr, flush=True)
        rows.append(row)
    table(rows)
    pairs(rows)


if __name__ == "__main__":
    main()
