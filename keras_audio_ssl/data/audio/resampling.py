"""Samples at another rate."""

import numpy as np
import soxr


def resampled_length(samples: int, rate_in: int, rate_out: int) -> int:
    """Length of `resample`'s answer: to the nearest sample."""
    return (2 * samples * rate_out + rate_in) // (2 * rate_in)


def resample(waveform: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    """Changes the sample rate with soxr's high quality filter.

    Args:
        waveform: float32 `(samples,)`.
        rate_in: Its sample rate in Hz.
        rate_out: Wanted sample rate in Hz.

    Returns:
        float32 `(round(samples * rate_out / rate_in),)`.

    Example:
        >>> resample(np.zeros(44100, "float32"), 44100, 16000).shape
        (16000,)
    """
    if rate_in == rate_out:
        return waveform
    for name, rate in (("rate_in", rate_in), ("rate_out", rate_out)):
        if rate < 1:
            raise ValueError(
                f"`{name}` must be positive, in Hz. Received: {name}={rate}"
            )
    size = resampled_length(len(waveform), rate_in, rate_out)
    out = soxr.resample(waveform, rate_in, rate_out, quality="HQ")[:size]
    if len(out) < size:
        out = np.pad(out, (0, size - len(out)))
    return out
