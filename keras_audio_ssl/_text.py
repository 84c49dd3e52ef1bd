"""Text from strangers: names of files, classes and columns, as it is shown.

A name may steer a terminal, forge a line, or be none that any encoding has.
"""

import sys
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

LONGEST = 200  # letters of a name that are shown


def printable(text: Any, longest: int | None = None) -> str:
    """A name without control characters, bad encoding or direction marks.

    Args:
        text: The name; of what is no text, what `str` makes of it.
        longest: Letters that are kept; all by default.
    """
    letters = str(text)
    if longest is not None and len(letters) > longest:
        letters = letters[: longest - 3] + "..."
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
        for c in letters
    )


def lines(text: Any) -> str:
    """Our own text, of several lines, made printable line by line."""
    return "\n".join(map(printable, str(text).split("\n")))


def write(text: Any = "", file: Any = None, end: str = "\n") -> None:
    """Prints our own text, whatever strangers wrote in it.

    Args:
        text: Some lines.
        file: A stream, standard output by default. What its encoding lacks is
            written as an escape.
        end: What follows.
    """
    file = sys.stdout if file is None else file
    shown = lines(text)
    print(in_encoding(shown, file), file=file, end=end, flush=True)


def in_encoding(text: str, file: Any) -> str:
    """Text with escapes for what the encoding of a stream lacks."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def few(names: Sequence[Any], limit: int = 10) -> str:
    """The first names, for an error."""
    text = ", ".join(repr(_cut(name)) for name in names[:limit])
    more = len(names) - limit
    return f"[{text}]" if more <= 0 else f"[{text}, and {more} more]"


def column_list(names: Sequence[str], limit: int = 30) -> str:
    """Names of columns, for an error."""
    text = ", ".join(printable(name, LONGEST) for name in names[:limit])
    more = len(names) - limit
    return text if more <= 0 else f"{text}, and {more} more"


def with_reason(file: Any, reason: Any) -> str:
    """A file and what is wrong with it, in one line."""
    return f"{printable(file)}: {printable(reason)}"


def some_skipped(skipped: Iterable[tuple[Any, Any]], limit: int = 3) -> str:
    """The first of what was skipped, in one line."""
    pairs = list(skipped)
    text = "; ".join(with_reason(*pair) for pair in pairs[:limit])
    more = len(pairs) - limit
    return text if more <= 0 else f"{text}; and {more} more"


def _cut(name: Any) -> str:
    text = str(name)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
