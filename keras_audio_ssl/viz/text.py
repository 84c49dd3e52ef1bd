"""Text from strangers, made fit to be shown."""

from typing import Any


def printable(text: Any) -> str:
    """A name without control characters, bad encoding or direction marks."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
        for c in str(text)
    )
