"""What a run will cost."""

import math
import sys
from collections.abc import Callable
from time import monotonic
from typing import Any

import numpy as np

from keras_audio_ssl.callbacks.steps import StepCallback

# Beyond a few days nobody waits.
HOPELESS_HOURS = 72


class StepCost(StepCallback):
    """Measures the first steps and says what the whole run will cost.

    Args:
        steps: Steps of the whole run that are to be done.
        say: Called with the line of words, once.
        warm: Steps that are not measured: compilation, first reading.
        measured: Steps that are, fewer where they last 20 s.
        stop: Whether the training ends there.

    Attributes:
        cost: None, then a dict of `seconds_per_step`, `start_seconds` (until
            the first steps are compiled), `seconds` (of the whole run, with
            these), `memory_bytes` (largest so far; None where the system does
            not tell), `checkpoint_bytes` and `colab_sessions`.

    Example:
        >>> data = kas.data.from_folder("my_audio", 0.95, batch_size=32)
        >>> cost = kas.callbacks.StepCost(10_000)
        >>> run = model.fit(data, callbacks=[cost], verbose=0)
    """

    # What a free session of Google Colab gives, roughly.
    COLAB_HOURS, COLAB_BYTES = 12, 12.7e9

    def __init__(
        self,
        steps: int,
        say: Callable[[str], Any] = print,
        warm: int = 3,
        measured: int = 30,
        stop: bool = False,
    ) -> None:
        super().__init__()
        self.stop = stop
        self.steps, self.say = steps, say
        self.warm, self.measured = warm, measured
        self.cost: dict[str, float | None] | None = None
        self.begin: tuple[int, float] | None = None
        self.made = monotonic()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_begin(logs)
        self.made = monotonic()

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        if self.cost is not None or step < self.warm:
            return
        # Reading a number waits for the step on backends that run ahead.
        float(np.asarray(logs.get("loss", 0.0)))
        now = monotonic()
        if self.begin is None:
            self.begin = (step, now)
            return
        done, passed = step - self.begin[0], now - self.begin[1]
        if done >= self.measured or passed > 20:
            self._tell(passed / done)
            if self.stop:
                self.model.stop_training = True

    def _tell(self, seconds: float) -> None:
        variables = [*self.model.variables, *self.model.optimizer.variables]
        # What the first steps took beyond their time.
        assert self.begin is not None
        start = self.begin[1] - self.made - seconds * self.begin[0]
        total = seconds * self.steps + max(start, 0.0)
        memory = peak_memory()
        sessions = math.ceil(total / 3600 / self.COLAB_HOURS)
        self.cost = {
            "seconds_per_step": seconds,
            "start_seconds": max(start, 0.0),
            "seconds": total,
            "memory_bytes": memory,
            "checkpoint_bytes": sum(
                math.prod(v.shape) * np.dtype(v.dtype).itemsize
                for v in {id(v): v for v in variables}.values()
                if v.dtype != "string"
            ),
            "colab_sessions": sessions,
        }
        self.say(cost_in_words(self.cost, self.steps, self.COLAB_BYTES))


def peak_memory() -> int | None:
    """How much memory this process has held at most.

    Returns:
        Bytes, or None where the system does not say.
    """
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def cost_in_words(cost: dict[str, Any], steps: int, colab_bytes: float) -> str:
    """The line of a `StepCost`.

    Args:
        cost: `StepCost.cost`: seconds, bytes, sessions.
        steps: Of the whole run.
        colab_bytes: Memory of the machine that is compared with.
    """
    hours = cost["seconds"] / 3600
    time_ = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
    text = (
        f"{cost['seconds_per_step']:.3g} s a step, {steps:,} steps in {time_}"
    )
    start = cost.get("start_seconds", 0)
    if start >= 5:
        text += f", {start:.0f} s of them to compile"
    memory = cost["memory_bytes"]
    if memory is not None:
        text += f"; {memory / 1e9:.1f} GB of memory"
    text += f", checkpoints of {cost['checkpoint_bytes'] / 1e6:.3g} MB. "
    if memory is not None and memory > colab_bytes:
        return text + "Too much memory for a free Colab session."
    if cost["colab_sessions"] <= 1:
        return text + "At this speed a free Colab session would do."
    text += (
        f"At this speed that is {cost['colab_sessions']} free Colab sessions: "
        "resume between them."
    )
    if hours > HOPELESS_HOURS:
        hour = max(1, round(3600 / cost["seconds_per_step"]))
        text += (
            f" That is {hours / 24:,.0f} days: {hour:,} steps are an hour's; "
            "the preset 'tiny' is a smaller network, and no preset takes what "
            "this machine can afford."
        )
    return text
