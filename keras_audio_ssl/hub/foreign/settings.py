"""Settings that lie in a file of strangers, each within its bounds."""

import math
import reprlib
from collections.abc import Mapping
from typing import Any

from keras_audio_ssl._text import printable
from keras_audio_ssl.hub.foreign.state_dict import StateDict


def number_in(
    state: StateDict,
    settings: Mapping[str, Any],
    name: str,
    default: float,
    least: float,
    most: float,
) -> float:
    """A number of a file's settings.

    Args:
        state: The checkpoint, which an error names.
        settings: As they lie in the file.
        name: Of the setting.
        default: Where the file does not hold it.
        least: That it may be.
        most: That it may be.

    Raises:
        CheckpointError: It is no number, or out of bounds.
    """
    value = settings.get(name, default)
    try:
        # YAML gives a number like 1e-1 as text.
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not least <= found <= most:
        raise state.error(
            f"its setting {name} is {printable(reprlib.repr(value))}, and must "
            f"be a number from {least} to {most}"
        )
    return found


def whole_number_in(
    state: StateDict,
    settings: Mapping[str, Any],
    name: str,
    default: int,
    least: int,
    most: int,
) -> int:
    """A whole number of a file's settings; as `number_in`."""
    found = number_in(state, settings, name, default, least, most)
    if found != int(found):
        raise state.error(f"its setting {name} is {found}, no whole number")
    return int(found)


def text_in(
    state: StateDict, settings: Mapping[str, Any], name: str, default: str
) -> str:
    """A word of a file's settings.

    Raises:
        CheckpointError: It is none.
    """
    value = settings.get(name, default)
    if not isinstance(value, str):
        raise state.error(
            f"its setting {name} is {printable(reprlib.repr(value))}, and must "
            "be a word"
        )
    return value
