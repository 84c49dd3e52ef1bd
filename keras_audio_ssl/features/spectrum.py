"""From waveform to power spectrum, the same on all backends."""

import numpy as np
from keras import ops

from keras_audio_ssl.features.framing import PAD_MODES
from keras_audio_ssl.features.framing import frame_signal
from keras_audio_ssl.features.framing import pad_reflect
from keras_audio_ssl.features.framing import window_function


class Spectrum:
    """Short-time power spectrum `|X|^2` of a batch of clips.

    Args:
        n_fft: length of the Fourier transform, samples.
        win_length: length of the window, samples.
        hop_length: samples between frames.
        window: name of the window, see `window_function`.
        center: whether frame `t` is centred on sample `t * hop_length`, the
            clip being padded by `n_fft // 2` samples on both sides.
        pad_mode: `"reflect"` or `"constant"` (zeros).
        preemphasis: coefficient of the pre-emphasis of each frame, whose
            first sample repeats itself; 0 for none.
        remove_dc: whether each frame's mean is removed first.
        bins: pair (first, past the last) of the bins to return; all if None.
    """

    def __init__(
        self,
        n_fft,
        win_length,
        hop_length,
        window="hann",
        center=True,
        pad_mode="reflect",
        preemphasis=0.0,
        remove_dc=False,
        bins=None,
    ):
        for label, value in (
            ("n_fft", n_fft),
            ("win_length", win_length),
            ("hop_length", hop_length),
        ):
            if value < 1:
                raise ValueError(
                    f"`{label}` must be positive. Received: {label}={value}"
                )
        if win_length > n_fft:
            raise ValueError(
                "`win_length` must not exceed `n_fft`. "
                f"Received: {win_length=}, {n_fft=}"
            )
        if pad_mode not in PAD_MODES:
            raise ValueError(
                f"`pad_mode` must be one of {PAD_MODES}. "
                f"Received: {pad_mode=}"
            )
        self.n_fft = n_fft
        self.win_length = win_length
        self.hop_length = hop_length
        self.center = center
        self.pad_mode = pad_mode
        self.preemphasis = preemphasis
        self.remove_dc = remove_dc
        self.bins = bins or (0, n_fft // 2 + 1)
        self.window = window_function(window, win_length)
        # A shorter window stands in the middle of the transform. Only its
        # own samples are framed: the shift changes the phase alone.
        self.left = n_fft // 2 - (n_fft - win_length) // 2 if center else 0
        self.min_samples = 1 if center else win_length

    def frames(self, samples):
        """Frames of a clip of so many samples (at least `min_samples`)."""
        if self.center:
            samples = samples + 2 * (self.n_fft // 2) - self.n_fft
        else:
            samples = samples - self.win_length
        return 1 + samples // self.hop_length

    def __call__(self, waveform, lengths=None):
        x = waveform
        frames = self.frames(ops.shape(x)[1])
        if self.center:
            right = self.win_length - self.left
            if self.pad_mode == "reflect":
                x = pad_reflect(x, self.left, right, lengths)
            else:
                x = ops.pad(x, ((0, 0), (self.left, right)))
        x = frame_signal(x, self.win_length, self.hop_length, frames)
        if self.remove_dc:
            x = x - ops.mean(x, axis=-1, keepdims=True)
        if self.preemphasis:
            before = ops.concatenate([x[..., :1], x[..., :-1]], axis=-1)
            x = x - self.preemphasis * before
        x = x * ops.convert_to_tensor(self.window.astype(np.float32))
        real, imaginary = ops.rfft(x, fft_length=self.n_fft)
        first, last = self.bins
        return ops.square(real[..., first:last]) + ops.square(
            imaginary[..., first:last]
        )
