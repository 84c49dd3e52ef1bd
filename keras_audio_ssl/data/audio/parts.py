"""Any part of any audio at any rate."""

import math

import numpy as np

from keras_audio_ssl.data.audio.resampling import resample
from keras_audio_ssl.data.audio.resampling import resampled_length
from keras_audio_ssl.data.audio.source import AudioError
from keras_audio_ssl.data.audio.source import AudioSource
from keras_audio_ssl.data.audio.source import plain

# Reach of soxr's HQ filter, in samples of the lower of the two rates:
# beyond 128 the output no longer changes in float32.
REACH = 160


def read_part(
    audio: AudioSource,
    sample_rate: int,
    start: int,
    samples: int,
) -> np.ndarray:
    """Reads a part of a clip, equal to that part of the resampled whole.

    Only the part and the reach of the resampling filter are decoded.

    Args:
        audio: An open file or array.
        sample_rate: Wanted rate in Hz.
        start: First sample, counted at `sample_rate`.
        samples: Number of samples at `sample_rate`.

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


def read_all(audio: AudioSource, sample_rate: int) -> np.ndarray:
    """All of an open clip at a rate; float32 `(samples,)`."""
    samples = resampled_length(audio.frames, audio.rate, sample_rate)
    return read_part(audio, sample_rate, 0, samples)
