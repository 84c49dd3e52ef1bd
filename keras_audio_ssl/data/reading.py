"""Reading any part of any audio at any rate, in this process or a child."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_audio_ssl.data.audio import AudioArray
from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.audio import AudioFile
from keras_audio_ssl.data.audio import plain
from keras_audio_ssl.data.audio import resample
from keras_audio_ssl.data.audio import resampled_length
from keras_audio_ssl.data.isolate import IsolatedFile

# Reach of soxr's HQ filter, in samples of the lower of the two rates:
# beyond 128 the output no longer changes in float32.
REACH = 160


def open_audio(
    file: Any,
    name: Any = None,
    facts: tuple[int, int] | None = None,
    isolate: bool = False,
) -> AudioFile | IsolatedFile:
    """Opens a file as all readers do; use it in a `with` statement.

    Args:
        file: a path, or the bytes of a file.
        name: name used in errors; the path by default.
        facts: `facts` of an earlier look at the same file.
        isolate: `True` to decode in a child process; `False` (default) does
            so inside of `isolated` only.

    Returns:
        An `AudioFile` or an `IsolatedFile`.

    Raises:
        AudioError: if the file is missing, no audio, empty or truncated.

    Example:
        >>> with open_audio("speech.flac") as audio:
        ...     wave = audio.read(0, audio.frames)
    """
    if not (isolate or _isolating):
        return AudioFile(file, name, facts)
    return IsolatedFile(file, name, facts)


_isolating = False


@contextlib.contextmanager
def isolated(isolate: bool = True) -> Iterator[None]:
    """Inside, whatever reads audio files decodes them in child processes.

    A file that crashes the decoder then raises `AudioError` instead of
    ending the program; see `benchmarks/reading.py` for what it costs. Counts
    for the whole process, not only for this thread.

    Args:
        isolate: `False` changes nothing.

    Example:
        >>> with isolated():
        ...     vector = encoder.embed("stranger.flac")
    """
    global _isolating
    before, _isolating = _isolating, _isolating or isolate
    try:
        yield
    finally:
        _isolating = before


def read_part(
    audio: AudioFile | AudioArray | IsolatedFile,
    sample_rate: int,
    start: int,
    samples: int,
) -> np.ndarray:
    """Reads a part of a clip, equal to that part of the resampled whole.

    Only the part and the reach of the resampling filter are decoded.

    Args:
        audio: an open file or array.
        sample_rate: wanted rate in Hz.
        start: first sample, counted at `sample_rate`.
        samples: number of samples at `sample_rate`.

    Returns:
        float32 `(samples,)`, shorter where the clip ends before.
    """
    rate, frames = audio.rate, audio.frames
    if rate == sample_rate:
        samples = min(samples, frames - start)
        return audio.read(start, samples)
    total = resampled_length(frames, rate, sample_rate)
    samples = min(samples, total - start)
    common = math.gcd(rate, sample_rate)
    # Input sample k * down falls on output sample k * up.
    down, up = rate // common, sample_rate // common
    margin = -(-REACH * sample_rate // min(rate, sample_rate))
    block = max(0, start - margin) // up
    first = block * down
    last = -(-(start + samples + margin) * rate // sample_rate)
    last = min(frames, last)
    try:
        wave = resample(audio.read(first, last - first), rate, sample_rate)
    except (RuntimeError, MemoryError) as error:
        raise AudioError(
            audio.name, f"cannot be resampled from {rate} Hz ({plain(error)})"
        ) from None
    offset = start - block * up
    return wave[offset : offset + samples]


def read_all(
    audio: AudioFile | AudioArray | IsolatedFile, sample_rate: int
) -> np.ndarray:
    """All of an open clip at a rate; float32 `(samples,)`."""
    samples = resampled_length(audio.frames, audio.rate, sample_rate)
    return read_part(audio, sample_rate, 0, samples)


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
        path: the file.
        sample_rate: wanted rate in Hz; `None` (default) keeps the file's.
        start: where to begin, in seconds, 0.0 by default.
        seconds: how much to read; `None` (default) reads to the end. Fewer
            samples come back where the file ends before.

    Returns:
        float32 `(samples,)`.

    Raises:
        AudioError: a `ValueError` with `file` and `reason`: missing, no
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
        path: the file.
        start: where to begin, in seconds.
        seconds: how much to read; `None` (default) reads to the end.

    Returns:
        The waveform, float32 `(samples,)`, and its rate in Hz.

    Raises:
        AudioError: as `read_audio`.

    Example:
        >>> wave, rate = read_audio_native("speech.flac")
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
