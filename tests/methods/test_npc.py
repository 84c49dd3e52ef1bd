import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from keras_audio_ssl.encoders import MaskedConvStack
from tests.contract import batch
from tests.contract import step
from tests.contract import waves
from tests.gradients import gradients
from tests.gradients import seen_frames

SMALL = {"units": 12, "blocks": 2, "kernel_size": 11, "input_mask": 5,
         "n_mels": 8}  # fmt: skip


def array(x):
    return np.asarray(ops.convert_to_numpy(x))


def value(x):
    return float(array(x))


def small(encoder=None, wake=True, cls=kas.NPC, **kwargs):
    """A small model; its normalisations are not those of a fresh one."""
    keras.utils.set_random_seed(0)
    settings = {**SMALL, **(encoder or {})}
    model = cls(**{"codebooks": None, **kwargs}, encoder=settings)
    rng = np.random.default_rng(0)
    for v in model.weights if wake else ():
        if v.path.endswith(("bias", "beta", "moving_mean")):
            v.assign(rng.normal(0, 0.2, v.shape))
        if v.path.endswith(("gamma", "moving_variance")):
            v.assign(rng.uniform(0.5, 1.5, v.shape))
    return model


def features(clips=3, frames=40, bins=8, seed=0):
    x = np.random.default_rng(seed).standard_normal((clips, frames, bins))
    return x.astype("float32")


def predict(model, x, lengths=None, **kwargs):
    if lengths is not None:
        lengths = ops.convert_to_tensor(np.asarray(lengths, "int32"))
    return model.predict_frames(ops.convert_to_tensor(x), lengths, **kwargs)


def loss_of(model, x, lengths=None):
    return value(model.pretext_loss(predict(model, x, lengths), None))


def test_the_paper_is_the_default():
    model = kas.NPC()
    assert sum(
        int(np.prod(v.shape)) for v in model.trainable_variables
    ) == 19_380_560  # fmt: skip
    plain = kas.NPC(model.encoder, codebooks=None)
    assert sum(
        int(np.prod(v.shape)) for v in plain.trainable_variables
    ) == 19_314_768  # fmt: skip
    backbone = model.encoder.backbone
    assert [conv.masked for conv in backbone.masked] == [7, 9, 11, 13]
    live = sum((15 - conv.masked) * 512 * 512 for conv in backbone.masked)
    assert live == 5_242_880
    optimizer = model.default_optimizer()
    assert value(optimizer.learning_rate) == pytest.approx(1e-3)
    assert optimizer.global_clipnorm == 5.0
    for norm in backbone.blocks[0].norms:
        assert (norm.epsilon, norm.momentum) == (1e-5, 0.9)


@pytest.mark.parametrize(
    "encoder",
    [{}, {"input_mask": 1}, {"blocks": 3, "input_mask": 3},
     {"cross_layer": False}, {"bottleneck": 3, "activation": "tanh"},
     {"batch_norm": False}],
)  # fmt: skip
def test_a_prediction_sees_its_neighbourhood_without_itself(encoder):
    model = small(encoder)
    backbone = model.encoder.backbone
    nearest = (backbone.input_mask - 1) // 2 + 1
    furthest = backbone.kernel_size // 2 + len(backbone.blocks)
    places = [20, 23, 0, 39]
    offsets = np.arange(nearest, furthest + 1)
    want = np.concatenate([-offsets[::-1], offsets])
    seen = seen_frames(
        lambda x: model.predict_frames(x)["prediction"],
        features()[0],
        places,
    )
    for place, got in zip(places, seen, strict=True):
        inside = (place + want >= 0) & (place + want < 40)
        np.testing.assert_array_equal(got, want[inside])


def test_noise_at_a_frame_changes_its_target_alone():
    model, x, t = small(), features(1), 17
    before = predict(model, x)
    hidden = model.encoder.backbone(x)["hidden"]
    x[0, t] = 5.0
    after = predict(model, x)
    other = model.encoder.backbone(x)["hidden"]

    def moved(a, b):
        return np.abs(array(a)[0, t] - array(b)[0, t]).max()

    assert moved(before["prediction"], after["prediction"]) == 0.0
    assert moved(before["target"], after["target"]) > 1
    # Masked outputs and the feature see it no more; the blocks do see it.
    for level, (a, b) in enumerate(zip(hidden, other, strict=True)):
        assert (moved(a, b) > 1e-3) == (level < 2)


def test_levels_and_what_is_handed_on():
    model = small()
    wave, backbone = waves(2), model.encoder.backbone
    assert len(backbone.dims) == 2 + 2 + 1
    out = model.encoder(wave, return_hidden=True)
    hidden = [array(level) for level in out["hidden"]]
    np.testing.assert_array_equal(array(out["frames"]), hidden[1])
    np.testing.assert_allclose(hidden[4], hidden[2] + hidden[3], atol=1e-6)
    paper = small({"output": "masked"})
    out = paper.encoder(wave)
    np.testing.assert_array_equal(array(out["frames"]), hidden[4])
    assert paper.level == model.level == -1
    narrow = small({"bottleneck": 3, "output": "masked", "cross_layer": False})
    assert narrow.encoder.dim == 3
    assert narrow.encoder.backbone.dims == [12, 12, 12, 3]


def test_padding_and_neighbours_change_nothing():
    model = small()
    x, lengths = features(), np.array([40, 23, 1])
    whole, outputs = loss_of(model, x, lengths), predict(model, x, lengths)
    hidden = model.encoder.backbone(x, lengths=lengths)["hidden"]
    prediction, alone = array(outputs["prediction"]), 0.0
    wide = np.concatenate([x, np.full((3, 9, 8), 9.0, "float32")], axis=1)
    for row, n in enumerate(lengths):
        wide[row, n:] = 9.0
    assert loss_of(model, wide, lengths) == pytest.approx(whole, abs=1e-5)
    for row, n in enumerate(lengths):
        clip = x[row : row + 1, :n]
        got = array(predict(model, clip)["prediction"])[0]
        np.testing.assert_allclose(got, prediction[row, :n], atol=1e-5)
        alone += n * loss_of(model, clip)
        levels = model.encoder.backbone(clip)["hidden"]
        for level, own in zip(hidden, levels, strict=True):
            np.testing.assert_allclose(
                array(level)[row, :n], array(own)[0], atol=1e-5
            )
            assert not array(level)[row, n:].any()
    assert whole == pytest.approx(alone / lengths.sum(), rel=1e-5)
    # One frame alone: what is predicted of it are biases.
    one = array(predict(model, x[2:, :1] + 3)["prediction"])
    np.testing.assert_allclose(one[0], prediction[2, :1], atol=1e-5)


def test_the_references_padding_leaks():
    model = small({"reference_padding": True})
    x, lengths = features(), np.array([40, 23, 12])
    for row, n in zip(x, lengths, strict=True):
        row[n:] = 0
    got = array(predict(model, x, lengths)["prediction"])
    np.testing.assert_array_equal(got, array(predict(model, x)["prediction"]))
    alone = array(predict(model, x[1:2, :23])["prediction"])[0]
    assert np.abs(got[1, :23] - alone).max() > 1e-3
    reach = 11 // 2 + 2
    np.testing.assert_allclose(
        got[1, : 23 - reach], alone[: 23 - reach], atol=1e-5
    )
    assert not model.encoder.backbone.exact_lengths


@pytest.mark.parametrize("reference", [False, True])
def test_batch_statistics_are_those_of_valid_frames(reference):
    """Against numpy, frame by frame."""
    model = small({"reference_padding": reference, "dropout": 0.0}, wake=False)
    x, lengths = features(), np.array([40, 23, 12])
    for row, n in zip(x, lengths, strict=True):
        row[n:] = 0
    block = model.encoder.backbone.blocks[0]
    kernel, bias = block.conv.kernel.numpy(), block.conv.bias.numpy()
    kept = []
    for row, n in zip(x, lengths, strict=True):
        frames = 40 if reference else n
        around = np.pad(row[:frames], ((1, 1), (0, 0)))
        kept += [
            sum(around[t + k] @ kernel[k] for k in range(3)) + bias
            for t in range(frames)
        ]
    kept = np.array(kept, "float64")
    before = predict(model, x, lengths, training=True)
    norm = block.norms[0]
    np.testing.assert_allclose(
        norm.moving_mean.numpy(), 0.1 * kept.mean(0), atol=1e-5
    )
    np.testing.assert_allclose(
        norm.moving_variance.numpy(), 0.9 + 0.1 * kept.var(0), atol=1e-5
    )
    # In training too, padding does not matter: the batch is the same.
    wide = np.concatenate([x, np.zeros((3, 9, 8), "float32")], axis=1)
    after = predict(model, wide, lengths, training=True)
    off = np.abs(
        array(after["prediction"])[1, :23] - array(before["prediction"])[1, :23]
    )
    assert (off.max() < 1e-5) != reference


def test_masked_weights_never_move():
    model = small()
    convs = model.encoder.backbone.masked
    _, grads = gradients(
        lambda: model.pretext_loss(predict(model, features()), None),
        [conv.kernel for conv in convs],
    )
    for conv, grad in zip(convs, grads, strict=True):
        side = (conv.kernel_size - conv.masked) // 2
        middle = grad[side : side + conv.masked]
        assert middle.shape[0] == conv.masked and not middle.any()
        assert np.abs(grad[:side]).max(axis=(1, 2)).all()
    model.compile()
    before = [conv.kernel.numpy() for conv in convs]
    step(model, batch(4))
    for conv, old in zip(convs, before, strict=True):
        side = (conv.kernel_size - conv.masked) // 2
        new = conv.kernel.numpy()
        moved = np.abs(new - old).max(axis=(1, 2)) > 0
        assert not moved[side : side + conv.masked].any()
        assert moved[:side].all() and moved[side + conv.masked :].all()


def test_codes_stand_between_feature_and_prediction():
    model = small(codebooks=[3, 5])
    outputs = predict(model, features(4, 60))
    pairs = len(np.unique(array(outputs["codes"]).reshape(-1, 2), axis=0))
    rows = array(outputs["prediction"]).reshape(-1, 8).round(5)
    assert 1 < len(np.unique(rows, axis=0)) == pairs <= 15
    model.compile()
    kernel = model.encoder.backbone.masked[0].kernel
    before = kernel.numpy()
    logs = step(model, batch(4))
    assert np.abs(kernel.numpy() - before).max() > 0
    for i, size in enumerate((3, 5)):
        assert 1.0 <= logs[f"codebook_perplexity_{i}"] <= size


def test_the_baseline_is_the_mean_of_the_nearest_that_are_seen():
    model = small()
    x, lengths = features(), np.array([40, 23, 2])
    got = array(predict(model, x, lengths)["interpolation"])
    for row, n in enumerate(lengths):
        for t in range(n):
            near = [x[row, s] for s in (t - 3, t + 3) if 0 <= s < n]
            want = np.mean(near, axis=0) if near else np.zeros(8)
            np.testing.assert_allclose(got[row, t], want, atol=1e-6)


class OnFeatures(kas.NPC):
    """NPC on features in place of waveforms."""

    def call(self, x, training=False):
        return self.predict_frames(x, training=training)


def test_training_beats_interpolation_and_nearer_frames_help():
    rng = np.random.default_rng(0)
    losses, frames = {}, np.arange(60)
    pitch = rng.uniform(0.4, 0.6, (32, 1, 8))
    phase = rng.uniform(0, 2 * np.pi, (32, 1, 8))
    # Oscillations of some twelve frames that drift.
    drift = np.cumsum(rng.normal(0, 0.3, (32, 60, 8)), axis=1)
    x = np.sin(pitch * frames[:, None] + phase + drift).astype("float32")
    for mask in (5, 1):
        encoder = {"input_mask": mask, "units": 32, "dropout": 0.0}
        model = small(encoder, wake=False, cls=OnFeatures)
        model.compile(keras.optimizers.Adam(1e-2))
        for _ in range(80):
            logs = step(model, x)
            model.reset_metrics()
        losses[mask] = logs["loss"]
        between = array(predict(model, x)["interpolation"])
        if mask == 5:
            assert logs["loss"] < 0.6 * np.abs(between - x).mean()
    assert losses[1] < 0.9 * losses[5]


@pytest.mark.parametrize(
    "encoder, match",
    [({"kernel_size": 12}, "kernel_size.*odd.*12"),
     ({"input_mask": 4}, "input_mask.*odd.*4"),
     ({"input_mask": 0}, "input_mask"),
     ({"kernel_size": 9}, r"exceed input_mask \+ 2 \* blocks = 9.*9"),
     ({"blocks": 3}, "exceed.*= 11"), ({"blocks": 0}, "blocks"),
     ({"bottleneck": 0}, "bottleneck"), ({"activation": "gelu"}, "tanh"),
     ({"output": "both"}, "'unmasked' or 'masked'")],
)  # fmt: skip
def test_sizes_that_would_see_or_be_blind_are_refused(encoder, match):
    with pytest.raises(ValueError, match=match):
        small(encoder)


def test_the_quantiser_must_fit():
    with pytest.raises(ValueError, match="add up to 12"):
        small(codebooks=[4] * 5)
    with pytest.raises(ValueError, match="codebook_dims"):
        small(codebooks=[4, 4], codebook_dims=[4, 4])
    with pytest.raises(ValueError, match="bottleneck"):
        small({"bottleneck": 3}, codebooks=[4])


def shifted(*layers):
    return keras.Sequential(
        [
            keras.Input((None, 8)),
            keras.layers.ZeroPadding1D((1, 0)),
            keras.layers.Cropping1D((0, 1)),
            *layers,
        ]
    )


def test_another_encoder_is_measured():
    conv = keras.layers.Conv1D(6, 3, padding="causal")
    model = kas.NPC(shifted(conv), codebooks=None)
    assert model.encoder.dim == 6 and model.reach == 1
    assert np.isfinite(loss_of(model, features()))
    ahead = keras.layers.Conv1D(6, 3, padding="same")
    with pytest.raises(ValueError) as caught:
        kas.NPC(shifted(ahead), codebooks=None)
    said = str(caught.value)
    assert "Measured: feature frame" in said and "moved by" in said
    assert "KerasBackbone" in said
    for encoder, match in (
        ("recurrent", "moved by"),
        ({"backbone": "transformer", "units": 16, "heads": 2,
          "feed_forward": 16, "layers": 1}, "moved by"),
        ("audio_ntt", "one frame for each"),
        (kas.BYOLA(preset="tiny").encoder, "one frame for each"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            kas.NPC(encoder, codebooks=None)
    # Downstream the last block sees its frame: that is not what predicts.
    kas.NPC(MaskedConvStack(8, 12, 2, 9, 3), codebooks=None)


def test_a_file_keeps_statistics_and_settings(tmp_path):
    model = small({"reference_padding": True, "output": "masked"})
    model.compile()
    step(model, batch(4))
    model.encoder.save(tmp_path / "npc.keras")
    opened = kas.load_encoder(tmp_path / "npc.keras")
    backbone = opened.backbone
    assert backbone.reference_padding and backbone.output_level == -1
    for a, b in zip(opened.weights, model.encoder.weights, strict=True):
        np.testing.assert_array_equal(array(a), array(b))
    np.testing.assert_array_equal(
        opened.embed(waves(2)), model.encoder.embed(waves(2))
    )
