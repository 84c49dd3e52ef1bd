"""Where words lie in clips, as batches carry it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_audio_ssl.data.clips.arrays import ArrayClips
from keras_audio_ssl.data.clips.base import Clips
from keras_audio_ssl.data.clips.files import FileClips


class Segment(NamedTuple):
    """A word, or syllable, in a file.

    Attributes:
        start: Seconds from the beginning of the file.
        end: Likewise.
        label: The word.
    """

    start: float
    end: float
    label: str


class SegmentTable:
    """The segments of clips, in order and apart.

    Args:
        segments: For each clip a list of `Segment`.
    """

    def __init__(self, segments: Sequence[Sequence[Segment]]) -> None:
        counts = [len(of_clip) for of_clip in segments]
        self.ends = np.cumsum(counts, dtype="int64")
        flat = [s for of_clip in segments for s in of_clip]
        self.times = np.array(
            [(s.start, s.end) for s in flat], "float64"
        ).reshape(-1, 2)
        # A word is kept once, whatever number of times it is spoken.
        numbers: dict[str, int] = {}
        codes = [numbers.setdefault(s.label, len(numbers)) for s in flat]
        self.words, self.codes = list(numbers), np.array(codes, "int32")

    def __len__(self) -> int:
        return len(self.ends)

    def rows(self, i: int) -> slice:
        """The segments of clip `i` among all."""
        return slice(int(self.ends[i - 1]) if i else 0, int(self.ends[i]))

    def of(self, i: int) -> list[Segment]:
        """The segments of clip `i`."""
        rows = self.rows(i)
        return [
            Segment(float(start), float(end), self.words[code])
            for (start, end), code in zip(
                self.times[rows], self.codes[rows], strict=True
            )
        ]

    def keep(self, clips: np.ndarray) -> None:
        """Drops all clips but these, int `(clips,)`."""
        pieces = [np.arange(*self.rows(int(i)).indices(len(self.times)))
                  for i in clips]  # fmt: skip
        rows = np.concatenate(pieces) if pieces else np.zeros(0, "int64")
        self.ends = np.cumsum([len(piece) for piece in pieces], dtype="int64")
        self.times, self.codes = self.times[rows], self.codes[rows]

    def most(self, seconds: float | None) -> int:
        """Most segments of a clip that a crop of a length can hold whole."""
        most = 1
        for i in range(len(self)):
            times = self.times[self.rows(i)]
            if seconds is None:
                most = max(most, len(times))
                continue
            # From the start of each on.
            last = np.searchsorted(
                times[:, 1], times[:, 0] + seconds + 1e-3, side="right"
            )
            held = last - np.arange(len(times))
            most = max(most, int(held.max(initial=0)))
        return most

    def within(
        self, i: int, start: int, samples: int, sample_rate: int, most: int
    ) -> np.ndarray:
        """The segments that lie in a crop whole.

        Args:
            i: The clip.
            start: The crop's first sample in the file.
            samples: Of the crop.
            sample_rate: In Hz.
            most: Rows of the result.

        Returns:
            int32 `(most, 2)`, first sample and the one after the last,
            counted from the crop's start; both 0 beyond the last segment.
        """
        at = np.round(self.times[self.rows(i)] * sample_rate) - start
        # Two roundings of a clip's end may differ by a sample.
        at[:, 1] -= at[:, 1] == samples + 1
        inside = (at[:, 0] >= 0) & (at[:, 1] <= samples)
        inside &= at[:, 1] > at[:, 0]
        found = np.zeros((most, 2), "int32")
        at = at[inside][:most]
        found[: len(at)] = at
        return found


class WithSegments(Clips):
    """Stands before a source of clips, which then tells of their words.

    Attributes:
        table: The segments of each clip.
        most: Most of them that a batch carries of a clip.
    """

    table: SegmentTable
    most: int

    def hold(self, table: SegmentTable, seconds: float | None) -> None:
        """Takes the segments, of which crops of so many seconds have some."""
        self.table, self.most = table, table.most(seconds)
        self.extra_spec = {"segments": ((self.most, 2), "int32")}

    def extras(
        self, i: int, start: int, samples: int, sample_rate: int
    ) -> dict[str, np.ndarray]:
        found = self.table.within(i, start, samples, sample_rate, self.most)
        return {"segments": found}

    def keep(self, clips: np.ndarray) -> None:
        super().keep(clips)
        self.table.keep(clips)


class AlignedFiles(WithSegments, FileClips):
    """Files with the words in them."""

    def places(self) -> bytes:
        table = self.table
        parts = (table.ends.tobytes(), table.times.tobytes())
        return b"".join((super().places(), *parts))


class AlignedArrays(WithSegments, ArrayClips):
    """Arrays with the words in them."""
