"""Batches whose loss or gradients are not finite change nothing."""

import keras
from keras import ops

# So many batches in a row end a run.
PATIENCE = 10


def all_finite(tensors):
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
    return ops.isfinite(ops.sum(ops.stack(sums))) if sums else True


def forward_state(model):
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


def copied(variable):
    """A variable's value, which later writes to it do not change.

    Not on JAX, whose values never change.
    """
    if keras.backend.backend() == "torch":
        return variable.value.detach().clone()
    return variable.value.read_value()


def guard_optimizer(optimizer, model):
    """Lets an optimizer make no update that is not finite.

    The model's `_finite` tells of the step just made. A `LossScaleOptimizer`
    looks at gradients by itself, where an overflow is part of its work.
    """
    scaling = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    apply, stateless_apply = optimizer.apply, optimizer.stateless_apply

    def finite(gradients):
        return True if scaling else all_finite(gradients)

    def guarded(gradients, trainable_variables=None):
        if keras.backend.backend() == "jax" or in_strategy():
            # JAX selects between old and new state, after the step.
            return apply(gradients, trainable_variables)
        if not optimizer.built:
            with keras.name_scope(optimizer.name):
                optimizer.build(trainable_variables)
        good = ops.logical_and(finite(gradients), all_finite([model._loss_now]))
        model._finite = good
        ops.cond(
            good,
            lambda: apply(gradients, trainable_variables),
            lambda: None,
        )
        return None

    def guarded_stateless(variables, gradients, trainable_variables):
        model._finite = finite(gradients)
        return stateless_apply(variables, gradients, trainable_variables)

    optimizer.apply = guarded
    optimizer.stateless_apply = guarded_stateless


def in_strategy():
    """Whether replicas of `tf.distribute` are at work."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.distribute.has_strategy()


class SkippedBatches(keras.callbacks.Callback):
    """Says which batches were skipped, and ends a run that makes no step.

    `fit` of every method has one.

    Args:
        patience: Skipped batches in a row that end the run.
        say: Called with words.

    Attributes:
        stopped: Whether it ended the run.
    """

    def __init__(self, patience=PATIENCE, say=print):
        super().__init__()
        self.patience, self.say = patience, say
        self.stopped, self.told, self.batches = False, 0, 0

    def on_train_begin(self, logs=None):
        self.told, _ = self.model.skipped_batches()
        self.batches = 0

    def on_train_batch_end(self, batch, logs=None):
        # Skipping has done no harm meanwhile: looking waits for the step.
        self.batches += 1
        if self.batches % self.patience == 0:
            self.look()

    def on_epoch_end(self, epoch, logs=None):
        self.look()

    def look(self):
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
