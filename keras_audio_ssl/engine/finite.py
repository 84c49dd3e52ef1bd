"""Batches whose loss or gradients are not finite change nothing."""

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl._types import Tensor

# So many batches in a row end a run.
PATIENCE = 10


def all_finite(tensors: Iterable[Tensor | None]) -> Tensor:
    """Whether no tensor has a NaN or an infinity, a scalar.

    Args:
        tensors: List of floating tensors; None among them are passed over.
    """
    # A sum is finite where all entries are, short of an overflow, and reads
    # each entry once.
    sums = [
        ops.sum(ops.cast(ops.convert_to_tensor(t), "float32"))
        for t in tensors
        if t is not None
    ]
    if not sums:
        return ops.convert_to_tensor(True)
    return ops.isfinite(ops.sum(ops.stack(sums)))


class KeepFinite(keras.optimizers.Optimizer):
    """An optimizer around another, which updates by finite gradients alone.

    All that it does not have itself is the other's: learning rate, counters,
    configuration, and what of it is saved. So files know the other one only.

    Gradients of a `LossScaleOptimizer` are its own business, since their
    overflow is part of its work; then the loss alone decides. On JAX nothing
    is held back here: `FiniteStep` puts the old state in place of the new.
    On the replicas of `tf.distribute`, one bad replica holds back all.

    Args:
        optimizer: The other one.

    Attributes:
        finite: Variable, whether the last step was.
    """

    def __init__(self, optimizer: keras.Optimizer) -> None:
        super().__init__(learning_rate=0.0, name=optimizer.name)
        # A method: as an attribute, Keras would save it a second time.
        self.wrapped = lambda: optimizer
        self.finite = keras.Variable(
            True, dtype="bool", trainable=False, name="finite",
            aggregation="only_first_replica",
        )  # fmt: skip
        self._loss = None

    def __getattr__(self, name: str) -> Any:
        # Not before the constructor has got so far.
        if name == "wrapped":
            raise AttributeError(name)
        return getattr(self.wrapped(), name)

    def __dir__(self) -> list[str]:
        return dir(self.wrapped())

    @property
    def scales(self) -> bool:
        """Whether the other one scales the loss, and looks at gradients."""
        return isinstance(self.wrapped(), keras.optimizers.LossScaleOptimizer)

    @property
    def variables(self) -> list[keras.Variable]:
        return [*self.wrapped().variables, self.finite]

    @property
    def learning_rate(self) -> Any:
        return self.wrapped().learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.wrapped().learning_rate = value

    @property
    def iterations(self) -> keras.Variable:
        return self.wrapped().iterations

    def build(self, variables: list[keras.Variable] | None) -> None:
        if not self.wrapped().built:
            self.wrapped().build(variables)
        self.built = True

    def scale_loss(self, loss: Tensor) -> Tensor:
        if not backend.is_stateless():
            self._loss = loss
        return self.wrapped().scale_loss(loss)

    def _is_finite(self, gradients: list[Tensor | None]) -> Tensor:
        loss, self._loss = self._loss, None
        return all_finite([loss, *(() if self.scales else gradients)])

    def stateless_apply(
        self,
        variables: list[Tensor],
        gradients: list[Tensor | None],
        trainable_variables: list[Tensor],
    ) -> tuple[list[Tensor], list[Tensor]]:
        trained, new = self.wrapped().stateless_apply(
            variables[:-1], gradients, trainable_variables
        )
        return trained, [*new, self._is_finite(gradients)]

    def apply(
        self,
        gradients: Iterable[Tensor | None],
        trainable_variables: list[keras.Variable] | None = None,
    ) -> None:
        gradients = list(gradients)
        if not self.built:
            self.build(trainable_variables)
        backend.update_if(
            self._is_finite(gradients),
            self.finite,
            self.wrapped().apply,
            gradients,
            trainable_variables,
        )

    def finalize_variable_values(self, variables: list[keras.Variable]) -> None:
        self.wrapped().finalize_variable_values(variables)

    def save_own_variables(self, store: Any) -> None:
        self.wrapped().save_own_variables(store)

    def load_own_variables(self, store: Any) -> None:
        self.wrapped().load_own_variables(store)

    def get_config(self) -> dict[str, Any]:
        return self.wrapped().get_config()


def unwrapped(optimizer: Any) -> Any:
    """The optimizer inside of a `KeepFinite`; any other as it is."""
    return (
        optimizer.wrapped() if isinstance(optimizer, KeepFinite) else optimizer
    )


class SkippedBatches(keras.callbacks.Callback):
    """Says which batches were skipped, and ends a run that makes no step.

    `fit` of every method has one.

    Args:
        patience: Skipped batches in a row that end the run.
        say: Called with words.

    Attributes:
        stopped: Whether it ended the run.
    """

    def __init__(
        self, patience: int = PATIENCE, say: Callable[[str], Any] = print
    ) -> None:
        super().__init__()
        self.patience, self.say = patience, say
        self.stopped, self.told, self.batches = False, 0, 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.told, _ = self.model.skipped_batches()
        self.batches = 0

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        # Skipping has done no harm meanwhile: looking waits for the step.
        self.batches += 1
        if self.batches % self.patience == 0:
            self.look()

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self.look()

    def look(self) -> None:
        """Tells of steps that were skipped since it looked last.

        Stops the training after too many in a row.
        """
        total, running = self.model.skipped_batches()
        if total > self.told:
            self.say(
                f"skipped {total - self.told} of the last batches: their loss "
                f"or gradients were not finite ({total} in all)"
            )
        self.told = total
        if running >= self.patience and not self.stopped:
            self.stopped = self.model.stop_training = True
            self.say(
                f"stopped: {running} batches in a row gave no finite loss. "
                "The weights are those before them. Try a lower learning "
                "rate, and look at the audio."
            )
