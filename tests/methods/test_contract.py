"""Every method of the registry keeps the contract of the base class."""

import json
import zipfile

import keras
import numpy as np
import pytest

import keras_audio_ssl as kas
from keras_audio_ssl.methods import METHODS
from keras_audio_ssl.methods import make_method
from tests.contract import BACKEND
from tests.contract import batch
from tests.contract import same
from tests.contract import step
from tests.contract import waves
from tests.contract import weights_of

pytestmark = pytest.mark.parametrize("name", sorted(METHODS))


def tiny(name, **kwargs):
    keras.utils.set_random_seed(1)
    return make_method(name, preset="tiny", **kwargs)


def test_is_a_pretext_model_with_paper_and_tiny_training(name):
    model = tiny(name)
    assert isinstance(model, kas.PretextModel)
    assert isinstance(model.encoder, kas.Encoder)
    for size in ("paper", "tiny"):
        assert set(model.TRAINING[size]) >= {"batch_size", "steps", "seconds"}


def test_fit_lowers_the_loss_and_moves_the_encoder(name):
    model, x = tiny(name), batch(16)
    model.compile(optimizer=keras.optimizers.Adam(3e-3))
    before = weights_of(model.encoder.backbone)
    history = model.fit(x, batch_size=8, epochs=8, verbose=0).history
    losses = history["loss"]
    assert np.isfinite(losses).all()
    assert min(losses[-2:]) < losses[0]
    after = weights_of(model.encoder.backbone)
    assert not same(before, after)
    assert int(model.updates) == 16
    named = set(history) - {"loss"}
    assert named, "a method reports metrics beside its loss"


def test_compile_without_arguments_takes_the_papers_optimizer(name):
    model = tiny(name)
    model.compile()
    wanted = model.default_optimizer().get_config()
    assert model.optimizer.get_config()["learning_rate"] == pytest.approx(
        wanted["learning_rate"]
    )


def test_the_step_after_a_reload_is_the_step_without_it(name, tmp_path):
    model, x = tiny(name), batch(8)
    model.compile()
    model.encoder.frontend.adapted or model.encoder.frontend.adapt([x])
    for _ in range(2):
        step(model, x)
    model.save(tmp_path / "model.keras")
    opened = keras.saving.load_model(tmp_path / "model.keras")
    assert type(opened) is type(model)
    # Both draw, so the second step shows that the generators went along.
    for _ in range(2):
        assert step(model, x) == step(opened, x)
    assert same(weights_of(model), weights_of(opened))
    assert int(opened.updates) == 4


def test_evaluate_predict_and_validation_data(name):
    model, x = tiny(name), batch(8)
    model.compile()
    logs = model.fit(x, batch_size=4, validation_data=(x,), verbose=0).history
    assert np.isfinite(logs["val_loss"]).all()
    assert np.isfinite(model.evaluate(x, batch_size=4, verbose=0)).all()
    outputs = model.predict(x, batch_size=4, verbose=0)
    for leaf in keras.tree.flatten(outputs):
        assert leaf.shape[0] == 8


def test_an_evaluation_leaves_the_weights_alone(name):
    model, x = tiny(name), batch(8)
    model.compile()
    model.fit(x, batch_size=8, verbose=0)
    before = weights_of(model)
    model.evaluate(x, batch_size=8, verbose=0)
    assert same(before, weights_of(model))


def test_gradient_accumulation_counts_updates(name):
    model, x = tiny(name), batch(8)
    model.compile(keras.optimizers.SGD(1e-3, gradient_accumulation_steps=2))
    model.encoder.frontend.adapted or model.encoder.frontend.adapt([x])
    seen = []
    for _ in range(4):
        step(model, x)
        seen.append(int(model.updates))
    assert seen == [0, 1, 1, 2]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(name, policy):
    model, x = tiny(name, dtype=policy), batch(8)
    model.compile()
    model.encoder.frontend.adapted or model.encoder.frontend.adapt([x])
    logs = step(model, x)
    assert np.isfinite(logs["loss"])
    dense = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.Dense)
    ]
    assert any(d.compute_dtype == policy.removeprefix("mixed_") for d in dense)
    frames = model.encoder(x["waveform"])["frames"]
    assert keras.backend.standardize_dtype(frames.dtype) == "float32"


def test_an_overflow_in_float16_moves_nothing(name):
    model, x = tiny(name, dtype="mixed_float16"), batch(8)
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(1e-3), initial_scale=1e38
    )
    model.compile(optimizer=optimizer)
    model.encoder.frontend.adapted or model.encoder.frontend.adapt([x])
    before = [v.numpy() for v in model.trainable_variables]
    step(model, x)
    after = [v.numpy() for v in model.trainable_variables]
    assert same(before, after)
    assert int(model.updates) == 0


def test_eager_and_compiled_steps_agree(name):
    x, logs = batch(8), []
    for eager in (True, False):
        model = tiny(name)
        model.compile(run_eagerly=eager)
        model.encoder.frontend.adapted or model.encoder.frontend.adapt([x])
        step(model, x)
        logs.append(step(model, x)["loss"])
    assert logs[0] == pytest.approx(logs[1], rel=2e-4)


@pytest.mark.skipif(BACKEND == "torch", reason="Keras: not on PyTorch")
def test_jit_compile_and_steps_per_execution(name):
    model, x = tiny(name), batch(16)
    model.compile(jit_compile=True, steps_per_execution=2)
    history = model.fit(x, batch_size=4, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert int(model.updates) == 8


def test_labels_are_welcome(name):
    model, x = tiny(name), batch(8)
    model.compile()
    labels = np.arange(8) % 2
    history = model.fit(x, labels, batch_size=4, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_silence_is_finite(name):
    model = tiny(name)
    x = {
        "waveform": np.zeros((4, 16000), "float32"),
        "lengths": np.full(4, 16000, "int32"),
    }
    model.encoder.frontend.adapted or model.encoder.frontend.adapt([batch()])
    model.compile()
    assert np.isfinite(step(model, x)["loss"])
    for weight in weights_of(model):
        assert np.isfinite(weight).all()


def test_one_seed_one_run(name):
    x, logs = batch(8), []
    for _ in range(2):
        model = tiny(name, seed=3)
        model.compile()
        model.encoder.frontend.adapted or model.encoder.frontend.adapt([x])
        logs.append([step(model, x)["loss"] for _ in range(2)])
    assert logs[0] == logs[1]


def test_the_file_is_data(name, tmp_path):
    model, x = tiny(name), batch(4)
    model.compile()
    model.fit(x, verbose=0)
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        config = json.loads(archive.read("config.json"))
    text = json.dumps(config)
    assert "Lambda" not in text
    assert "keras.src.backend.torch" not in text


def test_the_exported_encoder_is_the_encoder_alone(name, tmp_path):
    model, x = tiny(name), waves(3)
    model.compile()
    model.fit(batch(8), batch_size=8, verbose=0)
    path = tmp_path / "encoder.keras"
    model.encoder.save(path)
    opened = kas.load_encoder(path)
    np.testing.assert_array_equal(opened.embed(x), model.encoder.embed(x))
    assert len(opened.weights) < len(model.weights)


def test_another_encoder_can_stand_in(name):
    model = tiny(name)
    layers = keras.Sequential(
        [
            keras.Input((None, model.encoder.frontend.n_features)),
            keras.layers.Conv1D(12, 3, padding="causal"),
        ]
    )
    other = tiny(name, encoder=layers)
    other.compile()
    history = other.fit(batch(8), batch_size=4, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert other.encoder.embed(waves(2)).shape == (2, 12)


def test_bad_input_is_named(name):
    model = tiny(name)
    model.compile()
    with pytest.raises(ValueError, match="waveform"):
        model.fit({"wave": waves(4)}, verbose=0)
    with pytest.raises(ValueError, match="preset"):
        make_method(name, preset="huge")
    with pytest.raises(ValueError, match="encoder"):
        make_method(name, preset="tiny", encoder=3)
