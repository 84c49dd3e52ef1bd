"""Every method of the registry keeps the contract of the base class."""

import json
import os
import subprocess
import sys
import warnings
import zipfile

import keras
import numpy as np
import pytest

import keras_audio_ssl as kas
from keras_audio_ssl.callbacks import SkippedBatches
from keras_audio_ssl.callbacks.resume import copy_state
from keras_audio_ssl.callbacks.resume import state_of
from keras_audio_ssl.engine import unwrapped
from keras_audio_ssl.features import front_ends
from keras_audio_ssl.methods import METHODS
from keras_audio_ssl.methods import make_method
from tests import contract
from tests.contract import BACKEND
from tests.contract import SLOW_AT_FIRST
from tests.contract import Batches
from tests.contract import long_enough
from tests.contract import names_here
from tests.contract import one_of_each
from tests.contract import put_back
from tests.contract import same
from tests.contract import spoken
from tests.contract import step
from tests.contract import values_of
from tests.contract import waves
from tests.contract import weights_of

# The method of CONTRIBUTING's walk-through: one file, and this line.
METHODS["denoising"] = ("tests.methods.denoising", "Denoising", {})


def batch(model, clips):
    """Clips of unequal length, none too short for a method."""
    return contract.batch(clips, seconds=long_enough(model))


def tiny(name, **kwargs):
    """A small model, not compiled, whose front end is adapted."""
    keras.utils.set_random_seed(1)
    model = make_method(name, preset="tiny", **kwargs)
    if not model.encoder.frontend.adapted:
        model.encoder.frontend.adapt([batch(model, 8)])
    return model


def grouped(names):
    """Methods as parameters; a method's tests share a worker, and a model."""
    return [pytest.param(n, marks=pytest.mark.xdist_group(n)) for n in names]


def in_turn(quality):
    """Parametrizes a test of what the base class does for every method."""
    names = grouped(names_here(quality, one_of_each(METHODS), BACKEND))
    # Through the fixture: beside it, a name would leave `trained` another's.
    return pytest.mark.parametrize("name", names, indirect=True, scope="module")


def quick_optimizer(model):
    """The paper's optimizer, at a rate that shows in 16 steps."""
    paper = model.default_optimizer()
    config = {**paper.get_config(), "learning_rate": 3e-3}
    return type(paper).from_config(config)


@pytest.fixture(scope="module", params=grouped(one_of_each(METHODS)))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def trained(name):
    """A model after 16 steps, and the history of its `fit`."""
    keras.utils.set_random_seed(1)
    model = make_method(name, preset="tiny")
    assert isinstance(model, kas.PretextModel)
    model.compile(quick_optimizer(model))
    assert model.jit_compile or BACKEND != "jax"
    before = weights_of(model.encoder.backbone)
    # Of their size TensorFlow's graph knows nothing, as of every data set of
    # the package; of arrays' it does.
    rows = batch(model, 16)
    data = Batches(
        [
            (keras.tree.map_structure(lambda x, p=part: x[p], rows),)
            for part in (slice(0, 8), slice(8, 16))
        ]
    )
    history = model.fit(data, shuffle=False, epochs=8, verbose=0).history
    assert not same(before, weights_of(model.encoder.backbone))
    return model, history


@pytest.fixture
def model(trained):
    """The one compiled model of a method, put back after each test."""
    model, _ = trained
    kept = values_of(model)
    yield model
    put_back(kept)


def test_tests_of_a_method_share_a_worker(name, request):
    config = request.config
    if not getattr(config.option, "loadgroup", False):
        pytest.skip("one process")
    assert request.node.nodeid.endswith(f"@{name}")


def test_fit_lowers_the_loss(name, trained):
    model, history = trained
    losses = history["loss"]
    assert np.isfinite(losses).all()
    assert name in SLOW_AT_FIRST or min(losses[-2:]) < losses[0]
    assert int(model.updates) == 16
    assert model.encoder.frontend.adapted
    assert set(history) - {"loss"}, "no metric beside the loss"


@in_turn("evaluate")
def test_evaluate_and_predict_leave_the_weights_alone(name, model):
    x, before = batch(model, 8), weights_of(model)
    logs = model.evaluate(x, batch_size=8, verbose=0, return_dict=True)
    assert np.isfinite(list(logs.values())).all()
    outputs = model.predict(x, batch_size=8, verbose=0)
    for leaf in keras.tree.flatten(outputs):
        assert leaf.shape[0] == 8
    assert same(before, weights_of(model))


@in_turn("export")
def test_the_exported_encoder_is_the_encoder_alone(name, model, tmp_path):
    x, path = waves(2), tmp_path / "encoder.keras"
    model.encoder.save(path)
    opened = kas.load_encoder(path)
    np.testing.assert_array_equal(opened.embed(x), model.encoder.embed(x))
    assert len(opened.weights) < len(model.weights)


def test_the_step_after_a_reload_is_the_step_without_it(model, tmp_path):
    path, x = tmp_path / "model.keras", batch(model, 8)
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        text = json.dumps(json.loads(archive.read("config.json")))
    assert "Lambda" not in text
    assert "keras.src.backend.torch" not in text
    opened = keras.saving.load_model(path)
    assert type(opened) is type(model)
    # Both draw, so the second step shows that the generators went along.
    for _ in range(2):
        assert step(model, x) == step(opened, x)
        model.reset_metrics()
        opened.reset_metrics()
    assert same(weights_of(model), weights_of(opened))
    assert int(opened.updates) == int(model.updates)


@in_turn("optimizer")
def test_compile_without_arguments_takes_the_papers_optimizer(name):
    model = tiny(name)
    assert set(model.TRAINING) == {"paper", "tiny"}
    for plan in model.TRAINING.values():
        assert set(plan) >= {"batch_size", "steps", "seconds"}
    model.compile()
    got, want = (
        {k: v for k, v in o.get_config().items() if k != "name"}
        for o in (model.optimizer, model.default_optimizer())
    )
    inner = unwrapped(model.optimizer)
    assert type(inner) is type(model.default_optimizer())
    assert got == want


@in_turn("accumulation")
def test_gradient_accumulation_counts_updates(name):
    model = tiny(name)
    x = batch(model, 8)
    model.compile(keras.optimizers.SGD(1e-3, gradient_accumulation_steps=2))
    seen = []
    for _ in range(4):
        step(model, x)
        seen.append(int(model.updates))
    assert seen == [0, 1, 1, 2]


def test_mixed_bfloat16(name):
    model = tiny(name, dtype="mixed_bfloat16")
    x = batch(model, 8)
    model.compile()
    assert np.isfinite(step(model, x)["loss"])
    dense = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.Dense)
    ]
    assert any(d.compute_dtype == "bfloat16" for d in dense)
    frames = model.encoder(x["waveform"])["frames"]
    assert keras.backend.standardize_dtype(frames.dtype) == "float32"


@in_turn("float16")
def test_float16_scales_its_loss_and_an_overflow_moves_nothing(name):
    model = tiny(name, dtype="mixed_float16")
    x = batch(model, 8)
    model.compile(
        keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(1e-3), initial_scale=1e38
        )
    )
    before = [v.numpy() for v in model.trainable_variables]
    step(model, x)
    assert same(before, [v.numpy() for v in model.trainable_variables])
    assert int(model.updates) == 0
    model.optimizer.dynamic_scale.assign(128.0)
    model.reset_metrics()
    assert np.isfinite(step(model, x)["loss"])
    assert int(model.updates) == 1


def skips_what_is_not_finite(model):
    """Two batches of NaN between two good ones leave no trace."""
    x = batch(model, 8)
    first = step(model, x)

    def state():
        moving = {id(model.skipped), *(id(v) for v in model._seed_states())}
        return [v.numpy() for v in state_of(model) if id(v) not in moving]

    before, updates = state(), int(model.updates)
    bad = {k: v.copy() for k, v in x.items()}
    bad["waveform"][3] = np.nan
    for turn in range(2):
        logs = step(model, bad)
        assert same(before, state())
        assert logs.keys() == first.keys()
        assert np.isfinite(list(logs.values())).all()
        assert model.skipped_batches() == (turn + 1, turn + 1)
    step(model, x)
    assert not same(before, state())
    assert all(np.isfinite(v).all() for v in state())
    assert model.skipped_batches() == (2, 0)
    assert int(model.updates) == updates + 1


def test_a_batch_that_is_not_finite_changes_nothing(model):
    skips_what_is_not_finite(model)


def steps_in_one_execution(name):
    model = tiny(name)
    x = batch(model, 16)
    model.compile(jit_compile=True, steps_per_execution=2)
    history = model.fit(x, batch_size=4, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert int(model.updates) == 4


def under_xla(names):
    """What TensorFlow compiles only where it is told to, of some methods."""
    for name in names:
        print(name, flush=True)
        model = tiny(name)
        model.compile(jit_compile=True)
        skips_what_is_not_finite(model)
    # XLA is given one step here as there: Keras' loop stays outside of it.
    steps_in_one_execution(names[0])


@pytest.mark.skipif(
    BACKEND != "tensorflow", reason="JAX always compiles, PyTorch never"
)
@pytest.mark.parametrize("half", range(2))
def test_under_xla_too(half):
    # In a process of its own: TensorFlow keeps what XLA compiled, half a
    # gigabyte a method, for as long as a process lives.
    names = one_of_each(METHODS)[half::2]
    code = f"from tests.methods.test_contract import *; under_xla({names})"
    # Most of it is LLVM at work on programs that run a few times. (At level 0
    # a NaN is lost on the way through the network of `multi_format`.)
    flags = (
        "--xla_backend_optimization_level=1",
        "--xla_llvm_disable_expensive_passes=true",
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={
            **os.environ,
            "PYTHONPATH": os.getcwd(),
            "XLA_FLAGS": " ".join(flags),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    assert done.stdout.split() == names


@in_turn("eager")
def test_an_eager_step_is_the_compiled_one_and_skips_what_is_not_finite(
    name, model
):
    x, eager = batch(model, 8), tiny(name)
    eager.compile(quick_optimizer(eager), run_eagerly=True)
    copy_state(eager, model)
    logs = [step(m, x)["loss"] for m in (eager, model)]
    assert logs[0] == pytest.approx(logs[1], rel=2e-4)
    eager.reset_metrics()
    eager.skipped.assign([0, 0])
    skips_what_is_not_finite(eager)


@in_turn("ten_batches")
def test_ten_batches_in_a_row_that_are_not_finite_end_the_run(name, model):
    said = []
    watch = SkippedBatches(say=said.append)
    x = {
        k: np.tile(v, (16,) + (1,) * (v.ndim - 1))
        for k, v in batch(model, 8).items()
    }
    x["waveform"][8:16] = np.nan
    some = {k: v[:32] for k, v in x.items()}
    model.fit(some, batch_size=8, shuffle=False, verbose=0, callbacks=[watch])
    assert not watch.stopped and len(said) == 1 and "skipped 1" in said[0]
    before = [v.numpy() for v in model.trainable_variables]
    x["waveform"][:] = np.nan
    history = model.fit(
        x, batch_size=8, epochs=3, verbose=0, callbacks=[watch]
    ).history
    assert len(history["loss"]) == 1 and watch.stopped
    assert "10 batches in a row" in said[-1]
    assert model.skipped_batches()[0] < 18
    assert same(before, [v.numpy() for v in model.trainable_variables])


@in_turn("validation")
def test_validation_and_labels(name, model):
    x, labels = batch(model, 8), np.arange(8) % 2
    logs = model.fit(
        x, labels, batch_size=8, validation_data=(x, labels), verbose=0
    ).history
    assert np.isfinite(logs["val_loss"]).all()


@pytest.mark.skipif(BACKEND != "jax", reason="PyTorch: no, TensorFlow: above")
@in_turn("steps_per_execution")
def test_jit_compile_and_steps_per_execution(name):
    steps_in_one_execution(name)


@in_turn("seed")
def test_one_seed_one_run_and_silence_is_finite(name, model):
    x, logs = batch(model, 8), []
    for _ in range(2):
        fresh = tiny(name, seed=3)
        fresh.compile(quick_optimizer(fresh))
        copy_state(fresh, model)
        model.reset_metrics()
        logs.append([step(model, x)["loss"] for _ in range(2)])
    assert logs[0] == logs[1]
    silence = {**x, "waveform": np.zeros_like(x["waveform"])}
    assert np.isfinite(step(model, silence)["loss"])
    for weight in weights_of(model):
        assert np.isfinite(weight).all()


@in_turn("other_encoder")
def test_another_encoder_can_stand_in(name):
    bins = tiny(name).encoder.frontend.n_features
    layers = keras.Sequential(
        [
            keras.Input((None, bins)),
            # A frame late: NPC refuses what sees the frame it predicts.
            keras.layers.ZeroPadding1D((1, 0)),
            keras.layers.Cropping1D((0, 1)),
            keras.layers.Conv1D(12, 3, padding="causal"),
        ]
    )
    model = tiny(name, encoder=layers)
    model.compile()
    assert np.isfinite(step(model, batch(model, 4))["loss"])
    assert model.encoder.embed(waves(2)).shape == (2, 12)


def test_bad_input_is_named(name, model):
    with pytest.raises(ValueError, match="waveform"):
        model.fit({"wave": waves(4)}, verbose=0)
    with pytest.raises(ValueError, match="preset"):
        make_method(name, preset="huge")
    with pytest.raises(ValueError, match="encoder"):
        make_method(name, preset="tiny", encoder=3)


@in_turn("shortest")
def test_clips_shorter_than_the_task_needs_are_refused(name, model):
    least = model.min_samples
    assert least >= model.encoder.min_samples
    x, lengths = waves(8, long_enough(model)), np.full(8, least, "int32")
    short = spoken({"waveform": x[:, : least - 1], "lengths": lengths})
    with pytest.raises(ValueError, match=rf"at least {least} samples"):
        model.fit(short, batch_size=8, verbose=0)
    shortest = spoken({"waveform": x[:, :least], "lengths": lengths})
    with warnings.catch_warnings():
        # Of clips that are no longer than a segment.
        warnings.simplefilter("ignore")
        history = model.fit(shortest, batch_size=8, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert model.skipped_batches()[1] == 0


def test_every_encoder_that_is_kept_is_one(model):
    kept = model.exports()
    assert kept[""] is model.encoder
    assert all(isinstance(encoder, kas.Encoder) for encoder in kept.values())


@in_turn("rate")
def test_another_rate(name):
    usual = tiny(name).encoder
    for rate in (8000, 96000):
        model = make_method(name, preset="tiny", sample_rate=rate)
        encoder = model.encoder
        assert encoder.sample_rate == rate
        ratio = encoder.frame_rate / usual.frame_rate
        raw = all(f.hop_length == 1 for f in front_ends(usual))
        assert ratio == pytest.approx(
            rate / usual.sample_rate if raw else 1, 0.03
        )
    data = kas.data.from_arrays(waves(8), sample_rate=16000, batch_size=8)
    with pytest.raises(ValueError, match="sample_rate=96000"):
        model.fit(data)
    with pytest.raises(ValueError, match="8000"):
        make_method(name, encoder=usual, sample_rate=8000)
