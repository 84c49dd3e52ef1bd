"""`keras-audio-ssl augmentations METHOD`."""

import argparse
from datetime import datetime
from pathlib import Path
from typing import Any

from keras_audio_ssl._files import write_text
from keras_audio_ssl.cli.arguments import parse_settings
from keras_audio_ssl.cli.pretrain import positive
from keras_audio_ssl.cli.results import print_result
from keras_audio_ssl.methods import METHODS
from keras_audio_ssl.runs.progress import Progress

SECONDS, CLIPS = 4.0, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `keras-audio-ssl augmentations`."""
    parser.add_argument(
        "method", choices=sorted(METHODS), metavar="METHOD",
        help="one that takes augmentations",
    )  # fmt: skip
    parser.add_argument("--data", required=True, help="CSV with `file`")
    parser.add_argument("--label", required=True, help="column of the classes")
    parser.add_argument(
        "--output", required=True, metavar="X.html",
        help="page to write, and X.json, which the same command goes on with",
    )  # fmt: skip
    parser.add_argument(
        "--where", action="append", metavar="COLUMN=VALUE", help="rows to take"
    )
    division = parser.add_mutually_exclusive_group()
    division.add_argument("--fold", help="column; each value is tested once")
    division.add_argument("--split", help="column with train and test")
    parser.add_argument(
        "--augmentations", metavar="A,B,...",
        help="names; all of the method's by default",
    )  # fmt: skip
    parser.add_argument(
        "--no-pairs", action="store_true", help="each alone only"
    )
    parser.add_argument(
        "--preset", choices=("paper", "tiny"), default="tiny",
        help="size of the network",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=positive, default=300, help="batches of each run"
    )
    parser.add_argument(
        "--seeds", type=positive, default=3, help="runs of each augmentation"
    )
    parser.add_argument(
        "--batch-size", type=positive,
        help="clips in a batch; by default the preset's",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", metavar="KEY=VALUE",
        help="of the method; encoder.KEY=VALUE of its encoder",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="begin anew")


def run(args: argparse.Namespace) -> None:
    """Pretrains with each augmentation and each pair, and writes a page.

    Raises:
        ValueError: `--output` does not end in `.html`, or as
            `augmentation_study`.
    """
    output = Path(args.output)
    if output.suffix != ".html":
        raise ValueError(f"--output must end in .html. Received: {output}")
    from keras_audio_ssl.runs.augmentations import augmentation_study
    from keras_audio_ssl.viz.study_page import study_page

    names = args.augmentations and args.augmentations.split(",")
    settings = parse_settings(args.set)
    with Progress("pretraining", 1, args.json) as progress:

        def report(done: int, total: int, name: str) -> None:
            progress.total = total
            progress.advance(done - progress.done, name)

        study = augmentation_study(
            args.method, args.data, args.label, output.with_suffix(".json"),
            augmentations=names, pairs=not args.no_pairs, steps=args.steps,
            seeds=args.seeds, preset=args.preset, batch_size=args.batch_size,
            where=args.where, fold=args.fold, split=args.split,
            settings=settings, overwrite=args.overwrite, progress=report,
        )  # fmt: skip
    rows = {name: study.row(name) for name in study.accuracies}
    when = f"{datetime.now():%Y-%m-%d %H:%M}"
    page = study_page(study.setting, rows, examples(study.setting), when)
    write_text(output, page)
    print_result(args, study.to_dict(), f"{study}\npage  {output}")


def examples(setting: dict[str, Any]) -> list[dict[str, Any]]:
    """A clip as it is, and as each augmentation makes it."""
    from keras_audio_ssl import data
    from keras_audio_ssl.augment import AUGMENTATIONS
    from keras_audio_ssl.methods import make_method
    from keras_audio_ssl.methods.augmented import augmented

    options = {"preset": setting["preset"], **setting["settings"]}
    model = make_method(setting["method"], **options)
    rate = model.encoder.sample_rate
    clips = data.from_manifest(
        setting["data"], seconds=SECONDS, batch_size=CLIPS,
        where=setting["where"], sample_rate=rate,
    )[0]  # fmt: skip
    clips = clips["waveform"] if isinstance(clips, dict) else clips
    found = []
    for name in ("", *setting["augmentations"]):
        x = augmented(setting["method"], clips, name, **options)[0]
        about = (AUGMENTATIONS[name].__doc__ or "") if name else ""
        sound = {
            "name": name or "as it is",
            "text": about.split("\n")[0].replace("`", ""),
        }
        if x.ndim == 1:
            sound.update(wave=x, rate=rate)
        else:
            sound["features"] = x
        found.append(sound)
    return found
