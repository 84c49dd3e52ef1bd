"""Moves along time, and along frequency."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_audio_ssl._types import Seed
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment.draws import masked
from keras_audio_ssl.augment.draws import rolled
from keras_audio_ssl.augment.draws import smallest
from keras_audio_ssl.augment.draws import whole_between
from keras_audio_ssl.augment.protocol import Augmentation
from keras_audio_ssl.engine import check_choice


class TimeShift(Augmentation):
    """Moves each waveform; what leaves at one end enters at the other.

    Args:
        low: Least shift in samples; negative ones lead to the beginning.
        high: Largest shift.

    Raises:
        ValueError: `high` is below `low`.

    Reference:
        Al-Tahan & Mohsenzadeh, 2021, "CLAR", arXiv 2010.09542, at 16 kHz.
    """

    domain = "waveform"

    def __init__(
        self, low: int = -8000, high: int = 7999, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_range(low, high)

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        shift = whole_between((shape[0],), self.low, self.high, seed)
        return {"shift": shift}

    def apply(
        self, x: Tensor, lengths: Tensor | None = None, *, shift: Tensor
    ) -> Tensor:
        return rolled(x, shift, lengths)


class FrameShift(TimeShift):
    """Moves the features of each clip along time: `TimeShift`, in frames.

    Args:
        low: Least shift, frames.
        high: Largest one.

    Reference:
        Fonseca et al., 2021, arXiv 2011.07616, as released.
    """

    domain = "features"

    def __init__(self, low: int = 1, high: int = 29, **kwargs: Any) -> None:
        super().__init__(low, high, **kwargs)


def shift_bins(
    x: Tensor, shift: Tensor, fill: str = "wrap", lengths: Tensor | None = None
) -> Tensor:
    """Moves features along frequency.

    Args:
        x: `(batch, time, bins)`.
        shift: `(batch,)` int32, bins upwards.
        fill: What enters: `"wrap"`: what leaves; `"min"`: the clip's
            smallest value.
        lengths: Optional `(batch,)`, valid frames.

    Returns:
        Like `x`.
    """
    bins = ops.shape(x)[2]
    # Bin k takes what stood `shift` bins lower.
    source = ops.arange(bins, dtype="int32")[None] - shift[:, None]
    taken = ops.take_along_axis(x, ops.mod(source, bins)[:, None], axis=2)
    if fill == "wrap":
        return taken
    inside = ((source >= 0) & (source < bins))[:, None]
    return masked(ops.where(inside, taken, smallest(x, lengths)), lengths)


class FrequencyShift(Augmentation):
    """Moves the features of each clip along frequency.

    Args:
        low: Least shift in bins; negative ones lead downwards.
        high: Largest shift.
        fill: `"wrap"` or `"min"`, see `shift_bins`.

    Raises:
        ValueError: `high` is below `low`, or `fill` unknown.

    Reference:
        Fonseca et al., 2021, arXiv 2011.07616, as released.
    """

    domain = "features"

    def __init__(
        self, low: int = 1, high: int = 9, fill: str = "wrap", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_range(low, high)
        check_choice("fill", fill, ("wrap", "min"))

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        shift = whole_between((shape[0],), self.low, self.high, seed)
        return {"shift": shift}

    def apply(
        self, x: Tensor, lengths: Tensor | None = None, *, shift: Tensor
    ) -> Tensor:
        return shift_bins(x, shift, self.fill, lengths)


def check_range(low: int, high: int) -> None:
    """Refuses a range without numbers."""
    if not low <= high:
        raise ValueError(
            f"`high` must not be below `low`. Received: low={low}, high={high}"
        )
