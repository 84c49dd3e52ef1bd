import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from keras_audio_ssl.augment import VectorAlteration
from keras_audio_ssl.methods.mam import ReconstructingEncoder
from tests.contract import batch
from tests.contract import step
from tests.contract import waves
from tests.encoders.tiny import RoundsUp
from tests.gradients import gradients
from tests.gradients import one_by_one
from tests.methods.reconstruction import Task
from tests.methods.reconstruction import array
from tests.methods.reconstruction import errors_where_hidden
from tests.methods.reconstruction import features
from tests.methods.reconstruction import learn_curves
from tests.methods.reconstruction import no_prediction_sees_what_is_hidden
from tests.methods.reconstruction import padding_and_neighbours_change_nothing
from tests.methods.reconstruction import tiny


@pytest.fixture(scope="module")
def model():
    return tiny("mam")


def test_the_paper_is_the_default():
    model = kas.MAM()
    layer = 4 * (256 * 256 + 256) + 2 * 256 * 2048 + 2048 + 256 + 4 * 256
    front = 10 * 256 + 9 * 256 * 256 + 256 + 20 * 256 * 256 + 256
    assert model.encoder.backbone.count_params() == front + 12 * layer + 512
    decoder = 257 * 20 * 256 + 9 * 256 * 256 + 256 + 9 * 256 + 1
    assert model.head.count_params() == decoder
    assert model.encoder.frame_rate == 25.0 and model.encoder.dim == 256
    optimizer = model.default_optimizer(1000)
    assert optimizer.global_clipnorm == 5.0
    rates = optimizer._learning_rate
    assert float(array(rates(50))) == pytest.approx(5e-4)
    assert float(array(rates(1000))) == 0.0


def test_nothing_hidden_is_seen(model):
    no_prediction_sees_what_is_hidden(model)


@pytest.mark.parametrize("everything", [False, True])
def test_padding_and_neighbours(model, everything):
    loss_on = "all" if everything else "masked"
    model.loss_on = loss_on
    try:
        padding_and_neighbours_change_nothing(model, everything=everything)
    finally:
        model.loss_on = "all"


def test_padding_to_other_multiples_changes_no_step(model):
    net, x = model.encoder.backbone, features(1, 21)
    alone = array(net(x)["frames"])
    assert alone.shape[1] == 6
    for frames in (22, 23, 24, 37):
        wide = np.pad(x, ((0, 0), (0, frames - 21), (0, 0)))
        got = array(net(wide, lengths=np.array([21]))["frames"])
        np.testing.assert_allclose(got[:, :6], alone, atol=1e-5)
        assert not got[:, 6:].any()


def draws(layer, clips, frames, lengths=None, seed=0):
    lengths = np.full(clips, frames) if lengths is None else lengths
    lengths = ops.convert_to_tensor(np.asarray(lengths, "int32"))
    seed = keras.random.SeedGenerator(seed)
    return array(layer.draw(lengths, frames, seed))


def runs(selected):
    """`(clip, start, width)` of each run of hidden frames."""
    edges = np.diff(np.pad(selected, ((0, 0), (1, 1))).astype(int), axis=1)
    clip, start = np.nonzero(edges == 1)
    return clip, start, np.nonzero(edges == -1)[1] - start


def rejecting(clips, frames, share=0.15, stop=0.2, longest=10, seed=0):
    """The policy in the words of its definition: draw, place, reject."""
    rng = np.random.default_rng(seed)
    hidden = np.zeros((clips, frames), bool)
    for row in hidden:
        rejections = 0
        while row.sum() < share * frames and rejections < 100:
            width = min(rng.geometric(stop), longest)
            while rejections < 100:
                start = rng.integers(frames - width + 1)
                if not row[max(start - 1, 0) : start + width + 1].any():
                    row[start : start + width] = True
                    break
                rejections += 1
    return hidden


def statistics(selected):
    """What tells a policy: shares, widths, gaps, and where spans lie."""
    clip, start, width = runs(selected)
    gap = (start[1:] - start[:-1] - width[:-1])[clip[1:] == clip[:-1]]
    third = selected.shape[1] // 3
    return {
        "share": selected.mean(),
        "first third": selected[:, :third].mean(),
        "spans": len(width) / len(selected) / 50,
        **{f"width {n}": (width == n).mean() for n in (1, 2, 5, 10)},
        "short gaps": (gap <= 4).mean(),
        "long gaps": (gap > 50).mean(),
        "edge": selected[:, 0].mean(),
    }


def test_spans_are_those_of_the_definition():
    frames = 200
    selected = draws(VectorAlteration(1), 2000, frames)
    share = selected.mean(axis=1)
    assert share.min() >= 0.15 and share.max() <= 0.15 + 10 / frames
    got, want = statistics(selected), statistics(rejecting(2000, frames))
    bound = 0.02
    for name in want:
        assert got[name] == pytest.approx(want[name], abs=bound), name
    for width in (1, 2, 5, 10):
        chance = 0.8**9 if width == 10 else 0.2 * 0.8 ** (width - 1)
        assert got[f"width {width}"] == pytest.approx(chance, abs=0.015)
    _, _, width = runs(selected)
    assert width.max() == 10
    # Others are told from it by the same bound.
    for wrong in (
        draws(VectorAlteration(1, policy="frame"), 2000, frames),
        draws(VectorAlteration(1, stop=0.25), 2000, frames),
        draws(VectorAlteration(1, proportion=0.3), 2000, frames),
        np.roll(np.sort(selected, axis=1), 1, axis=1),
    ):
        off = statistics(wrong)
        assert max(abs(off[name] - want[name]) for name in want) > 2 * bound


def test_spans_of_short_utterances_and_large_shares():
    lengths = np.tile(np.arange(1, 25), 100)
    for share in (0.15, 0.6):
        layer = VectorAlteration(1, proportion=share)
        selected = draws(layer, 2400, 24, lengths)
        assert selected.any(axis=1).all()
        assert not selected[np.arange(24) >= lengths[:, None]].any()
        clip, _, width = runs(selected)
        n = lengths[clip]
        assert (width <= np.where(n <= 10, np.maximum(n // 2, 1), 10)).all()
        if share == 0.15:
            hidden = selected.sum(axis=1)
            assert (hidden >= np.minimum(0.15 * lengths, lengths)).all()
            assert (hidden <= 0.15 * lengths + 10).all()
    assert not draws(VectorAlteration(1, proportion=0.0), 24, 24).any()


def test_single_frames():
    lengths = np.tile([200, 3], 1000)
    layer = VectorAlteration(1, policy="frame")
    selected = draws(layer, 2000, 200, lengths)
    assert not selected[1::2, 3:].any() and selected.any(axis=1).all()
    assert selected[::2].mean() == pytest.approx(0.15, abs=0.005)
    both = (selected[::2, 1:] & selected[::2, :-1]).mean()
    assert both == pytest.approx(0.15**2, abs=0.002)


def test_one_vector_hides_all():
    for learned in (False, True):
        model, x = tiny("mam", learned=learned), features()
        vector = array(model.time.vector)
        assert vector.std() == pytest.approx(1.0, abs=0.3)
        seen = []
        for _ in range(2):
            hidden, label = model.alter(ops.convert_to_tensor(x), None)
            label = array(label)[..., 0]
            seen.append(label)
            rows = array(hidden)[label]
            np.testing.assert_array_equal(rows, vector + 0 * rows)
            np.testing.assert_array_equal(array(hidden)[~label], x[~label])
        assert (seen[0] != seen[1]).any()
        if learned:
            model.compile(keras.optimizers.SGD(1.0))
            step(model, batch(4))
            assert np.abs(array(model.time.vector) - vector).max() > 0
        else:
            trained = {v.path for v in model.trainable_variables}
            assert model.time.vector.path not in trained
    # It stays with the model; the encoder knows nothing of it.
    paths = {v.path.rsplit("/", 1)[-1] for v in model.encoder.weights}
    assert "vector" not in paths


def test_what_comes_out_has_the_shape_of_what_goes_in():
    model = tiny("mam", encoder={"n_mels": 83})
    task = Task(model)
    for frames in range(1, 21):
        got = task(keras.KerasTensor((2, frames, 83)))
        assert tuple(got.shape) == (2, frames, 83, 2)
    got = array(model.reconstruct(features(2, 7, 83)))
    assert got.shape == (2, 7, 83) and np.isfinite(got).all()


def test_losses_against_numpy(model):
    rng = np.random.default_rng(0)
    target, got = rng.normal(size=(2, 3, 9, 80)).astype("float32")
    lengths = np.array([9, 4, 6])
    valid = np.arange(9) < lengths[:, None]
    label = valid & (rng.random((3, 9)) < 0.5)
    outputs = {
        "prediction": got,
        "target": target,
        "valid": valid,
        "label": np.broadcast_to(label[..., None], got.shape),
    }
    outputs = {k: ops.convert_to_tensor(v) for k, v in outputs.items()}
    for distance, power in (("mse", 2), ("l1", 1)):
        for loss_on, where in (("all", valid), ("masked", label)):
            other = tiny("mam", distance=distance, loss_on=loss_on)
            want = np.mean(np.abs(got - target)[where] ** power)
            loss = float(array(other.pretext_loss(outputs, None)))
            assert loss == pytest.approx(want, rel=1e-5)
            want = np.mean(np.abs(got - target)[label] ** power)
            metric = float(array(other.masked_error.result()))
            assert metric == pytest.approx(want, rel=1e-5)


def test_masks_teach_more_than_copying_does():
    settings = {"n_mels": 12, "units": 32, "layers": 1, "dropout": 0.0}
    masked, plain = (
        tiny("mam", encoder=settings, proportion=share) for share in (0.3, 0)
    )
    errors = {}
    for name, model in (("masked", masked), ("plain", plain)):
        x = learn_curves(model, everything=True)
        # Both are asked for what is hidden.
        model.time = masked.time
        errors[name], nearest = errors_where_hidden(model, x)
    assert errors["masked"] < 0.7 * nearest
    assert errors["masked"] < 0.7 * errors["plain"]


def test_joint_training_adds_the_losses():
    model = tiny("mam", encoder={"layers": 1, "dropout": 0.0})
    net, x = model.encoder.backbone, features(3, 22)
    lengths = np.array([22, 13, 9], "int32")
    mask = np.arange(22) < lengths[:, None]
    x, lengths, mask = (ops.convert_to_tensor(a) for a in (x, lengths, mask))

    def task():
        return ops.mean(ops.square(net(x, lengths=lengths)["clip"] - 1.0))

    def joint(weight, valid=mask):
        def loss():
            return task() + weight * model.reconstruction_loss(x, valid)

        return loss

    def of(loss):
        model.seed_generator.state.assign(np.array([3, 1], "uint32"))
        value, grads = gradients(loss, [net.convs[0].kernel, net.dense.kernel])
        return float(value), grads

    alone, both = of(task), of(joint(1.0))
    rebuilt = of(lambda: model.reconstruction_loss(x, lengths))
    assert both[0] == pytest.approx(alone[0] + rebuilt[0], rel=1e-5)
    for a, b, c in zip(alone[1], rebuilt[1], both[1], strict=True):
        assert np.abs(a).max() > 0 and np.abs(b).max() > 0
        np.testing.assert_allclose(a + b, c, atol=1e-5 * np.abs(c).max())
    # XLA may add up in another order in each of two programs.
    with one_by_one():
        alone, nothing = of(task), of(joint(0.0))
    assert nothing[0] == alone[0]
    for a, b in zip(alone[1], nothing[1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_encoder_that_rebuilds_besides(tmp_path):
    wave = waves(4, seconds=0.4)
    for weight in (0.0, 2.0):
        mam = tiny("mam", encoder={"layers": 1, "dropout": 0.0})
        layer = ReconstructingEncoder(mam, weight)
        want = array(mam.encoder(wave)["clip"])
        got = array(layer(wave, training=True)["clip"])
        np.testing.assert_allclose(got, want, atol=1e-5)
        assert len(layer.losses) == (weight > 0)
        layer(wave)
        assert not layer.losses
    inputs = keras.Input((wave.shape[1],))
    outputs = keras.layers.Dense(3)(layer(inputs)["clip"])
    task = keras.Model(inputs, outputs)
    task.save(tmp_path / "task.keras")
    again = keras.saving.load_model(tmp_path / "task.keras")
    np.testing.assert_allclose(array(again(wave)), array(task(wave)), atol=1e-6)
    task.compile("sgd", keras.losses.MeanSquaredError())
    kernels = mam.head.dense.kernel, mam.encoder.backbone.dense.kernel
    before = [array(kernel).copy() for kernel in kernels]
    logs = task.fit(wave, np.zeros((4, 3)), epochs=2, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    for a, b in zip(before, kernels, strict=True):
        assert np.abs(a - array(b)).max() > 0
    with pytest.raises(ValueError, match="must be a MAM"):
        ReconstructingEncoder(kas.COLA(preset="tiny"))
    with pytest.raises(ValueError, match="weight"):
        ReconstructingEncoder(mam, -1)


def test_other_encoders():
    model = tiny("mam", encoder=RoundsUp(80))
    assert model.head.rows == 20 and len(model.head.convs) == 2
    outputs = model.rebuild(ops.convert_to_tensor(features(2, 10)))
    assert outputs["prediction"].shape == outputs["target"].shape
    with pytest.raises(ValueError, match="power of two"):
        tiny("mam", encoder={"backbone": "transformer", "stack": 3,
                             "units": 8, "heads": 2, "layers": 1})  # fmt: skip


def test_arguments_are_checked():
    for name, value in (("loss_on", "hidden"), ("distance", "l2")):
        with pytest.raises(ValueError, match=name):
            tiny("mam", **{name: value})
    with pytest.raises(ValueError, match="units"):
        tiny("mam", encoder={"units": 7})
    for name, value in (("policy", "spans"), ("proportion", -0.1), ("stop", 1)):
        with pytest.raises(ValueError, match=name):
            VectorAlteration(3, **{name: value})
