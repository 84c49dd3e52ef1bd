"""Band-pass filters of two learnt numbers each, and SincNet's norm."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.engine import Layer

# Hz: no filter starts lower, or is narrower, than this.
LEAST = 50.0
# Hz, lower edge of the first filter at the beginning.
LOWEST = 30.0


def mel_edges(filters: int, sample_rate: int) -> np.ndarray:
    """Edges in Hz, equally spaced in mel, numpy `(filters + 1,)`."""
    ends = np.array([LOWEST, sample_rate / 2 - 2 * LEAST])
    low, high = 2595 * np.log10(1 + ends / 700)
    mel = np.linspace(low, high, filters + 1)
    return 700 * (10 ** (mel / 2595) - 1)


def long_conv(x: Tensor, kernel: Tensor, stride: int = 1) -> Tensor:
    """Convolves one channel with filters of many taps, as a matrix product.

    A row of the product is a block of neighbouring outputs, so that the
    samples under it are few more than under one of them; convolutions of the
    backends are made for many channels and few taps.

    Args:
        x: `(batch, samples)`.
        kernel: `(taps, filters)`.
        stride: Samples between outputs.

    Returns:
        `(batch, (samples - taps) // stride + 1, filters)`.
    """
    taps, filters = kernel.shape
    # An eighth more is multiplied than has to be.
    block = max(1, taps // (8 * stride))
    hop, length = block * stride, (block - 1) * stride + taps
    count = (ops.shape(x)[1] - taps) // stride + 1
    blocks = (count + block - 1) // block
    x = ops.pad(x, ((0, 0), (0, hop - stride)))
    frames = backend.sliding_frames(x, length, hop, blocks)
    # Row p holds the filters p strides later: rows of `length` cut from a
    # sequence that repeats after `length + stride`.
    shifted = ops.pad(kernel, ((0, length + stride - taps), (0, 0)))
    shifted = ops.tile(shifted, (block, 1))[: block * length]
    shifted = ops.reshape(shifted, (block, length, filters))
    shifted = ops.reshape(ops.transpose(shifted, (1, 0, 2)), (length, -1))
    y = ops.reshape(frames @ shifted, (-1, blocks * block, filters))
    return y[:, :count]


class SincConv(Layer):
    """Convolution of a waveform with band-pass filters.

    A filter is the difference of two low passes under a Hamming window, and
    has two learnt numbers: `low_hz` and `band_hz`. It passes from `50 +
    |low_hz|` Hz to `50 + |band_hz|` Hz higher, or half the sample rate; its
    middle tap is 1.

    Filters and convolution are computed in float32 under any dtype policy:
    half precision has no digits for the phase at the filter's ends.

    Args:
        filters: How many.
        kernel_size: Taps; an even number is raised by one.
        sample_rate: Hz.
        stride: Samples between outputs.

    Call arguments:
        x: `(batch, samples, 1)`.

    Returns:
        `(batch, (samples - kernel_size) // stride + 1, filters)` float32.

    Raises:
        ValueError: An argument is not positive, or there is no room between
            30 Hz and half the sample rate.

    Reference:
        Ravanelli & Bengio, 2018, "Speaker Recognition from Raw Waveform with
        SincNet", arXiv 1808.00158.

    Example:
        >>> SincConv(80, 251)(np.zeros((1, 3200, 1), "float32")).shape
        (1, 2950, 80)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        sample_rate: int = 16000,
        stride: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if filters < 1 or kernel_size < 1 or stride < 1:
            raise ValueError(
                "`filters`, `kernel_size` and `stride` must be positive. "
                f"Received: filters={filters}, kernel_size={kernel_size}, "
                f"stride={stride}"
            )
        if sample_rate / 2 - 2 * LEAST <= LOWEST:
            raise ValueError(
                f"`sample_rate` must exceed {2 * (LOWEST + 2 * LEAST):g} Hz. "
                f"Received: {sample_rate}"
            )
        self.kernel_size = kernel_size + (kernel_size % 2 == 0)
        edges = mel_edges(filters, sample_rate)
        for name, start in (
            ("low_hz", edges[:-1]), ("band_hz", np.diff(edges)),
        ):  # fmt: skip
            weight = self.add_weight(
                shape=(filters,), initializer="zeros", dtype="float32",
                autocast=False, name=name,
            )  # fmt: skip
            weight.assign(start.astype("float32"))
            setattr(self, name, weight)
        # The taps before the middle one; the others are their mirror.
        half = self.kernel_size // 2
        taps = 2 * np.pi * np.arange(-half, 0, dtype="float32")
        self._phase = (taps / np.float32(sample_rate)).astype("float32")
        # As released, which is not quite symmetric.
        place = np.linspace(0, self.kernel_size / 2 - 1, half)
        window = 0.54 - 0.46 * np.cos(2 * np.pi * place / self.kernel_size)
        self._window = window.astype("float32")

    def edges(self) -> tuple[Tensor, Tensor]:
        """Where each filter begins and ends, Hz: two tensors `(filters,)`."""
        # f1 = 50 + |a|, f2 = f1 + 50 + |b|, at most half the sample rate.
        low = LEAST + ops.abs(self.low_hz.value)
        high = low + LEAST + ops.abs(self.band_hz.value)
        return low, ops.clip(high, LEAST, self.sample_rate / 2)

    def filters_of(self) -> Tensor:
        """The filters, `(kernel_size, filters)` float32."""
        low, high = self.edges()
        band = 2.0 * (high - low)
        phase = ops.convert_to_tensor(self._phase)[:, None]
        window = ops.convert_to_tensor(self._window)[:, None]
        # (sin 2 pi f2 t - sin 2 pi f1 t) / (pi t), over 2 (f2 - f1), so that
        # the tap in the middle is 1.
        left = ops.sin(high * phase) - ops.sin(low * phase)
        left = left / (phase / 2) * window / band
        return ops.concatenate(
            [left, ops.ones_like(band)[None], ops.flip(left, axis=0)], axis=0
        )

    def call(self, x: Tensor) -> Tensor:
        x = ops.cast(x, "float32")
        return long_conv(x[..., 0], self.filters_of(), self.stride)

    def compute_output_shape(
        self, input_shape: Sequence[Any]
    ) -> tuple[Any, ...]:
        batch, samples, _ = input_shape
        if samples is not None:
            samples = (samples - self.kernel_size) // self.stride + 1
        return batch, samples, self.filters


class TimeNorm(Layer):
    """Normalisation of each channel by its own mean and deviation over time.

    The deviation is the unbiased one, and `epsilon` is added to it, not to
    the variance. In float32 under any dtype policy.

    Args:
        channels: How many.
        time: Length of the time axis, for a scale and an offset of each place
            and channel, as in SincNet's release; None for a scale and an
            offset of each channel, at any length.
        epsilon: Default 1e-6.

    Call arguments:
        x: `(batch, time, channels)`.

    Returns:
        Like `x`.

    Reference:
        The layer norm of the code of arXiv 1808.00158.
    """

    def __init__(
        self,
        channels: int,
        time: int | None = None,
        epsilon: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        shape = (channels,) if time is None else (time, channels)
        for name, start in (("gamma", "ones"), ("beta", "zeros")):
            weight = self.add_weight(
                shape=shape, initializer=start, dtype="float32",
                autocast=False, name=name,
            )  # fmt: skip
            setattr(self, name, weight)

    def call(self, x: Tensor) -> Tensor:
        x = ops.cast(x, "float32")
        off = x - ops.mean(x, axis=1, keepdims=True)
        # Over time alone, with n - 1, and epsilon outside of the root.
        degrees = ops.cast(ops.maximum(ops.shape(x)[1] - 1, 1), "float32")
        variance = ops.sum(ops.square(off), axis=1, keepdims=True) / degrees
        # The gradient of a root is infinite at zero.
        std = ops.sqrt(ops.maximum(variance, 1e-24))
        y = off / (std + self.epsilon) * self.gamma.value + self.beta.value
        return ops.cast(y, self.compute_dtype)


def uniform_dense(units: int, width: int, **kwargs: Any) -> Any:
    """A built dense layer as SincNet's start: uniform, zero bias.

    Args:
        units: Width out.
        width: Width in.
        **kwargs: Of `keras.layers.Dense`.
    """
    most = math.sqrt(0.01 / (units + width))
    layer = keras.layers.Dense(
        units,
        kernel_initializer=keras.initializers.RandomUniform(-most, most),
        **kwargs,
    )
    layer.build((None, width))
    return layer
