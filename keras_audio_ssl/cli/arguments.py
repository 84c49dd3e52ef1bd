"""Arguments that commands share, and errors in their words."""

import argparse
import contextlib
import json
import re
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from keras_audio_ssl._files import FileError
from keras_audio_ssl.runs.stopping import Failure


def add_data(
    parser: argparse.ArgumentParser,
    required: bool = True,
    synthetic: bool = True,
) -> None:
    """Adds `--data`, `--where` and `--isolate`."""
    text = "folder or manifest (CSV)" + (
        ", or 'synthetic'" if synthetic else ""
    )
    parser.add_argument("--data", required=required, help=text)
    parser.add_argument(
        "--where",
        action="append",
        metavar="COLUMN=VALUE",
        help="rows of the manifest to take; repeat for more conditions",
    )
    add_isolate(parser)


def add_isolate(parser: argparse.ArgumentParser) -> None:
    """Adds `--isolate`."""
    parser.add_argument(
        "--isolate",
        action="store_true",
        help="decode in child processes: a file that crashes the decoder is "
        "skipped",
    )


def parse_settings(pairs: Iterable[str] | None) -> dict[str, Any]:
    """`key=value` pairs as keyword arguments; values are JSON or text.

    `encoder.units=256` is the entry `units` of a dict `encoder`.

    Raises:
        ValueError: A pair without `=`, or an entry of what is no dict.
    """
    settings: dict[str, Any] = {}
    for pair in pairs or []:
        path, sign, value = pair.partition("=")
        *outer, key = path.split(".")
        if not sign or not all(name.isidentifier() for name in (*outer, key)):
            raise ValueError(f"--set takes key=value. Received: {pair!r}")
        place = settings
        for name in outer:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise ValueError(
                    f"--set {name} is given twice, as a value and with "
                    f"entries. Received: {pair!r}"
                )
        try:
            place[key] = json.loads(value)
        except ValueError:
            place[key] = value
    return settings


def parse_levels(text: str) -> str | list[int]:
    """`all`, or `0,2,-1` as a list.

    Raises:
        ValueError: Something else.
    """
    if text == "all":
        return text
    try:
        return [int(i) for i in text.split(",")]
    except ValueError:
        raise ValueError(
            f"--levels takes all, or numbers like 0,2,-1. Received: {text}"
        ) from None


@contextlib.contextmanager
def in_flags(names: Collection[str]) -> Iterator[None]:
    """Errors about arguments of a function, in the words of its command.

    Args:
        names: Arguments that the command has as flags; `settings` is `--set`.

    Raises:
        ValueError: As the function does; `Failure` and `FileError` stay so.
        ImportError: As the function does.

    Example:
        >>> with in_flags(["batch_size"]):
        ...     raise ValueError("`batch_size=0` is too few.")
        Traceback (most recent call last):
        ValueError: --batch-size 0 is too few.
    """

    def flag(match: re.Match[str]) -> str:
        name, value, key = match.groups()
        if name not in names:
            return match[0]
        option = "--set" if name == "settings" else "--" + name
        words = [option.replace("_", "-"), key, value]
        return " ".join(w for w in words if w and w != "True")

    try:
        yield
    except (ValueError, ImportError) as error:
        text = re.sub(r'`(\w+)(?:=(\w+)|\["(\w+)"\])?`', flag, str(error))
        types = (Failure, FileError, ImportError, ValueError)
        raise next(t for t in types if isinstance(error, t))(text) from error
