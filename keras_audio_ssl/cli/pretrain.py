"""`keras-audio-ssl pretrain METHOD`."""

import argparse
import shlex

from keras_audio_ssl.cli.arguments import add_data
from keras_audio_ssl.cli.arguments import in_flags
from keras_audio_ssl.cli.arguments import parse_settings
from keras_audio_ssl.cli.results import print_result
from keras_audio_ssl.methods import METHODS
from keras_audio_ssl.runs.pretraining import pretrain
from keras_audio_ssl.runs.progress import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `keras-audio-ssl pretrain`."""
    parser.add_argument(
        "method", choices=sorted(METHODS), metavar="METHOD",
        help="see `keras-audio-ssl list`",
    )  # fmt: skip
    add_data(parser)
    parser.add_argument(
        "--output", required=True, help="the encoder to write, X.keras"
    )
    parser.add_argument(
        "--preset",
        help="paper or tiny; without, what this machine can afford, and steps "
        "that follow the hours of audio",
    )
    parser.add_argument(
        "--epochs", type=positive,
        help="passes over the data, in place of --steps",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=positive,
        help="batches in all; by default those of --preset, and without one "
        "as many as the audio is worth",
    )  # fmt: skip
    parser.add_argument(
        "--batch-size", type=positive,
        help="clips in a batch; by default the preset's, or all where there "
        "are fewer",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=float,
        help="longest cut of a clip; by default the preset's",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=0,
        help="of weights, draws and the order of the data",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=int, default=2, help="threads that decode"
    )
    parser.add_argument(
        "--init-from", metavar="ENCODER",
        help="start from this encoder, a .keras file or a name; by default "
        "from random weights",
    )  # fmt: skip
    parser.add_argument(
        "--checkpoint-every", type=positive, default=500, metavar="STEPS",
        help="steps between checkpoints",
    )  # fmt: skip
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--resume", action="store_true",
        help="go on with the run there; a run that was interrupted does so "
        "without",
    )  # fmt: skip
    group.add_argument(
        "--overwrite", action="store_true", help="delete what is there"
    )
    parser.add_argument(
        "--tensorboard", action="store_true",
        help="write the history for TensorBoard too",
    )  # fmt: skip
    parser.add_argument(
        "--estimate", action="store_true",
        help="time a few steps, say what the run will cost, write nothing",
    )  # fmt: skip
    parser.add_argument(
        "--alignments", metavar="FILE",
        help="where words begin and end, for methods that learn from words: "
        "a file or folder of TextGrid, CTM, .alignment.txt or CSV",
    )  # fmt: skip
    parser.add_argument(
        "--label", metavar="COLUMN",
        help="labels for methods that use them; empty or -1: none",
    )  # fmt: skip
    parser.add_argument(
        "--label-fraction", type=float, default=1.0, metavar="SHARE",
        help="share of the labels that is used, of each class",
    )  # fmt: skip
    parser.add_argument(
        "--set", action="append", metavar="KEY=VALUE",
        help="of the method; encoder.KEY=VALUE of its encoder",
    )  # fmt: skip


def positive(text: str) -> int:
    """A whole number of a flag, 1 or more.

    Raises:
        ValueError: It is none, which `argparse` puts into words.
    """
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def run(args: argparse.Namespace) -> None:
    """Pretrains, and says which commands come next.

    Raises:
        ValueError: As `kas.pretrain`, in the names of the flags.
    """
    given = {
        name: value
        for name, value in vars(args).items()
        if name not in ("command", "json", "debug", "run", "set")
    }
    with in_flags({*given, "settings"} - {"method"}):
        run = pretrain(
            **given,
            settings=parse_settings(args.set),
            say=say,
            progress=not args.json,
        )
    result, text = run.metrics, str(run)
    if not args.estimate:
        result = {"encoder": str(run.output), "run": str(run.folder), **result}
        own = args.data if args.data != "synthetic" else "YOUR_AUDIO"
        encoder, own = shlex.quote(str(run.output)), shlex.quote(own)
        text += (
            f"\nnext     keras-audio-ssl embed {encoder} --data {own} "
            "--output embeddings.npz"
            f"\n         keras-audio-ssl probe {encoder} "
            "--manifest LABELS.csv --label COLUMN"
        )
    print_result(args, result, text)
