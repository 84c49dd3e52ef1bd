"""A whole file, or a part of it, as an array."""

import math
from typing import Any

import numpy as np

from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.audio import read_part
from keras_audio_ssl.data.audio import resampled_length
from keras_audio_ssl.data.isolation import open_audio


def read_audio(
    path: Any,
    sample_rate: int | None = None,
    start: float = 0.0,
    seconds: float | None = None,
) -> np.ndarray:
    """Reads an audio file, or a part of it, as mono float32.

    WAV, FLAC, OGG, MP3 and whatever else libsndfile decodes; channels are
    averaged; resampled with soxr. Of a part, only the part is decoded.

    Args:
        path: The file.
        sample_rate: Wanted rate in Hz; `None` (default) keeps the file's.
        start: Where to begin, in seconds, 0.0 by default.
        seconds: How much to read; `None` (default) reads to the end. Fewer
            samples come back where the file ends before.

    Returns:
        float32 `(samples,)`.

    Raises:
        AudioError: A `ValueError` with `file` and `reason`: missing, no
            audio, empty, truncated, NaN, or shorter than `start`.

    Example:
        >>> wave = read_audio("speech.flac", 16000, start=1.0, seconds=0.5)
        >>> wave.shape
        (8000,)
    """
    return _read(path, sample_rate, start, seconds)[0]


def read_audio_native(
    path: Any, start: float = 0.0, seconds: float | None = None
) -> tuple[np.ndarray, int]:
    """Reads like `read_audio` at the file's own rate.

    Args:
        path: The file.
        start: Where to begin, in seconds.
        seconds: How much to read; `None` (default) reads to the end.

    Returns:
        The waveform, float32 `(samples,)`, and its rate in Hz.

    Raises:
        AudioError: As `read_audio`.

    Example:
        >>> wave, rate = read_audio_native("speech.flac")
        >>> rate
        16000
    """
    return _read(path, None, start, seconds)


def _read(
    path: Any, sample_rate: int | None, start: float, seconds: float | None
) -> tuple[np.ndarray, int]:
    if sample_rate is not None and sample_rate < 1:
        raise ValueError(
            "`sample_rate` must be positive, in Hz. "
            f"Received: sample_rate={sample_rate}"
        )
    if not 0 <= start < math.inf or not (
        seconds is None or 0 < seconds < math.inf
    ):
        raise ValueError(
            "`start` must not be negative and `seconds` must be positive, "
            "both finite. "
            f"Received: start={start}, seconds={seconds}"
        )
    with open_audio(path) as audio:
        rate = sample_rate or audio.rate
        first = round(start * rate)
        total = resampled_length(audio.frames, audio.rate, rate)
        if first >= total:
            raise AudioError(
                path,
                f"too short: ends at {audio.frames / audio.rate:.2f} s, "
                f"asked for {start:.2f} s",
            )
        samples = total if seconds is None else max(1, round(seconds * rate))
        return read_part(audio, rate, first, samples), rate
