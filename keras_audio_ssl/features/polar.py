"""CLAR's three channels: magnitude, phase, and mel bands."""

from typing import Any

import numpy as np
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.features.framing import frame_signal
from keras_audio_ssl.features.layers import LogMel

# The reference converts to decibels relative to 10 in place of 1.
MAGNITUDE_DB, POWER_DB = 20.0, 10.0


class MagnitudePhaseMel(LogMel):
    """Magnitude and phase at log-spaced frequencies, and mel bands.

    The transform is taken at `f_min * (f_max / f_min) ** (k / n_mels)` Hz, no
    multiples of a frequency, so by a matrix. Magnitudes are decibels, 20 less
    than of amplitude 1, from -100 on; phases radians in [-pi, pi], noise
    where there is nothing; mel bands decibels of power, 10 less, from -60 on.
    A frame has all magnitudes, then all phases, then all bands.

    Args:
        sample_rate: Hz, default 16000.
        n_fft: Length of the Fourier transform in samples, default 2048.
        win_length: Length of the window in samples; `n_fft` if None, the
            default.
        hop_length: Samples between frames, default 128.
        n_mels: Number of frequencies, and of mel bands, default 128.
        f_min: Lowest frequency in Hz, default 40.
        f_max: Highest one, that of the last band's edge, default 8000.
        mel_scale: Of the bands, default `"slaney"`; see `LogMel`.
        mel_norm: Likewise, default `"slaney"`.
        **kwargs: Those of `LogMel`.

    Call arguments:
        waveform: float tensor `(batch, samples)`.
        lengths: int tensor `(batch,)`, valid samples; all if None.

    Returns:
        A float32 tensor `(batch, time, 3 * n_mels)`.

    Raises:
        ValueError: For arguments out of range, or a waveform that has the
            wrong shape or is too short for a frame.

    Reference:
        Al-Tahan & Mohsenzadeh, 2021, "CLAR", arXiv 2010.09542, as released.

    Example:
        >>> frontend = kas.features.MagnitudePhaseMel(n_mels=32)
        >>> tuple(frontend(np.zeros((1, 16000), "float32")).shape)
        (1, 126, 96)
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 2048,
        win_length: int | None = None,
        hop_length: int = 128,
        n_mels: int = 128,
        f_min: float = 40.0,
        f_max: float = 8000.0,
        mel_scale: str = "slaney",
        mel_norm: str | None = "slaney",
        **kwargs: Any,
    ) -> None:
        if not f_min > 0:
            raise ValueError(f"`f_min` must be positive. Received: {f_min=}")
        super().__init__(
            sample_rate=sample_rate,
            n_fft=n_fft,
            win_length=win_length,
            hop_length=hop_length,
            n_mels=n_mels,
            f_min=f_min,
            f_max=f_max,
            mel_scale=mel_scale,
            mel_norm=mel_norm,
            n_bins=3 * n_mels,
            log="db",
            log_floor=1e-5,
            **kwargs,
        )
        turn = 2 * np.pi / sample_rate * np.arange(self.win_length)
        turn = turn[:, None] * self.transform_frequencies
        waves = np.concatenate([np.cos(turn), -np.sin(turn)], axis=1)
        self._waves = backend.Constant(self.spectrum.window[:, None] * waves)

    @property
    def transform_frequencies(self) -> np.ndarray:
        """Hz, of magnitudes and phases, `(n_mels,)`."""
        steps = np.arange(self.n_mels) / self.n_mels
        return self.f_min * (self.f_max / self.f_min) ** steps

    @property
    def frequencies(self) -> None:
        return None  # A frame has three bins of each.

    def extract(
        self, waveform: Tensor, lengths: Tensor | None = None
    ) -> Tensor:
        mel = self.spectrum(waveform, lengths, then=self.from_power) - POWER_DB
        frames = self.spectrum.frames(ops.shape(waveform)[1])
        dtype = "float64" if self.precision == "float64" else "float32"

        def product(x: Tensor) -> Tensor:
            x = frame_signal(
                ops.cast(x, dtype), self.win_length, self.hop_length, frames
            )
            return ops.cast(ops.matmul(x, self._waves(x, dtype)), "float32")

        x = self.spectrum.padded(waveform, lengths)
        wide = dtype == "float64"
        x = backend.in_float64(product, x) if wide else product(x)
        real, imaginary = ops.split(x, 2, axis=-1)
        size = ops.sqrt(ops.square(real) + ops.square(imaginary) + 1e-8)
        size = ops.log10(ops.maximum(size, 1e-5)) * 20.0 - MAGNITUDE_DB
        phase = ops.arctan2(imaginary, real)
        return ops.concatenate([size, phase, mel], axis=-1)
