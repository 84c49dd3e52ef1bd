"""A classifier on an encoder: fine-tuned, or a head on frozen weights."""

import contextlib
import inspect
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_audio_ssl._text import few
from keras_audio_ssl._types import Audio
from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.data import AudioDataset
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.engine import ADAPT_CLIPS
from keras_audio_ssl.engine import Layer
from keras_audio_ssl.engine import Model
from keras_audio_ssl.engine import Planned
from keras_audio_ssl.engine import WarmUpDecay
from keras_audio_ssl.engine import checked
from keras_audio_ssl.engine import first_batches
from keras_audio_ssl.engine import in_tuples
from keras_audio_ssl.engine import is_arrays
from keras_audio_ssl.engine import rate_of
from keras_audio_ssl.engine import updating
from keras_audio_ssl.engine import whole
from keras_audio_ssl.features import front_ends

# The place of kept vectors in a batch.
KEPT = "vectors"
# Peaks of the learning rates of a head on kept vectors, of a whole network that
# begins with such a head, and of one whose statistics are held: there nothing
# makes up for a step that is too long.
HEAD_RATE, RATE, HELD_RATE = 1e-2, 3e-4, 1e-5
# With a step of Adam each weight moves by the rate, and a logit by that times
# the width of the vectors: so far at most.
LOGIT_STEP = 2.0
# Of the head's weights, this is lost in a step at the peak.
HEAD_DECAY = 1e-2
# Passes over the kept vectors, and updates at least, before fine-tuning.
HEAD_EPOCHS, HEAD_STEPS = 20, 200


class Classifier(Planned, Model):
    """Classes of clips: batch norm, dropout and a dense layer on an encoder.

    A plain Keras model: `compile()` without arguments takes AdamW, the cross
    entropy and the accuracy; `fit` takes waveforms and integer labels, or a
    dataset made with labels. With `freeze`, `fit` embeds each clip once and
    trains the head on the vectors. Without, and compiled so, it trains a head
    first on the vectors as they are, then all: from a random head, the first
    gradients would undo what the encoder has learnt (Kumar et al., 2022,
    arXiv 2202.10054). The encoder's own dropout is off: the maximum over time
    of what it leaves is another number than that of all. `predict` gives
    logits, one a class, before the softmax; `probabilities` and `classify` take
    files of any length.

    Args:
        encoder: `Encoder`, which is trained in place unless `freeze`.
        classes: Number of classes, or their names.
        freeze: Whether the encoder stays as it is: its weights, its moving
            statistics and its dropout are those of inference. The encoder
            itself is not marked untrainable, and can be trained elsewhere.
            The shares of a `WeightedSum` are trained all the same.
        dropout: Rate before the dense layer, default 0.
        seed: Seed of the dropout.
        hold_statistics: Whether fine-tuning leaves the encoder in inference
            mode, its batch normalisation on the statistics of the
            pretraining, and trains its weights; False by default. For
            batches of few clips, whose own statistics say little.

    Call arguments:
        x: `(batch, samples)` float32 in [-1, 1] at the encoder's rate, or a
            dict with `"waveform"` and `"lengths"` `(batch,)`, in samples.

    Returns:
        Logits `(batch, classes)`.

    Raises:
        ValueError: Labels are no integers from 0 to the number of classes,
            or the data's class names differ from these.

    Example:
        With waveforms `(clips, samples)` and labels `(clips,)`, 0 or 1::

            classifier = kas.Classifier(encoder, classes=["dog", "rain"])
            classifier.compile()
            classifier.fit(waveforms, labels, epochs=10)
            classifier.classify("clip.flac")  # "rain"
    """

    def __init__(
        self,
        encoder: Encoder,
        classes: int | Sequence[str] = 10,
        freeze: bool = False,
        dropout: float = 0.0,
        seed: int = 0,
        hold_statistics: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Whether the head's statistics stay, too.
        self._holds_head = False
        if not isinstance(encoder, Encoder):
            raise ValueError(
                "`encoder` must be a keras_audio_ssl.Encoder. "
                f"Received: {type(encoder).__name__}"
            )
        if isinstance(classes, int):
            self.class_names = None
            self.n_classes = classes
        else:
            self.class_names = [str(name) for name in classes]
            self.n_classes = len(self.class_names)
            if len(set(self.class_names)) < self.n_classes:
                raise ValueError(
                    f"`classes` must differ. Received: {self.class_names}"
                )
        if self.n_classes < 2:
            raise ValueError(
                f"`classes` must be at least 2. Received: {classes}"
            )
        self.norm = Standardize(encoder.dim, name="norm")
        self.dropout = keras.layers.Dropout(
            dropout, seed=seed, dtype="float32", name="dropout"
        )
        # Zeros: in a linear layer nothing is to be told apart.
        self.dense = keras.layers.Dense(
            self.n_classes,
            kernel_initializer="zeros",
            dtype="float32",
            name="dense",
        )
        self.dense.build((None, encoder.dim))

    def call(self, x: Batch, training: bool | None = None) -> Tensor:
        if isinstance(x, dict) and KEPT in x:
            return self.head(x[KEPT], training=training, measured=True)
        if self.freeze:
            clip = self.encoder.frozen(x)["clip"]
        else:
            learning = training and not self.hold_statistics
            with without_dropout(self.encoder):
                clip = self.encoder(x, training=learning)["clip"]
        return self.head(clip, training=training, measured=self._holds_head)

    def head(
        self, clip: Tensor, training: bool | None = None, measured: bool = False
    ) -> Tensor:
        """Clip vectors `(batch, dim)` to logits `(batch, classes)`.

        Args:
            clip: `(batch, dim)`.
            training: Whether dropout, and the batch's statistics, are on.
            measured: Whether the statistics are those of all clips already.

        Returns:
            float32 `(batch, classes)`.
        """
        x = self.norm(clip, training=training and not measured)
        return self.dense(self.dropout(x, training=training))

    def probabilities(
        self, audio: Audio, sample_rate: int | None = None, batch_size: int = 32
    ) -> np.ndarray:
        """Class probabilities of audio of any length.

        Args:
            audio: As for `Encoder.embed`: a path, a waveform, or many.
            sample_rate: Hz of arrays, default the encoder's.
            batch_size: Clips that pass the network together.

        Returns:
            numpy float32 `(classes,)` for one clip, else `(clips, classes)`.

        Raises:
            ValueError: A file cannot be read, or an array is no audio.
        """
        clip = self.encoder.embed(audio, sample_rate, batch_size)
        logits = self.head(np.atleast_2d(clip), training=False)
        out = ops.convert_to_numpy(ops.softmax(logits))
        return out[0] if clip.ndim == 1 else out

    def classify(
        self, audio: Audio, sample_rate: int | None = None, batch_size: int = 32
    ) -> Any:
        """The most probable class of audio of any length.

        Args:
            audio: As for `probabilities`.
            sample_rate: Hz of arrays, default the encoder's.
            batch_size: Clips that pass the network together.

        Returns:
            A name (or a number, where the classes have no names) for one
            clip, otherwise a list of them.
        """
        best = self.probabilities(audio, sample_rate, batch_size).argmax(-1)
        if best.ndim == 0:
            return self._name(int(best))
        return [self._name(int(i)) for i in best]

    def _name(self, i: int) -> int | str:
        return i if self.class_names is None else self.class_names[i]

    # A frozen encoder is none of the optimizer's business, but stays
    # trainable for whoever else holds it.

    def _frozen(self) -> Collection[int]:
        if not self.freeze:
            return ()
        kept = {id(v) for v in self.encoder.mixing}
        return {id(v) for v in self.encoder.variables} - kept

    @property
    def trainable_variables(self) -> list[Any]:
        frozen = self._frozen()
        return [v for v in super().trainable_variables if id(v) not in frozen]

    @property
    def non_trainable_variables(self) -> list[Any]:
        kept = {id(v) for v in self.trainable_variables}
        return [v for v in self.variables if id(v) not in kept]

    @property
    def trainable_weights(self) -> list[Any]:
        frozen = self._frozen()
        return [v for v in super().trainable_weights if id(v) not in frozen]

    @property
    def non_trainable_weights(self) -> list[Any]:
        kept = {id(v) for v in self.trainable_weights}
        return [v for v in self.weights if id(v) not in kept]

    def compile(
        self,
        optimizer: Any = None,
        loss: Any = None,
        metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.compile`, with defaults.

        Args:
            optimizer: Default `default_optimizer`, over the steps of `fit`.
            loss: Default the sparse categorical cross entropy of logits.
            metrics: Default the accuracy.
            **kwargs: Other arguments of `keras.Model.compile`.
        """
        self._starts_head = optimizer is None and loss is None
        if loss is None:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            if metrics is None:
                # By its name, its variables would be made in the first step.
                metrics = [
                    keras.metrics.SparseCategoricalAccuracy(name="accuracy")
                ]
        super().compile(optimizer, loss=loss, metrics=metrics, **kwargs)

    def default_optimizer(
        self, total_steps: int | None = None
    ) -> keras.optimizers.Optimizer:
        """AdamW; its rate rises for a tenth of the steps, then falls to zero.

        At most 1e-2 for a head on frozen weights, whose weights decay, 3e-4
        where the encoder is trained too, and 1e-5 where its statistics are
        held; less on wide vectors (of a `Readout`), 2 over their width.

        Args:
            total_steps: Updates of the run; None for a constant rate.

        Returns:
            A new optimizer.
        """
        return self._optimizer(total_steps, head=self.freeze)

    def _optimizer(
        self, total_steps: int | None, head: bool
    ) -> keras.optimizers.Optimizer:
        """Of the head alone, or of the whole network."""
        most = LOGIT_STEP / self.encoder.dim
        held = HELD_RATE if self.hold_statistics else RATE
        rate = min(HEAD_RATE if head else held, most)
        return keras.optimizers.AdamW(
            rate
            if total_steps is None
            else WarmUpDecay(rate, total_steps, 0.1),
            # Keras multiplies it by the rate.
            weight_decay=HEAD_DECAY / rate if head else 0.0,
        )

    def fit(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        """As `keras.Model.fit`, on waveforms and integer labels.

        A front end that normalises by statistics, and has none yet, measures
        them on the first clips, unless the encoder is frozen.

        Args:
            x: Waveforms `(clips, samples)` float32 in [-1, 1], a dict of that
                and `"lengths"`, or a dataset with labels.
            y: `(clips,)`, numbers of the classes; None for a dataset.
            *args: Other arguments of `keras.Model.fit`.
            **kwargs: Likewise.

        Returns:
            Keras' `History`.

        Raises:
            ValueError: The labels don't fit the classes, or `x` is a path,
                holds integers or is a dataset at another sample rate.
        """
        signature = inspect.signature(keras.Model.fit)
        bound = signature.bind(self, x, y, *args, **kwargs)
        options = bound.arguments
        x = options["x"] = checked(x, rate_of(self))
        self.check_labels(x, y)
        validation = options.get("validation_data")
        if isinstance(validation, (tuple, list)):
            self.check_labels(*validation[:2])
        elif validation is not None:
            self.check_labels(checked(validation, rate_of(self)), None)
        if validation is not None:
            options["validation_data"] = whole(validation)
        if not is_arrays(x):
            x = options["x"] = in_tuples(x)
            # Our data sets shuffle by themselves, as a function of their seed.
            options["shuffle"] = False
        unmeasured = [f for f in front_ends(self) if not f.adapted]
        if unmeasured and not self.freeze:
            batches, options["x"] = first_batches(x, clips=ADAPT_CLIPS)
            for front_end in unmeasured:
                front_end.adapt(batches, ADAPT_CLIPS)
        starts_head = getattr(self, "_starts_head", False)
        if self.freeze and not self.encoder.mixing:
            self._keep(options)
        if self._is_over():
            self._compile_anew()
        self.plan(options["x"], options)
        if starts_head and not self.freeze:
            self._start_head(options)
        before, self._holds_head = (
            self._holds_head,
            bool(self.hold_statistics)
            and not self.freeze
            and measured(self.norm.mean, self.norm.variance),
        )
        if self._holds_head != before:
            self.train_function = None  # Which was made for the other.
        # Compiling for the steps of this `fit` is no wish for a new start.
        self._starts_head = False
        return super().fit(*bound.args[1:], **bound.kwargs)

    def _is_over(self) -> bool:
        """Whether a rate of `default_optimizer` has come to its end."""
        optimizer = updating(self.optimizer)
        rate = getattr(optimizer, "_learning_rate", None)
        return isinstance(rate, WarmUpDecay) and (
            int(ops.convert_to_numpy(optimizer.iterations)) >= rate.steps
        )

    def _compile_anew(self) -> None:
        config = keras.saving.deserialize_keras_object(
            self.get_compile_config()
        )
        for name in ("optimizer", "undecayed"):
            config.pop(name, None)
        self.compile(**config)

    def _keep(self, options: dict[str, Any]) -> None:
        """Puts vectors in the place of the waveforms of a `fit`.

        Args:
            options: Its arguments, a dict, which is changed; not where its
                data are of a kind that may differ in each epoch.
        """
        if options.get("steps_per_epoch"):
            return
        kept = self._vectors(options["x"], options.get("y"), options)
        if kept is None:
            return
        if not is_arrays(options["x"]):
            options["batch_size"] = options["x"].batch_size
            options["shuffle"] = options["x"].shuffle
        options["x"], options["y"] = {KEPT: kept[0]}, kept[1]
        self.norm.measure(kept[0][: trained_part(kept[0], options)])
        validation = options.get("validation_data")
        if validation is None:
            return
        if not isinstance(validation, (tuple, list)):
            validation = (validation, None)
        kept = self._vectors(validation[0], validation[1], options)
        if kept is not None:
            options["validation_data"] = (
                {KEPT: kept[0]}, kept[1], *validation[2:],
            )  # fmt: skip

    def _start_head(self, options: dict[str, Any]) -> None:
        """Trains the head on the vectors of the encoder as it is."""
        kept = self._vectors(options["x"], options.get("y"), options)
        if kept is None:
            return
        # Not those that are to validate.
        end = trained_part(kept[0], options)
        vectors, labels = kept[0][:end], ops.convert_to_numpy(kept[1])[:end]
        size = min(32, len(vectors))
        epochs = max(HEAD_EPOCHS, -(-HEAD_STEPS * size // len(vectors)))
        self.norm.measure(vectors)
        head = Head(self)
        steps = epochs * -(-len(vectors) // size)
        head.compile(self._optimizer(steps, head=True), self.loss)
        rows = [vectors, labels]
        if options.get("sample_weight") is not None:
            rows.append(np.asarray(options["sample_weight"])[:end])
        head.fit(
            Passes(rows, size, epochs),
            shuffle=False,
            verbose=0,
            class_weight=options.get("class_weight"),
        )

    def _vectors(
        self, x: Any, y: Any, options: dict[str, Any]
    ) -> tuple[np.ndarray, Any] | None:
        """Clip vectors and labels of data that can be gone through.

        Args:
            x: Arrays, or a data set of ours.
            y: Labels of arrays.
            options: Other arguments of `fit`: `batch_size`, `verbose`.

        Returns:
            `((clips, dim), (clips,))`, or None for other data.
        """
        if is_arrays(x) and y is not None:
            size = options.get("batch_size") or 32
            n = len(keras.tree.flatten(x)[0])
            parts = [slice(at, at + size) for at in range(0, n, size)]
            batches = (
                (keras.tree.map_structure(lambda v, p=p: v[p], x), None)
                for p in parts
            )
            count = len(parts)
        elif isinstance(x, AudioDataset) and x.num_batches is not None:
            data = x.whole()
            batches, count = (data[i] for i in range(len(data))), len(data)
        else:
            return None
        verbose = options.get("verbose", "auto") not in (0, "0")
        bar = keras.utils.Progbar(count, unit_name="batch") if verbose else None
        vectors: list[np.ndarray] = []
        labels: list[Any] = []
        for part, label in batches:
            out = self.encoder.predict_on_batch(part)["clip"]
            vectors.append(ops.convert_to_numpy(out))
            labels.append(label)
            if bar is not None:
                bar.add(1)
        if y is None:
            y = np.concatenate(labels)
        return np.concatenate(vectors), y

    def evaluate(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """As `keras.Model.evaluate`, on waveforms and integer labels.

        Args:
            x: As for `fit`.
            y: As for `fit`.
            *args: Other arguments of `keras.Model.evaluate`.
            **kwargs: Likewise.

        Returns:
            What Keras returns: the loss and the metrics.

        Raises:
            ValueError: The labels don't fit the classes.
        """
        self.check_labels(x, y)
        return super().evaluate(x, y, *args, **kwargs)

    def check_labels(self, x: Any, y: Any) -> None:
        """Refuses labels that don't fit the classes.

        Args:
            x: What `fit` takes; a dataset has its labels.
            y: `(clips,)`, or None.

        Raises:
            ValueError: Labels are missing or no numbers of the classes, or the
                data's class names are others.
        """
        names = getattr(x, "classes", None)
        if isinstance(x, keras.utils.PyDataset):
            if self.class_names and names and list(names) != self.class_names:
                raise ValueError(
                    f"The data's classes are {few(names)}, the classifier's "
                    f"{few(self.class_names)}."
                )
            if names and len(names) > self.n_classes:
                raise ValueError(
                    f"The data has {len(names)} classes, the classifier "
                    f"{self.n_classes}."
                )
            labels: Any = getattr(x, "labels", None)
            missing = 0 if labels is None else np.sum(np.less(labels, 0))
            if missing:
                raise ValueError(
                    f"{missing} of the data's {len(labels)} clips have no "
                    "label, a classifier needs all: make it of those with "
                    "one (`where=`), without `label_fraction`."
                )
            batch = x[0] if y is None and len(x) else None
            if batch is not None and not isinstance(batch, (tuple, list)):
                raise ValueError(
                    "The data has no labels. Make it with `label=` (the "
                    "manifest's column) or `labels=`."
                )
            return
        if isinstance(x, dict) or hasattr(x, "shape"):
            if y is None:
                raise ValueError(
                    "`y` must hold a label for each clip. Received: y=None"
                )
            labels = ops.convert_to_numpy(y)
            if labels.dtype.kind not in "iufb":
                raise ValueError(
                    "Labels must be integers, the places of their names in "
                    f"`classes`. Received: {few(labels.ravel())}"
                )
            if labels.dtype.kind == "f" and not np.isfinite(labels).all():
                raise ValueError(
                    "Labels must not be NaN or infinite: leave out the clips "
                    f"without one. {np.sum(~np.isfinite(labels))} of "
                    f"{labels.size} are."
                )
            if self.loss_is_sparse() and (labels != np.floor(labels)).any():
                wrong = labels[labels != np.floor(labels)]
                raise ValueError(
                    "Labels must be whole numbers, the places of their names "
                    f"in `classes`. Received: {few(wrong)}"
                )
            low, high = (labels.min(), labels.max()) if labels.size else (0, 0)
            if self.loss_is_sparse() and (low < 0 or high >= self.n_classes):
                raise ValueError(
                    f"Labels must lie in 0 to {self.n_classes - 1}. "
                    f"Received: {low} to {high}"
                )

    def loss_is_sparse(self) -> bool:
        """Whether labels are numbers of classes."""
        loss = getattr(self, "loss", None)
        name = loss if isinstance(loss, str) else type(loss).__name__
        return name.lower().startswith("sparse")


@contextlib.contextmanager
def without_dropout(model: keras.Layer) -> Iterator[None]:
    """Turns off the dropout in a model, whatever else training changes.

    Args:
        model: Whose layers, at any depth, pass on all that they are given.
    """
    kinds = (
        keras.layers.Dropout,
        keras.layers.GaussianDropout,
        keras.layers.AlphaDropout,
    )
    found = [
        (layer, layer.rate)
        for layer in model._flatten_layers()
        if isinstance(layer, kinds)
    ]
    try:
        for layer, _ in found:
            layer.rate = 0.0
        yield
    finally:
        for layer, rate in found:
            layer.rate = rate


def measured(mean: Any, variance: Any) -> bool:
    """Whether statistics are others than a layer has before any training."""
    mean, variance = (ops.convert_to_numpy(v) for v in (mean, variance))
    return bool((mean != 0).any() or (variance != 1).any())


def trained_part(x: Any, options: dict[str, Any]) -> int:
    """Clips that a `fit` trains on, the first ones; the rest validate it."""
    return int(len(x) * (1 - (options.get("validation_split") or 0.0)))


class Passes(keras.utils.PyDataset):
    """Many passes over rows in one epoch, each in another order.

    What Keras does around an epoch takes longer than a pass over few rows:
    TensorFlow makes a pipeline anew for each.

    Args:
        rows: Arrays of as many rows, for `fit`: inputs, labels, weights.
        size: Rows of a batch; a pass's last has fewer.
        count: Passes.
    """

    def __init__(
        self, rows: Sequence[np.ndarray], size: int, count: int
    ) -> None:
        super().__init__()
        self.rows, self.size, self.count = rows, size, count
        self.batches = -(-len(rows[0]) // size)
        self._turn: int | None = None
        self._order = np.arange(0)

    def __len__(self) -> int:
        return self.count * self.batches

    def __getitem__(self, i: int) -> tuple[np.ndarray, ...]:
        turn, place = divmod(i, self.batches)
        if turn != self._turn:
            random = np.random.default_rng(turn)
            self._turn = turn
            self._order = random.permutation(len(self.rows[0]))
        taken = self._order[place * self.size :][: self.size]
        return tuple(row[taken] for row in self.rows)


class Head(keras.Model):
    """The head of a classifier, on vectors.

    Args:
        classifier: Whose head it is.
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.norm, self.dropout = classifier.norm, classifier.dropout
        self.dense = classifier.dense
        self.built = True

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        x = self.norm(x, training=False)
        return self.dense(self.dropout(x, training=training))


class Standardize(Layer):
    """Batch normalisation of vectors, without scale and offset.

    Keras' own takes the variance as a difference of two means on PyTorch and
    JAX: where a value hardly varies, that is negative, and gives NaN.

    Args:
        dim: Values of a vector.
        momentum: Of the moving statistics, default 0.9: encoders differ in
            scale, and few steps must do.
        epsilon: Added to the variance, default 1e-6.

    Call arguments:
        x: `(batch, dim)`.

    Returns:
        `(batch, dim)`, by the batch's statistics in training, otherwise by
        the moving ones.
    """

    def __init__(
        self,
        dim: int,
        momentum: float = 0.9,
        epsilon: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.mean = self.add_weight(
            shape=(dim,), initializer="zeros", trainable=False, name="mean"
        )
        self.variance = self.add_weight(
            shape=(dim,), initializer="ones", trainable=False, name="variance"
        )

    def measure(self, x: Tensor) -> None:
        """Takes the statistics of all vectors `(clips, dim)`."""
        x = np.asarray(x, "float64")
        self.mean.assign(x.mean(axis=0).astype("float32"))
        self.variance.assign(x.var(axis=0).astype("float32"))

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        mean, variance = self.mean.value, self.variance.value
        if training:
            mean = ops.mean(x, axis=0)
            variance = ops.mean(ops.square(x - mean), axis=0)
            for weight, new in ((self.mean, mean), (self.variance, variance)):
                new = ops.stop_gradient(new)
                weight.assign(
                    weight.value + (1 - self.momentum) * (new - weight.value)
                )
        return (x - mean) / ops.sqrt(variance + self.epsilon)
