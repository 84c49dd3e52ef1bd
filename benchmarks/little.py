"""From a little audio: from scratch, or on from an encoder that is there?

    python benchmarks/little.py DATA --output little.jsonl [--hours 0.1 0.5]

DATA is the folder of the data sets. Of `pretrain.csv`'s train rows so many are
drawn as make the hours; on them Joint is trained by the recipe of the weight
`small`, from random weights and from the weight `--init-from`, for as many
steps as `curve.py` counts for the minutes; and scored as there. The rows of the
output are alike, and one that is there is not made again.
"""

import time

import curve
import numpy as np
import train

from keras_audio_ssl.data import read_manifest


def drawn(data, hours, seed):
    """Which rows of `pretrain.csv`, as `where` of `kas.pretrain`."""
    table = read_manifest(data / "pretrain.csv", where=train.WHERE)
    order = np.random.default_rng(seed).permutation(len(table["file"]))
    seconds = np.cumsum([float(table["duration"][i]) for i in order])
    count = np.searchsorted(seconds, hours * 3600) + 1
    return {"file": [table["file"][i] for i in order[:count]]}


def trained(args, hours, start, seed, file):
    """An encoder, and the seconds that it took."""
    weight, pace = curve.METHODS["joint"]
    recipe = train.RECIPES[weight] | {"steps": round(pace * args.minutes)}
    if hours:
        recipe["where"] = drawn(args.data, hours, seed)
    begin = time.perf_counter()
    encoder = train.kept(
        recipe, seed, args.data / "pretrain.csv", file, init_from=start
    )
    return encoder, time.perf_counter() - begin


def main():
    parser = curve.parser_of(__doc__)
    parser.add_argument(
        "--hours", nargs="+", type=float, default=[0.1, 0.5, 0],
        help="0 for all rows",
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--init-from", default="synthetic")
    args = parser.parse_args()
    rows = curve.read_rows(args.output)
    folder = args.output.with_suffix("")
    for seed in args.seeds:
        for hours in args.hours:
            for start in (None, args.init_from):
                name = f"{hours:g} h" if hours else "all rows"
                name += f" from {start or 'scratch'}"
                file = f"{name} {args.minutes:g} {seed}.keras"
                file = folder / file.replace(" ", "_")

                def make(hours=hours, start=start, seed=seed, file=file):
                    return trained(args, hours, start, seed, file)

                for row in curve.rows_of(
                    name, args.minutes, seed, make, args, curve.known(rows)
                ):
                    curve.add_row(row, args.output)
                    rows.append(row)
    print(*curve.table(curve.collected(rows)), sep="\n")


if __name__ == "__main__":
    main()
