"""The command line: argparse over the public functions."""

import argparse
import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from keras_audio_ssl import __version__
from keras_audio_ssl._backend import check_backend
from keras_audio_ssl._files import FileError
from keras_audio_ssl._registration import before_keras
from keras_audio_ssl._text import write
from keras_audio_ssl.cli.memory import tune_memory
from keras_audio_ssl.runs.progress import say
from keras_audio_ssl.runs.stopping import Failure

# Command: module and one line of help. A module is imported for its own
# command only, and Keras not before it runs: `--help` answers at once.
COMMANDS = {
    "list": ("list_", "methods, encoders, weights and import formats"),
    "doctor": ("doctor", "what is in a folder or manifest of audio"),
    "pretrain": ("pretrain", "train an encoder on audio without labels"),
    "embed": ("embed", "vectors of clips, frames or windows"),
    "probe": ("probe", "what an encoder's vectors know of a label"),
    "search": ("search", "the clips that sound most like one"),
    "attention": ("attention", "what a transformer's heads look at in a clip"),
    "augmentations": (
        "augmentations",
        "what is learnt with each augmentation, alone and in pairs",
    ),
    "import": ("import_", "a published checkpoint as a .keras encoder"),
    "export": ("export", "an encoder as ONNX, SavedModel or LiteRT, checked"),
}


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Tells defaults, where there are some to tell."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


def make_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser; arguments of all commands, or of one."""
    parser = argparse.ArgumentParser(
        prog="keras-audio-ssl",
        description="Audio self-supervised learning for Keras 3.",
        epilog="The backend is chosen by KERAS_BACKEND=tensorflow|jax|torch.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True
    )
    for name, (module, text) in COMMANDS.items():
        sub = commands.add_parser(
            name, help=text, description=text, formatter_class=Help
        )
        sub.add_argument(
            "--json", action="store_true", help="print the result as JSON"
        )
        sub.add_argument("--debug", action="store_true", help="show tracebacks")
        if only in (None, name):
            file = importlib.import_module(f"{__name__}.{module}")
            file.add_arguments(sub)
            sub.set_defaults(run=file.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        Exit code: 0, 1 (failed) or 2 (wrong arguments).
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    named = next((a for a in argv if a in COMMANDS), None)
    args = make_parser(named).parse_args(argv)
    from keras_audio_ssl import announce_backend

    try:
        check_backend()
        announce_backend()
        if sys.stderr.isatty() and not args.json:
            before_keras.append(lambda: say("loading Keras"))
        args.run(args)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except Exception as error:
        if args.debug:
            write(traceback.format_exc(), sys.stderr, end="")
        write(f"keras-audio-ssl {args.command}: {error}", sys.stderr)
        wrong = isinstance(error, ValueError) and not isinstance(
            error, (Failure, FileError)
        )
        return 2 if wrong else 1
    return 0


def start() -> None:
    """What the shell's `keras-audio-ssl` runs."""
    tune_memory()
    code = main()
    # All files are written. The backends' threads would take seconds to end,
    # and TensorFlow's, which read ahead, may wait for Python's end for ever.
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
