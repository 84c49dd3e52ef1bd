"""Clips that are arrays, or rows of a data set."""

from typing import Any

import numpy as np

from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.audio import AudioSource
from keras_audio_ssl.data.clips.base import Clips
from keras_audio_ssl.data.clips.given import open_given


class ArrayClips(Clips):
    """Clips that are arrays.

    Args:
        arrays: A sequence of waveforms, or one array `(clips, samples)`.
        rate: Their sample rate in Hz.
        labels: int32 `(clips,)`.
        classes: Names of the labels.
    """

    def __init__(
        self,
        arrays: Any,
        rate: int,
        labels: np.ndarray | None = None,
        classes: list[str] | None = None,
    ) -> None:
        self._arrays, self._rate = arrays, rate
        self.in_memory = isinstance(arrays, (np.ndarray, list, tuple))
        self._rows = np.arange(len(arrays))
        self.labels, self.classes = labels, classes

    def __len__(self) -> int:
        return len(self._rows)

    def name(self, i: int) -> str:
        return f"array {self._rows[i]}"

    def open(self, i: int) -> AudioSource:
        return open_given(
            self._arrays[int(self._rows[i])], self._rate, self.name(i)
        )

    def keep(self, clips: np.ndarray) -> None:
        self._rows = self._rows[clips]
        if self.labels is not None:
            self.labels = self.labels[clips]


class RowClips(ArrayClips):
    """Clips that are rows of a data set in the manner of Hugging Face's.

    Args:
        rows: An object with `__len__` and `__getitem__`, which gives dicts.
        column: Key of the audio: a dict with `array` and `sampling_rate`,
            or with `bytes` or `path`; a path; or a decoder object with
            `get_all_samples()`.
        labels: int32 `(clips,)`.
        classes: Names of the labels.
        isolate: Whether paths and bytes are decoded in child processes;
            `False` by default.
    """

    def __init__(
        self,
        rows: Any,
        column: str,
        labels: np.ndarray | None = None,
        classes: list[str] | None = None,
        isolate: bool = False,
    ) -> None:
        super().__init__(rows, 0, labels, classes)
        self.in_memory = False
        self._column, self._isolate = column, isolate

    def name(self, i: int) -> str:
        return f"row {self._rows[i]}"

    def open(self, i: int) -> AudioSource:
        name = self.name(i)
        try:
            audio = self._arrays[int(self._rows[i])][self._column]
        except Exception as error:  # whatever the data set's decoder raises
            raise AudioError(
                name, f"cannot be read: {type(error).__name__}: {error}"
            ) from None
        holder = f"column {self._column!r} holds "
        return open_given(audio, None, name, self._isolate, holder)
