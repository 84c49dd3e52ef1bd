"""A stretch of silence in a waveform."""

import keras
from keras import ops

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

    def __init__(self, samples=4800, **kwargs):
        super().__init__(**kwargs)
        if samples < 0:
            raise ValueError(
                f"`samples` must not be negative. Received: {samples}"
            )

    def draw(self, shape, lengths=None, seed=None):
        valid = valid_lengths(shape, lengths)
        u = keras.random.uniform((2, shape[0]), seed=seed)
        width = whole(u[0], ops.minimum(valid, self.samples))
        return {"start": whole(u[1], valid - width), "width": width}

    def apply(self, x, lengths=None, *, start, width):
        place = ops.arange(ops.shape(x)[1], dtype="int32")[None]
        place = place - start[:, None]
        inside = (place >= 0) & (place < width[:, None])
        return ops.where(inside, 0.0, x)


def whole(uniform, most):
    """Whole numbers from 0 to `most`, of uniform ones in [0, 1)."""
    most = ops.cast(most, "int32")
    drawn = ops.floor(uniform * ops.cast(most + 1, "float32"))
    return ops.minimum(ops.cast(drawn, "int32"), most)
