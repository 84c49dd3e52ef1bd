"""`keras-audio-ssl export ENCODER [OUTPUT]`."""

import argparse
from pathlib import Path

from keras_audio_ssl.cli.results import print_result
from keras_audio_ssl.export import FORMATS
from keras_audio_ssl.export import ExportError
from keras_audio_ssl.export import format_of
from keras_audio_ssl.export.formats import check_installed
from keras_audio_ssl.runs.progress import say
from keras_audio_ssl.runs.stopping import Failure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `keras-audio-ssl export`."""
    parser.add_argument(
        "encoder", metavar="ENCODER", help="a .keras file or a name"
    )
    parser.add_argument(
        "output", metavar="OUTPUT", nargs="?",
        help="X.onnx (ONNX), X.tflite (LiteRT) or a folder (SavedModel); "
        "named after the encoder where --format is given alone",
    )  # fmt: skip
    parser.add_argument(
        "--format", choices=list(FORMATS),
        help="of the file (default: what OUTPUT's name says)",
    )  # fmt: skip
    parser.add_argument(
        "--samples", type=int, metavar="N",
        help="clips of this many samples alone (default: of any length)",
    )  # fmt: skip
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an existing output"
    )


def run(args: argparse.Namespace) -> None:
    """Writes an encoder in another format, once it gives what Keras gives.

    Raises:
        ValueError: No output was named, or it exists.
        Failure: The encoder cannot be written so.
    """
    if args.output is None and args.format is None:
        raise ValueError(
            "name the output, X.onnx, X.tflite or a folder; or give --format."
        )
    output = Path(args.output or default_output(args.encoder, args.format))
    name = format_of(output, args.format)
    if output.exists() and not args.overwrite:
        raise ValueError(f"{output} exists; replace it with --overwrite.")
    check_installed(name)
    from keras_audio_ssl import hub

    encoder = hub.load_encoder(args.encoder)
    say(f"writing {FORMATS[name].title}, and checking it against Keras ...")
    try:
        encoder.export(output, name, args.samples)
    except ExportError as error:
        raise Failure(str(error)) from error
    result = {
        "output": str(output),
        "format": name,
        "sample_rate": encoder.sample_rate,
        "min_samples": encoder.min_samples,
        "samples": args.samples,
        "dim": encoder.dim,
    }
    clips = (
        f"{args.samples} samples"
        if args.samples
        else f"{encoder.min_samples} samples or more"
    )
    print_result(
        args,
        result,
        f"{output}: `waveform` (batch, samples) at {encoder.sample_rate} Hz, "
        f"{clips}, to `clip` (batch, {encoder.dim}) and `frames`",
    )


def default_output(encoder: str, format: str) -> str:
    """`byol_a.onnx` of `runs/byol_a.keras`; `byol_a_saved_model`, a folder."""
    return Path(encoder).stem + (FORMATS[format].suffix or "_saved_model")
