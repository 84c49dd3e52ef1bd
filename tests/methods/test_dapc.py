import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from keras_audio_ssl.augment import BandMasks
from keras_audio_ssl.encoders import LatentStack
from keras_audio_ssl.encoders.latent import with_context
from tests.contract import batch
from tests.contract import step
from tests.contract import waves
from tests.methods.reconstruction import array
from tests.methods.reconstruction import features
from tests.methods.reconstruction import tiny


@pytest.fixture(scope="module")
def model():
    return tiny("dapc")


def task(model, x, altered=None, hidden=None, lengths=None):
    lengths = np.asarray(lengths or [x.shape[1]] * len(x), "int32")
    altered = x if altered is None else altered
    if hidden is None:
        hidden = np.zeros(x.shape, bool)
        hidden[:, 5:9] = True
    return model.components(
        *(ops.convert_to_tensor(a) for a in (x, altered, hidden, lengths))
    )


def loss_of(model, outputs):
    return float(array(model.pretext_loss(outputs, None)))


def test_the_paper_is_the_default():
    model = kas.DAPC()
    assert model.encoder.backbone.dims == [512, 512, 512, 64]
    assert model.encoder.dim == 512, "the layer before the latents"
    assert (model.window, model.ortho_weight) == (4, 0.1)
    assert model.reconstruction_weight == 5.0
    latents = kas.DAPC(encoder={"output_level": -1}).encoder
    assert latents.dim == 64


def test_clean_values_of_hidden_elements_do_not_reach_what_is_rebuilt(model):
    x, lengths = features(3, 40), [40, 30, 20]
    hidden = np.random.default_rng(1).random(x.shape) < 0.2
    altered = np.where(hidden, 0, x).astype("float32")
    before = task(model, x, altered, hidden, lengths)
    other = np.where(hidden, x + 5, x).astype("float32")
    after = task(model, other, altered, hidden, lengths)
    np.testing.assert_array_equal(
        array(before["prediction"]), array(after["prediction"])
    )
    # They do influence the latents, of the whole input.
    moved = array(before["latent"]) - array(after["latent"])
    assert np.abs(moved).max() > 1e-2
    # What is visible has no weight in the error.
    seen = {**before, "target": ops.where(hidden, x, x + 3)}
    errors = [array(model.reconstruction_error(o)) for o in (before, seen)]
    assert errors[0] == errors[1]


def test_padding_order_and_joins(model):
    x, lengths = features(3, 40), [40, 30, 20]
    for row, n in zip(x, lengths, strict=True):
        row[n:] = 0
    loss = loss_of(model, task(model, x, lengths=lengths))
    hidden = np.zeros((3, 60, 80), bool)
    hidden[:, 5:9] = True
    for rubbish in (0.0, 4.0):
        wide = np.full((3, 60, 80), rubbish, "float32")
        wide[:, :40] = x
        got = loss_of(model, task(model, wide, None, hidden, lengths))
        assert got == pytest.approx(loss, rel=1e-4)
    turned = task(model, x[::-1].copy(), lengths=lengths[::-1])
    assert loss_of(model, turned) == pytest.approx(loss, rel=1e-4)
    # One utterance of two has windows across the join.
    latent = array(task(model, x)["latent"])
    apart, joined = latent[:2], latent[:2].reshape(1, 80, -1)
    values = [
        float(array(kas.losses.predictive_information(z, window=3)))
        for z in (apart, joined)
    ]
    assert abs(values[0] - values[1]) > 1e-4


def test_a_linear_encoder_is_kept_orthogonal_by_its_weights():
    model = tiny("dapc", encoder={"layers": 0, "dim": 6})
    assert model.encoder.backbone.dims == [6] and model.encoder.dim == 6
    kernel = array(model.encoder.backbone.projection.kernel)
    assert model.encoder.backbone.projection.bias is None
    want = np.square(kernel.T @ kernel - np.eye(6)).sum()
    got = array(model.penalty(ops.zeros((1, 9, 6)), None))
    assert got == pytest.approx(want, rel=1e-5)
    model.compile()
    assert np.isfinite(step(model, batch(8))["loss"])


def test_frames_are_joined_with_their_neighbours():
    x = np.arange(12, dtype="float32").reshape(1, 6, 2)
    got = array(with_context(ops.convert_to_tensor(x), 2))
    assert got.shape == (1, 6, 10)
    order = got[0, 3].reshape(5, 2)[:, 0] / 2
    assert order.tolist() == [2, 1, 3, 4, 5]
    assert (got[0, 0].reshape(5, 2)[:, 0] / 2).tolist() == [0, 0, 0, 1, 2]
    short = array(with_context(ops.convert_to_tensor(x), 2, np.array([4])))
    assert (short[0, 3].reshape(5, 2)[:, 0] / 2).tolist() == [2, 1, 3, 3, 3]
    net = LatentStack(20, layers=1, units=6, dim=3, input_context=2)
    assert net.layers[0].ahead.kernel.shape[0] == 100
    assert tiny("dapc", encoder={"kind": "dense"}).encoder.dim == 64


def test_scales_add_their_information():
    one, two = (tiny("dapc", scales=n) for n in (1, 2))
    z = features(4, 60, 8)
    outputs = {
        "latent": ops.convert_to_tensor(z),
        "lengths": ops.convert_to_tensor(np.full(4, 60, "int32")),
        "prediction": ops.zeros((4, 60, 80)),
        "target": ops.zeros((4, 60, 80)),
        "label": ops.ones((4, 60, 80), "bool"),
    }
    coarse = kas.losses.predictive_information(z[:, ::2], window=3)
    difference = loss_of(one, outputs) - loss_of(two, outputs)
    assert difference == pytest.approx(float(array(coarse)), rel=1e-3)


def test_training_raises_the_information_and_lowers_the_error():
    model, x = tiny("dapc", seed=1), batch(12, seconds=0.5)
    model.compile(keras.optimizers.Adam(5e-3))
    logs = []
    for _ in range(25):
        model.reset_metrics()
        logs.append(step(model, x))
    first, last = logs[0], logs[-1]
    for name, up in (
        ("predictive_information", True),
        ("reconstruction_error", False),
        ("loss", False),
    ):
        assert (last[name] > first[name]) == up, name


def test_too_few_windows_are_said():
    model = tiny("dapc")
    model.compile()
    with pytest.warns(UserWarning, match=r"96 are wanted|at least 96"):
        model.fit(waves(2, seconds=0.2), batch_size=2, verbose=0)
    assert model.min_samples == model.encoder.samples_for(6)


@pytest.mark.parametrize(
    "frames, dim, widest, share",
    [(500, 30, 5, 0.224), (500, 80, 27, 0.360)],
)
def test_the_bands_hide_what_specaugment_does(frames, dim, widest, share):
    lengths = ops.convert_to_tensor(np.full(2000, frames, "int32"))
    layer = BandMasks(widest, 40)
    seed = keras.random.SeedGenerator(3)
    hidden = array(layer.draw(lengths, frames, dim, seed))
    assert hidden.mean() == pytest.approx(share, abs=0.01)
    assert hidden.any(axis=(1, 2)).all()


def test_the_references_bands_are_half_as_wide():
    lengths = ops.convert_to_tensor(np.full(2000, 500, "int32"))
    for dim, widest, share in ((30, 5, 0.071), (80, 27, 0.168)):
        layer = BandMasks(widest, 40, reference=True)
        seed = keras.random.SeedGenerator(3)
        hidden = array(layer.draw(lengths, 500, dim, seed))
        assert hidden.mean() == pytest.approx(share, abs=0.01)


def test_bands_stay_inside_the_clip_and_something_is_hidden():
    lengths = np.array([1, 2, 5, 30] * 50, "int32")
    layer, seed = BandMasks(1, 2, count=1), keras.random.SeedGenerator(0)
    hidden = array(layer.draw(ops.convert_to_tensor(lengths), 30, 4, seed))
    inside = np.arange(30) < lengths[:, None]
    assert not hidden[~inside].any()
    assert hidden.any(axis=(1, 2)).all()
    with pytest.raises(ValueError, match="count"):
        BandMasks(count=0)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="window"):
        tiny("dapc", window=0)
    with pytest.raises(ValueError, match="distance"):
        tiny("dapc", distance="cosine")
    with pytest.raises(ValueError, match="one frame for each"):
        kas.DAPC(encoder=kas.BYOLA(preset="tiny").encoder)
    with pytest.raises(ValueError, match="kind"):
        tiny("dapc", encoder={"kind": "rnn"})
