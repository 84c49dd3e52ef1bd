"""A stretch of silence in a waveform."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Seed
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment.draws import valid_lengths
from keras_audio_ssl.augment.protocol import Augmentation


class Silence(Augmentation):
    """A stretch of each clip set to zero.

    Its width is uniform from nothing to the widest, its place uniform in the
    clip.

    Args:
        samples: The widest.

    Raises:
        ValueError: It is negative.

    Reference:
        Wang & van den Oord, 2021, "Multi-Format Contrastive Learning of Audio
        Representations", arXiv 2103.06508.
    """

    domain = "waveform"

    def __init__(self, samples: int = 4800, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if samples < 0:
            raise ValueError(
                f"`samples` must not be negative. Received: {samples}"
            )

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        valid = valid_lengths(shape, lengths)
        u = keras.random.uniform((2, shape[0]), seed=seed)
        width = whole(u[0], ops.minimum(valid, self.samples))
        return {"start": whole(u[1], valid - width), "width": width}

    def apply(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        start: Tensor,
        width: Tensor,
    ) -> Tensor:
        place = ops.arange(ops.shape(x)[1], dtype="int32")[None]
        place = place - start[:, None]
        inside = (place >= 0) & (place < width[:, None])
        return ops.where(inside, 0.0, x)


def whole(uniform: Tensor, most: Tensor) -> Tensor:
    """Whole numbers from 0 to `most`, of uniform ones in [0, 1)."""
    most = ops.cast(most, "int32")
    drawn = ops.floor(uniform * ops.cast(most + 1, "float32"))
    return ops.minimum(ops.cast(drawn, "int32"), most)
