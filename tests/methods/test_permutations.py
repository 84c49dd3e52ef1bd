import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from keras_audio_ssl.encoders import PatchCNN
from keras_audio_ssl.encoders import Windowed
from keras_audio_ssl.methods.permutations import far_orders
from tests.contract import batch
from tests.contract import step
from tests.contract import waves
from tests.gradients import numpy

# Of windows that are trained on here.
FRAMES = 16


def tiny(encoder=None, cls=kas.Permutations, **kwargs):
    keras.utils.set_random_seed(0)
    kwargs = {"preset": "tiny", **kwargs}
    if encoder is not None:
        kwargs["encoder"] = encoder
    return cls(**kwargs)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


class OnWindows(kas.Permutations):
    """The task on ready windows of features."""

    def call(self, x, training=False):
        valid = ops.ones((ops.shape(x)[0],), "bool")
        return {**self.rank(x, training), "valid": valid}


def trained(model, draw, steps, rate=1e-3, clips=32):
    """Steps on fresh windows; a batch's `scores` and `ranks` afterwards."""
    model.compile(keras.optimizers.Adam(rate))
    for i in range(steps):
        model.train_on_batch(draw(i, clips))
    outputs = model.predict_on_batch(draw(-1, 256))
    model.reset_metrics()
    model.test_on_batch(draw(-1, 256))
    return outputs, {m.name: float(numpy(m.result())) for m in model.metrics}


def parameters(layers):
    return sum(layer.count_params() for layer in layers)


def test_the_paper_is_the_default():
    model = kas.Permutations()
    network = model.network
    assert isinstance(network, PatchCNN)
    assert network.count_params() == 123_904
    assert parameters([model.hidden, model.out]) == 528_904
    assert model.cutter.counts == (1, 8) and model.encoder.dim == 1024
    rate = model.default_optimizer().learning_rate
    assert float(numpy(rate)) == pytest.approx(1e-3)
    assert isinstance(model.encoder.backbone, Windowed)
    assert model.min_samples == 95 * 160 + 400
    small = tiny()
    assert small.network.count_params() == 8_128
    assert parameters([small.hidden, small.out]) == 16_968


def test_the_parts_of_a_window_are_encoded_alone_and_joined():
    model = tiny()
    features = noise(2, 200, 64)
    out = model.encoder.backbone(features)
    assert out["frames"].shape == (2, 2, 256)
    np.testing.assert_allclose(
        numpy(out["clip"]), numpy(out["frames"]).mean(1), atol=1e-6
    )
    patches = model.cutter(features[:, 96:192])
    one = model.network.network(patches[:, 3])["clip"]
    np.testing.assert_allclose(
        numpy(out["frames"])[:, 1, 96:128], numpy(one), atol=1e-5
    )


@pytest.mark.parametrize("axis", ["freq", "time", "time_freq"])
def test_the_right_scores_restore_the_window(axis):
    model = tiny(axis=axis)
    windows = noise(3, 96, 64)
    outputs = model.rank(ops.convert_to_tensor(windows))
    ranks = numpy(outputs["ranks"])
    count = model.cutter.number
    assert (np.sort(ranks, axis=1) == np.arange(count) + 1).all()
    whole = numpy(model.cutter.join(model.cutter(windows)))
    restored = model.restored(outputs["shuffled"], outputs["ranks"])
    np.testing.assert_array_equal(numpy(restored), whole)
    patches = numpy(model.cutter(windows))
    shuffled = numpy(outputs["shuffled"])
    for row in range(3):
        for place in range(count):
            true = int(ranks[row, place]) - 1
            np.testing.assert_array_equal(
                shuffled[row, place], patches[row, true]
            )


def test_any_order_is_drawn():
    ranks, order = tiny().draw(10_000)
    assert order is None
    for place in range(8):
        counts = np.bincount(numpy(ranks)[:, place].astype(int))[1:]
        assert len(counts) == 8
        assert ((counts - 1250) ** 2 / 1250).sum() < 30


def test_a_fresh_network_starts_near_the_loss_of_no_scores():
    model = tiny()
    model.encoder.frontend.adapt([batch(16, seconds=2.0)])
    model.compile()
    loss = step(model, batch(16, seconds=2.0))["loss"]
    assert loss == pytest.approx(28 / np.sqrt(np.pi), rel=0.2)


def by_level(i, clips):
    """Windows in which every band has a level of its own, in noise."""
    rng = np.random.default_rng(i + 1)
    level = np.linspace(-2, 2, 64) + rng.normal(0, 0.2, (clips, 1, 1))
    return (level + rng.normal(0, 1, (clips, FRAMES, 64))).astype("float32")


def test_an_order_that_can_be_heard_is_learnt():
    model = tiny(cls=OnWindows, frames=FRAMES)
    _, found = trained(model, by_level, 60, 3e-3)
    assert found["spearman"] > 0.9 and found["kendall"] > 0.8
    assert found["partial"] > 0.5
    assert found["embedding_std"] > 0.01


def by_noise(i, clips):
    return noise(clips, FRAMES, 64, seed=i + 1)


def test_the_place_of_a_patch_does_not_leak():
    model = tiny(cls=OnWindows, frames=FRAMES)
    outputs, found = trained(model, by_noise, 40, 3e-3)
    # 256 clips of 8 patches, each right by chance.
    assert abs(found["partial"] - 1 / 8) < 5 * np.sqrt(7 / 64 / 2048) * 2
    assert abs(found["spearman"]) < 5 / np.sqrt(256 * 7)
    assert found["full"] < 0.02
    assert outputs["scores"].shape == (256, 8)


@pytest.mark.parametrize(
    "settings",
    [{"ranking": "soft"},
     {"ranking": "soft", "regularization": "kl", "distance": "squared",
      "strength": 8.0},
     {"num_samples": 50, "distance": "squared"},
     {"ranking": "classify", "orders": 12}],
)  # fmt: skip
def test_every_ranking_learns_the_order(settings):
    model = tiny(cls=OnWindows, frames=FRAMES, **settings)
    _, found = trained(model, by_level, 25, 3e-3)
    assert np.isfinite(found["loss"])
    assert found["spearman"] > 0.2, found


def test_fixed_orders_are_few_and_far_apart():
    orders = far_orders(8, 100)
    assert orders.shape == (100, 8)
    assert (np.sort(orders, axis=1) == np.arange(8)).all()
    apart = (orders[:, None] != orders[None]).sum(-1)
    apart[np.diag_indices(100)] = 8
    assert apart.min() >= 5
    np.testing.assert_array_equal(orders, far_orders(8, 100))
    assert len(np.unique(far_orders(3, 6), axis=0)) == 6
    assert far_orders(12, 20).shape == (20, 12)
    with pytest.raises(ValueError, match="2 to 6 for 3 patches.*7"):
        far_orders(3, 7)


def test_classes_are_the_orders_that_were_drawn():
    model = tiny(ranking="classify", orders=12)
    outputs = model.rank(ops.convert_to_tensor(noise(40, 96, 64)))
    order = numpy(outputs["order"]).astype(int)
    ranks = numpy(outputs["ranks"])
    np.testing.assert_array_equal(ranks - 1, model.orders[order])
    best = numpy(outputs["logits"]).argmax(-1)
    np.testing.assert_array_equal(
        numpy(outputs["scores"]) - 1, model.orders[best]
    )
    assert outputs["logits"].shape == (40, 12) and len(set(order)) > 6


def test_clips_that_are_too_short_do_not_count():
    model = tiny()
    x = waves(4, 1.5)
    lengths = np.array([24000, 20000, 9000, 12000], "int32")
    outputs = model({"waveform": x, "lengths": lengths})
    np.testing.assert_array_equal(numpy(outputs["valid"]), [1, 1, 0, 0])
    loss = float(numpy(model.pretext_loss(outputs, None)))
    each = numpy(model.rank_loss(outputs["scores"], outputs["ranks"]))
    assert loss == pytest.approx(each[:2].mean(), rel=1e-5)
    none = {**outputs, "valid": ops.zeros((4,), "bool")}
    assert float(numpy(model.pretext_loss(none, None))) == 0.0
    model.compile()
    with pytest.raises(ValueError, match=r"15600 samples \(0.975 s\).*2 short"):
        model.fit({"waveform": x, "lengths": lengths}, verbose=0)


def test_padding_and_neighbours_change_nothing():
    x = waves(3, 1.5)
    lengths = np.array([24000, 16000, 15600], "int32")
    wide = np.concatenate([x, np.full((3, 4000), 0.3, "float32")], axis=1)
    for row, n in zip(wide, lengths, strict=True):
        row[n:] = 0.3
    found = []
    for clips in (wide, wide[:, :24000], wide[:, :26000]):
        model = tiny()
        outputs = model({"waveform": clips, "lengths": lengths})
        found.append(numpy(outputs["scores"]))
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)
    np.testing.assert_allclose(found[2], found[0], atol=1e-5)
    encoder = model.encoder
    together = encoder.embed([w[:n] for w, n in zip(wide, lengths)])
    alone = encoder.embed(wide[1, :16000])
    np.testing.assert_allclose(together[1], alone, atol=1e-5)


@pytest.mark.parametrize("ranking", ["perturbed", "classify"])
def test_a_file_keeps_the_task(ranking, tmp_path):
    model = tiny(ranking=ranking, axis="time_freq", patches=[2, 2], orders=9)
    model.compile()
    step(model, batch(4, seconds=2.0))
    model.save(tmp_path / "model.keras")
    opened = keras.saving.load_model(tmp_path / "model.keras")
    assert opened.cutter.counts == (2, 2)
    x = waves(2, 2.0)
    np.testing.assert_array_equal(
        opened.encoder.embed(x), model.encoder.embed(x)
    )
    if ranking == "classify":
        np.testing.assert_array_equal(opened.orders, model.orders)
    model.encoder.save(tmp_path / "encoder.keras")
    encoder = kas.load_encoder(tmp_path / "encoder.keras")
    again = tiny(encoder, axis="time_freq", patches=[2, 2])
    assert again.encoder is encoder
    with pytest.raises(ValueError, match="another way.*'time_freq'.*'freq'"):
        tiny(encoder)


def test_another_network_sees_patches_with_zeros_around():
    cnn = {"backbone": "cnn", "dim": 16, "conv_channels": 4}
    model = tiny(cnn, preset="paper", hidden_dim=64)
    patches = noise(2, 8, 96, 8)
    got = numpy(model.fitted(patches))
    assert got.shape == (2, 8, 96, 64)
    np.testing.assert_array_equal(got[..., :8], patches)
    assert not got[..., 8:].any()
    assert model.hidden.kernel.shape == (8 * 16, 64)
    assert model.encoder.dim == 16


@pytest.mark.parametrize(
    "arguments, match",
    [({"ranking": "sorted"}, "`ranking`.*'sorted'"),
     ({"distance": "l1"}, "`distance`.*'l1'"),
     ({"patches": 1}, "at least two"),
     ({"axis": "time", "patches": 40}, "at least 118, which PatchCNN"),
     ({"patches": 65}, "65 patches need"),
     ({"frames": 0}, "`frames`"),
     ({"ranking": "classify", "patches": 2, "orders": 3}, "2 to 2.*3"),
     ({"sigma": 0.0}, "sigma=0.0"), ({"strength": 0.0}, "`strength`")],
)  # fmt: skip
def test_nonsense_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        tiny(**arguments)


@pytest.mark.parametrize("patches", [2, 64])
def test_two_patches_are_enough_and_one_bin_is(patches):
    model = tiny(patches=patches)
    outputs = model(waves(3))
    assert outputs["shuffled"].shape == (3, patches, 96, 64 // patches)
    assert np.isfinite(float(numpy(model.pretext_loss(outputs, None))))
