"""Refusals in words."""

from collections.abc import Collection
from typing import Any


def check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """Refuses a value that is none of those there are.

    Args:
        name: Of the argument.
        value: What was given.
        choices: What may be.

    Raises:
        ValueError: It is something else.
    """
    if value not in choices:
        *others, last = map(repr, choices)
        words = f"{', '.join(others)} or {last}" if others else last
        raise ValueError(f"`{name}` must be {words}. Received: {value!r}")
