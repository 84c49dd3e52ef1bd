"""The front ends: log-mel, MFCC, log spectrum and plain waveform."""

from typing import Any

import numpy as np
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.features.frontend import FrontEnd
from keras_audio_ssl.features.mel import hz_to_mel
from keras_audio_ssl.features.mel import mel_filterbank
from keras_audio_ssl.features.mel import mel_to_hz
from keras_audio_ssl.features.spectrum import Bands
from keras_audio_ssl.features.spectrum import Spectrum
from keras_audio_ssl.features.statistics import TINY

LOGS = (None, "ln", "log10", "db")


class SpectralFrontEnd(FrontEnd):
    """Base of the front ends that start from a short-time power spectrum.

    Its arguments are those of `LogMel` without the mel bands.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 512,
        win_length: int | None = 400,
        hop_length: int = 160,
        window: str = "hann",
        center: bool = True,
        pad_mode: str = "reflect",
        power: int = 2,
        log: str | None = "ln",
        log_add: float = 0.0,
        log_floor: float | None = None,
        log_ceiling: float | None = None,
        preemphasis: float = 0.0,
        remove_dc: bool = False,
        precision: str = "auto",
        n_bins: int | None = None,
        **kwargs: Any,
    ) -> None:
        if power not in (1, 2):
            raise ValueError(
                "`power` must be 1 (magnitude) or 2 (power). "
                f"Received: power={power}"
            )
        if log not in LOGS:
            raise ValueError(
                f"`log` must be one of {LOGS}. Received: log={log!r}"
            )
        if log_add < 0:
            raise ValueError(
                f"`log_add` must not be negative. Received: {log_add=}"
            )
        for label, value in (
            ("log_floor", log_floor),
            ("log_ceiling", log_ceiling),
        ):
            if value is not None and value <= 0:
                raise ValueError(
                    f"`{label}` must be positive. Received: {label}={value}"
                )
        win_length = n_fft if win_length is None else win_length
        spectrum = Spectrum(
            n_fft,
            win_length,
            hop_length,
            window,
            center,
            pad_mode,
            preemphasis,
            remove_dc,
            precision,
        )
        super().__init__(
            sample_rate=sample_rate,
            hop_length=hop_length,
            n_bins=n_fft // 2 + 1 if n_bins is None else n_bins,
            min_samples=spectrum.min_samples,
            **kwargs,
        )
        self.spectrum, self.win_length = spectrum, win_length

    def extract(
        self, waveform: Tensor, lengths: Tensor | None = None
    ) -> Tensor:
        return self.spectrum(waveform, lengths, then=self.from_power)

    def count_frames(self, samples: Size) -> Size:
        return self.spectrum.frames(samples)

    def from_power(self, power: Tensor) -> Tensor:
        """Features of power spectra.

        Args:
            power: Tensor `(batch, time, n_fft // 2 + 1)`.

        Returns:
            A tensor `(batch, time, n_bins)`.
        """
        return self.compress(self.to_power(power))

    def to_power(self, power: Tensor) -> Tensor:
        """Raises power spectra to the layer's `power`: magnitude if it is 1."""
        if self.power == 1:
            # The gradient of a root is infinite at zero.
            return ops.sqrt(ops.maximum(power, TINY))
        return power

    def compress(self, x: Tensor) -> Tensor:
        """The logarithm, with its floor."""
        if self.log_floor is not None:
            x = ops.maximum(x, self.log_floor)
        if self.log_ceiling is not None:
            x = ops.minimum(x, self.log_ceiling)
        if self.log is None:
            return x
        if self.log_add:
            x = x + self.log_add
        elif self.log_floor is None:
            x = ops.maximum(x, TINY)
        scale = {
            "ln": 1.0,
            "log10": 1 / np.log(10.0),
            "db": (20 if self.power == 1 else 10) / np.log(10.0),
        }[self.log]
        x = ops.log(x)
        return x if scale == 1.0 else x * float(scale)


class LogSpectrum(SpectralFrontEnd):
    """Logarithm of the linear spectrum.

    Args:
        sample_rate: Hz, default 16000.
        n_fft: Length of the Fourier transform in samples, default 512.
        win_length: Length of the window in samples, default 400; `n_fft` if
            None.
        hop_length: Samples between frames, default 160.
        **kwargs: `window`, `center`, `pad_mode`, `power`, `log`, `log_add`,
            `log_floor`, `log_ceiling`, `preemphasis`, `remove_dc` and
            `precision` of `LogMel`; `amplitude`, `deltas`, `normalize`,
            `mean`, `std`, ... of `FrontEnd`.

    Call arguments:
        waveform: float tensor `(batch, samples)`.
        lengths: int tensor `(batch,)`, valid samples; all if None.

    Returns:
        A float32 tensor `(batch, time, (n_fft // 2 + 1) * (1 + deltas))`.

    Raises:
        ValueError: For arguments out of range, or a waveform that has the
            wrong shape or is too short for a frame.

    Example:
        >>> frontend = kas.features.LogSpectrum(n_fft=400)
        >>> tuple(frontend(np.zeros((1, 16000), "float32")).shape)
        (1, 101, 201)
    """

    @property
    def frequencies(self) -> Tensor:
        return np.arange(self.n_bins) * (self.sample_rate / self.n_fft)


class LogMel(SpectralFrontEnd):
    """Logarithm of mel bands.

    Args:
        sample_rate: Hz, default 16000.
        n_fft: Length of the Fourier transform in samples, default 512.
        win_length: Length of the window in samples, default 400; `n_fft` if
            None.
        hop_length: Samples between frames, default 160.
        n_mels: Number of bands, default 64.
        f_min: Lower edge of the first band in Hz, default 60.
        f_max: Upper edge of the last band in Hz, default 7800; half the
            sample rate if None.
        mel_scale: `"htk"` (default), `"slaney"` or `"kaldi"`, see
            `mel_filterbank`.
        mel_norm: None (default) or `"slaney"` for triangles of equal area.
        window: `"hann"` (default) or `"hamming"`, both periodic,
            `"hamming_symmetric"` or `"povey"`.
        center: Whether frames are centred on multiples of the hop (default
            True), the clip being padded at both ends.
        pad_mode: `"reflect"` (default) or `"constant"`.
        power: 2 (default) for power, 1 for magnitude.
        log: `"ln"` (default), `"log10"`, `"db"`, or None for none.
        log_add: Added before the logarithm, default 0.
        log_floor: Smaller values are raised to it, default None.
        log_ceiling: Larger values are cut to it, default None.
        preemphasis: Coefficient, applied within each frame as in Kaldi,
            default 0.
        remove_dc: Whether each frame's mean is removed, default False.
        precision: `"float32"`, `"float64"` (for tones so pure that the
            rounding of a float32 transform shows beside them) or `"auto"`
            (default): float32, except for Kaldi's frames under PyTorch on a
            CPU.
        **kwargs: `amplitude`, `deltas`, `normalize`, `mean`, `std`, ... of
            `FrontEnd`.

    Call arguments:
        waveform: float tensor `(batch, samples)`.
        lengths: int tensor `(batch,)`, valid samples; all if None.

    Returns:
        A float32 tensor `(batch, time, n_mels * (1 + deltas))`.

    Raises:
        ValueError: For arguments out of range, or a waveform that has the
            wrong shape or is too short for a frame.

    Example:
        >>> frontend = kas.features.LogMel(n_mels=80)
        >>> tuple(frontend(np.zeros((1, 16000), "float32")).shape)
        (1, 101, 80)
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 512,
        win_length: int | None = 400,
        hop_length: int = 160,
        n_mels: int = 64,
        f_min: float = 60.0,
        f_max: float = 7800.0,
        mel_scale: str = "htk",
        mel_norm: str | None = None,
        **kwargs: Any,
    ) -> None:
        bank = mel_filterbank(
            sample_rate, n_fft, n_mels, f_min, f_max, mel_scale, mel_norm
        )
        kwargs.setdefault("n_bins", n_mels)
        super().__init__(
            sample_rate=sample_rate,
            n_fft=n_fft,
            win_length=win_length,
            hop_length=hop_length,
            **kwargs,
        )
        self._bands = Bands(bank)

    @property
    def frequencies(self) -> Tensor:
        top = self.sample_rate / 2 if self.f_max is None else self.f_max
        low, high = hz_to_mel([self.f_min, top], self.mel_scale)
        edges = np.linspace(low, high, self.n_mels + 2)
        return mel_to_hz(edges[1:-1], self.mel_scale)

    def from_power(self, power: Tensor) -> Tensor:
        return self.compress(self._bands(self.to_power(power)))


class MFCC(LogMel):
    """Mel-frequency cepstral coefficients.

    The cosine transform (type II, orthonormal) of the log-mel bands, as in
    librosa, torchaudio and Kaldi.

    Args:
        n_mfcc: Number of coefficients, default 13.
        lifter: Raises the higher coefficients by
            `1 + lifter / 2 * sin(pi * i / lifter)` with `i` from 0, as HTK and
            Kaldi do (22 there); default 0 for none.
        n_mels: Number of mel bands, default 40.
        **kwargs: Those of `LogMel`. Librosa's decibels are `log="db",
            log_floor=1e-10` (and its `top_db=80` has no counterpart).

    Call arguments:
        waveform: float tensor `(batch, samples)`.
        lengths: int tensor `(batch,)`, valid samples; all if None.

    Returns:
        A float32 tensor `(batch, time, n_mfcc * (1 + deltas))`.

    Raises:
        ValueError: For more coefficients than bands, and as `LogMel`.

    Example:
        >>> frontend = kas.features.MFCC(deltas=2)
        >>> tuple(frontend(np.zeros((1, 16000), "float32")).shape)
        (1, 101, 39)
    """

    def __init__(
        self, n_mfcc: int = 13, lifter: int = 0, n_mels: int = 40, **kwargs: Any
    ) -> None:
        if not 1 <= n_mfcc <= n_mels:
            raise ValueError(
                "`n_mfcc` must be between 1 and `n_mels`. "
                f"Received: {n_mfcc=}, {n_mels=}"
            )
        if lifter < 0:
            raise ValueError(
                f"`lifter` must not be negative. Received: {lifter=}"
            )
        super().__init__(n_mels=n_mels, n_bins=n_mfcc, **kwargs)
        order = np.arange(n_mfcc)
        band = np.arange(n_mels)[:, None]
        basis = np.cos(np.pi * order * (2 * band + 1) / (2 * n_mels))
        basis *= np.where(order == 0, np.sqrt(1 / n_mels), np.sqrt(2 / n_mels))
        if lifter:
            basis *= 1 + lifter / 2 * np.sin(np.pi * order / lifter)
        self._basis = backend.Constant(basis)

    @property
    def frequencies(self) -> None:
        return None  # Coefficients are of no band.

    def from_power(self, power: Tensor) -> Tensor:
        x = super().from_power(power)
        return ops.matmul(x, self._basis(x))


class Waveform(FrontEnd):
    """The waveform itself, for backbones that start from samples.

    Args:
        sample_rate: Hz, default 16000.
        **kwargs: `amplitude`, `normalize`, `mean`, `std`, ... of `FrontEnd`.

    Call arguments:
        waveform: float tensor `(batch, samples)`.
        lengths: int tensor `(batch,)`, valid samples; all if None.

    Returns:
        A float32 tensor `(batch, samples, 1)`.

    Raises:
        ValueError: For arguments out of range, or a waveform that is not
            `(batch, samples)`.

    Example:
        >>> frontend = kas.features.Waveform(amplitude="peak")
        >>> tuple(frontend(np.ones((2, 800), "float32")).shape)
        (2, 800, 1)
    """

    def __init__(self, sample_rate: int = 16000, **kwargs: Any) -> None:
        super().__init__(
            sample_rate=sample_rate,
            hop_length=1,
            n_bins=1,
            min_samples=1,
            **kwargs,
        )

    def extract(
        self, waveform: Tensor, lengths: Tensor | None = None
    ) -> Tensor:
        return waveform[:, :, None]

    def count_frames(self, samples: Size) -> Size:
        return samples
