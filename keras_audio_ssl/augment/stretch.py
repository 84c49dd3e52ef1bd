"""Changes of features that are matrix products: tempo, pitch and colour."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Seed
from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment.draws import masked
from keras_audio_ssl.augment.protocol import Augmentation
from keras_audio_ssl.engine import Layer


def interpolation(place: Tensor, size: Size) -> Tensor:
    """Linear interpolation as a matrix.

    Args:
        place: `(...)`, where an axis is read, from 0 to `size - 1`.
        size: Entries of the axis.

    Returns:
        `(..., size)`: each place's weights of the two entries around it.
    """
    place = ops.convert_to_tensor(place)
    entries = ops.arange(size, dtype="float32")
    # A tent around the place: the two neighbours share its weight.
    return ops.relu(1.0 - ops.abs(place[..., None] - entries))


class StretchedCrop(Layer):
    """A random part of features, brought to one number of frames.

    What sounds is slower or faster, at the pitch that it had.

    Args:
        frames: Of what comes out.
        factors: Least and largest number of frames of the part, as factors
            of `frames`.

    Call arguments:
        x: `(batch, time, bins)`, of at least two frames.
        seed: `keras.random.SeedGenerator`.

    Returns:
        `(batch, frames, bins)`.

    Raises:
        ValueError: There are fewer than two frames, or `factors` are not
            (least, largest) above 0.
    """

    def __init__(
        self, frames: int, factors: Sequence[float] = (0.7, 1.4), **kwargs: Any
    ) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        if frames < 2 or not 0 < factors[0] <= factors[1]:
            raise ValueError(
                "`frames` must be at least 2 and `factors` be (least, "
                f"largest), above 0. Received: frames={frames}, "
                f"factors={tuple(factors)}"
            )

    @property
    def longest(self) -> int:
        """Frames of the longest part."""
        return max(round(self.factors[1] * self.frames), 2)

    def draw(
        self, shape: Sequence[Any], seed: Seed = None
    ) -> dict[str, Tensor]:
        """First frame and frames of each part, `(batch,)` float32."""
        batch, time = shape[0], shape[1]
        u = keras.random.uniform((batch, 2), seed=seed)
        low, high = self.factors
        count = ops.floor((low + (high - low) * u[:, 0]) * self.frames)
        count = ops.clip(count, 2.0, float(time))
        first = ops.floor(u[:, 1] * (time - count + 1.0))
        return {"first": ops.minimum(first, time - count), "count": count}

    def apply(self, x: Tensor, *, first: Tensor, count: Tensor) -> Tensor:
        """The parts that `draw` chose, `(batch, frames, bins)`."""
        # First on first, last on last.
        along = ops.arange(self.frames, dtype="float32") / (self.frames - 1)
        place = first[:, None] + along * (count - 1.0)[:, None]
        return interpolation(place, x.shape[1]) @ ops.convert_to_tensor(x)

    def call(self, x: Tensor, seed: Seed = None) -> Tensor:
        return self.apply(x, **self.draw(ops.shape(x), seed))


class FrequencyWarp(Augmentation):
    """Moves and stretches the bins of each clip: another pitch, another voice.

    Args:
        shift: Largest move, in bins, up or down.
        stretch: Largest stretch, as a share, of the distance to the lowest
            bin.

    Bins that come from outside are the outermost one's.

    Raises:
        ValueError: One is negative, or `stretch` not below 1.

    Reference:
        Jaitly & Hinton, 2013, "Vocal Tract Length Perturbation (VTLP)
        improves speech recognition".
    """

    domain = "features"

    def __init__(
        self, shift: float = 4.0, stretch: float = 0.1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if shift < 0 or not 0 <= stretch < 1:
            raise ValueError(
                "`shift` must not be negative, and `stretch` be in [0, 1). "
                f"Received: shift={shift}, stretch={stretch}"
            )

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        u = keras.random.uniform((shape[0], 2), -1.0, 1.0, seed=seed)
        return {"move": self.shift * u[:, 0], "factor": self.stretch * u[:, 1]}

    def apply(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        move: Tensor,
        factor: Tensor,
    ) -> Tensor:
        bins = x.shape[2]
        place = ops.arange(bins, dtype="float32") * (1.0 + factor[:, None])
        place = ops.clip(place + move[:, None], 0.0, bins - 1.0)
        # (batch, read bins, bins): Y = X W.
        read = ops.transpose(interpolation(place, bins), (0, 2, 1))
        return masked(ops.matmul(x, read), lengths)


class Colour(Augmentation):
    """Adds a smooth curve over the bins: another microphone, room or level.

    The curve joins random values at a few bins by straight lines.

    Args:
        strength: Largest change, in units of the log features: 1 is 8.7 dB
            of natural logarithms of a magnitude, 4.3 dB of those of a power.
        knots: Values drawn, evenly spread over the bins.

    Raises:
        ValueError: `strength` is negative, or there are fewer than 2 knots.
    """

    domain = "features"

    def __init__(
        self, strength: float = 1.0, knots: int = 7, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if strength < 0 or knots < 2:
            raise ValueError(
                "`strength` must not be negative, and there must be 2 `knots` "
                f"or more. Received: strength={strength}, knots={knots}"
            )

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        curve = keras.random.uniform(
            (shape[0], self.knots), -self.strength, self.strength, seed=seed
        )
        return {"curve": curve}

    def apply(
        self, x: Tensor, lengths: Tensor | None = None, *, curve: Tensor
    ) -> Tensor:
        bins = x.shape[2]
        steps = (self.knots - 1) / max(bins - 1, 1)
        place = ops.arange(bins, dtype="float32") * steps
        added = curve @ ops.transpose(interpolation(place, self.knots))
        return masked(ops.add(x, added[:, None, :]), lengths)
