"""What a dataset reads."""

from collections.abc import Iterator
from collections.abc import Mapping

import numpy as np

from keras_audio_ssl.data.audio import AudioSource

# What was left out, and why.
Skipped = list[tuple[str, str]]


class Clips:
    """What a dataset reads: numbered clips, opened one at a time.

    Attributes:
        labels: int32 `(clips,)`, -1 for a clip that has none; or `None`.
        classes: Names of the labels, in their order; `None` without labels.
        in_memory: Whether looking at all clips costs little.
        extra_spec: Shape and dtype of what `extras` gives, by name; nothing
            by default.
    """

    labels: np.ndarray | None = None
    classes: list[str] | None = None
    in_memory = False
    extra_spec: Mapping[str, tuple[tuple[int, ...], str]] = {}

    def __len__(self) -> int:
        raise NotImplementedError

    def name(self, i: int) -> str:
        """The file (or item) of clip `i`, as errors name it."""
        raise NotImplementedError

    def key(self, i: int) -> str:
        """What tells clip `i` from others, wherever the data lie."""
        return self.name(i)

    def open(self, i: int) -> AudioSource:
        """Opens clip `i`; use it in a `with` statement."""
        raise NotImplementedError

    def span(self, i: int) -> tuple[float, float] | None:
        """Start and end of clip `i` in its file, in seconds, if not all."""
        return None

    def extras(
        self, i: int, start: int, samples: int, sample_rate: int
    ) -> dict[str, np.ndarray]:
        """Arrays that go with a crop, beside its waveform.

        Called in the threads that read, once for each crop.

        Args:
            i: The clip.
            start: The crop's first sample, counted from the start of the
                file (or array) at `sample_rate`.
            samples: Samples of the crop, without padding.
            sample_rate: Of the batches, in Hz.

        Returns:
            For each name in `extra_spec` an array of its shape and dtype.

        Raises:
            AudioError: If the clip cannot be used: another takes its place.
        """
        return {}

    def contents(self) -> Iterator[tuple[str, int]]:
        """Name and bytes of each file in use; items that are none have 0."""
        for i in range(len(self)):
            yield self.name(i), 0

    def places(self) -> bytes:
        """Which part of which file each clip is, as bytes; none if no file."""
        return b""

    def keep(self, clips: np.ndarray) -> None:
        """Drops all clips but these, int `(clips,)`."""
        raise NotImplementedError
