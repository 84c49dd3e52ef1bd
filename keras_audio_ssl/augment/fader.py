"""A random change of level along the clip."""

import keras
from keras import ops

from keras_audio_ssl.augment.draws import masked
from keras_audio_ssl.augment.protocol import Augmentation


def linear_fade(x, head, tail):
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
    """`linear_fade` with both ends uniform in [-gain, gain].

    Args:
        gain: Largest change, in units of the (normalised) log features.

    Reference:
        Niizumi et al., 2023, arXiv 2204.07402.
    """

    domain = "features"

    def __init__(self, gain=1.0, **kwargs):
        super().__init__(**kwargs)

    def draw(self, shape, lengths=None, seed=None):
        ends = keras.random.uniform(
            (shape[0], 2), -self.gain, self.gain, seed=seed
        )
        return {"head": ends[:, 0], "tail": ends[:, 1]}

    def apply(self, x, lengths=None, *, head, tail):
        return masked(linear_fade(x, head, tail), lengths)
