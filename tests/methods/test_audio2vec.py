import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from keras_audio_ssl.blocks import SliceDecoder
from keras_audio_ssl.methods import make_method
from tests.contract import batch
from tests.contract import step
from tests.contract import waves
from tests.gradients import gradients
from tests.gradients import numpy

tasks = pytest.mark.parametrize("task", ["cbow", "skipgram"])
# Slices of 8 frames and bins: seconds of training, not minutes.
SMALL = {
    "encoder": {"n_mels": 8, "channels": [8, 16], "dim": 16},
    "frames": 8,
    "decoder_channels": [8, 8],
}


def make(task="cbow", cls=kas.Audio2Vec, **kwargs):
    keras.utils.set_random_seed(0)
    return cls(task, **{**SMALL, **kwargs})


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


class OnFeatures(kas.Audio2Vec):
    """The task on ready features `(batch, time, bins)`."""

    def call(self, x, training=False):
        slices, valid = self.slices(x, seed=self.seed_generator)
        return {**self.rebuild(slices, training), "valid": valid}


@tasks
def test_the_paper_is_the_default(task):
    model = kas.Audio2Vec(task)
    assert model.network.count_params() == 127_520
    decoder = {"cbow": 455_305, "skipgram": 160_420}[task]
    trained = sum(
        int(np.prod(v.shape)) for v in model.decoder.trainable_variables
    )
    assert model.decoder.count_params() == decoder
    assert trained < decoder
    assert model.span == 488
    assert model.min_samples == 487 * 160 + 400
    assert float(numpy(model.default_optimizer().learning_rate)) == (
        pytest.approx(1e-3)
    )
    small = kas.Audio2Vec(task, preset="tiny")
    assert small.network.count_params() == 9_184
    assert (
        small.decoder.count_params()
        == ({"cbow": 102_921, "skipgram": 29_220}[task])
    )
    assert small.span == 128 and small.encoder.dim == 64


@tasks
def test_both_tasks_have_a_name(task):
    model = make_method(f"audio2vec_{task}", preset="tiny")
    assert isinstance(model, kas.Audio2Vec) and model.task == task


@tasks
@pytest.mark.parametrize("training", [False, True])
def test_what_is_rebuilt_is_not_seen(task, training):
    model = make(task)
    clips = noise(1, model.span, 8)
    x = keras.Variable(clips)
    starts = [k * 10 for k in range(5)]

    def predicted():
        rows = ops.convert_to_tensor(x)
        slices = ops.stack([rows[:, s : s + 8] for s in starts], axis=1)
        found = model.rebuild(slices, training)["prediction"]
        return ops.sum(found * ops.convert_to_tensor(noise(*found.shape)))

    _, (grad,) = gradients(predicted, [x])
    seen = np.zeros(model.span, bool)
    for k, start in enumerate(starts):
        seen[start : start + 8] = (k == 2) == (task == "skipgram")
    assert not grad[0, ~seen].any()
    moved = np.abs(grad[0]).max(axis=-1) > 0
    # Maxima over the slice: not every frame is one.
    assert all(moved[s : s + 8].any() for s in starts if seen[s])


@tasks
def test_targets_are_the_slices_in_their_order(task):
    model = make(task)
    slices = noise(2, 5, 8, 8)
    out = model.rebuild(ops.convert_to_tensor(slices))
    kept = [2] if task == "cbow" else [0, 1, 3, 4]
    others = [k for k in range(5) if k not in kept]
    want = np.concatenate([slices[:, k] for k in kept], axis=1)
    np.testing.assert_array_equal(numpy(out["target"]), want)
    assert out["prediction"].shape == out["target"].shape
    np.testing.assert_allclose(
        numpy(out["seen_mean"]), slices[:, others].mean((1, 2)), atol=1e-6
    )
    assert out["embedding"].shape == (2, len(others), 16)
    # Vectors of slices are those of the exported encoder.
    alone = model.network(slices[:, others[-1]])["clip"]
    np.testing.assert_allclose(
        numpy(out["embedding"])[:, -1], numpy(alone), atol=1e-5
    )


def test_loss_and_metrics_against_numpy():
    model = make("skipgram")
    # The mean of each band along two batches of training.
    seen = []
    for i in range(2):
        slices = noise(3, 5, 8, 8, seed=i) + np.arange(8, dtype="float32")
        out = model.rebuild(ops.convert_to_tensor(slices), training=True)
        seen.append(slices[:, [0, 1, 3, 4]])
    bands = np.mean(seen, axis=(0, 1, 2, 3))
    np.testing.assert_allclose(numpy(model.bands.mean), bands, rtol=1e-5)
    out["valid"] = ops.convert_to_tensor([True, False, True])
    rows = [0, 2]
    loss = float(numpy(model.pretext_loss(out, None)))
    target, found = numpy(out["target"])[rows], numpy(out["prediction"])[rows]
    want = np.mean((target - found) ** 2)
    assert loss == pytest.approx(want, rel=1e-5)
    told = {m.name: float(numpy(m.result())) for m in model.told.values()}
    variance = np.mean((target - bands) ** 2)
    middle = numpy(out["seen_mean"])[rows][:, None]
    assert told["band_mean_mse"] == pytest.approx(variance, rel=1e-5)
    assert told["explained"] == pytest.approx(1 - want / variance, rel=1e-4)
    assert told["seen_mean_mse"] == pytest.approx(
        np.mean((target - middle) ** 2), rel=1e-5
    )
    assert model.baseline in told


def sliding(i, clips):
    """Clips of a bump that moves over the bins, faster or slower."""
    rng = np.random.default_rng(i + 1)
    speed = rng.choice([-0.15, 0.15], (clips, 1, 1))
    place = rng.uniform(0, 8, (clips, 1, 1)) + speed * np.arange(48)[:, None]
    off = (np.arange(8) - place + 4) % 8 - 4
    return (3 * np.exp(-0.5 * off**2) - 1).astype("float32")


@tasks
def test_training_beats_both_means_and_order_matters(task):
    model = make(task, OnFeatures)
    model.compile(keras.optimizers.Adam(1e-2))
    for i in range(100):
        model.train_on_batch(sliding(i, 32))
    model.reset_metrics()
    held_out = sliding(-1, 128)
    logs = model.test_on_batch(held_out, return_dict=True)
    logs = {k: float(v) for k, v in logs.items()}
    assert logs["loss"] < 0.8 * min(logs["seen_mean_mse"],
                                    logs["band_mean_mse"])  # fmt: skip
    assert logs["explained"] > 0.2
    if task == "skipgram":
        return
    slices, _ = model.slices(held_out, seed=model.seed_generator)
    turned = ops.take(slices, np.array([3, 0, 2, 4, 1]), axis=1)
    errors = [
        np.mean(
            (numpy(out["prediction"]) - numpy(out["target"])) ** 2
        )
        for out in map(model.rebuild, (slices, turned))
    ]  # fmt: skip
    assert errors[1] > 1.5 * errors[0]


@tasks
def test_coefficients_in_place_of_bands(task):
    model = kas.Audio2Vec(task, features="mfcc", preset="tiny")
    frontend = model.encoder.frontend
    assert type(frontend).__name__ == "MFCC" and frontend.n_features == 32
    assert frontend.normalize == "per_bin"
    assert kas.Audio2Vec().encoder.frontend.n_features == 64
    model.compile()
    history = model.fit(
        batch(8, seconds=2.2), batch_size=8, epochs=2, verbose=0
    ).history
    assert np.isfinite(history["loss"]).all()


def test_the_smallest_task_and_the_shortest_clip():
    with pytest.warns(UserWarning, match="gap=0 .* share 240 samples"):
        model = make(context=1, gap=0)
    assert model.span == 24
    model.compile()
    least = model.min_samples
    assert np.isfinite(step(model, waves(4)[:, :least])["loss"])
    with pytest.raises(ValueError, match=f"{least} samples \\(0.255 s\\)"):
        model.fit(waves(4)[:, : least - 1], verbose=0)
    lengths = np.array([least, least - 1, 19200, 19200], "int32")
    with pytest.raises(ValueError, match="1 shorter ones among 4.*0.255"):
        model.fit({"waveform": waves(4), "lengths": lengths}, verbose=0)


@tasks
def test_padding_and_short_neighbours_change_nothing(task):
    x = waves(3, 1.5)
    lengths = np.array([24000, 16000, 3000], "int32")
    found = []
    for pad, fill in ((0, 0.3), (4000, 0.3), (4000, 0.0)):
        wide = np.pad(x, ((0, 0), (0, pad)))
        for row, n in zip(wide, lengths, strict=True):
            row[n:] = fill
        model = make(task)
        outputs = model({"waveform": wide, "lengths": lengths})
        np.testing.assert_array_equal(numpy(outputs["valid"]), [1, 1, 0])
        loss = float(numpy(model.pretext_loss(outputs, None)))
        found.append([loss, *numpy(outputs["prediction"])[:2].ravel()])
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)
    np.testing.assert_allclose(found[2], found[0], atol=1e-5)


def test_clips_of_any_length_are_embedded_by_windows():
    encoder = kas.Audio2Vec(preset="tiny").encoder
    encoder.frontend.adapt([waves(4)])
    assert encoder.frame_rate == pytest.approx(100 / 24)
    clip = waves(1, 3.3)[0]
    frames = encoder.embed_frames(clip)
    features, _ = encoder.features(clip[None])
    assert frames.shape == (features.shape[1] // 24, 64)
    own = encoder.backbone.backbone(features[:, 48:72])["clip"]
    np.testing.assert_allclose(frames[2], numpy(own)[0], atol=1e-5)
    np.testing.assert_allclose(encoder.embed(clip), frames.mean(0), atol=1e-5)
    # Silence follows what is shorter than a window.
    short = np.pad(clip[:2000], (0, encoder.min_samples - 2000))
    np.testing.assert_allclose(
        encoder.embed(clip[:2000]), encoder.embed(short), atol=1e-6
    )
    levels = kas.Readout(encoder, pooling=("mean",))
    assert levels.embed(clip).shape == (sum(encoder.backbone.dims),)


def test_the_decoder_names_the_nearest_sizes():
    for arguments, match in (
        ({"frames": 100}, "`frames` must be a multiple of 32.*96 and 128.*100"),
        ({"encoder": {"n_mels": 40}}, "`bins`.*32 and 64.*40"),
    ):
        with pytest.raises(ValueError, match=match):
            kas.Audio2Vec(**arguments)
    with pytest.raises(ValueError, match="the nearest are 4\\. Received: 3"):
        SliceDecoder(4, 3, 8, channels=[2, 2])
    out = SliceDecoder(4, 12, 8, 3, [4, 2])(noise(2, 4))
    assert out.shape == (2, 3, 12, 8)


@pytest.mark.parametrize(
    "arguments, match",
    [({"task": "glove"}, "'cbow' or 'skipgram'.*'glove'"),
     ({"features": "raw"}, "'log_mel' or 'mfcc'.*'raw'"),
     ({"context": 0}, "`context`.*0"), ({"gap": -1}, "gap=-1"),
     ({"frames": 3}, "at least 4"), ({"decoder_channels": []}, "at least one"),
     ({"n_mels": 8}, "encoder={'n_mels': 8}")],
)  # fmt: skip
def test_nonsense_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        make(**arguments)


def test_a_file_keeps_the_task(tmp_path):
    model = make("skipgram", context=1)
    model.compile()
    step(model, batch(4))
    model.save(tmp_path / "model.keras")
    opened = keras.saving.load_model(tmp_path / "model.keras")
    assert (opened.task, opened.span) == ("skipgram", 28)
    np.testing.assert_array_equal(
        numpy(opened.bands.mean), numpy(model.bands.mean)
    )
    np.testing.assert_array_equal(
        opened.encoder.embed(waves(2)), model.encoder.embed(waves(2))
    )
