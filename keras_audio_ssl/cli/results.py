"""How a command prints its result."""

import json

from keras_audio_ssl._text import write


def print_result(args, result, text):
    """Prints a command's result, as JSON or in words."""
    if args.json:
        write(json.dumps(result, indent=2, default=str))
    else:
        write(text)
