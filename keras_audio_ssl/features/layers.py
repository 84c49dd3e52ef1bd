"""The front ends: log-mel, MFCC, log spectrum and plain waveform."""

import keras
import numpy as np
from keras import ops

from keras_audio_ssl.features.frontend import FrontEnd
from keras_audio_ssl.features.mel import mel_filterbank
from keras_audio_ssl.features.spectrum import Spectrum
from keras_audio_ssl.features.statistics import TINY

LOGS = (None, "ln", "log10", "db")


class SpectralFrontEnd(FrontEnd):
    """Base of the front ends that start from a short-time power spectrum."""

    def __init__(
        self,
        sample_rate=16000,
        n_fft=400,
        win_length=None,
        hop_length=160,
        window="hann",
        center=True,
        pad_mode="reflect",
        power=2,
        log="ln",
        log_add=0.0,
        log_floor=None,
        log_ceiling=None,
        preemphasis=0.0,
        remove_dc=False,
        bins=None,
        n_bins=None,
        **kwargs,
    ):
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
        if log_floor is not None and log_floor <= 0:
            raise ValueError(
                f"`log_floor` must be positive. Received: {log_floor=}"
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
            bins,
        )
        super().__init__(
            sample_rate=sample_rate,
            hop_length=hop_length,
            n_bins=n_bins or n_fft // 2 + 1,
            min_samples=spectrum.min_samples,
            **kwargs,
        )
        self.spectrum = spectrum
        self.n_fft = n_fft
        self.win_length = win_length
        self.window = window
        self.center = center
        self.pad_mode = pad_mode
        self.power = power
        self.log = log
        self.log_add = log_add
        self.log_floor = log_floor
        self.log_ceiling = log_ceiling
        self.preemphasis = preemphasis
        self.remove_dc = remove_dc

    def count_frames(self, samples):
        return self.spectrum.frames(samples)

    def bands(self, waveform, lengths=None):
        """Power or magnitude of the bands, before the logarithm."""
        x = self.spectrum(waveform, lengths)
        if self.power == 1:
            x = ops.sqrt(ops.maximum(x, TINY))
        return x

    def compress(self, x):
        """The logarithm, with its floor."""
        if self.log_floor is not None or self.log_ceiling is not None:
            x = ops.clip(
                x,
                -np.inf if self.log_floor is None else self.log_floor,
                np.inf if self.log_ceiling is None else self.log_ceiling,
            )
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

    def extract(self, waveform, lengths=None):
        return self.compress(self.bands(waveform, lengths))

    def get_config(self):
        return {
            **super().get_config(),
            "n_fft": self.n_fft,
            "win_length": self.win_length,
            "hop_length": self.hop_length,
            "window": self.window,
            "center": self.center,
            "pad_mode": self.pad_mode,
            "power": self.power,
            "log": self.log,
            "log_add": self.log_add,
            "log_floor": self.log_floor,
            "log_ceiling": self.log_ceiling,
            "preemphasis": self.preemphasis,
            "remove_dc": self.remove_dc,
        }


@keras.saving.register_keras_serializable(package="keras_audio_ssl")
class LogMel(SpectralFrontEnd):
    """Logarithm of mel bands.

    Args:
        sample_rate: Hz, default 16000.
        n_fft: length of the Fourier transform in samples, default 400.
        win_length: length of the window in samples; `n_fft` if None.
        hop_length: samples between frames, default 160.
        n_mels: number of bands, default 64.
        f_min: lower edge of the first band in Hz, default 60.
        f_max: upper edge of the last band in Hz, default 7800; half the
            sample rate if None.
        window: `"hann"` (default) or `"hamming"`, both periodic,
            `"hamming_symmetric"` or `"povey"`.
        center: whether frames are centred on multiples of the hop (default
            True), the clip being padded at both ends.
        pad_mode: `"reflect"` (default) or `"constant"`.
        power: 2 (default) for power, 1 for magnitude.
        mel_scale: `"htk"` (default), `"slaney"` or `"kaldi"`, see
            `mel_filterbank`.
        mel_norm: None (default) or `"slaney"` for triangles of equal area.
        log: `"ln"` (default), `"log10"`, `"db"`, or None for none.
        log_add: added before the logarithm, default 0.
        log_floor: smaller values are raised to it, default None.
        log_ceiling: larger values are cut to it, default None.
        preemphasis: coefficient, applied within each frame as in Kaldi,
            default 0.
        remove_dc: whether each frame's mean is removed, default False.
        **kwargs: `level`, `deltas`, `normalize`, `mean`, `std`, ... of
            `FrontEnd`.

    Call arguments:
        waveform: float tensor `(batch, samples)`.
        lengths: int tensor `(batch,)`, valid samples; all if None.

    Returns:
        A float32 tensor `(batch, time, n_mels * (1 + deltas))`.

    Raises:
        ValueError: for arguments out of range, or a waveform that has the
            wrong shape or is too short for a frame.

    Example:

    >>> LogMel(n_mels=80)(np.zeros((1, 16000), "float32")).shape
    (1, 101, 80)
    """

    def __init__(
        self,
        sample_rate=16000,
        n_fft=400,
        win_length=None,
        hop_length=160,
        n_mels=64,
        f_min=60.0,
        f_max=7800.0,
        window="hann",
        center=True,
        pad_mode="reflect",
        power=2,
        mel_scale="htk",
        mel_norm=None,
        log="ln",
        log_add=0.0,
        log_floor=None,
        log_ceiling=None,
        preemphasis=0.0,
        remove_dc=False,
        **kwargs,
    ):
        bank = mel_filterbank(
            sample_rate, n_fft, n_mels, f_min, f_max, mel_scale, mel_norm
        )
        used = np.flatnonzero(bank.any(axis=1))
        bins = (int(used[0]), int(used[-1]) + 1) if used.size else (0, 1)
        kwargs.setdefault("n_bins", n_mels)
        super().__init__(
            sample_rate=sample_rate,
            n_fft=n_fft,
            win_length=win_length,
            hop_length=hop_length,
            window=window,
            center=center,
            pad_mode=pad_mode,
            power=power,
            log=log,
            log_add=log_add,
            log_floor=log_floor,
            log_ceiling=log_ceiling,
            preemphasis=preemphasis,
            remove_dc=remove_dc,
            bins=bins,
            **kwargs,
        )
        self.n_mels = n_mels
        self.f_min = f_min
        self.f_max = f_max
        self.mel_scale = mel_scale
        self.mel_norm = mel_norm
        self._used_bank = bank[slice(*bins)].astype("float32")

    def bands(self, waveform, lengths=None):
        x = super().bands(waveform, lengths)
        return ops.matmul(x, ops.convert_to_tensor(self._used_bank))

    def get_config(self):
        return {
            **super().get_config(),
            "n_mels": self.n_mels,
            "f_min": self.f_min,
            "f_max": self.f_max,
            "mel_scale": self.mel_scale,
            "mel_norm": self.mel_norm,
        }
