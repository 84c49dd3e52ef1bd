"""The base class of all methods: Keras' own step, then one pure hook."""

import functools
import inspect
import itertools
from typing import Any
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_audio_ssl.blocks import PortableCompile
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.methods.guard import SkippedBatches
from keras_audio_ssl.methods.guard import all_finite
from keras_audio_ssl.methods.guard import copied
from keras_audio_ssl.methods.guard import forward_state
from keras_audio_ssl.methods.guard import guard_optimizer

# Clips that `fit` reads to measure the front end's statistics.
ADAPT_CLIPS = 2000


class PretextModel(PortableCompile, keras.Model):
    """A pretext task around an encoder, trained with `fit` on waveforms.

    A method implements `call` (the task: masks, views, predictions; tensors
    with the batch first), `pretext_loss`, and where it needs them
    `after_update` and `default_optimizer`. Everything else is Keras:
    `compile()` without an optimizer takes the paper's.

    `fit` measures the statistics of a front end that normalises with them,
    on the first clips of the data, unless they were set before.

    Args:
        encoder: `Encoder` that is kept after pretraining.
        seed: Integer, seed of all random draws of the task.

    Every method also takes `preset`, a key of its `PRESETS`: defaults for
    another size of model, which other arguments override.

    Call arguments:
        x: `(batch, samples)` float32 in [-1, 1] at the encoder's rate, or a
            dict with `"waveform"` and `"lengths"` `(batch,)`, in samples.

    Attributes:
        encoder: `(batch, samples)` to frames and clip vectors.
        updates: Variable, optimizer updates so far; schedules read it.
        skipped: Variable `(2,)`, batches that were skipped because their loss
            or gradients were not finite: in all, and in a row.
        seed_generator: The `keras.random.SeedGenerator` of all draws.
    """

    # The metric that tells the loss of a model that learnt nothing, such as
    # one that copies.
    baseline: ClassVar[str | None] = None
    # Fewest clips a batch needs: 2 for methods that contrast or batch-norm.
    min_batch = 1
    # Arguments of the constructor for models of other sizes, by name.
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"tiny": {}}
    # How `pretrain` trains each size unless told: `seconds` (longest cut
    # that is read of a clip; None: whole clips), `batch_size`, `steps`.
    TRAINING: ClassVar[dict[str, dict[str, Any]]]

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = with_presets(cls.__init__)

    def __init__(self, encoder, seed=0, **kwargs):
        # Waveforms stay float32 under any policy, on every backend.
        super().__init__(autocast=False, **kwargs)
        if not isinstance(encoder, Encoder):
            raise ValueError(
                "`encoder` must be a keras_audio_ssl.Encoder. "
                f"Received: {type(encoder).__name__}"
            )
        self.encoder = encoder
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.updates = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False,
            name="updates",
        )  # fmt: skip
        self.skipped = self.add_weight(
            shape=(2,), dtype="int32", initializer="zeros", trainable=False,
            name="skipped",
        )  # fmt: skip
        self._finite = self._loss_now = None

    # What a method may override.

    def pretext_loss(self, outputs, x, y=None):
        """Scalar float32 loss of the task.

        Args:
            outputs: What `call` returned, floating tensors in float32.
            x: The batch as given to `fit`.
            y: Labels `(batch,)`, or None.
        """
        raise NotImplementedError

    def after_update(self) -> list[tuple[Any, Any]]:
        """Pairs (variable, new value), written after each optimizer update.

        Sees the updated weights on every backend. Not called for a batch
        that only accumulates gradients, nor for a skipped float16 overflow.
        """
        return []

    def default_optimizer(self):
        """The paper's optimizer and schedule, for `compile()`."""
        return keras.optimizers.Adam(1e-3)

    # Written once for all methods.

    def build(self, input_shape=None):
        """Every weight exists since the constructor: nothing is left."""
        self.built = True

    def compile(self, optimizer=None, **kwargs):
        """As `keras.Model.compile`; without optimizer, the paper's."""
        if optimizer is None:
            optimizer = self.default_optimizer()
        super().compile(optimizer=optimizer, **kwargs)
        guard_optimizer(self.optimizer, self)

    def fit(self, x=None, y=None, *args, **kwargs):
        """As `keras.Model.fit`, on waveforms.

        A batch whose loss or gradients are not finite changes nothing; ten
        in a row end the training. With a `ResumableCheckpoint` among the
        callbacks it goes on where the run before was stopped.

        Raises:
            ValueError: A batch has fewer clips than the method needs.
        """
        bound = inspect.signature(super().fit).bind(x, y, *args, **kwargs)
        options = bound.arguments
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
        options["x"] = self._prepare(x, options.get("batch_size") or 32)
        if isinstance(x, keras.utils.PyDataset):
            # The data set shuffles by itself, as a function of its seed.
            options["shuffle"] = False
        return super().fit(*bound.args, **bound.kwargs)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        outputs = keras.tree.map_structure(as_float32, y_pred)
        loss = ops.cast(self.pretext_loss(outputs, x, y), "float32")
        for extra in self.losses:
            loss += ops.cast(extra, "float32")
        if keras.backend.backend() != "jax":
            self._loss_now = loss
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return self.get_metrics_result()

    def train_step(self, *args):
        """Keras' step; then old state for new where it was not finite."""
        if keras.backend.backend() == "jax":
            return self._jax_train_step(*args)
        kept = [*forward_state(self), *self.metrics_variables]
        before = [copied(v) for v in kept]
        self._finite = True
        super().train_step(*args)
        for variable, old in zip(kept, before, strict=True):
            variable.assign(ops.where(self._finite, variable.value, old))
        self._write_after_update()
        self._finite = self._loss_now = None
        return self.get_metrics_result()

    def _jax_train_step(self, state, data):
        _, new = super().train_step(state, data)
        variables = (
            self.trainable_variables,
            self.non_trainable_variables,
            self.optimizer.variables,
            self.metrics_variables,
        )
        scope = keras.StatelessScope(
            [
                pair
                for group, values in zip(variables, new, strict=True)
                for pair in zip(group, values, strict=True)
            ]
        )
        with scope:
            # The mean of the epoch is finite unless this loss was not.
            loss = self._loss_tracker.result()
            self._finite = ops.logical_and(self._finite, all_finite([loss]))
            free = {id(v) for v in self._seed_states()}
            free.update(
                id(v)
                for layer in self._flatten_layers()
                if getattr(layer, "keeps_finite", False)
                for v in layer.variables
            )
            for group, values in zip(variables, state, strict=True):
                for variable, old in zip(group, values, strict=True):
                    now = variable.value
                    if now is not old and id(variable) not in free:
                        variable.assign(ops.where(self._finite, now, old))
            self._write_after_update()
            logs = self.get_metrics_result()
        self._finite = None
        return logs, tuple(
            [scope.get_current_value(v) for v in group] for group in variables
        )

    def zero_grad(self, set_to_none=True):
        """PyTorch's; called by Keras' step on that backend only."""
        # Keras registers parameters by path there, and a network and its
        # target have the same paths: one of the two would keep its gradients.
        for variable in self.variables:
            variable.value.grad = None

    def _write_after_update(self):
        iterations = ops.cast(self.optimizer.iterations, "int32")
        updated = iterations > self.updates.value
        for variable, new in self.after_update():
            new = ops.cast(new, variable.dtype)
            variable.assign(ops.where(updated, new, variable.value))
        self.updates.assign(iterations)
        total, running = self.skipped.value[0], self.skipped.value[1]
        bad = ops.cast(ops.logical_not(self._finite), "int32")
        self.skipped.assign(ops.stack([total + bad, (running + 1) * bad]))

    def skipped_batches(self):
        """Batches that were skipped: in all, and in a row up to now."""
        value = self.skipped.value
        if keras.backend.backend() == "jax" and not self._jax_state_synced:
            # In the middle of `fit` the variables are not where they were.
            place = [v is self.skipped for v in self.non_trainable_variables]
            state = self._jax_state["non_trainable_variables"]
            value = state[place.index(True)]
        total, running = ops.convert_to_numpy(value)
        return int(total), int(running)

    # `.keras` files omit the state of seed generators, so that a resumed
    # run would replay its first masks.

    def _seed_states(self):
        kept = {id(v) for v in self.weights}
        kept.update(id(v) for v in self.metrics_variables)
        return [v for v in self.variables if id(v) not in kept]

    def save_own_variables(self, store):
        super().save_own_variables(store)
        for i, state in enumerate(self._seed_states()):
            store[f"seed_{i}"] = state.numpy()

    def load_own_variables(self, store):
        states = self._seed_states()
        # An HDF5 group: its own iteration differs.
        keys = list(store.keys())
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

    def get_config(self):
        # No super(): a subclassed Keras model would give back the call's
        # arguments; the policy is all that is to be kept of it.
        return {
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = {
            k: keras.saving.deserialize_keras_object(v)
            if isinstance(v, dict) and "class_name" in v
            else v
            for k, v in config.items()
        }
        return cls(**config)

    def clips(self, x):
        """What of a batch the front end's statistics are measured on.

        Returns:
            `(batch, samples)` or `{"waveform", "lengths"}`.
        """
        waveform_and_lengths(x)
        return x

    def check_clips(self, waveform, lengths):
        """Refuses, or warns of, data that the task can't learn from.

        Args:
            waveform: `(batch, samples)`, the first batch of `fit`.
            lengths: `(batch,)` samples, or None.

        Raises:
            ValueError: The batch has fewer clips than the method needs.
        """
        if waveform.shape[0] < self.min_batch:
            raise ValueError(
                f"{type(self).__name__} needs batches of at least "
                f"{self.min_batch} clips. Received: {waveform.shape[0]}"
            )

    def needs_statistics(self):
        """Whether `fit` is to measure the front end's statistics first."""
        return not self.encoder.frontend.adapted

    def _prepare(self, x, batch_size):
        """Looks at the first batches of the data; returns the data."""
        if x is None:
            return x
        measure = self.needs_statistics()
        batches, x = first_batches(x, batch_size, ADAPT_CLIPS * measure)
        batches = [self.clips(b) for b in batches]
        self.check_clips(*waveform_and_lengths(batches[0]))
        if measure:
            self.encoder.frontend.adapt(batches)
        return x


def with_presets(init):
    """Lets a constructor take `preset="..."`, a key of its `PRESETS`.

    After it the model counts as built: every layer made its weights.
    """

    @functools.wraps(init)
    def wrapped(self, *args, preset=None, **kwargs):
        if preset not in (None, "paper"):
            if preset not in self.PRESETS:
                raise ValueError(
                    f"{type(self).__name__} has the presets 'paper', "
                    f"{', '.join(map(repr, self.PRESETS))}. "
                    f"Received: {preset!r}"
                )
            kwargs = {**self.PRESETS[preset], **kwargs}
        init(self, *args, **kwargs)
        self.built = True

    signature = inspect.signature(init)
    *first, last = signature.parameters.values()
    preset = inspect.Parameter("preset", last.KEYWORD_ONLY, default=None)
    wrapped.__signature__ = signature.replace(
        parameters=[*first, preset, last]
        if last.kind is last.VAR_KEYWORD
        else [*first, last, preset]
    )
    return wrapped


def waveform_and_lengths(x):
    """Splits a batch into waveforms and lengths (or None).

    Args:
        x: `(batch, samples)`, or a dict with `"waveform"` and, optionally,
            `"lengths"`.

    Returns:
        `(waveform, lengths)`.

    Raises:
        ValueError: `x` is a dict without `"waveform"`.
    """
    if isinstance(x, dict):
        if "waveform" not in x:
            raise ValueError(
                "A batch must be waveforms or a dict with 'waveform' and "
                f"'lengths'. Received a dict with: {sorted(x)}"
            )
        return x["waveform"], x.get("lengths")
    return x, None


def as_float32(x):
    if keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype)):
        return ops.cast(x, "float32")
    return x


def first_batches(x, batch_size, clips):
    """The first batches of whatever `fit` takes, and data still whole.

    Args:
        x: Arrays, a `PyDataset`, or an iterable of batches.
        batch_size: Of arrays.
        clips: Enough when that many have been read.

    Returns:
        `(list of inputs, x)`; a generator comes back chained anew.
    """
    if isinstance(x, dict) or hasattr(x, "shape"):
        n = min(len(keras.tree.flatten(x)[0]), max(clips, 1))
        parts = [slice(i, i + batch_size) for i in range(0, n, batch_size)]
        return [
            keras.tree.map_structure(lambda v, part=part: v[part], x)
            for part in parts
        ], x
    if isinstance(x, keras.utils.PyDataset):
        source = (x[i] for i in range(x.num_batches or 1))
    else:
        source = iter(x)
    batches, seen = [], 0
    for batch in source:
        batches.append(batch)
        seen += len(keras.tree.flatten(batch)[0])
        if seen >= clips:
            break
    if source is x:
        x = itertools.chain(batches, source)
    if not batches:
        raise ValueError("The training data is empty.")
    return [b[0] if isinstance(b, (tuple, list)) else b for b in batches], x
