"""Keras' own training step, then one pure hook."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.engine.batches import as_float32
from keras_audio_ssl.engine.batches import clips_in
from keras_audio_ssl.engine.before_model import BeforeModel
from keras_audio_ssl.engine.finite import KeepFinite
from keras_audio_ssl.engine.finite import all_finite


class FiniteStep(BeforeModel):
    """Stands before a `Model` among a class's bases.

    The loss is the class's `pretext_loss`. After each update of the optimizer
    the pairs of `after_update` are written. A step whose loss or gradients
    are not finite changes nothing and is counted, one of fewer clips than
    `min_batch` changes nothing. Random generators go along in files.

    Attributes:
        updates: Variable, optimizer updates so far.
        skipped: Variable `(2,)`, steps that were not finite: in all, and in a
            row.
        min_batch: Fewest clips that a batch needs.
    """

    updates: keras.Variable
    skipped: keras.Variable
    # Of the class, see `PretextModel`.
    pretext_loss: Callable[..., Tensor]
    after_update: Callable[[], list[tuple[keras.Variable, Tensor]]]

    min_batch = 1
    # Whether its loss sees the clips of all replicas of `tf.distribute`, or
    # those of its own; contrastive methods take it as an argument.
    gather_negatives = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Small steps are lost in half precision.
        if self.dtype_policy.variable_dtype != "float32":
            raise ValueError(
                f"{type(self).__name__} trains weights in float32. Received: "
                f"dtype policy {self.dtype_policy.name!r}. For half precision "
                "take 'mixed_bfloat16' or 'mixed_float16'."
            )
        for name, shape in (("updates", ()), ("skipped", (2,))):
            weight = self.add_weight(
                shape=shape, dtype="int32", initializer="zeros",
                trainable=False, aggregation="only_first_replica", name=name,
            )  # fmt: skip
            setattr(self, name, weight)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Keras' own, with an optimizer that withholds what is not finite."""
        super().compile(*args, **kwargs)
        self.optimizer = KeepFinite(self.optimizer)

    def compute_loss(
        self,
        x: Batch = None,
        y: Tensor | None = None,
        y_pred: Any = None,
        sample_weight: Tensor | None = None,
        training: bool = True,
    ) -> Tensor:
        """`pretext_loss` in float32, and the losses that layers have added."""
        outputs = keras.tree.map_structure(as_float32, y_pred)
        loss = ops.cast(self.pretext_loss(outputs, x, y), "float32")
        for extra in self.losses:
            loss += ops.cast(extra, "float32")
        # The gradients of replicas are summed, Keras tells the sum too.
        count = backend.replicas()
        return loss if count == 1 else loss / count

    def compared(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Tensors `(batch, ...)` whose rows a loss sets against each other.

        Under `tf.distribute`, those of all replicas with
        `gather_negatives=True`, and those of each replica without. JAX's
        `DataParallel` shows every step the whole batch. `MirroredStrategy`
        needs `cross_device_ops=tf.distribute.ReductionToOneDevice()` for it:
        its own reductions mistake one tensor for another on a CPU.
        """
        if not self.gather_negatives:
            return tensors
        return tuple(backend.gathered(x) for x in tensors)

    def compute_metrics(
        self,
        x: Batch,
        y: Tensor | None,
        y_pred: Any,
        sample_weight: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """What is tracked: losses update their metrics themselves."""
        return self.get_metrics_result()

    def train_step(self, *args: Any) -> Any:
        """Keras' own step, undone where the loss or a gradient is not finite.

        A batch of fewer clips than `min_batch` changes nothing.
        """
        enough = clips_in(args[-1]) >= self.min_batch
        if backend.is_stateless():
            return self._jax_train_step(*args) if enough else self._idle(*args)
        if isinstance(enough, bool):
            return self._train_step(*args) if enough else self._idle(*args)
        return ops.cond(
            enough, lambda: self._train_step(*args), lambda: self._idle(*args)
        )

    def test_step(self, *args: Any) -> Any:
        """Keras' own step, on batches of at least `min_batch` clips."""
        enough = clips_in(args[-1]) >= self.min_batch
        if isinstance(enough, bool):
            step = super().test_step if enough else self._idle
            return step(*args)
        return ops.cond(
            enough,
            lambda: super(FiniteStep, self).test_step(*args),
            lambda: self._idle(*args),
        )

    def _idle(self, *args: Any) -> Any:
        """What a step returns that does nothing."""
        if not backend.is_stateless():
            return self.get_metrics_result()
        state = args[0]
        pairs = zip(self.metrics_variables, state[-1], strict=True)
        with keras.StatelessScope(list(pairs)):
            return self.get_metrics_result(), state

    def _train_step(self, *args: Any) -> dict[str, Tensor]:
        kept = [*forward_state(self), *self.metrics_variables]
        before = [backend.copied(v) for v in kept]
        super().train_step(*args)
        finite = self.optimizer.finite.value
        for variable, old in zip(kept, before, strict=True):
            variable.assign(ops.where(finite, variable.value, old))
        self._after_step(finite)
        return self.get_metrics_result()

    def _jax_train_step(
        self, state: tuple[Any, ...], data: Any
    ) -> tuple[dict[str, Tensor], tuple[Any, ...]]:
        _, new = super().train_step(state, data)
        groups = (
            self.trainable_variables,
            self.non_trainable_variables,
            self.optimizer.variables,
            self.metrics_variables,
        )
        pairs = [
            pair
            for group, values in zip(groups, new, strict=True)
            for pair in zip(group, values, strict=True)
        ]
        with keras.StatelessScope(pairs) as scope:
            # The mean of the epoch is finite unless this loss was not.
            loss = self._loss_tracker.result()
            finite = self.optimizer.finite.value & all_finite([loss])
            free = {id(v) for v in self._free_variables()}
            for group, values in zip(groups, state, strict=True):
                for variable, old in zip(group, values, strict=True):
                    now = variable.value
                    if now is not old and id(variable) not in free:
                        variable.assign(ops.where(finite, now, old))
            self._after_step(finite)
            logs = self.get_metrics_result()
        return logs, tuple(
            [scope.get_current_value(v) for v in group] for group in groups
        )

    def _after_step(self, finite: Tensor) -> None:
        iterations = ops.cast(self.optimizer.iterations, "int32")
        updated = iterations > self.updates.value
        for variable, new in self.after_update():
            new = ops.cast(new, variable.dtype)
            variable.assign(ops.where(updated, new, variable.value))
        self.updates.assign(iterations)
        total, running = self.skipped.value[0], self.skipped.value[1]
        bad = ops.cast(ops.logical_not(finite), "int32")
        self.skipped.assign(ops.stack([total + bad, (running + 1) * bad]))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """PyTorch's; called by Keras' step on that backend only."""
        # Keras registers parameters by path there, and a network and its
        # target have the same paths: one of the two would keep its gradients.
        for variable in self.variables:
            variable.value.grad = None

    def skipped_batches(self) -> tuple[int, int]:
        """Batches that were skipped: in all, and in a row up to now."""
        value = self.skipped.value
        if backend.is_stateless() and not self._jax_state_synced:
            # In the middle of `fit` the variables are not where they were.
            place = [v is self.skipped for v in self.non_trainable_variables]
            state = self._jax_state["non_trainable_variables"]
            value = state[place.index(True)]
        total, running = ops.convert_to_numpy(value)
        return int(total), int(running)

    def _free_variables(self) -> list[keras.Variable]:
        """Variables that go on whatever a step gives, on JAX."""
        return [
            self.optimizer.finite,
            *self._seed_states(),
            *(
                variable
                for layer in self._flatten_layers()
                if getattr(layer, "keeps_finite", False)
                for variable in layer.variables
            ),
        ]

    # `.keras` files omit the state of seed generators, so that a resumed
    # run would replay its first masks.

    def _seed_states(self) -> list[keras.Variable]:
        kept = {id(v) for v in self.weights}
        kept.update(id(v) for v in self.metrics_variables)
        return [v for v in self.variables if id(v) not in kept]

    # They omit the metrics too, so that the mean that a resumed run goes on
    # with would lack the steps before.

    def save_own_variables(self, store: Any) -> None:
        """Saves random generators and metrics too."""
        super().save_own_variables(store)
        for i, state in enumerate(self._seed_states()):
            store[f"seed_{i}"] = state.numpy()
        for i, value in enumerate(self.metrics_variables):
            store[f"metric_{i}"] = value.numpy()

    def load_own_variables(self, store: Any) -> None:
        """Loads what `save_own_variables` saved.

        Raises:
            ValueError: The file is of a model with other random generators.
        """
        states = self._seed_states()
        # An HDF5 group: its own iteration differs.
        keys = list(store.keys())
        metrics = [k for k in keys if k.startswith("metric_")]
        keys = [k for k in keys if k not in metrics]
        keep_metrics(
            self,
            [np.array(store[f"metric_{i}"]) for i in range(len(metrics))],
        )
        seeds = {k: store[k] for k in keys if k.startswith("seed_")}
        if len(seeds) != len(states):
            raise ValueError(
                f"The file holds {len(seeds)} random generators and "
                f"{type(self).__name__} has {len(states)}: it was written "
                "by a model of other settings."
            )
        super().load_own_variables(
            {k: store[k] for k in keys if k not in seeds}
        )
        for i, state in enumerate(states):
            state.assign(np.asarray(seeds[f"seed_{i}"]).astype(state.dtype))


def kept_metrics(model: keras.Model) -> list[np.ndarray]:
    """What was saved of a model's metrics, for `go_on_with_metrics`."""
    return vars(model).get("_kept_metrics", [])


def keep_metrics(model: Any, values: list[np.ndarray]) -> None:
    """Sets what `go_on_with_metrics` gives; `[]` for an epoch's own."""
    # Past Keras' tracking.
    vars(model)["_kept_metrics"] = values


def go_on_with_metrics(model: keras.Model) -> None:
    """Gives metrics the values that were saved with the model, once.

    To be called when an epoch has begun, which sets them to zero.
    """
    kept = kept_metrics(model)
    keep_metrics(model, [])
    variables = model.metrics_variables
    if [v.shape for v in variables] == [k.shape for k in kept]:
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)


def forward_state(model: Any) -> list[keras.Variable]:
    """Variables that a forward pass may write: moving statistics and such.

    Not random generators, which go on, nor layers that look after
    themselves (`keeps_finite`).
    """
    found = [
        variable
        for layer in model._flatten_layers()
        if not getattr(layer, "keeps_finite", False)
        for variable in layer._non_trainable_variables
    ]
    own = {id(model.updates), id(model.skipped)}
    unique = {id(v): v for v in found}
    return [v for key, v in unique.items() if key not in own]
