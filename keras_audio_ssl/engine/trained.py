"""How a pretext model is compiled and fitted, whatever its method."""

import inspect
from collections.abc import Callable
from typing import Any

import keras

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.engine.batches import ADAPT_CLIPS
from keras_audio_ssl.engine.batches import checked
from keras_audio_ssl.engine.batches import first_batches
from keras_audio_ssl.engine.batches import is_arrays
from keras_audio_ssl.engine.batches import rate_of
from keras_audio_ssl.engine.batches import waveform_and_lengths
from keras_audio_ssl.engine.batches import whole
from keras_audio_ssl.engine.finite import SkippedBatches
from keras_audio_ssl.engine.model import Model
from keras_audio_ssl.engine.planned import Planned
from keras_audio_ssl.engine.step import FiniteStep


class Trained(Planned, FiniteStep, Model):
    """`compile` and `fit` of all methods.

    The class has the hooks of `PretextModel`: `default_optimizer`, `clips`,
    `check_clips` and `unmeasured`.
    """

    clips: Callable[[Batch], Batch]
    check_clips: Callable[[Tensor, Tensor | None], None]
    unmeasured: Callable[[], list[Any]]

    def compile(self, optimizer: Any = None, **kwargs: Any) -> None:
        """As `Planned.compile`, but no `metrics`: a method has its own."""
        for name in ("loss", "metrics", "weighted_metrics"):
            if kwargs.get(name) is not None:
                raise ValueError(
                    f"{type(self).__name__} has its own loss and metrics: "
                    f"`compile` takes no `{name}`. What an encoder knows of "
                    "labels is measured by kas.evaluation.probe, or while it "
                    "trains by kas.callbacks.EmbeddingMonitor."
                )
        super().compile(optimizer, **kwargs)

    def fit(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        """As `keras.Model.fit`, on waveforms.

        A batch whose loss or gradients are not finite changes nothing; ten
        in a row end the training. With a `ResumableCheckpoint` among the
        callbacks it goes on where the run before was stopped. The paper's
        schedule is spread over the steps of this `fit`, if it is the first.

        Raises:
            ValueError: A batch has fewer clips than the method needs, or
                shorter ones.
        """
        x = checked(x, rate_of(self))
        signature = inspect.signature(keras.Model.fit)
        bound = signature.bind(self, x, y, *args, **kwargs)
        options = bound.arguments
        self.plan(x, options)
        callbacks = options.get("callbacks") or []
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = list(keras.tree.flatten(callbacks))
            if not any(isinstance(c, SkippedBatches) for c in callbacks):
                callbacks.insert(0, SkippedBatches())
            options["callbacks"] = callbacks
            for callback in callbacks:
                if hasattr(callback, "resume"):
                    options["initial_epoch"] = callback.resume(self, x)
                    for other in callbacks:
                        if hasattr(other, "begin_at"):
                            other.begin_at(callback.step)
        options["x"] = self._prepare(x, options.get("batch_size"))
        if "validation_data" in options:
            given = options["validation_data"]
            if not isinstance(given, (tuple, list)):
                given = checked(given, rate_of(self))
            options["validation_data"] = whole(given)
        if not is_arrays(x):
            # Our data sets shuffle by themselves, as a function of their seed.
            options["shuffle"] = False
        return super().fit(*bound.args[1:], **bound.kwargs)

    def _prepare(self, x: Any, batch_size: int | None) -> Any:
        """Looks at the first batches of the data; returns the data."""
        if x is None:
            return x
        to_measure = self.unmeasured()
        batches, x = first_batches(
            x, batch_size, ADAPT_CLIPS * bool(to_measure)
        )
        batches = [self.clips(b) for b in batches]
        self.check_clips(*waveform_and_lengths(batches[0]))
        for front_end in to_measure:
            front_end.adapt(batches)
        return x
