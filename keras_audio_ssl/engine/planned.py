"""An optimizer of the model's own, whose schedule spans a `fit`."""

from collections.abc import Callable
from typing import Any

import keras

from keras_audio_ssl.engine.batches import steps_of
from keras_audio_ssl.engine.before_model import BeforeModel


class Planned(BeforeModel):
    """`compile()` without an optimizer takes the model's own.

    The class has `default_optimizer(total_steps)`, and its `fit` calls `plan`
    before it trains.
    """

    default_optimizer: Callable[[int | None], keras.Optimizer]
    _to_plan: dict[str, Any] | None

    def compile(
        self,
        optimizer: Any = None,
        *,
        total_steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.compile`; without optimizer, the model's own.

        Args:
            optimizer: Keras optimizer or its name.
            total_steps: Updates of the run, for the schedule. `fit` finds
                them out where they are not given.
            **kwargs: Other arguments of `keras.Model.compile`.
        """
        own = optimizer is None
        if own:
            optimizer = self.default_optimizer(total_steps)
        super().compile(optimizer=optimizer, **kwargs)
        # Until the steps are known, and the first is made.
        self._to_plan = kwargs if own and total_steps is None else None

    def plan(self, x: Any, options: dict[str, Any]) -> None:
        """Compiles the schedule for the steps of this `fit`.

        Args:
            x: Its data.
            options: Its other arguments, a dict.
        """
        plan, self._to_plan = getattr(self, "_to_plan", None), None
        if plan is not None and not self.optimizer.built:
            steps = steps_of(x, options)
            if steps is not None:
                self.compile(total_steps=steps, **plan)
