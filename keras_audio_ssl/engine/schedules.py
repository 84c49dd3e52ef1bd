"""Learning rates over a run."""

import keras
from keras import ops

from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.engine.recording import Recorded


class WarmUpDecay(Recorded, keras.optimizers.schedules.LearningRateSchedule):
    """Rises in a straight line to its peak, then falls in one to zero.

    Args:
        peak: Largest learning rate.
        steps: Updates of the whole run.
        warm_up: Share of the run until the peak, default 0.07.

    Example:
        >>> WarmUpDecay(2e-4, 2000)(140)
        0.0002
    """

    def __init__(self, peak: float, steps: int, warm_up: float = 0.07) -> None:
        super().__init__()
        check_rates(peak, steps, warm_up)
        self.rise = round(warm_up * steps)

    def __call__(self, step: Size) -> Tensor:
        step = ops.cast(step, "float32")
        up = step / max(self.rise, 1)
        down = (self.steps - step) / max(self.steps - self.rise, 1)
        share = ops.where(step < self.rise, up, ops.maximum(down, 0.0))
        return self.peak * share


def warm_up_cosine(
    peak: float, steps: int, warm_up: float
) -> keras.optimizers.schedules.CosineDecay:
    """Keras' schedule that rises to its peak, then falls as a cosine to 0.

    Args:
        peak: Largest learning rate.
        steps: Updates of the whole run.
        warm_up: Share of the run until the peak.
    """
    rise = max(round(warm_up * steps), 1)
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(steps - rise, 1), warmup_target=peak, warmup_steps=rise
    )


class WarmUpRoot(Recorded, keras.optimizers.schedules.LearningRateSchedule):
    """Rises in a straight line to its peak, then falls as 1 / sqrt(step).

    Args:
        peak: Largest learning rate.
        steps: Updates of the whole run.
        warm_up: Share of the run until the peak.

    Example:
        >>> WarmUpRoot(3e-4, 2000, 0.05)(400)
        0.00015

    Reference:
        Vaswani et al., 2017, arXiv 1706.03762, eq. 3, where the peak is
        `(dim * warm_up * steps) ** -0.5`.
    """

    def __init__(self, peak: float, steps: int, warm_up: float = 0.05) -> None:
        super().__init__()
        check_rates(peak, steps, warm_up)
        self.rise = max(round(warm_up * steps), 1)

    def __call__(self, step: Size) -> Tensor:
        share = ops.cast(step, "float32") / self.rise
        fall = ops.rsqrt(ops.maximum(share, 1.0))
        return self.peak * ops.minimum(share, fall)


def check_rates(peak: float, steps: int, warm_up: float) -> None:
    """Refuses what is no schedule.

    Raises:
        ValueError: One of the three is out of its range.
    """
    if not (peak > 0 and steps >= 1 and 0 <= warm_up < 1):
        raise ValueError(
            "`peak` must be positive, `steps` at least 1 and `warm_up` in "
            f"[0, 1). Received: peak={peak}, steps={steps}, "
            f"warm_up={warm_up}"
        )
