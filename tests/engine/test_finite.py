import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_audio_ssl as kas
from keras_audio_ssl.engine import KeepFinite
from keras_audio_ssl.engine import unwrapped
from tests.contract import BACKEND
from tests.contract import batch
from tests.contract import same
from tests.contract import step
from tests.contract import waves
from tests.contract import weights_of
from tests.methods.denoising import Denoising


def adapted(**kwargs):
    keras.utils.set_random_seed(0)
    model = Denoising(**kwargs)
    model.encoder.frontend.adapt([batch(4)])
    return model


def test_it_is_the_other_optimizer_but_for_holding_back():
    adam = keras.optimizers.Adam(0.1, beta_1=0.8)
    keep = KeepFinite(adam)
    assert keep.learning_rate is adam.learning_rate
    keep.learning_rate = 0.2
    assert float(adam.learning_rate) == pytest.approx(0.2)
    assert keep.beta_1 == 0.8 and keep.get_config() == adam.get_config()
    assert unwrapped(keep) is adam and unwrapped(adam) is adam
    variable = keras.Variable(np.ones(3, "float32"))
    keep.build([variable])
    assert adam.built and keep.variables[:-1] == adam.variables
    assert keep.iterations is adam.iterations
    with pytest.raises(AttributeError, match="no_such"):
        keep.no_such  # noqa: B018


def test_compiled_twice_with_one_optimizer_it_is_wrapped_once(tmp_path):
    model, adam = adapted(), keras.optimizers.Adam(1e-3)
    model.compile(adam)
    step(model, batch(4))
    for optimizer in (adam, model.optimizer):
        model.compile(optimizer)
        assert unwrapped(model.optimizer) is adam
        step(model, batch(4))
    assert int(model.updates) == int(adam.iterations) == 3
    model.save(tmp_path / "model.keras")
    config = model.get_compile_config()["optimizer"]
    assert config["class_name"] == "Adam"
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert step(model, batch(4)) == step(again, batch(4))


def test_a_rate_that_callbacks_set_is_the_optimizers():
    model = adapted()
    model.compile(keras.optimizers.SGD(0.1))
    rates = keras.callbacks.LearningRateScheduler(lambda epoch: 0.5**epoch)
    model.fit(batch(4), epochs=3, verbose=0, callbacks=[rates])
    assert float(unwrapped(model.optimizer).learning_rate) == 0.25


def test_weights_without_decay_stay_so_in_files(tmp_path):
    model = adapted()
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(optimizer)
    model.fit(batch(4), verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    inner = unwrapped(again.optimizer)
    for variable in again.trainable_variables:
        decays = variable.name not in ("bias", "gamma", "beta")
        assert inner._use_weight_decay(variable) == decays
    for _ in range(2):
        assert step(model, batch(4)) == step(again, batch(4))
    assert same(weights_of(model), weights_of(again))


def test_a_batch_of_too_few_clips_adds_nothing():
    class Pairs(Denoising):
        min_batch = 2

    keras.utils.set_random_seed(0)
    model = Pairs()
    model.encoder.frontend.adapt([batch(4)])
    model.compile()
    logs = model.fit(batch(5), batch_size=2, shuffle=False, verbose=0)
    assert np.isfinite(logs.history["loss"]).all()
    assert int(model.updates) == 2 and model.skipped_batches() == (0, 0)
    before = weights_of(model)
    one = model.evaluate(batch(5), batch_size=4, verbose=0, return_dict=True)
    assert np.isfinite(list(one.values())).all() and one["loss"] > 0
    assert same(before, weights_of(model))


def test_a_data_sets_last_clip_adds_nothing():
    class Pairs(Denoising):
        min_batch = 2

    data = kas.data.from_arrays(
        waves(5), seconds=1.0, batch_size=2, drop_last=False
    )
    model = Pairs()
    model.compile()
    model.fit(data, epochs=2, verbose=0)
    assert int(model.updates) == 4 and model.skipped_batches() == (0, 0)
    logs = model.evaluate(data, verbose=0, return_dict=True)
    assert np.isfinite(list(logs.values())).all() and logs["loss"] > 0


REPLICAS = """
import numpy as np, keras, tensorflow as tf
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from tests.methods.denoising import Denoising
from tests.contract import batch
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    keras.utils.set_random_seed(0)
    model = Denoising()
    model.encoder.frontend.adapt([batch(8)])
    model.compile(keras.optimizers.Adam(1e-2))
x = batch(8)
state = lambda: [v.numpy() for v in (*model.trainable_variables,
                                     *model.optimizer.variables[:-1])]
start = state()
model.fit(x, batch_size=8, verbose=0)
once = state()
assert int(model.updates.numpy()) == 1
assert any((a != b).any() for a, b in zip(start, once))
x["waveform"][6] = np.nan  # on the second replica alone
model.fit(x, batch_size=8, verbose=0)
assert all(np.array_equal(a, b) for a, b in zip(once, state()))
assert model.skipped_batches() == (1, 1), model.skipped_batches()
moving = [v.numpy() for v in model.non_trainable_variables]
assert all(np.isfinite(v).all() for v in moving)
model.fit(batch(8), batch_size=8, verbose=0)
assert int(model.updates.numpy()) == 2
assert model.skipped_batches() == (1, 0)
for v in model.trainable_variables:
    a, b = (part.numpy() for part in v.value.values)
    assert np.array_equal(a, b)
print("replicas agree")
"""


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute")
def test_one_bad_replica_holds_back_all():
    done = subprocess.run(
        [sys.executable, "-c", REPLICAS],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )
    assert "replicas agree" in done.stdout, done.stderr[-3000:]
