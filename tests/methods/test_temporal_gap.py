import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from keras_audio_ssl.losses import correlation
from keras_audio_ssl.methods.temporal_gap import binary_entropy
from tests.contract import batch
from tests.contract import step
from tests.contract import waves
from tests.gradients import numpy

# Slices of 8 frames in windows of 60: seconds of training, not minutes.
SMALL = {
    "encoder": {"n_mels": 8, "channels": [8, 16], "dim": 16},
    "frames": 8,
    "window_seconds": 0.615,
    "hidden_dim": 32,
}


def make(cls=kas.TemporalGap, **kwargs):
    keras.utils.set_random_seed(0)
    return cls(**{**SMALL, **kwargs})


class OnFeatures(kas.TemporalGap):
    """The task on ready features `(batch, time, bins)`."""

    def call(self, x, training=False):
        slices, distance, valid = self.pairs(x, seed=self.seed_generator)
        gap = ops.cast(distance, "float32") / self.pairs.most
        return {**self.compare(slices, training), "gap": gap, "valid": valid}


def trained(model, draw, steps, rate=5e-3):
    """What held-out clips give after some steps on fresh ones."""
    model.compile(keras.optimizers.Adam(rate))
    for i in range(steps):
        model.train_on_batch(draw(i, 64))
    model.reset_metrics()
    logs = model.test_on_batch(draw(-1, 1024), return_dict=True)
    return {k: float(v) for k, v in logs.items()}


def test_the_paper_is_the_default():
    model = kas.TemporalGap()
    assert model.network.count_params() == 127_520
    head = model.hidden.count_params() + model.out.count_params()
    assert head == 16_513
    assert model.span == 998 and model.pairs.most == 902
    assert model.longest_gap == pytest.approx(9.02)
    assert float(numpy(model.default_optimizer().learning_rate)) == (
        pytest.approx(1e-3)
    )
    small = kas.TemporalGap(preset="tiny")
    assert small.span == 300 and small.min_samples == 299 * 160 + 400
    assert small.network.count_params() == 9_184
    head = small.hidden.count_params() + small.out.count_params()
    assert head == 8_321


def test_loss_and_metrics_against_numpy():
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 3, 6).astype("float32")
    gap = np.array([0.0, 1.0, 0.2, 0.5, 0.9, 0.3], "float32")
    valid = np.array([1, 1, 1, 0, 1, 1], bool)
    share = 1 / (1 + np.exp(-logit.astype("float64")))
    outputs = {
        "logit": logit, "gap": gap, "valid": valid,
        "embedding": rng.normal(size=(6, 2, 16)).astype("float32"),
    }  # fmt: skip
    outputs = {k: ops.convert_to_tensor(v) for k, v in outputs.items()}
    model = make()
    loss = float(numpy(model.pretext_loss(outputs, None)))
    each = -gap * np.log(share) - (1 - gap) * np.log(1 - share)
    assert loss == pytest.approx(each[valid].mean(), rel=1e-5)
    told = {m.name: float(numpy(m.result())) for m in model.told.values()}
    inner = gap[2:]
    entropy = np.zeros(6)
    entropy[2:] = -inner * np.log(inner) - (1 - inner) * np.log(1 - inner)
    assert told["excess"] == pytest.approx(
        loss - entropy[valid].mean(), rel=1e-5
    )
    assert told["gap_error_seconds"] == pytest.approx(
        0.52 * np.abs(share - gap)[valid].mean(), rel=1e-5
    )
    assert told["correlation"] == pytest.approx(
        np.corrcoef(share[valid], gap[valid])[0, 1], rel=1e-5
    )
    squared = make(distance="mse")
    loss = float(numpy(squared.pretext_loss(outputs, None)))
    assert loss == pytest.approx(np.square(share - gap)[valid].mean(), rel=1e-5)
    assert "excess" not in squared.told


def test_what_the_loss_cannot_be_below():
    shares = np.linspace(0, 1, 10_001).astype("float32")
    got = numpy(binary_entropy(ops.convert_to_tensor(shares))).mean()
    assert got == pytest.approx(0.5, abs=1e-3)


def test_the_correlation_of_a_constant_is_none():
    one, two = np.ones(5, "float32"), np.arange(5, dtype="float32")
    args = [ops.convert_to_tensor(v) for v in (one, two)]
    assert float(numpy(correlation(*args))) == pytest.approx(0, abs=1e-6)
    assert float(numpy(correlation(args[1], args[1]))) == pytest.approx(1)
    assert float(numpy(correlation(args[1], -args[1]))) == pytest.approx(-1)


def clocks(i, clips):
    """Time itself, written into the signal, standardised."""
    time = (np.arange(60) - 29.5) / 17.3
    return np.tile(time[:, None], (clips, 1, 8)).astype("float32")


def test_the_task_is_learnt_where_time_can_be_read():
    model = make(OnFeatures)
    found = trained(model, clocks, 100)
    # In units of the largest gap.
    assert found["gap_error_seconds"] / model.longest_gap < 0.05
    assert found["correlation"] > 0.95
    assert found["excess"] < 0.02 and found["loss"] > 0.45


def test_nothing_is_learnt_of_noise():
    def draw(i, clips):
        rng = np.random.default_rng(i + 1)
        return rng.standard_normal((clips, 60, 8)).astype("float32")

    found = trained(make(OnFeatures, overlap=False), draw, 60, 1e-3)
    assert found["loss"] == pytest.approx(np.log(2), abs=0.02)
    assert abs(found["correlation"]) < 5 / np.sqrt(1024)


def drifting(i, clips):
    """Clips whose sound goes up or down, evenly, from a random place."""
    rng = np.random.default_rng(i + 1)
    way = (
        rng.choice([-6, 6], (clips, 1, 1)) * np.linspace(-0.5, 0.5, 60)[:, None]
    )
    off = way + rng.normal(0, 2, (clips, 1, 1)) - np.linspace(-6, 6, 8)
    return (3 * np.exp(-0.5 * off**2)).astype("float32")


def test_a_gap_is_heard_within_a_clip_and_not_between_two():
    model = make(OnFeatures)
    found = trained(model, drifting, 120)
    assert found["correlation"] > 0.3
    assert found["gap_error_seconds"] / model.longest_gap < 0.25
    # The first slice of one clip and the second of another.
    slices, distance, _ = model.pairs(
        drifting(-1, 1024), seed=model.seed_generator
    )
    slices = numpy(slices)
    slices[:, 1] = np.roll(slices[:, 1], 1, axis=0)
    logit = numpy(model.compare(ops.convert_to_tensor(slices))["logit"])
    other = np.corrcoef(logit, numpy(distance))[0, 1]
    assert abs(other) < 0.15 < found["correlation"]


def test_the_gap_is_predicted_in_seconds_and_in_either_order():
    model = make()
    x = waves(3)
    least = model.encoder.samples_for(8)
    a, b = x[:, :least], x[:, 6000 : 6000 + least + 500]
    seconds = model.predict_gap(a, b)
    assert seconds.shape == (3,) and seconds.dtype == "float32"
    assert (seconds > 0).all() and (seconds < model.longest_gap).all()
    np.testing.assert_allclose(model.predict_gap(b, a), seconds, rtol=1e-5)
    with pytest.raises(ValueError, match=f"at least {least} samples"):
        model.predict_gap(a[:, :-1], b)


def test_clips_that_are_too_short_do_not_count_and_are_refused():
    model = make()
    assert model.min_samples == 9840
    x = waves(3)
    lengths = np.array([19200, 9840, 9000], "int32")
    found = []
    for fill in (0.0, 0.5):
        for row, n in zip(x, lengths, strict=True):
            row[n:] = fill
        model = make()
        outputs = model({"waveform": x, "lengths": lengths})
        np.testing.assert_array_equal(numpy(outputs["valid"]), [1, 1, 0])
        found.append(float(numpy(model.pretext_loss(outputs, None))))
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    model.compile()
    with pytest.raises(ValueError, match=r"9840 samples \(0.615 s\).*1 short"):
        model.fit({"waveform": x, "lengths": lengths}, verbose=0)


def test_ends_of_clips_are_left_out():
    model = make(trim=0.1)
    assert model.span == 60 + 2 * 10
    assert model.min_samples == 9840 + 20 * 160
    model.compile()
    assert np.isfinite(step(model, batch(4, seconds=1.5))["loss"])


@pytest.mark.parametrize(
    "arguments, match",
    [({"window_seconds": 0.095}, "no room for two slices"),
     ({"window_seconds": 0.0}, "`window_seconds`"), ({"trim": -1.0}, "trim"),
     ({"distance": "l1"}, "'cross_entropy' or 'mse'.*'l1'"),
     ({"frames": 3}, "at least 4")],
)  # fmt: skip
def test_nonsense_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        make(**arguments)


def test_the_encoder_moves_and_a_file_keeps_the_window(tmp_path):
    model = make()
    before = [numpy(v) for v in model.encoder.backbone.trainable_variables]
    model.compile()
    step(model, batch(4, seconds=1.5))
    after = [numpy(v) for v in model.encoder.backbone.trainable_variables]
    assert all((a != b).any() for a, b in zip(before, after, strict=True))
    model.save(tmp_path / "model.keras")
    opened = keras.saving.load_model(tmp_path / "model.keras")
    assert (opened.span, opened.pairs.most) == (60, 52)
    x = waves(2)
    least = model.encoder.samples_for(8)
    np.testing.assert_allclose(
        opened.predict_gap(x[:, :least], x[:, -least:]),
        model.predict_gap(x[:, :least], x[:, -least:]), rtol=1e-6,
    )  # fmt: skip
