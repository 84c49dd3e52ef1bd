"""A random change of level along the clip."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Seed
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment.draws import masked
from keras_audio_ssl.augment.protocol import Augmentation


def linear_fade(x: Tensor, head: Tensor, tail: Tensor) -> Tensor:
    """Adds a straight line over time to every band of log features.

    Args:
        x: `(batch, time, bins)`.
        head: `(batch,)`, what the first frame gets.
        tail: `(batch,)`, what the last frame gets.

    Returns:
        Like `x`.
    """
    frames = ops.shape(x)[1]
    steps = ops.cast(ops.maximum(frames - 1, 1), "float32")
    ramp = ops.cast(ops.arange(frames), "float32") / steps
    line = head[:, None] + (tail - head)[:, None] * ramp[None, :]
    return x + line[..., None]


class RandomLinearFader(Augmentation):
    """Adds a straight line along time to all bands of each clip.

    `linear_fade` with both ends uniform in [-gain, gain].

    Args:
        gain: Largest change, in units of the (normalised) log features.

    Reference:
        Niizumi et al., 2023, arXiv 2204.07402.
    """

    domain = "features"

    def __init__(self, gain: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        ends = keras.random.uniform(
            (shape[0], 2), -self.gain, self.gain, seed=seed
        )
        return {"head": ends[:, 0], "tail": ends[:, 1]}

    def apply(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        head: Tensor,
        tail: Tensor,
    ) -> Tensor:
        return masked(linear_fade(x, head, tail), lengths)
