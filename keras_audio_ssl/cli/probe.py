"""`keras-audio-ssl probe ENCODER`."""

import argparse
from typing import Any

from keras_audio_ssl.cli.arguments import add_isolate
from keras_audio_ssl.cli.arguments import parse_levels
from keras_audio_ssl.cli.pretrain import positive
from keras_audio_ssl.cli.results import print_result
from keras_audio_ssl.runs.progress import Progress

STATISTICS = "log_mel_statistics"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `keras-audio-ssl probe`."""
    parser.add_argument(
        "encoder",
        metavar="ENCODER",
        help=f"a .keras file, a name, or {STATISTICS}",
    )
    parser.add_argument("--manifest", required=True, help="CSV with `file`")
    parser.add_argument("--label", help="column of the classes")
    division = parser.add_mutually_exclusive_group()
    division.add_argument("--fold", help="column; each value is tested once")
    division.add_argument("--split", help="column with train and test")
    division.add_argument(
        "--leave-one-out", metavar="COLUMN", help="e.g. speaker"
    )
    division.add_argument(
        "--halves",
        action="store_true",
        help="train on the first half of each clip, test on the second",
    )
    parser.add_argument(
        "--where", action="append", metavar="COLUMN=VALUE", help="rows to take"
    )
    parser.add_argument(
        "--frames", metavar="CSV", help="file,start,end,label: probe frames"
    )
    add_isolate(parser)
    parser.add_argument(
        "--levels", help="all or 0,2,-1: read these alone (Readout)"
    )
    parser.add_argument(
        "--untrained",
        action="store_true",
        help="this encoder with random weights alone",
    )
    parser.add_argument(
        "--alone",
        action="store_true",
        help="this encoder's clip vector alone, not beside itself untrained, "
        "all its levels and log-mel statistics",
    )
    parser.add_argument(
        "--draws",
        type=positive,
        help="draws of random weights that the encoder is put beside; "
        "default 3",
    )
    parser.add_argument(
        "--seen",
        choices=("unseen", "unlabelled"),
        help="whether this audio was in the pretraining; by default what the "
        "encoder's run tells",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the divisions that no column tells",
    )


def check(args: argparse.Namespace) -> None:
    """Refuses what would be left out of account, before anything is read.

    Raises:
        ValueError: Neither `--label` nor `--frames` was given, or two that
            exclude each other.
    """
    if not args.label and not args.frames:
        raise ValueError("Give --label COLUMN or --frames CSV.")
    if args.encoder == STATISTICS:
        for name, value in (
            ("--draws", args.draws),
            ("--levels", args.levels),
            ("--untrained", args.untrained),
        ):
            if value:
                raise ValueError(
                    f"{name} is of encoders with weights and levels, which "
                    f"{STATISTICS} has not; leave {name} out."
                )
    for name, value in (
        ("--alone", args.alone),
        ("--levels", args.levels),
        ("--untrained", args.untrained),
    ):
        if args.draws and value:
            raise ValueError(
                f"--draws {args.draws} is what an encoder stands beside, and "
                f"{name} probes one alone; leave either out."
            )


def run(args: argparse.Namespace) -> None:
    """Probes an encoder, beside its baselines unless it is to be alone.

    Raises:
        ValueError: As `check`, or as `evaluation.probe`.
    """
    check(args)
    from keras_audio_ssl import evaluation
    from keras_audio_ssl import hub
    from keras_audio_ssl.data import isolated
    from keras_audio_ssl.encoders import Readout
    from keras_audio_ssl.evaluation import comparison

    alone = args.alone or args.levels or args.untrained
    if args.encoder == STATISTICS:
        encoder, alone = evaluation.LogMelStatistics(), True
    else:
        encoder = hub.load_encoder(args.encoder)
        if args.untrained:
            encoder = evaluation.untrained(encoder)
        if args.levels:
            encoder = Readout(encoder, parse_levels(args.levels))
    seen = "seen unlabelled" if args.seen == "unlabelled" else args.seen
    if seen is None:
        seen = evaluation.was_seen(args.encoder, args.manifest, args.where)
    options = {
        "fold": args.fold,
        "split": args.split,
        "leave_one_out": args.leave_one_out,
        "where": args.where,
        "frames": args.frames,
        "halves": args.halves,
        "seen": seen,
        "seed": args.seed,
    }
    draws = args.draws or comparison.DRAWS
    count = 1 if alone else len(comparison.reading_rows(encoder, draws))
    with (
        isolated(args.isolate),
        Progress("embedding", 1, args.json) as progress,
    ):
        rows = []

        def report(row: str, done: int, total: int) -> None:
            if row not in rows:
                rows.append(row)
            progress.total = total * count
            now = (len(rows) - 1) * total + done
            progress.advance(now - progress.done, row.replace("_", " "))

        def score(row: str, done: int, total: int) -> None:
            row = row.replace("_", " ")
            note = f"{row} scored {done}/{total}"
            progress.advance(0, note.strip())

        given = (args.manifest, args.label)
        result: Any
        if alone:
            told = lambda done, total: report("", done, total)
            result = evaluation.probe(
                encoder,
                *given,
                **options,
                progress=told,
                scoring=lambda done, total: score("", done, total),
            )
        else:
            result = evaluation.probe_beside(
                encoder,
                *given,
                name=args.encoder,
                draws=draws,
                **options,
                progress=report,
                scoring=score,
            )
    print_result(args, result.to_dict(), str(result))
