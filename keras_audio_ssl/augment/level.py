"""Changes of level."""

from keras import ops

from keras_audio_ssl.augment.draws import between
from keras_audio_ssl.augment.protocol import Augmentation


class Gain(Augmentation):
    """Multiplies each waveform by a factor.

    Args:
        low: Smallest factor.
        high: Largest factor.

    Raises:
        ValueError: They are no factors.

    Reference:
        Ravanelli & Bengio, 2019, "LIM", arXiv 1812.00271, as released.
    """

    domain = "waveform"

    def __init__(self, low=0.8, high=1.2, **kwargs):
        super().__init__(**kwargs)
        check_factors(low, high)

    def draw(self, shape, lengths=None, seed=None):
        return {"factor": between((shape[0],), self.low, self.high, seed)}

    def apply(self, x, lengths=None, *, factor):
        return x * ops.reshape(factor, (-1,) + (1,) * (len(x.shape) - 1))


class Compression(Gain):
    """Multiplies the log features of each clip: smaller contrasts.

    Args:
        low: Smallest factor.
        high: Largest factor.

    Raises:
        ValueError: They are no factors.

    Reference:
        Fonseca et al., 2021, arXiv 2011.07616.
    """

    domain = "features"

    def __init__(self, low=0.75, high=1.0, **kwargs):
        super().__init__(low, high, **kwargs)


def check_factors(low, high):
    """Refuses what are no least and largest factor."""
    if not 0 < low <= high:
        raise ValueError(
            "`low` must be positive and `high` not below it. "
            f"Received: low={low}, high={high}"
        )
