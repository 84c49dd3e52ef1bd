"""From waveform to power spectrum, the same on all backends."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.features.framing import PAD_MODES
from keras_audio_ssl.features.framing import frame_signal
from keras_audio_ssl.features.framing import pad_reflect
from keras_audio_ssl.features.framing import window_function
from keras_audio_ssl.features.mel import MAX_FFT

PRECISIONS = ("auto", "float32", "float64")


class Spectrum:
    """Short-time power spectrum `|X|^2` of a batch of clips.

    Args:
        n_fft: Length of the Fourier transform, samples.
        win_length: Length of the window, samples.
        hop_length: Samples between frames.
        window: Name of the window, see `window_function`.
        center: Whether frame `t` is centred on sample `t * hop_length`, the
            clip being padded by `n_fft // 2` samples on both sides.
        pad_mode: `"reflect"` or `"constant"` (zeros).
        preemphasis: Coefficient of the pre-emphasis of each frame, whose
            first sample repeats itself; 0 for none.
        remove_dc: Whether each frame's mean is removed first.
        precision: `"float32"`, `"float64"`, or `"auto"`: float32, except for
            Kaldi's frames (pre-emphasis or mean removed) under PyTorch on a
            CPU, whose transform rounds four times as coarsely as the others'.

    Example:
        >>> spectrum = Spectrum(n_fft=400, win_length=400, hop_length=160)
        >>> tuple(spectrum(ops.zeros((1, 16000))).shape)
        (1, 101, 201)
    """

    def __init__(
        self,
        n_fft: int,
        win_length: int,
        hop_length: int,
        window: str = "hann",
        center: bool = True,
        pad_mode: str = "reflect",
        preemphasis: float = 0.0,
        remove_dc: bool = False,
        precision: str = "auto",
    ) -> None:
        for label, value in (
            ("n_fft", n_fft),
            ("win_length", win_length),
            ("hop_length", hop_length),
        ):
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"`{label}` must be a positive integer. "
                    f"Received: {label}={value!r}"
                )
        if n_fft > MAX_FFT:
            raise ValueError(
                f"`n_fft` must be at most {MAX_FFT}. Received: {n_fft=}"
            )
        if win_length > n_fft:
            raise ValueError(
                "`win_length` must not exceed `n_fft`. "
                f"Received: {win_length=}, {n_fft=}"
            )
        if pad_mode not in PAD_MODES:
            raise ValueError(
                f"`pad_mode` must be one of {PAD_MODES}. Received: {pad_mode=}"
            )
        if precision not in PRECISIONS:
            raise ValueError(
                f"`precision` must be one of {PRECISIONS}. "
                f"Received: {precision=}"
            )
        if not 0 <= preemphasis <= 1:
            raise ValueError(
                "`preemphasis` must be between 0 and 1. "
                f"Received: {preemphasis=}"
            )
        self.n_fft = n_fft
        self.win_length = win_length
        self.hop_length = hop_length
        self.center = center
        self.pad_mode = pad_mode
        self.preemphasis = preemphasis
        self.remove_dc = remove_dc
        self.precision = precision
        self.window = window_function(window, win_length)
        # A shorter window stands in the middle of the transform. Only its
        # own samples are framed: the shift changes the phase alone.
        self.left = n_fft // 2 - (n_fft - win_length) // 2 if center else 0
        self.min_samples = 1 if center else win_length
        rest = self.window.copy()
        rest[0] *= 0.0 if preemphasis else 1.0
        self._window = backend.Constant(rest)

    def frames(self, samples: Size) -> Size:
        """Frames of a clip of so many samples (at least `min_samples`)."""
        if self.center:
            samples = samples + 2 * (self.n_fft // 2) - self.n_fft
        else:
            samples = samples - self.win_length
        return 1 + samples // self.hop_length

    def padded(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Waveforms with what their first and last frames read beyond them.

        Args:
            waveform: float32 tensor `(batch, samples)`.
            lengths: int tensor `(batch,)`, valid samples; all if None.
        """
        if not self.center:
            return waveform
        right = self.win_length - self.left
        if self.pad_mode == "reflect":
            return pad_reflect(waveform, self.left, right, lengths)
        return ops.pad(waveform, ((0, 0), (self.left, right)))

    def __call__(
        self,
        waveform: Tensor,
        lengths: Tensor | None = None,
        then: Callable[[Tensor], Any] | None = None,
    ) -> Any:
        """Power spectrum of waveforms.

        Args:
            waveform: float32 tensor `(batch, samples)`.
            lengths: int tensor `(batch,)`, valid samples; all if None.
            then: Function of the spectrum of some of the clips, applied while
                the processor still has it in its cache.

        Returns:
            A float32 tensor `(batch, frames, n_fft // 2 + 1)`, or what `then`
            makes of it.
        """
        frames = self.frames(ops.shape(waveform)[1])
        x = self.padded(waveform, lengths)
        wide = self._is_wide(x)

        def of_some(x: Tensor) -> Tensor:
            if not backend.has_transforms():
                power = self._products(x, frames)
            elif wide:
                power = backend.in_float64(
                    lambda x: self._power(x, frames, True), x
                )
            else:
                power = self._power(x, frames, False)
            return power if then is None else then(power)

        clip_bytes = frames * self.n_fft * (8 if wide else 4)
        return backend.in_chunks(of_some, x, clip_bytes)

    def _is_wide(self, x: Tensor) -> bool:
        if self.precision == "auto":
            kaldi = self.preemphasis or self.remove_dc
            return bool(kaldi) and backend.rounds_coarsely(x)
        return self.precision == "float64"

    def _power(self, x: Tensor, frames: Size, wide: bool) -> Tensor:
        dtype = "float64" if wide else "float32"
        x = ops.cast(x, dtype)
        emphasis = self.preemphasis
        y = x
        if emphasis:
            # Once per sample rather than per frame; the first sample of each
            # frame, which has no predecessor there, is added to the spectrum.
            y = ops.concatenate([x[:, :1], x[:, 1:] - emphasis * x[:, :-1]], 1)
        framed = frame_signal(y, self.win_length, self.hop_length, frames)
        mean = self._frame_means(x, frames) if self.remove_dc else None
        if mean is not None:
            framed = framed - (1.0 - emphasis) * mean
        framed = framed * self._window(framed, dtype)
        real, imaginary = ops.rfft(framed, fft_length=self.n_fft)
        if emphasis and self.window[0]:
            start = x[:, : (frames - 1) * self.hop_length + 1]
            start = start[:, :: self.hop_length, None]
            if mean is not None:
                start = start - mean
            real = real + (1.0 - emphasis) * float(self.window[0]) * start
        return ops.cast(ops.square(real) + ops.square(imaginary), "float32")

    def _products(self, x: Tensor, frames: Size) -> Tensor:
        """The same by one convolution, where there is no transform."""
        kernel = backend.Constant(self.matrix()[:, None])(x)
        x = ops.conv(
            x[:, :, None], kernel, self.hop_length, "valid", "channels_last"
        )
        parts = ops.split(ops.square(x[:, :frames]), 2, axis=-1)
        return parts[0] + parts[1]

    def matrix(self) -> Any:
        """What a frame's samples are multiplied with, as all of it is linear.

        Returns:
            float64 array `(win_length, 2 * bins)`: the real parts, then the
            imaginary ones.
        """
        frame = np.eye(self.win_length)
        if self.remove_dc:
            frame = frame - 1.0 / self.win_length
        if self.preemphasis:
            before = np.concatenate([frame[:, :1], frame[:, :-1]], axis=1)
            frame = frame - self.preemphasis * before
        spectrum = np.fft.rfft(frame * self.window, self.n_fft, axis=1)
        return np.concatenate([spectrum.real, spectrum.imag], axis=1)

    def _frame_means(self, x: Tensor, frames: Size) -> Tensor:
        # Through sums of the largest blocks that frames have in common.
        block = math.gcd(self.win_length, self.hop_length)
        per_frame = self.win_length // block
        per_hop = self.hop_length // block
        total = (frames - 1) * self.hop_length + self.win_length
        short = total - ops.shape(x)[1]
        short = short if isinstance(short, int) else self.win_length
        if short > 0:
            x = ops.pad(x, ((0, 0), (0, short)))
        sums = ops.sum(
            ops.reshape(x[:, :total], (ops.shape(x)[0], total // block, block)),
            axis=-1,
        )
        sums = frame_signal(sums, per_frame, per_hop, frames)
        return ops.sum(sums, axis=-1, keepdims=True) / self.win_length


class Bands:
    """Multiplies spectra with a filter bank, over its non-zero part only.

    Args:
        bank: Array `(bins, bands)`.
        blocks: In how many groups of neighbouring bands the product is split
            on a CPU (not under PyTorch, where each operation costs more). A
            band sees few bins, so two halves cost little more than one.
    """

    def __init__(self, bank: np.ndarray, blocks: int = 2) -> None:
        self.bins, self.bands = bank.shape
        blocks = blocks if self.bands >= 16 else 1
        self.whole = self._cut(bank)
        self.parts = [
            self._cut(part) for part in np.array_split(bank, blocks, axis=1)
        ]

    def __call__(self, spectrum: Tensor) -> Tensor:
        split = backend.splitting_pays(spectrum)
        parts = self.parts if split else [self.whole]
        products = []
        for first, last, bank in parts:
            some = spectrum
            if (first, last) != (0, self.bins):
                some = spectrum[..., first:last]
            products.append(ops.matmul(some, bank(spectrum)))
        if len(products) == 1:
            return products[0]
        return ops.concatenate(products, axis=-1)

    @staticmethod
    def _cut(bank: np.ndarray) -> Any:
        used = np.flatnonzero(bank.any(axis=1))
        first, last = (used[0], used[-1] + 1) if used.size else (0, 1)
        return int(first), int(last), backend.Constant(bank[first:last])
