"""Steps counted over epochs."""

from typing import Any

import keras


class StepCallback(keras.callbacks.Callback):
    """Counts steps over epochs, and calls `on_step` every few of them.

    Args:
        every: Steps between calls. Where Keras runs several steps at once
            (`steps_per_execution`), the call comes after the last of them.
        steps_done: Steps done before this `fit`.

    Attributes:
        step: Steps done.
    """

    def __init__(self, every: int = 1, steps_done: int = 0) -> None:
        super().__init__()
        self.every = every
        self.begin_at(steps_done)

    def begin_at(self, step: int) -> None:
        """Counts from here; `fit` calls it where a run goes on."""
        self.steps_done = self.step = self._epoch_start = step

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self._epoch_start = self.step

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        before, self.step = self.step, self._epoch_start + batch + 1
        if self.step // self.every > before // self.every:
            self.on_step(self.step, logs or {})

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        """What is done after `step` steps."""
