"""What Joint owes to its settings and to its corpus: one lever at a time.

    python benchmarks/levers.py DATA --output levers.jsonl [--levers NAME ...]

DATA is the folder of the data sets. Joint is trained by the recipe of the
weight `small` with one thing changed, as many steps as `curve.py` counts for
the minutes (fewer or more where a step takes another time), and scored as
there, at all levels. Without `--levers` all of `LEVERS`. The rows of the output
are like those of `curve.py`, and one that is there is not made again.
"""

import contextlib
import csv
import functools
import time
from unittest import mock

import curve
import keras
import train

import keras_audio_ssl as kas
from keras_audio_ssl import evaluation
from keras_audio_ssl.blocks import MLPHead
from keras_audio_ssl.data import read_manifest

PATCHES = {"kind": "patches", "clips": 100_000}


def after_layer_norm(dim, *widths, name, dtype):
    """A projector that reads the clip's vector with mean 0, deviation 1."""
    norm = keras.layers.LayerNormalization(
        center=False, scale=False, dtype=dtype
    )
    head = MLPHead(dim, *widths, dtype=dtype)
    projector = keras.Sequential([norm, head], name=name)
    projector.build((None, dim))
    return projector


# Arguments of `kas.pretrain` that differ, and: "pace" of steps in a minute, as
# a factor; a "patch" of what is no setting.
LEVERS = {
    "as it is": {},
    # Its settings.
    "temperature .1": {"settings": {"temperature": 0.1}},
    "temperature .5": {"settings": {"temperature": 0.5}},
    "half the batch, twice the steps": {"batch_size": 64, "pace": 2},
    "views of .485 s": {"settings": {"seconds": 0.485}, "pace": 2},
    "views of 1.425 s": {"settings": {"seconds": 1.425}, "pace": 0.67},
    "learning rate 3e-4": {"settings": {"learning_rate": 3e-4}},
    "learning rate 3e-3": {"settings": {"learning_rate": 3e-3}},
    "constant rate": {
        "patch": (
            "keras_audio_ssl.methods.joint.warm_up_cosine",
            lambda peak, steps, warm_up: peak,
        )
    },
    "no mixing": {"settings": {"mixup_ratio": 0.0}},
    "one tempo": {"settings": {"stretch": (1.0, 1.0)}},
    "no warp, no colour": {"settings": {"augmentations": ()}},
    "noise": {
        "settings": {"augmentations": ("frequency_warp", "colour", "noise")}
    },
    "contrast alone": {"settings": {"denoise_weight": 0.0}},
    "denoising alone": {"settings": {"contrast_weight": 0.0}},
    "denoising counts thrice": {"settings": {"denoise_weight": 3.0}},
    "both losses at the third convolution": {
        "patch": ("keras_audio_ssl.encoders.audio_ntt.AudioNTT.output_level", 2)
    },
    "a window of 40 ms": {"settings": {"encoder": {"win_length": 640}}},
    "a window of 64 ms": {"settings": {"encoder": {"win_length": 1024}}},
    "layer norm at the output": {
        "patch": ("keras_audio_ssl.methods.joint.MLPHead", after_layer_norm)
    },
    "32 channels, 1,024 wide": {
        "settings": {"encoder": {"conv_channels": 32, "dim": 1024}},
        "pace": 1.6,
    },
    "the tiny preset": {"preset": "tiny", "batch_size": 48, "pace": 18},
    "half precision": {"settings": curve.HALF},
    # Its corpus.
    "17 kinds": {"data": {"kind": "sounds", "clips": 100_000}},
    "patches": {"data": PATCHES},
    "patches, perturbed pairs": {"data": {**PATCHES, "pairs": "perturbed"}},
    "patches and recordings, mixed": {"mixed": True},
    "patches, then recordings": {"first": PATCHES},
}


def beside(data, folder):
    """A table of the train rows and of as many patches, which are written."""
    table = read_manifest(data / "pretrain.csv", where=train.WHERE)
    rows = [str((data / file).resolve()) for file in table["file"]]
    corpus = kas.data.SyntheticCorpus(len(rows), kind="patches")
    place = folder / "patches"
    if not (place / "manifest.csv").exists():
        corpus.write(place)
    made = read_manifest(place / "manifest.csv")
    rows += [str((place / file).resolve()) for file in made["file"]]
    path = folder / "mixed.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("file",), *((row,) for row in rows)])
    return path


def trained(args, name, folder, seed):
    """An encoder, and the seconds that it took."""
    weight, pace = curve.METHODS["joint"]
    change = dict(LEVERS[name])
    steps = round(pace * args.minutes * change.pop("pace", 1))
    data, start = args.data / "pretrain.csv", None
    first = change.pop("first", None)
    patch = change.pop("patch", None)
    patched = mock.patch(*patch) if patch else contextlib.nullcontext()
    if change.pop("mixed", False):
        data = beside(args.data, folder)
        change["where"] = None
    recipe = train.RECIPES[weight] | {"steps": steps}
    if args.half and not first:
        change["settings"] = {**change.get("settings", {}), **curve.HALF}
    file = curve.file_of(folder, name, args.minutes, seed, args)
    begin = time.perf_counter()
    if first:
        recipe["steps"] = round(steps / 2)
        start = file.with_stem(f"{file.stem}_first")
        # Which goes on in the precision that it began with.
        half = {"settings": curve.HALF} if args.half else {}
        train.kept(recipe | half | {"data": first}, seed, data, start)
    with patched:
        encoder = train.kept(recipe | change, seed, data, file, init_from=start)
    return encoder, time.perf_counter() - begin


def is_other_network(change):
    """Whether its random weights are others than those of the recipe."""
    return "preset" in change or "encoder" in change.get("settings", {})


def untrained(make, seed):
    """An encoder's network with random weights."""
    encoder, _ = make(0)
    return evaluation.untrained(encoder, seed), 0.0


def main():
    parser = curve.parser_of(__doc__)
    parser.add_argument(
        "--levers", nargs="+", default=list(LEVERS), choices=LEVERS,
        metavar="NAME", help="of: " + "; ".join(LEVERS),
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    curve.add_half(parser)
    args = parser.parse_args()
    rows = curve.read_rows(args.output)
    folder = args.output.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    readings = {"levels": curve.READINGS["levels"]}

    def score(name, minutes, seed, make):
        known = curve.known(rows)
        for row in curve.rows_of(
            name, minutes, seed, make, args, known, readings
        ):
            curve.add_row(row, args.output)
            rows.append(row)

    for name in args.levers:
        make = functools.partial(trained, args, name, folder)
        for seed in args.seeds:
            score(name, args.minutes, seed, functools.partial(make, seed))
        if is_other_network(LEVERS[name]):
            for seed in range(3):
                encoder = functools.partial(untrained, make, seed)
                score(name, 0, seed, encoder)
    print(*curve.table(curve.collected(rows)), sep="\n")


if __name__ == "__main__":
    main()
