import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from tests.contract import batch
from tests.contract import step
from tests.contract import waves


def array(x):
    return ops.convert_to_numpy(x)


def tiny(**kwargs):
    keras.utils.set_random_seed(0)
    model = kas.BYOLA(preset="tiny", **kwargs)
    if kwargs.get("pre_norm") != "running":
        model.encoder.frontend.adapt([batch(16)])
    return model


@pytest.mark.parametrize(
    "version, dim, parameters, rate",
    [("v1", 512, 600_192, 3e-4), ("v2", 3072, 6_333_376, 1e-4)],
)
def test_the_paper_is_the_default(version, dim, parameters, rate):
    model = kas.BYOLA(version)
    assert model.encoder.dim == dim
    trained = sum(
        int(np.prod(v.shape)) for v in model.encoder.trainable_variables
    )
    assert trained == parameters
    assert float(
        array(model.default_optimizer().learning_rate)
    ) == pytest.approx(rate)
    assert model.mixup.memory.shape == (2048, 96, 64)
    assert bool(model.fader_gain) == (version == "v2")


def test_the_target_moves_as_it_should_after_each_update():
    model, x = tiny(momentum=0.9), batch(8)
    model.compile()
    pairs = list(
        zip(model.online.weights, model.target.network.weights, strict=True)
    )
    trained = {id(v) for v in model.online.trainable_variables}
    for _ in range(3):
        old = [t.numpy() for _, t in pairs]
        step(model, x)
        moved = 0
        for (online, target), before in zip(pairs, old, strict=True):
            if id(online) in trained:
                want = 0.9 * before + 0.1 * online.numpy()
                np.testing.assert_allclose(target.numpy(), want, atol=1e-6)
                moved += np.abs(target.numpy() - before).max() > 0
        assert moved > 0
    optimized = {id(v) for v in model.trainable_variables}
    assert not optimized & {id(t) for _, t in pairs}
    predictor = {id(v) for v in model.predictor.weights}
    assert not predictor & {id(v) for pair in pairs for v in pair}


def test_the_target_waits_for_the_update_of_accumulated_gradients():
    model, x = tiny(momentum=0.5), batch(8)
    model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))
    weight = model.target.network.projector.out.kernel
    seen = [weight.numpy()]
    for _ in range(2):
        step(model, x)
        seen.append(weight.numpy())
    np.testing.assert_array_equal(seen[0], seen[1])
    assert np.abs(seen[2] - seen[1]).max() > 0


def test_views_come_from_the_segment_and_from_the_past():
    model = tiny()
    x = ops.convert_to_tensor(waves(8))
    crop = model.crop(x, seed=model.seed_generator)
    features = model.encoder.frontend(crop)
    view_1, view_2 = (array(v) for v in model.views(features))
    assert view_1.shape == view_2.shape == tuple(features.shape)
    both = np.concatenate([view_1, view_2])
    assert both.mean() == pytest.approx(0, abs=1e-4)
    assert both.std() == pytest.approx(1, abs=1e-3)
    assert np.abs(view_1 - view_2).mean() > 0.05


def test_the_memory_fills_in_training_alone():
    model, x = tiny(memory=12), batch(8)
    model.compile()
    model.evaluate(x, batch_size=8, verbose=0)
    assert int(model.mixup.pushed) == 0
    step(model, x)
    assert int(model.mixup.pushed) == 8
    step(model, x)
    assert int(model.mixup.pushed) == 16
    assert np.abs(model.mixup.memory.numpy()).min(axis=(1, 2)).shape == (12,)
    assert model.mixup.memory.numpy().any(axis=(1, 2)).all()


def test_training_brings_two_views_of_a_clip_together():
    model, x = tiny(learning_rate=2e-3), batch(32)
    model.compile()
    first = step(model, x)
    history = model.fit(x, batch_size=16, epochs=25, verbose=0).history
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    # Above chance, 1 in 16, by three deviations of 5 x 32 drawings.
    chance = 1 / 16 + 3 * np.sqrt(1 / 16 * 15 / 16 / 160)
    assert np.mean(history["view_retrieval"][-5:]) > chance
    # A collapse would bring clips nearer than random weights do.
    assert history["embedding_std"][-1] > 0.8 * first["embedding_std"]


def test_without_target_and_predictor_it_collapses():
    class Collapsing(kas.BYOLA):
        def compare(self, view_1, view_2, training=False):
            clip, p1 = self.online(view_1, training=training)
            _, p2 = self.online(view_2, training=training)
            return {"prediction_1": p1, "prediction_2": p2, "target_1": p1,
                    "target_2": p2, "embedding": clip}  # fmt: skip

    spread = {}
    for cls in (kas.BYOLA, Collapsing):
        keras.utils.set_random_seed(0)
        model = cls(preset="tiny", learning_rate=2e-3)
        # Of no use where it collapses, and it must not be what differs.
        model.predictor.trainable = cls is kas.BYOLA
        model.compile()
        x = batch(32)
        model.fit(x, batch_size=16, epochs=30, verbose=0)
        features = model.encoder.frontend(x["waveform"][:, :7600])
        _, z = model.online(features)
        z = array(z)
        z = z / np.linalg.norm(z, axis=1, keepdims=True)
        spread[cls] = z.std(0).mean()
    assert spread[Collapsing] < 0.5 * spread[kas.BYOLA]


def test_running_pre_norm_goes_into_the_exported_encoder():
    model, x = tiny(pre_norm="running", running_clips=40), waves(16)
    model.compile()
    model.fit(x, batch_size=16, epochs=4, verbose=0)
    frontend = model.encoder.frontend
    assert frontend.adapted
    assert float(model.running_norm.clips) == 40
    raw = array(frontend.unnormalized(ops.convert_to_tensor(x)))
    assert float(frontend.mean.numpy()) == pytest.approx(raw.mean(), abs=1.0)
    assert float(frontend.std.numpy()) == pytest.approx(raw.std(), rel=0.3)
    assert float(frontend.std.numpy()) == pytest.approx(
        float(array(model.running_norm.std)), rel=1e-6
    )


def test_inference_draws_nothing():
    model = tiny()
    x = waves(3)
    np.testing.assert_array_equal(
        model.encoder.embed(x), model.encoder.embed(x)
    )
    assert model.encoder.embed(x[:, :9000]).shape == (3, model.encoder.dim)


@pytest.mark.parametrize(
    "kwargs, match",
    [
        ({"version": "v3"}, "version"),
        ({"pre_norm": "none"}, "pre_norm"),
        ({"seconds": 0.01}, "seconds"),
    ],
)
def test_arguments_are_checked(kwargs, match):
    with pytest.raises(ValueError, match=match):
        kas.BYOLA(preset="tiny", **kwargs)
    with pytest.raises(ValueError, match="at least 2 clips"):
        model = tiny()
        model.compile()
        model.fit(waves(1), verbose=0)
