"""How a command prints its result."""

import argparse
import json
from typing import Any

from keras_audio_ssl._text import write


def print_result(args: argparse.Namespace, result: Any, text: str) -> None:
    """Prints a command's result, as JSON or in words."""
    if args.json:
        write(json.dumps(result, indent=2, default=str))
    else:
        write(text)
