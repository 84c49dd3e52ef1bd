"""`keras-audio-ssl attention ENCODER CLIP`."""

import argparse
from datetime import datetime
from pathlib import Path
from typing import Any

from keras_audio_ssl._optional import need
from keras_audio_ssl.cli.results import print_result
from keras_audio_ssl.runs.progress import Progress
from keras_audio_ssl.runs.stopping import Failure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `keras-audio-ssl attention`."""
    parser.add_argument(
        "encoder", metavar="ENCODER",
        help="a transformer: a .keras file or a name",
    )  # fmt: skip
    parser.add_argument("clip", metavar="CLIP", help="an audio file")
    parser.add_argument(
        "--output", required=True, metavar="DIR",
        help="folder for the page, the table and the pictures",
    )  # fmt: skip
    parser.add_argument(
        "--phones", metavar="CSV",
        help="file,start,end,label: phones or other intervals of the clip",
    )  # fmt: skip
    parser.add_argument(
        "--label", metavar="COLUMN", help="of --phones, where it has several"
    )
    parser.add_argument(
        "--seconds", type=float, metavar="S",
        help="from the clip's start; as many as the page can hold by default",
    )  # fmt: skip
    parser.add_argument(
        "--overwrite", action="store_true",
        help="write into a folder that is not empty",
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Draws a transformer's attention to a clip: a page, a table, pictures.

    Raises:
        ValueError: There is no such clip, `--output` may not be written to, or
            the encoder has no attention to show.
        Failure: The clip cannot be read.
    """
    folder, clip = Path(args.output), Path(args.clip)
    if not clip.is_file():
        raise ValueError(f"{clip}: there is no such file.")
    if args.seconds is not None and not args.seconds > 0:
        raise ValueError(f"--seconds must be positive. Received {args.seconds}")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output {folder} is no folder.")
    if folder.is_dir() and any(folder.iterdir()) and not args.overwrite:
        raise ValueError(f"{folder} is not empty; go on with --overwrite.")
    need("matplotlib", "what draws attention")
    from keras_audio_ssl import evaluation
    from keras_audio_ssl import hub
    from keras_audio_ssl.data import AudioError
    from keras_audio_ssl.viz.attention_files import summary
    from keras_audio_ssl.viz.attention_files import write_attention

    encoder = hub.load_encoder(args.encoder)
    try:
        found = evaluation.clip_attention(
            encoder, clip, args.phones, args.label, args.seconds,
            title=Path(args.encoder).stem,
        )  # fmt: skip
    except AudioError as error:
        raise Failure(str(error)) from error
    when = datetime.now().astimezone().strftime("%d %B %Y, %H:%M")
    with Progress("drawing", 1, args.json) as progress:

        def report(done: int, total: int) -> None:
            progress.total = total
            progress.advance(done - progress.done)

        written = write_attention(found, folder, when, report)
    result = {
        "output": str(folder),
        "page": str(written[0]),
        "files": [path.name for path in written],
        **summary(found),
    }
    print_result(args, result, words(found, written))


def words(found: Any, written: list[Path]) -> str:
    """The result, some lines."""
    layers, heads, frames, _ = found.maps.shape
    categories = found.study.categories.tolist()
    counts = ", ".join(
        f"{categories.count(category)} {category}"
        for category in ("global", "vertical", "diagonal")
    )
    lines = [
        f"{layers} layers of {heads} heads over {frames} frames, "
        f"{found.shown_seconds:.2f} s: {counts}",
        f"page     {written[0]}",
        f"table    {written[1]}",
        f"pictures {len(written) - 3} in {written[0].parent}",
    ]
    return "\n".join(lines + [found.cut] * bool(found.cut))
