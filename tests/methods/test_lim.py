import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from tests.contract import batch
from tests.contract import step
from tests.contract import waves

CHANCE = {"bce": 2 * np.log(2), "mine": 0.0, "nce": np.log(25)}


def array(x):
    return ops.convert_to_numpy(x)


def tiny(cls=kas.LIM, **kwargs):
    keras.utils.set_random_seed(0)
    return cls(preset="tiny", **kwargs)


def learner(cls=kas.LIM, **kwargs):
    """A model that learns the voices in 120 steps, compiled."""
    small = {"sinc": (16, 51), "conv": ((16, 5),), "dense": (32,)}
    model = tiny(cls, encoder=small, seconds=0.05, gain=0.0, **kwargs)
    model.compile(keras.optimizers.Adam(1e-2, global_clipnorm=5.0))
    return model


def voices(clips=24, seconds=0.6, seed=0):
    """Clips of steady sound, each with bands of its own."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * 16000)) / 16000
    x = 0.02 * rng.standard_normal((clips, len(t)))
    for _ in range(3):
        pitch = rng.uniform(150, 6000, (clips, 1))
        x += 0.2 * np.sin(2 * np.pi * pitch * t + rng.uniform(0, 6, (clips, 1)))
    return x.astype("float32")


def test_the_paper_is_the_default():
    model = kas.LIM()
    trained = sum(
        int(np.prod(v.shape)) for v in model.encoder.trainable_variables
    )
    assert trained == 160 + 42_120 + 209_240 + 6_400 + 21_568_040
    assert model.encoder.dim == 2048 and model.crop.length == 3200
    assert model.hidden.kernel.shape == (4096, 256)
    optimizer = model.default_optimizer()
    assert (type(optimizer).__name__, optimizer.rho) == ("RMSprop", 0.95)
    assert float(array(optimizer.learning_rate)) == pytest.approx(1e-3)
    assert optimizer.global_clipnorm is None
    assert model.encoder.frontend.amplitude == "peak"


def test_only_scores_without_an_end_are_clipped():
    assert tiny(objective="mine").default_optimizer().global_clipnorm == 5.0
    assert tiny(clip_norm=1.0).default_optimizer().global_clipnorm == 1.0


def on_torch_alone():
    """Of what is learnt alike everywhere, and dear to compile."""
    if keras.backend.backend() != "torch":
        pytest.skip("learnt on PyTorch alone, which compiles nothing")


@pytest.mark.parametrize("objective", sorted(CHANCE))
def test_the_loss_starts_at_chance_and_falls(objective):
    if objective != "bce":
        on_torch_alone()
    model, x = learner(objective=objective), voices()
    sinc = model.network.sinc
    before = sinc.low_hz.numpy(), sinc.band_hz.numpy()
    first = step(model, x)
    assert first["loss"] == pytest.approx(CHANCE[objective], abs=0.25)
    history = model.fit(x, batch_size=24, epochs=120, verbose=0).history
    assert np.mean(history["loss"][-10:]) < CHANCE[objective] - 0.25
    # Unit vectors of 32 dimensions: healthy is about 0.18.
    assert history["embedding_std"][-1] > 0.05
    if objective == "bce":
        assert np.mean(history["pair_accuracy"][-10:]) > 0.7
    # The filters learn too, and stay symmetric.
    for weight, old in zip((sinc.low_hz, sinc.band_hz), before, strict=True):
        assert np.abs(weight.numpy() - old).max() > 1e-3
    taps = array(sinc.filters_of())
    np.testing.assert_array_equal(taps, taps[::-1])


class OfOneUtterance(kas.LIM):
    """Every second row is the row before it again."""

    def others(self, batch):
        rows = ops.arange(batch, dtype="int32")
        return rows + 1 - 2 * (rows % 2)


class Shuffled(kas.LIM):
    """The second chunk is of any utterance."""

    def chunks(self, x, training=False):
        first, second = ops.split(super().chunks(x, training), 2)
        other = ops.take(second, self.others(ops.shape(second)[0]), axis=0)
        return ops.concatenate([first, other], axis=0)


@pytest.mark.parametrize("cls", [OfOneUtterance, Shuffled])
def test_where_pairs_tell_nothing_the_loss_stays_at_chance(cls):
    on_torch_alone()
    model, x = learner(cls), voices()
    if cls is OfOneUtterance:
        x = np.repeat(x[:12], 2, axis=0)
    history = model.fit(x, batch_size=24, epochs=120, verbose=0,
                        shuffle=False).history  # fmt: skip
    assert np.mean(history["loss"][-10:]) > CHANCE["bce"] - 0.1
    assert np.mean(history["pair_accuracy"][-10:]) < 0.6


def test_negatives_are_of_every_other_utterance():
    model = tiny()
    drawn = np.stack([array(model.others(5)) for _ in range(200)])
    assert (drawn != np.arange(5)).all()
    for row in range(5):
        share = np.bincount(drawn[:, row], minlength=5) / 200
        assert share[row] == 0 and share.max() < 0.36
        assert np.delete(share, row).min() > 0.14
    assert set(array(model.others(2)).tolist()) == {0, 1}


def test_the_level_is_that_of_the_clip():
    model, x = tiny(), 0.01 * waves(16)
    x[:, :8000] *= 0.1
    chunks = array(model.chunks(ops.convert_to_tensor(x)))
    peaks = np.abs(chunks).max(1)
    assert chunks.shape == (32, 1600)
    assert peaks.max() <= 1.0 and peaks.min() < 0.5
    whole = x / np.abs(x).max(1, keepdims=True)
    for row, wave in zip(chunks[:3], whole, strict=False):
        start = [np.abs(wave[s : s + 1600] - row).max() for s in range(17601)]
        assert min(start) < 1e-6


def test_gains_are_of_training_alone():
    model, x = tiny(gain=0.2), np.ones((64, 4000), "float32")
    calm = array(model.chunks(ops.convert_to_tensor(x)))
    np.testing.assert_array_equal(calm, 1.0)
    loud = array(model.chunks(ops.convert_to_tensor(x), training=True))
    gains = loud[:, 0]
    np.testing.assert_array_equal(loud, np.repeat(gains[:, None], 1600, 1))
    assert 0.8 <= gains.min() < 0.85 and 1.15 < gains.max() <= 1.2
    assert gains.mean() == pytest.approx(1.0, abs=0.04)


def test_chunks_stay_inside_of_their_clip_and_short_ones_are_repeated():
    model = tiny()
    x = np.zeros((3, 9000), "float32")
    lengths = np.array([9000, 4000, 700], "int32")
    for row, length in zip(x, lengths, strict=True):
        row[:length] = np.linspace(0.5, 1, length)
        row[length:] = np.nan
    clean = {"waveform": np.nan_to_num(x), "lengths": lengths}
    for _ in range(5):
        chunks = array(model.chunks({k: ops.convert_to_tensor(v)
                                     for k, v in clean.items()}))  # fmt: skip
        assert chunks.min() >= 0.5
        np.testing.assert_array_equal(chunks[2], chunks[5])
        np.testing.assert_array_equal(chunks[2, :700], chunks[2, 700:1400])


def test_order_matters_unless_it_is_symmetric():
    a, b = (ops.convert_to_tensor(np.random.default_rng(i).normal(
        size=(6, 64)).astype("float32")) for i in range(2))  # fmt: skip
    model = tiny()
    assert np.abs(array(model.scores(a, b) - model.scores(b, a))).max() > 1e-3
    model = tiny(symmetric=True)
    np.testing.assert_allclose(
        array(model.scores(a, b)), array(model.scores(b, a)), atol=1e-6
    )


def test_labels_are_learnt_beside_the_pairs():
    x, labels = voices(24), np.arange(24) % 3
    labels[::4] = -1
    # What belongs to a label can be heard.
    t = np.arange(x.shape[1]) / 16000
    x += 1.5 * np.sin(2 * np.pi * 500 * 2.0 ** (np.arange(24) % 3)[:, None] * t)
    x = x.astype("float32")
    model = learner(classes=3)
    history = model.fit(x, labels, batch_size=24, epochs=60, verbose=0).history
    assert history["label_accuracy"][0] < 0.7
    assert np.mean(history["label_accuracy"][-5:]) > 0.9
    assert history["loss"][0] == pytest.approx(
        CHANCE["bce"] + np.log(3), abs=0.8
    )
    # Without labels it is the pretext task alone.
    outputs = model(ops.convert_to_tensor(x))
    want = float(array(model.pretext_loss(outputs, x)))
    none, some = (
        float(array(model.pretext_loss(outputs, x, y)))
        for y in (np.full(24, -1), labels)
    )
    assert none == want < some


def test_ready_chunks_are_scored_as_they_are():
    model, x = tiny(), voices(8)
    chunks = {"first": x[:, :1600], "second": x[:, 4000:5600]}
    tensors = {k: ops.convert_to_tensor(v) for k, v in chunks.items()}
    both = array(model.chunks(tensors))
    np.testing.assert_array_equal(both, np.concatenate([*chunks.values()]))
    assert model(tensors)["positive"].shape == (8,)


def test_the_norm_over_time_trains_too():
    model = tiny(encoder={"norm": "time"})
    model.compile(run_eagerly=True)
    assert np.isfinite(step(model, batch(8))["loss"])
    assert model.encoder.embed(waves(2)).shape == (2, 64)


def test_rates_and_chunks_go_together():
    model = tiny(encoder={"sample_rate": 8000})
    assert model.crop.length == model.encoder.backbone.frames == 800
    assert model.network.sinc.sample_rate == 8000
    with pytest.raises(ValueError, match="must be 0.1, .* seconds=0.2"):
        kas.LIM(encoder=tiny().encoder, seconds=0.2)


def test_short_clips_warn_and_single_clips_are_refused():
    model = tiny()
    model.compile()
    with pytest.warns(UserWarning, match="no longer than the chunk"):
        model.fit(waves(4, seconds=0.08), verbose=0)
    with pytest.raises(ValueError, match="at least 2 clips. Received: 1"):
        model.fit(waves(1), verbose=0)


@pytest.mark.parametrize(
    "kwargs, match",
    [
        ({"objective": "cpc"}, "objective"),
        ({"optimization": "sgd"}, "optimization"),
        ({"gain": 1.0}, "gain"),
        ({"classes": 1}, "classes"),
        ({"seconds": 0.01}, "chunk"),
        ({"encoder": {"norm": "batch"}}, "norm"),
    ],
)
def test_arguments_are_checked(kwargs, match):
    with pytest.raises(ValueError, match=match):
        tiny(**kwargs)
