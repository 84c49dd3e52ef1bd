"""`keras-audio-ssl import FORMAT CHECKPOINT`."""

import argparse
from pathlib import Path

from keras_audio_ssl.cli.arguments import parse_settings
from keras_audio_ssl.cli.results import print_result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `keras-audio-ssl import`."""
    parser.add_argument(
        "format", metavar="FORMAT", help="see `keras-audio-ssl list`"
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="its file")
    parser.add_argument("--output", required=True, help="X.keras")
    parser.add_argument(
        "--accept-licence",
        action="store_true",
        help="of weights that are not free: you have read it, and it allows "
        "what you do",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the output"
    )
    parser.add_argument(
        "--set",
        action="append",
        metavar="KEY=VALUE",
        help="what the format's importer takes, see `kas.hub`",
    )


def run(args: argparse.Namespace) -> None:
    """Makes an encoder's file of a published checkpoint.

    Raises:
        ValueError: `--output` does not end in `.keras` or exists, or the
            checkpoint is not there or not of the format.
    """
    output = Path(args.output)
    if output.suffix != ".keras":
        raise ValueError(f"--output must end in .keras. Received: {output}")
    if output.exists() and not args.overwrite:
        raise ValueError(f"{output} exists; replace it with --overwrite.")
    from keras_audio_ssl import hub
    from keras_audio_ssl.hub import save_encoder

    if args.format in hub.FORMATS and not Path(args.checkpoint).is_file():
        raise ValueError(f"No such file: {args.checkpoint}")
    encoder, report = hub.import_checkpoint(
        args.format,
        args.checkpoint,
        accept_licence=args.accept_licence,
        **parse_settings(args.set),
    )
    save_encoder(encoder, output)
    print_result(
        args,
        {"encoder": str(output), "report": report.to_dict()},
        f"{report}\nencoder  {output}",
    )
