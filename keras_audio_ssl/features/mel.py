"""Mel scales and triangular filter banks, in numpy float64."""

import math
from typing import Any

import numpy as np

MEL_SCALES = ("htk", "slaney", "kaldi")
MAX_FFT, MAX_MELS = 1 << 15, 512


def hz_to_mel(frequency: Any, scale: str = "htk") -> Any:
    """Converts Hz to mel.

    Args:
        frequency: A number or an array, in Hz.
        scale: `"htk"` (`2595 log10(1 + f / 700)`), `"kaldi"` (the same curve,
            written `1127 ln(1 + f / 700)`) or `"slaney"` (linear below 1 kHz,
            logarithmic above).

    Returns:
        A float64 array of the same shape.

    Example:
        >>> float(kas.features.hz_to_mel(1000.0, "slaney"))
        15.0
    """
    f = np.asarray(frequency, "float64")
    _check_scale(scale)
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + f / 700.0)
    if scale == "kaldi":
        return 1127.0 * np.log1p(f / 700.0)
    above = 15.0 + 27.0 * np.log(np.maximum(f, 1e-9) / 1000.0) / math.log(6.4)
    return np.where(f < 1000.0, 3.0 * f / 200.0, above)


def mel_to_hz(mel: Any, scale: str = "htk") -> Any:
    """Converts mel to Hz; the inverse of `hz_to_mel`.

    Args:
        mel: A number or an array.
        scale: `"htk"`, `"kaldi"` or `"slaney"`.

    Returns:
        A float64 array of the same shape.

    Example:
        >>> float(kas.features.mel_to_hz(15.0, "slaney"))
        1000.0
    """
    m = np.asarray(mel, "float64")
    _check_scale(scale)
    if scale == "htk":
        return 700.0 * (10.0 ** (m / 2595.0) - 1.0)
    if scale == "kaldi":
        return 700.0 * np.expm1(m / 1127.0)
    above = 1000.0 * np.exp(math.log(6.4) * (m - 15.0) / 27.0)
    return np.where(m < 15.0, 200.0 * m / 3.0, above)


def mel_filterbank(
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    f_min: float = 0.0,
    f_max: float | None = None,
    mel_scale: str = "htk",
    mel_norm: str | None = None,
) -> np.ndarray:
    """Triangular filters that turn a spectrum into mel bands.

    Args:
        sample_rate: Hz.
        n_fft: Length of the Fourier transform, in samples.
        n_mels: Number of bands.
        f_min: Lower edge of the first band, Hz.
        f_max: Upper edge of the last band, Hz; half the sample rate if None.
        mel_scale: `"htk"` or `"slaney"`: triangles over frequency, as in
            librosa and torchaudio. `"kaldi"`: HTK's curve with triangles over
            mel, as in Kaldi and `tf.signal`.
        mel_norm: None, or `"slaney"`: each triangle divided by half its width
            in Hz, so that all have the same area.

    Returns:
        A float64 array `(n_fft // 2 + 1, n_mels)`.

    Raises:
        ValueError: For edges that are not increasing within half the sample
            rate, an unknown scale or norm, fewer than one band, or sizes
            that no audio needs (a file from a stranger may name any).

    Example:
        >>> kas.features.mel_filterbank(16000, 400, 80).shape
        (201, 80)
    """
    f_max = sample_rate / 2 if f_max is None else f_max
    _check_scale(mel_scale)
    for label, size, most in (
        ("n_fft", n_fft, MAX_FFT),
        ("n_mels", n_mels, MAX_MELS),
    ):
        if not 1 <= size <= most:
            raise ValueError(
                f"`{label}` must be between 1 and {most}. "
                f"Received: {label}={size}"
            )
    if not 0 <= f_min < f_max <= sample_rate / 2:
        raise ValueError(
            "Band edges must satisfy 0 <= f_min < f_max <= sample_rate / 2. "
            f"Received: {f_min=}, {f_max=}, {sample_rate=}"
        )
    if mel_norm not in (None, "slaney"):
        raise ValueError(
            f"`mel_norm` must be None or 'slaney'. Received: {mel_norm=}"
        )
    low, high = hz_to_mel([f_min, f_max], mel_scale)
    edges_mel = np.linspace(low, high, n_mels + 2)
    edges_hz = mel_to_hz(edges_mel, mel_scale)
    bins = np.arange(n_fft // 2 + 1) * (sample_rate / n_fft)
    if mel_scale == "kaldi":
        points, edges = hz_to_mel(bins, mel_scale), edges_mel
    else:
        points, edges = bins, edges_hz
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (points[:, None] - left) / (centre - left)
    falling = (right - points[:, None]) / (right - centre)
    bank = np.maximum(0.0, np.minimum(rising, falling))
    if mel_scale == "kaldi":
        # Kaldi leaves the Nyquist bin out.
        bank[-1] = 0.0 if n_fft % 2 == 0 else bank[-1]
    if mel_norm == "slaney":
        bank *= 2.0 / (edges_hz[2:] - edges_hz[:-2])
    return bank


def _check_scale(scale: str) -> None:
    if scale not in MEL_SCALES:
        raise ValueError(
            f"The mel scale must be one of {MEL_SCALES}. Received: {scale!r}"
        )
