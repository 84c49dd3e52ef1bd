"""Noise: on waveforms, in their place, and on features."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_audio_ssl._types import Seed
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment.draws import between
from keras_audio_ssl.augment.draws import masked
from keras_audio_ssl.augment.draws import valid_lengths
from keras_audio_ssl.augment.draws import whole_between
from keras_audio_ssl.augment.protocol import Augmentation

# How fast the power of a noise falls with frequency: f ** -n.
COLOURS = {"brown": 2, "pink": 1, "white": 0}
SILENCE = "none"


def rms(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Root mean square of each clip, `(batch, 1)`; 0 for silence."""
    count = valid_lengths(ops.shape(x), lengths)[:, None]
    power = ops.sum(ops.square(masked(x, lengths)), axis=1, keepdims=True)
    return ops.sqrt(power / ops.cast(ops.maximum(count, 1), x.dtype))


def add_noise(
    x: Tensor, noise: Tensor, snr_db: Tensor, lengths: Tensor | None = None
) -> Tensor:
    """Adds noise that lies so far below a clip's own level.

    Args:
        x: `(batch, samples)`.
        noise: The same, of variance 1.
        snr_db: `(batch,)`, decibels from the noise to the clip.
        lengths: Optional `(batch,)`, valid samples.

    Returns:
        Like `x`; silence stays silence.
    """
    scale = rms(x, lengths) * 10.0 ** (-snr_db[:, None] / 20.0)
    return x + masked(scale * noise, lengths)


class WhiteNoise(Augmentation):
    """Gaussian noise, a drawn distance below the level of each clip.

    Args:
        low: Least distance of clip and noise, in dB.
        high: Largest one; drawn are whole numbers.

    Reference:
        Al-Tahan & Mohsenzadeh, 2021, "CLAR", arXiv 2010.09542.
    """

    domain = "waveform"

    def __init__(self, low: int = 0, high: int = 19, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not low <= high:
            raise ValueError(
                "`high` must not be below `low`. "
                f"Received: low={low}, high={high}"
            )

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        snr = whole_between((shape[0],), self.low, self.high, seed)
        noise = keras.random.normal(shape, seed=seed)
        return {"noise": noise, "snr_db": ops.cast(snr, "float32")}

    def apply(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        noise: Tensor,
        snr_db: Tensor,
    ) -> Tensor:
        return add_noise(x, noise, snr_db, lengths)


class FaintNoise(Augmentation):
    """Gaussian noise of one level, whatever that of the clip.

    Args:
        std: Its standard deviation.
        relative: Whether `std` counts in units of a clip's Euclidean norm.

    Reference:
        Saeed et al., 2021, "COLA", arXiv 2010.10915, whose segments have
        norm 1.
    """

    domain = "waveform"

    def __init__(
        self, std: float = 0.001, relative: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        return {"noise": self.std * keras.random.normal(shape, seed=seed)}

    def apply(
        self, x: Tensor, lengths: Tensor | None = None, *, noise: Tensor
    ) -> Tensor:
        if self.relative:
            noise = noise * ops.norm(x, axis=1, keepdims=True)
        return x + masked(noise, lengths)


def coloured(noise: Tensor, fall: Tensor) -> Tensor:
    """White noise whose power falls with frequency, of peak 1.

    Args:
        noise: `(batch, samples)`, white.
        fall: `(batch,)`: power goes as frequency to the power of `-fall`.

    Returns:
        Like `noise`.
    """
    samples = noise.shape[1]
    # A length that the transform likes; the whole of it is noise.
    size = 1 << max(samples - 1, 1).bit_length()
    real, imaginary = ops.rfft(noise, fft_length=size)
    steps = np.log(np.maximum(np.arange(size // 2 + 1), 1)).astype("float32")
    # f ** (-n / 2) on amplitudes is f ** -n on power; bin 0 counts as 1.
    gain = ops.exp(-0.5 * fall[:, None] * ops.convert_to_tensor(steps)[None])
    shaped = ops.irfft((real * gain, imaginary * gain), fft_length=size)
    shaped = shaped[:, :samples]
    peak = ops.max(ops.abs(shaped), axis=1, keepdims=True)
    return shaped / ops.maximum(peak, 1e-8)


class MixedNoise(Augmentation):
    """Noise of one of several colours, or none, beside the clip.

    The clip's level and that of the noise, whose peak is 1, are drawn; what
    leaves [-1, 1] is cut. The released code also has recordings of fans,
    draws a level for each sample and cuts below 0.

    Args:
        colours: Among which each clip draws: `"brown"`, `"pink"`, `"white"`,
            and `"none"`, which leaves it as it is.
        clip: Least and largest factor of the clip.
        noise: Least and largest peak of the noise.

    The number of samples must be known.

    Reference:
        Al-Tahan & Mohsenzadeh, 2021, "CLAR", arXiv 2010.09542.
    """

    domain = "waveform"

    def __init__(
        self,
        colours: Sequence[str] = ("brown", "pink", "white", SILENCE),
        clip: Sequence[float] = (0.5, 1.2),
        noise: Sequence[float] = (0.0, 0.9),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if unknown := sorted(set(colours) - {*COLOURS, SILENCE}):
            raise ValueError(
                f"`colours` must be among {', '.join(COLOURS)} and "
                f"{SILENCE}. Received: {unknown[0]!r}"
            )
        if not colours:
            raise ValueError("`colours` must not be empty.")
        # -1 for none.
        self.falls = [float(COLOURS.get(c, -1)) for c in colours]

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        u = keras.random.uniform((3, shape[0]), seed=seed)
        (least, most), (faint, loud) = self.clip, self.noise
        which = ops.cast(u[0] * len(self.falls), "int32")
        which = ops.minimum(which, len(self.falls) - 1)
        fall = ops.take(ops.convert_to_tensor(self.falls, "float32"), which)
        white = keras.random.normal(shape, seed=seed)
        return {
            "noise": coloured(white, ops.maximum(fall, 0.0)),
            "noisy": fall >= 0,
            "own": least + (most - least) * u[1],
            "other": faint + (loud - faint) * u[2],
        }

    def apply(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        noise: Tensor,
        noisy: Tensor,
        own: Tensor,
        other: Tensor,
    ) -> Tensor:
        mixed = own[:, None] * x + other[:, None] * noise
        mixed = masked(ops.clip(mixed, -1.0, 1.0), lengths)
        return ops.where(noisy[:, None], mixed, x)


def mask_time(x: Tensor, start: Tensor, width: Tensor, noise: Tensor) -> Tensor:
    """Puts noise in the place of some samples.

    Args:
        x: `(batch, samples)`.
        start: `(batch,)` int32, the first of them.
        width: `(batch,)` int32, how many.
        noise: `(batch, at least as many)`.

    Returns:
        Like `x`.
    """
    place = ops.arange(ops.shape(x)[1], dtype="int32")[None]
    place = place - start[:, None]
    inside = (place >= 0) & (place < width[:, None])
    last = ops.shape(noise)[1] - 1
    taken = ops.take_along_axis(noise, ops.clip(place, 0, last), axis=1)
    return ops.where(inside, taken, x)


class TimeMask(Augmentation):
    """A stretch of the clip replaced by faint noise.

    Args:
        share: Of the clip's samples, the stretch.
        std: Standard deviation of the noise.

    Raises:
        ValueError: `share` is not in (0, 1].

    Reference:
        Al-Tahan & Mohsenzadeh, 2021, "CLAR", arXiv 2010.09542.
    """

    domain = "waveform"

    def __init__(
        self, share: float = 1 / 8, std: float = 0.01, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not 0 < share <= 1:
            raise ValueError(f"`share` must be in (0, 1]. Received: {share}")

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        valid = ops.cast(valid_lengths(shape, lengths), "float32")
        width = ops.floor(self.share * valid)
        free = valid - width
        start = keras.random.uniform((shape[0],), seed=seed) * (free + 1.0)
        start = ops.minimum(ops.floor(start), free)
        noise = keras.random.normal(
            (shape[0], max(int(self.share * shape[1]), 1)), seed=seed
        )
        return {
            "start": ops.cast(start, "int32"),
            "width": ops.cast(width, "int32"),
            "noise": self.std * noise,
        }

    def apply(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        start: Tensor,
        width: Tensor,
        noise: Tensor,
    ) -> Tensor:
        return mask_time(x, start, width, noise)


class FeatureNoise(Augmentation):
    """Gaussian noise on each bin, of a deviation that each clip draws.

    Args:
        std: Largest deviation, in the features' units.

    Reference:
        Fonseca et al., 2021, arXiv 2011.07616, on log10 bands.
    """

    domain = "features"

    def __init__(self, std: float = 0.01, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if std < 0:
            raise ValueError(f"`std` must not be negative. Received: {std}")

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        std = between((shape[0], 1, 1), 0.0, self.std, seed)
        return {"noise": std * keras.random.normal(shape, seed=seed)}

    def apply(
        self, x: Tensor, lengths: Tensor | None = None, *, noise: Tensor
    ) -> Tensor:
        return x + masked(noise, lengths)
