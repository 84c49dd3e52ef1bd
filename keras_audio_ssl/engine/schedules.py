"""Learning rates over a run."""

import keras
from keras import ops

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

    def __init__(self, peak, steps, warm_up=0.07):
        super().__init__()
        if not (peak > 0 and steps >= 1 and 0 <= warm_up < 1):
            raise ValueError(
                "`peak` must be positive, `steps` at least 1 and `warm_up` in "
                f"[0, 1). Received: peak={peak}, steps={steps}, "
                f"warm_up={warm_up}"
            )
        self.rise = round(warm_up * steps)

    def __call__(self, step):
        step = ops.cast(step, "float32")
        up = step / max(self.rise, 1)
        down = (self.steps - step) / max(self.steps - self.rise, 1)
        share = ops.where(step < self.rise, up, ops.maximum(down, 0.0))
        return self.peak * share
