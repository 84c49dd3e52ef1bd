"""`keras-audio-ssl search ENCODER`."""

import argparse

from keras_audio_ssl.cli.arguments import add_data
from keras_audio_ssl.cli.arguments import in_flags
from keras_audio_ssl.cli.results import print_result
from keras_audio_ssl.runs.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `keras-audio-ssl search`."""
    parser.add_argument(
        "encoder", metavar="ENCODER", help="a .keras file or a name"
    )
    parser.add_argument("--query", required=True, help="an audio file")
    add_data(parser, synthetic=False)
    parser.add_argument("--top", type=int, default=10, help="how many to name")


def run(args: argparse.Namespace) -> None:
    """Names the clips that sound most like one.

    Raises:
        ValueError: As `evaluation.search`, in the names of the flags.
    """
    from keras_audio_ssl import evaluation
    from keras_audio_ssl import hub
    from keras_audio_ssl.data import isolated

    encoder = hub.load_encoder(args.encoder)
    with (
        isolated(args.isolate),
        in_flags({"top", "query", "data", "where"}),
        Progress("embedding", 1, args.json) as progress,
    ):

        def report(done: int, total: int) -> None:
            progress.total = total
            progress.advance(done - progress.done)

        found = evaluation.search(
            encoder,
            args.query,
            args.data,
            args.top,
            where=args.where,
            progress=report,
        )
    result = {
        "query": args.query,
        "found": [one._asdict() for one in found],
        "searched": found.searched,
        "skipped": [list(item) for item in found.skipped],
    }
    print_result(args, result, str(found))
