"""`fit` receives exactly the batches of (seed, epoch, step), in order."""

import keras
import numpy as np
import pytest

from keras_audio_ssl.data import AudioDataset
from keras_audio_ssl.data import from_arrays
from keras_audio_ssl.data.clips import ArrayClips


class Recorder(keras.Model):
    """Remembers each batch of training (run eagerly)."""

    def __init__(self):
        super().__init__()
        self.seen, self.tested = [], []
        self.dense = keras.layers.Dense(1)

    def call(self, x, training=False):
        return self.dense(x["waveform"][:, :4])

    def compute_loss(self, x=None, y=None, y_pred=None, *_, **__):
        return keras.ops.mean(keras.ops.square(y_pred))

    def train_step(self, *args):
        self.seen.append(_numpy(args[-1]))
        return super().train_step(*args)

    def test_step(self, *args):
        self.tested.append(_numpy(args[-1]))
        return super().test_step(*args)


class Chain(keras.Model):
    """Folds what it sees into one number, in which the order matters."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.chain = self.add_weight(trainable=False, initializer="zeros")

    def call(self, x, training=False):
        wave = x["waveform"]
        if training:
            self.chain.assign(0.75 * self.chain + keras.ops.sum(wave[:, 0]))
        return self.dense(wave[:, :4])

    def compute_loss(self, x=None, y=None, y_pred=None, *_, **__):
        return keras.ops.mean(keras.ops.square(y_pred))


def _numpy(batch):
    copy = lambda x: np.array(keras.ops.convert_to_numpy(x))
    if isinstance(batch, tuple) and len(batch) == 1:
        batch = batch[0]
    return keras.tree.map_structure(copy, batch)


def make(clips=11, **options):
    rng = np.random.default_rng(3)
    x = [0.1 * rng.normal(size=60 + 7 * k) for k in range(clips)]
    options = {"seconds": 0.05, "batch_size": 2, "seed": 5, **options}
    return from_arrays(x, np.arange(clips) % 3, 1000, **options)


class Marked(ArrayClips):
    """Each crop with its place, and two numbers."""

    extra_spec = {"place": ((), "int32"), "pair": ((2,), "float32")}

    def extras(self, i, start, samples, sample_rate):
        pair = np.array([start, samples], "float32") / sample_rate
        return {"place": np.int32(start), "pair": pair}


def marked(clips=11, labels=True, **options):
    rng = np.random.default_rng(3)
    x = [0.1 * rng.normal(size=60 + 7 * k) for k in range(clips)]
    y = np.arange(clips, dtype="int32") % 3 if labels else None
    options = {"seconds": 0.05, "batch_size": 2, "seed": 5, **options}
    source = Marked(x, 1000, y, ["a", "b", "c"] if labels else None)
    return AudioDataset(source, sample_rate=1000, **options)


class Placed(keras.Model):
    """Tells from a clip where it lies, in a compiled step."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2, kernel_initializer="zeros")
        self.sum = self.add_weight(trainable=False, initializer="zeros")

    def call(self, x, training=False):
        if training:
            place = keras.ops.cast(x["place"], "float32")
            self.sum.assign(self.sum.value + keras.ops.sum(place))
        return self.dense(x["waveform"][:, :40])

    def compute_loss(self, x=None, y=None, y_pred=None, *_, **__):
        return keras.ops.mean(keras.ops.square(y_pred - x["pair"]))


def same(got, expected, arrays=3):
    got, expected = (keras.tree.flatten(x) for x in (got, expected))
    assert len(got) == len(expected) == arrays
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def fit(model, data, **options):
    model.compile("sgd", run_eagerly=isinstance(model, Recorder))
    model.fit(data, verbose=0, **options)


def check(model, data, stream, arrays=3):
    assert len(model.seen) == len(stream)
    for got, (epoch, step) in zip(model.seen, stream, strict=True):
        same(got, data.batch(epoch, step), arrays)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_order(workers, shuffle):
    data = make(workers=workers)
    model = Recorder()
    fit(model, data, epochs=2, shuffle=shuffle)
    stream = [(e, s) for e in range(2) for s in range(5)]
    check(model, data, stream)
    assert data.epoch == 2
    fit(model, data, epochs=1)
    check(model, data, stream + [(2, s) for s in range(5)])


def test_order_in_a_compiled_step():
    data, model = make(), Chain()
    fit(model, data, epochs=2)
    expected = 0.0
    for epoch, step in [(e, s) for e in range(2) for s in range(5)]:
        wave = data.batch(epoch, step)[0]["waveform"]
        expected = 0.75 * expected + wave[:, 0].sum()
    assert abs(float(model.chain.value) - expected) < 1e-5
    assert abs(expected) > 1e-3


def test_start_in_the_middle_of_an_epoch():
    data, model = make(), Recorder()
    data.start(3, 2)
    fit(model, data, epochs=3)
    stream = [(3, s) for s in (2, 3, 4)]
    stream += [(e, s) for e in (4, 5) for s in range(5)]
    check(model, data, stream)


def test_start_without_a_step_left_is_the_next_epoch():
    data = make()
    data.start(3, len(data))
    assert data.epoch == 4


def test_steps_per_epoch_and_the_rest():
    data, model = make(), Recorder()
    data.start(1, 2)
    fit(model, data, epochs=1, steps_per_epoch=3)
    assert data.epoch == 2
    fit(model, data, epochs=1)
    stream = [(1, s) for s in (2, 3, 4)] + [(2, s) for s in range(5)]
    check(model, data, stream)


def test_stream_without_end():
    data, model = make(repeat=True), Recorder()
    fit(model, data, epochs=3, steps_per_epoch=4)
    stream = [divmod(n, 5) for n in range(12)]
    check(model, data, stream)


def test_validation_data_stay_the_same():
    data, model = make(), Recorder()
    valid = make(shuffle=False, crop="center", drop_last=False, batch_size=4)
    fit(model, data, epochs=3, validation_data=valid)
    check(model, data, [(e, s) for e in range(3) for s in range(5)])
    assert len(model.tested) == 9
    for n, got in enumerate(model.tested):
        same(got, valid.batch(0, n % 3))
    same(valid.batch(7, 2), valid.batch(0, 2))


def test_evaluate_and_predict():
    data = make(shuffle=False, crop="start", drop_last=False)
    model = Recorder()
    fit(model, make())
    model.evaluate(data, verbose=0)
    assert len(model.tested) == 6
    assert model.predict(data, verbose=0).shape == (11, 1)


def test_whole_clips_of_unequal_length():
    data = make(seconds=None)
    model = Recorder()
    fit(model, data, epochs=2)
    check(model, data, [(e, s) for e in range(2) for s in range(5)])
    assert len({x[0]["waveform"].shape for x in model.seen}) > 1


@pytest.mark.parametrize("seconds", [0.05, None])
@pytest.mark.parametrize("labels", [True, False])
def test_what_a_source_adds_comes_with_its_crop(labels, seconds):
    data = marked(labels=labels, seconds=seconds, workers=2)
    model = Recorder()
    data.start(1, 2)
    fit(model, data, epochs=2)
    stream = [(1, s) for s in (2, 3, 4)] + [(2, s) for s in range(5)]
    check(model, data, stream, arrays=5 if labels else 4)
    seen = [batch[0] if labels else batch for batch in model.seen]
    places = np.concatenate([x["place"] for x in seen])
    assert (len(set(places.tolist())) > 5) == (seconds is not None)
    for x in seen:
        np.testing.assert_allclose(x["pair"][:, 0], x["place"] / 1000)
        np.testing.assert_allclose(x["pair"][:, 1], x["lengths"] / 1000)


def test_a_compiled_step_learns_from_what_a_source_adds():
    data, model = marked(labels=False), Placed()
    model.compile(keras.optimizers.SGD(0.5))
    history = model.fit(data, epochs=8, verbose=0).history["loss"]
    total = sum(
        int(data.batch(epoch, step)["place"].sum())
        for epoch in range(8)
        for step in range(5)
    )
    assert float(model.sum.value) == total > 0
    assert history[-1] < 0.7 * history[0]
    loss = model.evaluate(marked(labels=False, drop_last=False), verbose=0)
    assert np.isfinite(loss)


def test_tensorflow_is_told_what_varies():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("of TensorFlow alone")
    spec = marked(seconds=None).get_tf_dataset().element_spec
    shapes = keras.tree.map_structure(lambda s: (s.shape.rank, s.dtype), spec)
    assert shapes == (
        {
            "lengths": (1, "int32"),
            "pair": (2, "float32"),
            "place": (1, "int32"),
            "waveform": (2, "float32"),
        },
        (1, "int32"),
    )
    assert spec[0]["waveform"].shape.as_list() == [None, None]
    assert spec[0]["pair"].shape.as_list() == [None, 2]
    cut = marked(labels=False).get_tf_dataset().element_spec
    assert cut["waveform"].shape.as_list() == [None, 50]


def test_a_whole_pass():
    data, model = make(clips=13, batch_size=4), Recorder()
    fit(model, data)
    assert model.predict(data, verbose=0).shape == (12, 1)
    whole = data.whole()
    assert model.predict(whole, verbose=0).shape == (13, 1)
    model.evaluate(whole, verbose=0)
    assert sum(len(y) for _, y in model.tested) == 13
    for step, got in enumerate(model.tested):
        same(got, whole.batch(0, step))
    # Training goes on where it was: of the passes, two were its own.
    assert data.epoch == 2


def test_an_error_while_reading_reaches_fit():
    data = make()
    data._clips._arrays[:] = [np.full(60, np.nan)] * 11
    with pytest.raises(Exception, match="Nothing readable"):
        fit(Recorder(), data)
