"""Moves along time, and along frequency."""

from keras import ops

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

    def __init__(self, low=-8000, high=7999, **kwargs):
        super().__init__(**kwargs)
        check_range(low, high)

    def draw(self, shape, lengths=None, seed=None):
        shift = whole_between((shape[0],), self.low, self.high, seed)
        return {"shift": shift}

    def apply(self, x, lengths=None, *, shift):
        return rolled(x, shift, lengths)


class FrameShift(TimeShift):
    """`TimeShift` of features, in frames.

    Reference:
        Fonseca et al., 2021, arXiv 2011.07616, as released.
    """

    domain = "features"

    def __init__(self, low=1, high=29, **kwargs):
        super().__init__(low, high, **kwargs)


def shift_bins(x, shift, fill="wrap", lengths=None):
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

    def __init__(self, low=1, high=9, fill="wrap", **kwargs):
        super().__init__(**kwargs)
        check_range(low, high)
        check_choice("fill", fill, ("wrap", "min"))

    def draw(self, shape, lengths=None, seed=None):
        shift = whole_between((shape[0],), self.low, self.high, seed)
        return {"shift": shift}

    def apply(self, x, lengths=None, *, shift):
        return shift_bins(x, shift, self.fill, lengths)


def check_range(low, high):
    """Refuses a range without numbers."""
    if not low <= high:
        raise ValueError(
            f"`high` must not be below `low`. Received: low={low}, high={high}"
        )
