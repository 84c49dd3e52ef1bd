"""Changes of level."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_audio_ssl._types import Seed
from keras_audio_ssl._types import Tensor
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

    def __init__(
        self, low: float = 0.8, high: float = 1.2, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_factors(low, high)

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        return {"factor": between((shape[0],), self.low, self.high, seed)}

    def apply(
        self, x: Tensor, lengths: Tensor | None = None, *, factor: Tensor
    ) -> Tensor:
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

    def __init__(
        self, low: float = 0.75, high: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(low, high, **kwargs)


def check_factors(low: float, high: float) -> None:
    """Refuses what are no least and largest factor."""
    if not 0 < low <= high:
        raise ValueError(
            "`low` must be positive and `high` not below it. "
            f"Received: low={low}, high={high}"
        )
