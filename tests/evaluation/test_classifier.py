import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import soundfile
from keras import ops

import keras_audio_ssl as kas
from keras_audio_ssl.data import from_arrays
from keras_audio_ssl.encoders import AudioNTT
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.engine import updating
from keras_audio_ssl.evaluation import Classifier
from keras_audio_ssl.evaluation.classifier import Standardize
from keras_audio_ssl.features import recipe
from tests.evaluation.fakes import write_table

SAMPLES = 3200


def tones(n, seed=0):
    """Two pitches in noise; the higher one is class 1."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    time = np.arange(SAMPLES) / 16000
    hz = np.where(y, 1500, 400) * rng.uniform(0.9, 1.1, n)
    x = 0.3 * np.sin(2 * np.pi * hz[:, None] * time)
    x = x + 0.05 * rng.standard_normal(x.shape)
    return x.astype("float32"), y.astype("int32")


def small_encoder():
    keras.utils.set_random_seed(0)
    frontend = recipe("byol_a", n_mels=16)
    # Without dropout, so that two runs can be compared.
    backbone = AudioNTT(16, dim=16, conv_channels=8, dropout=0.0)
    return Encoder(frontend, backbone)


@pytest.fixture
def encoder():
    encoder = small_encoder()
    encoder.frontend.adapt([tones(16)[0]])
    return encoder


def values(variables):
    return [np.array(ops.convert_to_numpy(v)) for v in variables]


def test_frozen_encoders_stay_identical_to_the_bit(encoder):
    x, y = tones(32)
    classifier = Classifier(encoder, classes=2, freeze=True, dropout=0.1)
    classifier.compile()
    before = values(encoder.weights)
    head = values(classifier.norm.weights + classifier.dense.weights)
    history = classifier.fit(x, y, epochs=20, batch_size=16, verbose=0)
    for a, b in zip(before, values(encoder.weights), strict=True):
        assert a.dtype == b.dtype and (a == b).all()
    after = values(classifier.norm.weights + classifier.dense.weights)
    assert all((a != b).any() for a, b in zip(head, after, strict=True))
    assert history.history["loss"][-1] < history.history["loss"][0]
    # Whoever else holds the encoder can still train it.
    assert encoder.trainable and encoder.trainable_variables
    assert len(classifier.trainable_variables) == 2
    assert len(classifier.weights) == len(encoder.weights) + 4
    assert len(classifier.non_trainable_weights) == len(encoder.weights) + 2


def test_a_frozen_encoder_is_in_inference_mode(encoder):
    x, _ = tones(8)
    classifier = Classifier(encoder, classes=2, freeze=True)
    clip = encoder(x, training=False)["clip"]
    expected = ops.convert_to_numpy(classifier.head(clip, training=True))
    got = ops.convert_to_numpy(classifier(x, training=True))
    np.testing.assert_allclose(got, expected, atol=1e-4)
    # In training mode, its batch norm would use the batch's statistics.
    moved = ops.convert_to_numpy(encoder(x, training=True)["clip"])
    assert np.abs(moved - ops.convert_to_numpy(clip)).max() > 1e-2


def test_fine_tuning_moves_the_encoder_and_learns(encoder):
    x, y = tones(32)
    before = values(encoder.weights)
    classifier = Classifier(encoder, classes=2)
    classifier.compile(optimizer=keras.optimizers.Adam(1e-3))
    classifier.fit(x, y, epochs=15, batch_size=16, verbose=0)
    moved = {
        v.path: (a != b).any()
        for v, a, b in zip(
            encoder.weights, before, values(encoder.weights), strict=True
        )
    }
    fixed = [v.path for v in encoder.frontend.weights]
    assert len(fixed) == 3 and not any(moved[path] for path in fixed)
    # A convolution's bias before batch norm has no gradient.
    for part in ("kernel", "moving_mean", "moving_variance"):
        some = [m for path, m in moved.items() if part in path]
        assert len(some) >= 3 and all(some), part
    result = classifier.evaluate(*tones(32, seed=1), verbose=0)
    assert result[1] > 0.9


def test_predict_gives_logits_and_probabilities_sum_to_one(encoder):
    x, _ = tones(6)
    classifier = Classifier(encoder, classes=["low", "high"])
    logits = classifier.predict(x, verbose=0)
    assert logits.shape == (6, 2)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = shifted / shifted.sum(axis=1, keepdims=True)
    got = classifier.probabilities(x)
    np.testing.assert_allclose(got, expected, atol=1e-4)
    names = classifier.classify(x)
    assert names == [["low", "high"][i] for i in expected.argmax(1)]
    assert classifier.classify(x[0]) == names[0]
    assert classifier.probabilities(x[0]).shape == (2,)
    assert Classifier(encoder, classes=3).classify(x[0]) in (0, 1, 2)


def test_padding_does_not_change_the_logits(encoder):
    x, _ = tones(3)
    lengths = np.array([3200, 2900, 1700], "int32")
    classifier = Classifier(encoder, classes=4)
    got = classifier.predict({"waveform": x, "lengths": lengths}, verbose=0)
    for i, n in enumerate(lengths):
        alone = classifier.predict(x[i : i + 1, :n], verbose=0)
        np.testing.assert_allclose(got[i : i + 1], alone, atol=1e-4)


def test_fit_on_a_manifest(encoder, tmp_path):
    x, y = tones(12)
    rows = []
    for i, wave in enumerate(x):
        soundfile.write(tmp_path / f"{i}.wav", wave, 16000)
        rows.append([f"{i}.wav", ["low", "high"][y[i]]])
    path = write_table(tmp_path / "m.csv", ["file", "pitch"], rows)
    options = {"batch_size": 4, "seconds": 0.15, "sample_rate": 16000}
    data = kas.data.from_manifest(path, label="pitch", **options)
    classifier = Classifier(encoder, classes=data.classes, freeze=True)
    classifier.compile()
    history = classifier.fit(data, epochs=2, verbose=0)
    assert len(history.history["accuracy"]) == 2
    assert classifier.classify([tmp_path / "0.wav"])[0] in data.classes
    other = Classifier(encoder, classes=["low", "other"])
    other.compile()
    with pytest.raises(ValueError, match=r"'high', 'low'.*'low', 'other'"):
        other.fit(data)
    bare = kas.data.from_manifest(path, **options)
    with pytest.raises(ValueError, match="no labels"):
        classifier.fit(bare)


@pytest.mark.parametrize("freeze", [True, False])
def test_save_and_go_on(encoder, tmp_path, freeze):
    x, y = tones(8)
    classifier = Classifier(
        encoder, classes=["low", "high"], freeze=freeze, dropout=0.0
    )
    classifier.compile()
    classifier.fit(x, y, batch_size=8, verbose=0)
    path = tmp_path / "classifier.keras"
    classifier.save(path)
    again = keras.saving.load_model(path)
    assert again.class_names == ["low", "high"] and again.freeze is freeze
    np.testing.assert_allclose(
        again.predict(x, verbose=0), classifier.predict(x, verbose=0), atol=1e-6
    )
    assert len(again.trainable_variables) == len(classifier.trainable_variables)
    # With the optimizer's state: the next step is the same.
    for model in (classifier, again):
        model.fit(x, y, batch_size=8, verbose=0)
    np.testing.assert_allclose(
        again.predict(x, verbose=0), classifier.predict(x, verbose=0), atol=1e-4
    )


OTHER = """
import numpy as np, keras, keras_audio_ssl as kas
kas.Classifier
model = keras.saving.load_model({path!r})
x = np.load({data!r})
np.save({out!r}, model.predict(x, verbose=0))
model.fit(x, np.arange(len(x)) % 2, batch_size=4, verbose=0)
"""


def test_it_opens_under_another_backend(encoder, tmp_path):
    # The next one in a circle, so that the three runs cover all.
    after = {"tensorflow": "jax", "jax": "torch", "torch": "tensorflow"}
    other = after[keras.backend.backend()]
    if importlib.util.find_spec(other) is None:
        pytest.skip(f"{other} is not installed")
    x, y = tones(4)
    classifier = Classifier(encoder, classes=2, freeze=True)
    classifier.compile()
    classifier.fit(x, y, batch_size=4, verbose=0)
    names = {k: str(tmp_path / k) for k in ("path.keras", "x.npy", "out.npy")}
    # Not what it came to here: PyTorch would take minutes to compile.
    assert classifier.get_compile_config()["jit_compile"] == "auto"
    classifier.save(names["path.keras"])
    np.save(names["x.npy"], x)
    code = OTHER.format(
        path=names["path.keras"], data=names["x.npy"], out=names["out.npy"]
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": other},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(
        np.load(names["out.npy"]), classifier.predict(x, verbose=0), atol=1e-4
    )


def test_a_front_end_without_statistics_measures_them_when_trained():
    x, y = tones(8)
    for data in (x, {"waveform": x, "lengths": np.full(8, 3000, "int32")}):
        encoder = small_encoder()
        frozen = Classifier(encoder, classes=2, freeze=True)
        frozen.compile()
        frozen.fit(data, y, verbose=0)
        assert not encoder.frontend.adapted
        tuned = Classifier(encoder, classes=2)
        tuned.compile()
        tuned.fit(data, y, verbose=0)
        assert encoder.frontend.adapted


def test_constant_vectors_are_finite(encoder):
    _, y = tones(8)
    classifier = Classifier(encoder, classes=2, freeze=True)
    classifier.compile()
    x = np.zeros((8, SAMPLES), "float32")
    history = classifier.fit(x, y, verbose=0)
    assert np.isfinite(history.history["loss"][-1])
    assert np.isfinite(classifier.predict(x, verbose=0)).all()


def test_standardize_is_batch_norm_that_a_large_constant_does_not_break():
    rng = np.random.default_rng(0)
    layer = Standardize(3, momentum=0.5)
    x = (rng.standard_normal((50, 3)) * [1, 1e-2, 0] + [0, 5, 300]).astype(
        "float32"
    )
    got = ops.convert_to_numpy(layer(x, training=True))
    x = x.astype("float64")
    expected = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-6)
    np.testing.assert_allclose(got[:, :2], expected[:, :2], atol=2e-3)
    assert np.abs(got[:, 2]).max() < 0.1
    mean, variance = values([layer.mean, layer.variance])
    np.testing.assert_allclose(mean, x.mean(0) / 2, rtol=1e-4)
    np.testing.assert_allclose(variance, (1 + x.var(0)) / 2, rtol=1e-4)
    got = ops.convert_to_numpy(layer(x.astype("float32")))
    expected = (x - mean) / np.sqrt(variance + 1e-6)
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_wrong_arguments_and_labels(encoder):
    x, y = tones(4)
    for classes, message in (
        (1, "at least 2"),
        (["a"], "at least 2"),
        (["a", "a"], "must differ"),
    ):
        with pytest.raises(ValueError, match=message):
            Classifier(encoder, classes=classes)
    with pytest.raises(ValueError, match=r"Encoder.*Dense"):
        Classifier(keras.layers.Dense(3))
    classifier = Classifier(encoder, classes=2)
    classifier.compile()
    for labels, message in (
        (None, "y=None"),
        (y + 1, r"0 to 1. Received: 1 to 2"),
        (y - 1, r"0 to 1. Received: -1 to 0"),
        (np.array(["low", "high"] * 2), r"integers.*'low'"),
        (np.array([0, 1, np.nan, 1]), "NaN or infinite.* 1 of 4 are"),
        (np.array([0, 1, np.inf, 1], "float32"), "NaN or infinite"),
        (np.array([0, 0.5, 0.25, 1]), r"whole numbers.*'0.5', '0.25'"),
    ):
        with pytest.raises(ValueError, match=message):
            classifier.fit(x, labels)
        with pytest.raises(ValueError, match=message):
            classifier.evaluate(x, labels)
    with pytest.raises(ValueError, match="0 to 1"):
        classifier.fit(x, y, validation_data=(x, y + 1))
    with pytest.raises(ValueError, match="whole numbers"):
        classifier.fit(x, y, validation_data=(x, y + 0.5))
    with pytest.raises(ValueError, match="samples"):
        classifier.fit(x[:, :100], y)


def test_clips_without_label_are_refused(encoder):
    x, y = tones(12)
    y[5] = -1
    part = from_arrays(x, y, unlabelled=True, batch_size=4, shuffle=False)
    few = from_arrays(x, np.abs(y), label_fraction=0.5, batch_size=4)
    good = from_arrays(x, np.abs(y), batch_size=4)
    classifier = Classifier(encoder, classes=2)
    classifier.compile()
    for data, count in ((part, 1), (few, 6)):
        message = f"{count} of the data's 12 clips have no label"
        for call in (
            lambda data=data: classifier.fit(data),
            lambda data=data: classifier.evaluate(data),
            lambda data=data: classifier.fit(good, validation_data=data),
        ):
            with pytest.raises(ValueError, match=message):
                call()


def test_half_precision_inside_float32_outside(tmp_path):
    x, y = tones(8)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        encoder = small_encoder()
        encoder.frontend.adapt([x])
        classifier = Classifier(encoder, classes=2)
        classifier.compile()
        history = classifier.fit(x, y, batch_size=8, verbose=0)
        classifier.save(tmp_path / "half.keras")
    finally:
        keras.config.set_dtype_policy(before)
    assert encoder.backbone.compute_dtype == "float16"
    assert np.isfinite(history.history["loss"][0])
    logits = classifier.predict(x, verbose=0)
    assert logits.dtype == np.float32 and np.isfinite(logits).all()
    again = keras.saving.load_model(tmp_path / "half.keras")
    assert again.encoder.backbone.compute_dtype == "float16"
    np.testing.assert_allclose(again.predict(x, verbose=0), logits, atol=1e-2)


def test_a_frozen_encoder_embeds_each_clip_once(encoder, monkeypatch):
    x, y = tones(20)
    seen = []
    predict = Encoder.predict_on_batch

    def watched(self, batch):
        out = predict(self, batch)
        seen.append(len(out["clip"]))
        return out

    monkeypatch.setattr(Encoder, "predict_on_batch", watched)
    one = Classifier(encoder, classes=2, freeze=True)
    one.compile()
    history = one.fit(
        x, y, batch_size=8, epochs=6, verbose=0, validation_data=(x[:6], y[:6])
    ).history
    assert seen == [8, 8, 4, 6]
    assert len(history["val_accuracy"]) == 6
    # What is left is a classifier of waveforms.
    got = one.evaluate(x[:6], y[:6], verbose=0)[1]
    assert got == pytest.approx(history["val_accuracy"][-1])
    clip = values([encoder(x, training=False)["clip"]])[0]
    np.testing.assert_allclose(
        values([one.norm.mean])[0], clip.mean(0), atol=1e-4
    )
    # Of a data set too, whose labels come in its own order.
    data = from_arrays(x, y, batch_size=8, seed=4)
    other = Classifier(encoder, classes=2, freeze=True)
    other.compile()
    other.fit(data, epochs=30, verbose=0, validation_data=data)
    assert seen[4:] == [8, 8, 4] * 2
    assert other.evaluate(x, y, verbose=0)[1] == 1.0


def test_the_head_is_trained_before_the_encoder(encoder):
    x, y = tones(32)
    started = Classifier(encoder, classes=2)
    started.compile()
    before = values(encoder.weights)
    started._start_head({"x": x, "y": y, "verbose": 0})
    after = values(encoder.weights)
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    assert started.evaluate(x, y, verbose=0)[1] == 1.0
    # `fit` does so, once, where nothing else was asked for.
    first = []
    one = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: first.append(
            np.abs(values([tuned.dense.kernel])[0]).max()
        )
    )
    for optimizer, starts in ((None, True), ("adam", False)):
        tuned = Classifier(encoder, classes=2)
        tuned.compile(optimizer)
        first.clear()
        tuned.fit(x, y, verbose=0, callbacks=[one])
        assert bool(first[0] > 0) is starts
        kernel = values([tuned.dense.kernel])[0]
        tuned.fit(x, y, verbose=0, callbacks=[one])
        assert first[1] == np.abs(kernel).max()


@pytest.mark.parametrize("freeze", [True, False])
def test_the_schedule_spans_a_fit_and_a_second_begins_anew(encoder, freeze):
    x, y = tones(16)
    classifier = Classifier(encoder, classes=2, freeze=freeze)
    classifier.compile()
    classifier.fit(x, y, batch_size=8, epochs=5, verbose=0)
    rate = classifier.optimizer._learning_rate
    assert rate.steps == 10 and classifier.optimizer.iterations == 10
    assert float(rate(10)) == 0
    before = values([classifier.dense.kernel])[0]
    classifier.fit(x, y, batch_size=8, epochs=2, verbose=0)
    assert classifier.optimizer._learning_rate.steps == 4
    assert (values([classifier.dense.kernel])[0] != before).any()


@pytest.mark.parametrize("freeze", [True, False])
def test_clips_that_validate_teach_the_head_nothing(encoder, freeze):
    x, y = tones(32)
    heads = []
    for other in (False, True):
        # What only validates is changed, sound and label: nothing may change.
        wave, label = x.copy(), y.copy()
        if other:
            wave[16:] = wave[16:][::-1] / 2
            label[16:] = 1 - label[16:]
        keras.utils.set_random_seed(3)
        classifier = Classifier(encoder, classes=2, freeze=freeze)
        classifier.compile()
        options = {"validation_split": 0.5, "batch_size": 8, "verbose": 0}
        if freeze:
            classifier.fit(wave, label, epochs=4, **options)
        else:
            classifier._start_head({"x": wave, "y": label, **options})
        heads.append(values(classifier.norm.weights + classifier.dense.weights))
    assert np.abs(heads[0][2]).max() > 0
    for one, two in zip(*heads, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_half_precision_begins_a_second_schedule_too(encoder):
    x, y = tones(16)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        classifier = Classifier(encoder, classes=2, freeze=True)
        classifier.compile()
        for epochs in (5, 2):
            classifier.fit(x, y, batch_size=8, epochs=epochs, verbose=0)
            rate = updating(classifier.optimizer)._learning_rate
            assert rate.steps == 2 * epochs
    finally:
        keras.config.set_dtype_policy(before)


def test_data_that_are_not_kept_are_not_embedded_first(encoder, monkeypatch):
    x, y = tones(16)
    monkeypatch.setattr(Encoder, "predict_on_batch", None)
    classifier = Classifier(encoder, classes=2, freeze=True)
    classifier.compile()
    data = from_arrays(x, y, batch_size=8, repeat=True)
    classifier.fit(data, steps_per_epoch=2, verbose=0)
    assert int(classifier.optimizer.iterations) == 2


@pytest.mark.parametrize("held", [True, False])
def test_statistics_of_a_pretraining_can_be_held(encoder, held):
    x, y = tones(16)
    norms = [block.norm for block in encoder.backbone.blocks]
    for norm in norms:
        norm.moving_mean.assign(norm.moving_mean + 0.1)
    classifier = Classifier(encoder, classes=2, hold_statistics=held)
    classifier.compile()
    clip = values([encoder(x, training=False)["clip"]])[0]
    before = values(
        [v for n in norms for v in (n.moving_mean, n.moving_variance)]
    )
    kernel = values([norms[0].gamma])[0]
    # The rate follows.
    rate = float(classifier.default_optimizer().learning_rate)
    assert rate == pytest.approx(1e-5 if held else 3e-4)
    classifier.fit(x, y, batch_size=8, verbose=0)
    after = values(
        [v for n in norms for v in (n.moving_mean, n.moving_variance)]
    )
    same = [(a == b).all() for a, b in zip(before, after, strict=True)]
    assert all(same) if held else not any(same)
    # The head's are those of the vectors before, and stay too.
    mean = values([classifier.norm.mean])[0]
    assert np.allclose(mean, clip.mean(0), atol=1e-5) is held
    # Weights are trained either way.
    assert (values([norms[0].gamma])[0] != kernel).any()
    again = Classifier.from_config(classifier.get_config())
    assert again.hold_statistics is held


def test_held_statistics_train_the_network_that_is_tested(encoder):
    x, y = tones(16)
    encoder.backbone.blocks[0].norm.moving_mean.assign_add(np.ones(8))
    classifier = Classifier(encoder, classes=2, hold_statistics=True)
    classifier.compile(keras.optimizers.SGD(0.0))
    classifier.fit(x, y, verbose=0)
    # An optimizer of one's own starts no head: its statistics are learnt.
    assert not classifier._holds_head
    classifier.fit(x, y, verbose=0)
    assert classifier._holds_head
    outputs = [classifier(x, training=t) for t in (True, False)]
    np.testing.assert_allclose(*values(outputs), atol=1e-5)


@pytest.mark.parametrize("kind", ["ours", "foreign"])
def test_the_encoders_dropout_is_off(encoder, kind):
    if kind == "ours":
        backbone = AudioNTT(16, dim=16, conv_channels=8, dropout=0.5)
    else:
        network = keras.Sequential(
            [
                keras.Input((None, 16)),
                keras.layers.Conv1D(8, 3, padding="same"),
                keras.layers.SpatialDropout1D(0.5),
                keras.layers.GaussianDropout(0.5),
            ]
        )
        backbone = kas.encoders.KerasBackbone(network, 16)
    dropping = Encoder(encoder.frontend, backbone)
    x, y = tones(8)
    clips = [values([dropping(x, training=True)["clip"]])[0] for _ in range(2)]
    assert (clips[0] != clips[1]).any()
    classifier = Classifier(dropping, classes=2)
    classifier.compile(keras.optimizers.SGD(0.1))
    classifier.fit(x, y, verbose=0)
    logits = [values([classifier(x, training=True)])[0] for _ in range(2)]
    np.testing.assert_array_equal(*logits)
    assert np.abs(logits[0]).max() > 0
    # Elsewhere it goes on.
    clips = [values([dropping(x, training=True)["clip"]])[0] for _ in range(2)]
    assert (clips[0] != clips[1]).any()


def test_rates_of_a_head_follow_its_width(encoder):
    frozen = Classifier(encoder, classes=2, freeze=True)
    wide = Classifier(kas.Readout(encoder), classes=2, freeze=True)
    assert wide.encoder.dim > 200 > encoder.dim
    for classifier, rate in ((frozen, 0.01), (wide, 2 / wide.encoder.dim)):
        optimizer = classifier.default_optimizer()
        assert float(optimizer.learning_rate) == pytest.approx(rate)
        # So much of a weight is lost in a step, whatever the rate.
        assert optimizer.weight_decay * rate == pytest.approx(0.01)
