"""What tests of masked reconstruction share."""

import keras
import numpy as np
from keras import ops

from keras_audio_ssl.methods import make_method
from tests.contract import batch


def array(x):
    return np.asarray(ops.convert_to_numpy(x))


def tiny(name, **kwargs):
    keras.utils.set_random_seed(0)
    return make_method(name, preset="tiny", **kwargs)


def features(clips=4, frames=40, bins=80, seed=0):
    x = np.random.default_rng(seed).standard_normal((clips, frames, bins))
    return x.astype("float32")


def altered(model, x, lengths=None):
    """`(altered, label)` as arrays; the same draw at each call."""
    model.seed_generator.state.assign(np.array([3, 1], "uint32"))
    if lengths is not None:
        lengths = ops.convert_to_tensor(np.asarray(lengths, "int32"))
    hidden, label = model.alter(ops.convert_to_tensor(x), lengths)
    return array(hidden), np.broadcast_to(array(label), x.shape)


def prediction(model, x, lengths=None):
    if lengths is not None:
        lengths = ops.convert_to_tensor(np.asarray(lengths, "int32"))
    return array(model.reconstruct(ops.convert_to_tensor(x), lengths))


def no_prediction_sees_what_is_hidden(model):
    """Clean values of labelled elements changed, nothing may change."""
    model.time.dice = (1.0, 0.0)
    x, lengths = features(), [40, 33, 25, 12]
    before, label = altered(model, x, lengths)
    assert label.any() and not label.all()
    other = np.where(label, x + 9.0, x)
    after, same = altered(model, other, lengths)
    np.testing.assert_array_equal(label, same)
    np.testing.assert_array_equal(before, after)
    # And what is seen does matter.
    seen = prediction(model, before, lengths)
    place = tuple(np.argwhere(~label[0])[5])
    before[(0, *place)] += 9.0
    moved = np.abs(prediction(model, before, lengths) - seen)
    assert moved[0].max() > 1e-3 and not moved[1:].any()


def padding_and_neighbours_change_nothing(model, atol=1e-5, everything=False):
    """Of the prediction, the loss and the levels of an utterance.

    Args:
        model: Method, whose loss counts what is labelled.
        atol: Absolute tolerance of predictions.
        everything: Whether it counts all valid frames.
    """
    x, lengths = features(), np.array([40, 33, 25, 12])
    for row, n in zip(x, lengths, strict=True):
        row[n:] = 0
    hidden, label = altered(model, x, lengths)

    def results(inputs, targets, labels, valid):
        frames, ends = inputs.shape[1], valid
        ends = len(inputs) * [frames] if ends is None else ends
        inside = np.arange(frames) < np.array(ends)[:, None]
        outputs = {
            "prediction": ops.convert_to_tensor(
                prediction(model, inputs, valid)
            ),
            "target": ops.convert_to_tensor(targets),
            "label": ops.convert_to_tensor(labels),
            "valid": ops.convert_to_tensor(inside),
        }
        return outputs, float(array(model.pretext_loss(outputs, None)))

    outputs, loss = results(hidden, x, label, lengths)
    for rubbish in (0.0, 5.0):
        wide = [
            np.concatenate([a, np.full((4, 50, 80), rubbish, a.dtype)], axis=1)
            for a in (hidden, x)
        ]
        more = np.pad(label, ((0, 0), (0, 50), (0, 0)))
        wider, again = results(*wide, more, lengths)
        assert abs(loss - again) < 1e-5
        for i, n in enumerate(lengths):
            np.testing.assert_allclose(
                array(wider["prediction"])[i, :n],
                array(outputs["prediction"])[i, :n],
                atol=atol,
            )
    whole, count = 0.0, 0
    for i, n in enumerate(lengths):
        alone, one = results(
            hidden[i : i + 1, :n], x[i : i + 1, :n], label[i : i + 1, :n], None
        )
        np.testing.assert_allclose(
            array(alone["prediction"])[0],
            array(outputs["prediction"])[i, :n],
            atol=atol,
        )
        counts = n if everything else label[i].sum()
        whole, count = whole + one * counts, count + counts
    assert abs(loss - whole / count) < 1e-5
    return loss


def learns(model, steps=60):
    """Losses over steps on one batch."""
    model.compile(keras.optimizers.Adam(3e-3))
    x = batch(8)
    return [
        float(model.train_on_batch(x, return_dict=True)["loss"])
        for _ in range(steps)
    ]


class Task(keras.layers.Layer):
    """Features to the difference of prediction and target, and what counts.

    Args:
        model: Method.
        everything: Whether all frames count, not the hidden ones alone.
    """

    def __init__(self, model, everything=False):
        super().__init__()
        self.model, self.everything = model, everything

    def call(self, x):
        hidden, label = self.model.alter(x, None)
        label = ops.broadcast_to(label, ops.shape(x)) | self.everything
        label = ops.cast(label, "float32")
        off = self.model.reconstruct(hidden, None, True) - x
        return ops.stack([off, label], axis=-1)


class Counted(keras.losses.Loss):
    """Mean absolute difference, of what counts in a `Task`."""

    def call(self, y_true, y_pred):
        off, label = y_pred[..., 0], y_pred[..., 1]
        counts = ops.maximum(ops.sum(label, axis=(1, 2)), 1.0)
        return ops.sum(ops.abs(off) * label, axis=(1, 2)) / counts


def curves(clips=32, frames=48, bins=80):
    """Features that bend in time, so that copies of neighbours are off."""
    rng = np.random.default_rng(0)
    t, f = np.arange(frames) / frames, np.arange(bins) / bins
    phase = rng.uniform(0, 6.3, (clips, 1, 1))
    x = np.sin(2 * np.pi * (3 * t[:, None] + 0.5 * f) + phase)
    return x.astype("float32")


def nearest_visible(x, label):
    """`x` with each hidden frame replaced by the nearest that is seen.

    Args:
        x: `(batch, frames, bins)`.
        label: Boolean `(batch, frames)`, hidden frames.
    """
    out, place = x.copy(), np.arange(x.shape[1])
    for row, seen, hidden in zip(out, x, label, strict=True):
        visible = place[~hidden]
        for i in place[hidden]:
            row[i] = seen[visible[np.abs(visible - i).argmin()]]
    return out


def learn_curves(model, epochs=60, everything=False):
    """Trains on `curves`, which it returns."""
    x = curves(bins=model.encoder.frontend.n_features)
    task = keras.Sequential([Task(model, everything)])
    task.compile(keras.optimizers.Adam(3e-3), Counted())
    nothing = np.zeros((*x.shape, 2), "float32")
    task.fit(x, nothing, batch_size=16, epochs=epochs, verbose=0)
    return x


def errors_where_hidden(model, x):
    """Mean absolute error on hidden frames of a model, and of copying."""
    hidden, label = altered(model, x)
    off = np.abs(prediction(model, hidden) - x)
    copied = np.abs(nearest_visible(x, label[..., 0]) - x)
    return off[label].mean(), copied[label].mean()
