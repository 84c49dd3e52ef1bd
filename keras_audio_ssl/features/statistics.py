"""Amplitude, deltas and normalisation; each clip by its own valid part."""

import numpy as np
from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.engine import frame_mask

# What `scale_amplitude` scales to; None in a front end that leaves it.
AMPLITUDES = (None, "l2", "rms", "peak", "centred_peak")

# Far below the power of any sample, and its square root is a normal float32.
TINY = 1e-24


def scale_amplitude(
    waveform: Tensor,
    amplitude: str,
    lengths: Tensor | None = None,
    amplitude_samples: int | None = None,
) -> Tensor:
    """Scales each clip to a common amplitude.

    Args:
        waveform: Tensor `(batch, samples)`, zero past each clip's end.
        amplitude: `"l2"`: unit norm, `x / sqrt(max(sum x^2, 1e-9))` (COLA).
            `"rms"`: root mean square of -25 dB, as s3prl. `"peak"`: largest
            absolute sample 1. `"centred_peak"`: mean removed, then divided by
            the largest absolute sample + 0.005 (Fonseca et al.).
        lengths: int tensor `(batch,)`, valid samples of each clip.
        amplitude_samples: For `"l2"`: clips longer than this are scaled so
            that as many samples have unit norm on average, whatever the
            length.

    Returns:
        A tensor of the same shape. Silence stays silence.

    Raises:
        ValueError: For an unknown amplitude.

    Example:
        >>> x = kas.features.scale_amplitude(np.array([[0.1, -0.4]]), "peak")
        >>> round(float(x[0, 0]), 6)
        0.25
    """
    x = ops.convert_to_tensor(waveform)
    check_choice("amplitude", amplitude, AMPLITUDES[1:])
    if amplitude == "l2":
        energy = ops.sum(ops.square(x), axis=1, keepdims=True)
        if amplitude_samples is not None:
            count = ops.shape(x)[1] if lengths is None else lengths[:, None]
            count = ops.cast(count, x.dtype)
            energy *= amplitude_samples / ops.maximum(count, amplitude_samples)
        return x / ops.sqrt(ops.maximum(energy, 1e-9))
    if amplitude == "peak":
        return x / ops.maximum(ops.max(ops.abs(x), 1, keepdims=True), 1e-8)
    if lengths is not None:
        lengths = ops.convert_to_tensor(lengths, "int32")
    count = ops.shape(x)[1] if lengths is None else lengths[:, None]
    count = ops.maximum(ops.cast(count, x.dtype), 1.0)
    if amplitude == "rms":
        power = ops.sum(ops.square(x), axis=1, keepdims=True) / count
        rms = ops.sqrt(ops.maximum(power, TINY))
        return x * (10 ** (-25 / 20) / (rms + 1e-10))
    x = x - ops.sum(x, axis=1, keepdims=True) / count
    if lengths is not None:
        x = ops.where(frame_mask(lengths, ops.shape(x)[1]), x, 0.0)
    return x / (ops.max(ops.abs(x), axis=1, keepdims=True) + 0.005)


def deltas(
    features: Tensor, lengths: Tensor | None = None, width: int = 5
) -> Tensor:
    """Slope of each feature over time, by linear regression.

    The first and the last valid frame are repeated past the ends of the clip.

    Args:
        features: Tensor `(batch, time, bins)`.
        lengths: int tensor `(batch,)`, valid frames of each clip.
        width: Frames of the regression, odd and at least 3.

    Returns:
        A tensor of the same shape. Padded frames are undefined.

    Raises:
        ValueError: If `width` is not odd and at least 3.

    Example:
        >>> ramp = keras.ops.arange(9.0)[None, :, None]
        >>> float(kas.features.deltas(ramp)[0, 4, 0])
        1.0
    """
    if width < 3 or width % 2 == 0:
        raise ValueError(
            f"`width` must be odd and at least 3. Received: width={width}"
        )
    reach = width // 2
    time = ops.shape(features)[1]
    x = ops.convert_to_tensor(features)
    if lengths is not None:
        lengths = ops.convert_to_tensor(lengths, "int32")
        batch, _, bins = ops.shape(x)
        last = ops.arange(batch, dtype="int32") * time
        last = last + ops.maximum(lengths, 1) - 1
        last = ops.take(ops.reshape(x, (-1, bins)), last, axis=0)
        mask = frame_mask(lengths, time)[:, :, None]
        x = ops.where(mask, x, last[:, None])
    x = ops.concatenate([x[:, :1]] * reach + [x] + [x[:, -1:]] * reach, axis=1)
    total = 0.0
    for step in range(1, reach + 1):
        ahead = x[:, reach + step : reach + step + time]
        behind = x[:, reach - step : reach - step + time]
        total = total + step * (ahead - behind)
    return total / (2 * sum(step * step for step in range(1, reach + 1)))


def utterance_norm(
    features: Tensor,
    lengths: Tensor | None = None,
    epsilon: float = 1e-10,
    ddof: int = 1,
    scale: bool = True,
) -> Tensor:
    """Normalises each clip by the mean and deviation of its own frames (CMVN).

    Args:
        features: Tensor `(batch, time, bins)`.
        lengths: int tensor `(batch,)`, valid frames of each clip; all frames
            if None.
        epsilon: Added to the standard deviation.
        ddof: 1 divides the squared deviations by N - 1, as s3prl; 0 by N.
        scale: False removes the mean only.

    Returns:
        A tensor of the same shape; padded frames are zero. A bin that never
        changes becomes zero.

    Example:
        >>> x = np.arange(12.0).reshape(1, 6, 2).astype("float32")
        >>> y = kas.features.utterance_norm(x)
        >>> abs(float(keras.ops.mean(y))) < 1e-6
        True
    """
    x = ops.convert_to_tensor(features)
    time = ops.shape(x)[1]
    if lengths is None:
        mask = None
        count = ops.maximum(ops.cast(time, x.dtype), 1.0)
    else:
        lengths = ops.convert_to_tensor(lengths, "int32")
        mask = frame_mask(lengths, time)[:, :, None]
        count = ops.maximum(ops.cast(lengths, x.dtype), 1.0)[:, None, None]
    # Measured from the first frame: a constant bin gives an exact zero.
    x = x - x[:, :1]
    if mask is not None:
        x = ops.where(mask, x, 0.0)
    x = x - ops.sum(x, axis=1, keepdims=True) / count
    if mask is not None:
        x = ops.where(mask, x, 0.0)
    if not scale:
        return x
    squares = ops.sum(ops.square(x), axis=1, keepdims=True)
    variance = squares / ops.maximum(count - ddof, 1.0)
    return x / (ops.sqrt(ops.maximum(variance, TINY)) + epsilon)


class RunningMoments:
    """Mean and standard deviation of many arrays, in float64.

    Args:
        per_bin: Whether each entry of the last axis has its own, or all share
            one.

    Example:
        >>> moments = RunningMoments(per_bin=False)
        >>> moments.update(np.array([[1.0, 3.0]]))
        >>> moments.mean, moments.std
        (2.0, 1.0)
    """

    def __init__(self, per_bin: bool) -> None:
        self.per_bin = per_bin
        self.count = 0
        self._mean = np.float64(0.0)
        self._squares = np.float64(0.0)

    def update(self, rows: np.ndarray) -> None:
        """Adds an array `(rows, bins)`."""
        x = np.asarray(rows, "float64")
        x = x if self.per_bin else x.reshape(-1, 1)
        if not len(x):
            return
        mean = x.mean(0)
        squares = np.square(x - mean).sum(0)
        total = self.count + len(x)
        shift = mean - self._mean
        self._squares = (
            self._squares + squares + shift**2 * (self.count * len(x) / total)
        )
        self._mean = self._mean + shift * (len(x) / total)
        self.count = total

    @property
    def mean(self) -> float | np.ndarray:
        """Mean: a float, or an array `(bins,)`."""
        return self._mean if self.per_bin else float(np.sum(self._mean))

    @property
    def std(self) -> float | np.ndarray:
        """Standard deviation (of the population)."""
        std = np.sqrt(self._squares / max(self.count, 1))
        return std if self.per_bin else float(np.sum(std))
