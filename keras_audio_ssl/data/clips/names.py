"""Very many names in little memory."""

import os
from array import array
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np


class Names(Sequence):
    """A list of strings in one buffer, for millions of files.

    Args:
        names: The strings; `append` adds more.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._text, self._ends = bytearray(), array("q")
        for name in names:
            self.append(name)

    @classmethod
    def from_arrays(cls, text: np.ndarray, ends: np.ndarray) -> "Names":
        """The names that `arrays` took apart.

        Raises:
            ValueError: If the arrays do not fit each other.
        """
        edges = np.concatenate([[0], ends, [len(text)]])
        if (np.diff(edges) < 0).any() or edges[-2] != len(text):
            raise ValueError("the ends of the names do not fit their text")
        names = cls()
        names._text = bytearray(text.data)
        names._ends.frombytes(ends.astype("int64").tobytes())
        return names

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """All text, uint8, and where each name ends in it, int64."""
        text = np.frombuffer(self._text, "uint8")
        return text, np.array(self._ends, "int64")

    def append(self, name: str) -> None:
        """Adds a name to the end."""
        self._text += os.fsencode(name)
        self._ends.append(len(self._text))

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[str]:
        start = 0
        for end in self._ends:
            yield os.fsdecode(bytes(self._text[start:end]))
            start = end

    def __getitem__(self, i: Any) -> Any:
        if not 0 <= i < len(self):
            raise IndexError(i)
        start = self._ends[i - 1] if i else 0
        return os.fsdecode(bytes(self._text[start : self._ends[i]]))
