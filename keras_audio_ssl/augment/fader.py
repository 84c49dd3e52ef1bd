"""A random change of level along the clip."""

import keras
from keras import ops

from keras_audio_ssl.engine import Layer


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


class RandomLinearFader(Layer):
    """`linear_fade` with both ends uniform in [-gain, gain].

    Args:
        gain: Largest change, in units of the (normalised) log features.

    Call arguments:
        x: `(batch, time, bins)`.
        seed: `keras.random.SeedGenerator`.

    Reference:
        Niizumi et al., 2023, arXiv 2204.07402.
    """

    def __init__(self, gain=1.0, **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)

    def draw(self, batch, seed=None):
        """Head and tail of each clip, `(batch, 2)`."""
        return keras.random.uniform(
            (batch, 2), -self.gain, self.gain, seed=seed
        )

    def call(self, x, seed=None):
        ends = self.draw(ops.shape(x)[0], seed)
        return linear_fade(x, ends[:, 0], ends[:, 1])
