"""Samples in memory, read like those of a file."""

from typing import Any

import numpy as np

from keras_audio_ssl.data.audio.source import AudioError
from keras_audio_ssl.data.audio.source import check_finite


class AudioArray:
    """An array, read like an `AudioFile`.

    Args:
        array: Samples `(samples,)`, or `(channels, samples)` as well as
            `(samples, channels)` (the shorter axis holds the channels);
            floats in [-1, 1], or integers, which are scaled by their range.
        rate: Sample rate in Hz.
        name: Name used in errors.
    """

    floating = True
    format = "array"

    def __init__(self, array: Any, rate: int, name: str) -> None:
        wave = np.asarray(array)
        if wave.ndim == 2:
            wave = wave.mean(axis=int(np.argmin(wave.shape)), dtype="float64")
        if wave.ndim != 1 or wave.dtype.kind not in "fiu":
            raise AudioError(
                name,
                "samples must be numbers of shape (samples,) or "
                f"(channels, samples), not {wave.dtype} {np.shape(array)}",
            )
        dtype = np.asarray(array).dtype
        if dtype.kind == "u":
            half = (np.iinfo(dtype).max + 1) // 2
            wave = (wave.astype("float64") - half) / half
        elif dtype.kind == "i":
            wave = wave / (np.iinfo(dtype).max + 1.0)
        if not len(wave):
            raise AudioError(name, "no samples")
        self.name, self.rate, self.frames = name, int(rate), len(wave)
        self._wave = wave

    def __enter__(self) -> "AudioArray":
        return self

    def __exit__(self, *exception: Any) -> None:
        pass

    def read(self, start: int, frames: int) -> np.ndarray:
        """Samples of one stretch.

        Args:
            start: First sample.
            frames: Their number.

        Returns:
            float32 `(frames,)`, channels averaged.

        Raises:
            AudioError: They are not finite.
        """
        wave = np.array(self._wave[start : start + frames], "float32")
        check_finite(wave, self.name, self.rate, start)
        return wave
