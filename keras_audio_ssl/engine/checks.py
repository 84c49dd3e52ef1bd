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


def count_classes(classes: Any) -> int | None:
    """How many classes there are, None without.

    Args:
        classes: Their names, their number, or None.

    Raises:
        ValueError: They are fewer than two.
    """
    if classes is None:
        return None
    count = classes if isinstance(classes, int) else len(classes)
    if count < 2:
        raise ValueError(
            f"`classes` must be two or more, or None. Received: {classes}"
        )
    return count
