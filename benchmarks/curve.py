"""Does pretraining pay, and after how many minutes? Accuracy over time.

    python benchmarks/curve.py DATA --output curve.jsonl [--minutes 2 8]
    python benchmarks/curve.py DATA --output curve.jsonl --draw curve.svg

DATA is the folder of the data sets. Each method is trained by the recipe of
its starter weight, on `pretrain.csv`'s train rows, for as many steps as two
cores of an AMD EPYC took in so many minutes, and scored as the weights' cards
are, on recordings that it has not heard: at the clip's vector and at all
levels, beside three draws of random weights and log-mel statistics. The steps
are what counts: on another machine they take another time, which the output
holds too. The starter weights are points too, of one seed, at the minutes that
their steps take. What their cards say of them, and of random weights, is not
measured again.

A run that stands in the output is not repeated, so the command can be stopped
and goes on; the encoders are kept in a folder beside the output.
"""

import argparse
import collections
import functools
import json
import math
import statistics
import sys
import time
from pathlib import Path

import keras_audio_ssl as kas
from keras_audio_ssl import evaluation

sys.path.insert(0, str(Path(__file__).parents[1] / "weights"))
import train

# Steps that two cores made in a minute, and the weight whose recipe it is.
METHODS = {
    "cola": ("cola", 100),
    "byol_a": ("byol_a", 60),
    "joint": ("small", 21),
}
HALF = {"dtype": "mixed_bfloat16"}
VERIFICATION = "verification"
TITLES = {
    "scene": "scene",
    "digit": "digit, unseen speaker",
    "speaker_2": "2 speakers",
    "speaker_5": "5 speakers",
    "emotion": "emotion",
    "phone": "phone",
    "instrument": "instrument",
    "pitch": "pitch",
    VERIFICATION: "verification, equal error",
}


def trained(method, minutes, seed, args, folder):
    """An encoder after so many minutes, and the seconds that it took."""
    weight, pace = METHODS[method]
    settings = HALF if args.half else {}
    file = file_of(folder, method, minutes, seed, args)
    begin = time.perf_counter()
    steps = round(pace * minutes)
    encoder = train.train_again(weight, seed, args.data, file, steps, settings)
    return encoder, time.perf_counter() - begin


def file_of(folder, name, minutes, seed, args):
    """Where an encoder is kept."""
    half = "_half" if args.half else ""
    name = f"{name}_{minutes:g}_{seed}{half}".replace(" ", "_")
    return folder / f"{name}.keras"


def shipped(method):
    """File of a starter weight, and the minutes that its steps take."""
    weight, pace = METHODS[method]
    minutes = train.RECIPES[weight]["steps"] / pace
    return train.HERE / f"{weight}.keras", round(minutes, 1)


def of_cards(methods):
    """Rows of the output, as the cards of the starter weights say them."""
    for method in methods:
        file, minutes = shipped(method)
        scores = json.loads(file.with_suffix(".json").read_text())["scores"]
        for read in ("clip", "levels"):
            said = {"method": method, "read": read, "seconds": 0}
            yield said | {
                "minutes": minutes, "seed": 0,
                "scores": {t: s[read]["accuracy"] for t, s in scores.items()},
            }  # fmt: skip
            for seed in range(3):
                draws = {
                    task: score[f"{read}_untrained"]["draws"][seed]
                    for task, score in scores.items()
                }
                yield said | {"minutes": 0, "seed": seed, "scores": draws}


def score(task, vectors, data):
    """Accuracy of a task, or the equal error rate."""
    if task != VERIFICATION:
        task = train.held_tasks()[task]
        return evaluation.run_task(task, vectors, data, "unseen").accuracy
    return evaluation.verify(
        vectors, Path(data) / "librispeech_mini" / "manifest.csv",
        label="speaker", where="split=test",
    ).equal_error_rate  # fmt: skip


READINGS = {"clip": lambda encoder: encoder, "levels": kas.Readout}


def known(rows):
    """What of the output need not be measured again."""
    return {
        (row["method"], row["minutes"], row["seed"], row["read"], task)
        for row in rows
        for task in row["scores"]
    }


def rows_of(method, minutes, seed, make, args, done, readings=READINGS):
    """Yields the rows of one encoder, which is made only if it is needed.

    Args:
        method: What the rows say of it, as `minutes` and `seed`.
        make: Gives the encoder and the seconds that it took.
        args: The command's: `tasks` and `data`.
        done: As of `known`.
        readings: Dict of names to what reads it.
    """
    made = functools.cache(make)
    for read, wrapped in readings.items():
        key = method, minutes, seed, read
        left = [task for task in args.tasks if (*key, task) not in done]
        if not left:
            continue
        encoder, seconds = made()
        vectors = evaluation.Embeddings(wrapped(encoder))
        found = {
            task: round(float(score(task, vectors, args.data)), 4)
            for task in left
        }
        backbone = getattr(encoder, "backbone", None)
        yield {
            "method": method, "minutes": minutes, "seed": seed,
            "computed": getattr(backbone, "compute_dtype", "float32"),
            "read": read, "seconds": round(seconds), "scores": found,
        }  # fmt: skip


def measure(args, done, folder):
    """Yields a row of the output for all that is not done."""
    rows = functools.partial(rows_of, args=args, done=known(done))

    def log_mel():
        return evaluation.LogMelStatistics(), 0.0

    clip = {"clip": READINGS["clip"]}
    yield from rows("log_mel", 0, None, log_mel, readings=clip)
    for minutes in args.minutes:
        for seed in args.seeds:
            for method in args.methods:

                def make(method=method, minutes=minutes, seed=seed):
                    return trained(method, minutes, seed, args, folder)

                yield from rows(method, minutes, seed, make)
    for method in args.methods:
        file, minutes = shipped(method)

        def make(file=file):
            return kas.load_encoder(file), 0.0

        yield from rows(method, minutes, 0, make)
        for seed in range(3):

            def make(file=file, seed=seed):
                encoder = kas.load_encoder(file)
                return evaluation.untrained(encoder, seed), 0.0

            yield from rows(method, 0, seed, make)


def read_rows(output):
    """The rows that an output holds."""
    lines = output.read_text().splitlines() if output.exists() else []
    return [json.loads(line) for line in lines]


def add_row(row, output):
    """Says a row, and adds it to the output."""
    print(row, flush=True)
    with output.open("a") as file:
        file.write(json.dumps(row) + "\n")


def collected(rows):
    """Dict of method, reading and minutes to that of task to all values."""
    out: dict = {}
    for row in rows:
        key = row["method"], row["read"], row["minutes"]
        for task, value in row["scores"].items():
            out.setdefault(key, {}).setdefault(task, []).append(value)
    return out


def table(found):
    """Lines of a table in Markdown: mean (smallest-largest)."""
    yield "| | minutes | seeds | " + " | ".join(TITLES.values()) + " |"
    yield "|---" * (len(TITLES) + 3) + "|"
    for (method, read, minutes), tasks in sorted(found.items()):
        cells = [told(tasks.get(task)) for task in TITLES]
        what = f"{method}, {read}" if method != "log_mel" else "log-mel"
        count = max(map(len, tasks.values()))
        yield f"| {what} | {minutes:g} | {count} | " + " | ".join(cells) + " |"


def told(values):
    """Mean of the seeds, with the least and the most."""
    if not values:
        return ""
    text = f"{statistics.mean(values):.3f}"
    if len(values) > 1:
        text += f" ({min(values):.3f}-{max(values):.3f})"
    return text


def draw(found, file):
    """A panel a task: lines of the seeds' means, bars from least to most."""
    from matplotlib.figure import Figure

    methods = [m for m in METHODS if any(key[0] == m for key in found)]
    measured = collections.Counter(
        (method, read, task)
        for (method, read, minutes), tasks in found.items()
        for task in tasks
        if minutes
    )
    # What the cards alone say, of one length of training, is no curve.
    scored = [
        task for task in TITLES
        if any(key[2] == task and n > 1 for key, n in measured.items())
    ]  # fmt: skip
    places = [(task, read) for task in scored for read in ("clip", "levels")]
    # Four panels a row: two tasks.
    rows = math.ceil(len(places) / 4)
    figure = Figure((10, 0.8 + 2.3 * rows), layout="constrained")
    panels = figure.subplots(rows, 4, squeeze=False).ravel()
    for axes in panels[len(places) :]:
        axes.axis("off")
    ticks = []
    for minutes in sorted({key[2] for key in found if key[2]}):
        # Whose labels do not overlap.
        if not ticks or minutes > 1.3 * ticks[-1]:
            ticks.append(minutes)
    for axes, (task, read) in zip(panels, places, strict=False):
        for colour, method in enumerate(methods):
            points = {
                minutes: tasks[task]
                for (name, where, minutes), tasks in sorted(found.items())
                if (name, where) == (method, read) and task in tasks
            }
            untrained = points.pop(0, None)
            style = {"color": f"C{colour}"}
            if untrained:
                axes.axhline(statistics.mean(untrained), linestyle=":", **style)
            if not points:
                continue
            values = [(statistics.mean(v), v) for v in points.values()]
            axes.errorbar(
                list(points),
                [mean for mean, _ in values],
                [
                    [mean - min(v) for mean, v in values],
                    [max(v) - mean for mean, v in values],
                ],
                marker="o", markersize=3, capsize=2, label=method, **style,
            )  # fmt: skip
        log_mel = found.get(("log_mel", "clip", 0))
        if log_mel and task in log_mel:
            axes.axhline(log_mel[task][0], color="0.4", linestyle="--")
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        where = "clip vector" if read == "clip" else "all levels"
        axes.set_title(f"{TITLES[task]}\n{where}", fontsize=8)
        axes.tick_params(labelsize=7)
    for axes in panels[max(len(places) - 4, 0) : len(places)]:
        axes.set_xlabel("minutes of two cores", fontsize=8)
    lines, names = panels[0].get_legend_handles_labels()
    figure.legend(
        lines, names, loc="outside lower center", ncols=len(names),
        fontsize=8, frameon=False,
    )  # fmt: skip
    figure.suptitle(
        "Trained (mean, least and most of the seeds), the same networks "
        "untrained (dotted), log-mel statistics (dashed)",
        fontsize=9,
    )
    figure.savefig(file)


def parser_of(text):
    """A parser with the arguments of this command and of those like it."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument(
        "--tasks", nargs="+", default=list(TITLES), choices=TITLES
    )
    return parser


def add_half(parser):
    """Declares `--half`."""
    parser.add_argument(
        "--half", action="store_true",
        help="train in half precision, which a row then says",
    )  # fmt: skip


def main():
    parser = parser_of(__doc__)
    parser.add_argument(
        "--methods", nargs="+", default=list(METHODS), choices=METHODS
    )
    parser.add_argument("--minutes", nargs="+", type=float, default=[2, 8])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add_half(parser)
    parser.add_argument("--draw", type=Path, help="picture; trains nothing")
    args = parser.parse_args()
    rows = [*of_cards(args.methods), *read_rows(args.output)]
    if not args.draw:
        folder = args.output.with_suffix("")
        for row in measure(args, list(rows), folder):
            add_row(row, args.output)
            rows.append(row)
    found = collected(rows)
    print(*table(found), sep="\n")
    if args.draw:
        draw(found, args.draw)


if __name__ == "__main__":
    main()
