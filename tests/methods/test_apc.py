import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.features import recipe
from keras_audio_ssl.losses import masked_l1
from tests.contract import batch
from tests.contract import step
from tests.contract import waves
from tests.data_folder import data_folder


def array(x):
    return ops.convert_to_numpy(x)


def value(x):
    return float(array(x))


def tiny(**kwargs):
    keras.utils.set_random_seed(0)
    return kas.APC(preset="tiny", **kwargs)


def features(model, clips=3, frames=30, seed=0):
    bins = model.encoder.frontend.n_features
    x = np.random.default_rng(seed).standard_normal((clips, frames, bins))
    return ops.convert_to_tensor(x.astype("float32"))


def loss_of(model, x, lengths=None):
    lengths = None if lengths is None else ops.convert_to_tensor(lengths)
    return value(model.pretext_loss(model.predict_ahead(x, lengths), None))


@pytest.mark.parametrize(
    "kwargs, parameters",
    [({}, 4_105_296), ({"codebooks": [512]}, 4_630_096)],
)
def test_the_paper_is_the_default(kwargs, parameters):
    model = kas.APC(**kwargs)
    trained = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert trained == parameters
    optimizer = model.default_optimizer()
    assert value(optimizer.learning_rate) == pytest.approx(1e-4)
    assert optimizer.global_clipnorm == 1.0


@pytest.mark.parametrize("n", [1, 3, 5])
def test_the_target_is_n_frames_ahead(n):
    model = tiny(n_future=n)
    ramp = np.arange(30, dtype="float32") * 0.25
    x = ops.convert_to_tensor(
        np.broadcast_to(ramp[None, :, None], (2, 30, 80)).copy()
    )
    outputs = model.predict_ahead(x)
    # A model that copies the current frame is wrong by n times the slope.
    got = masked_l1(outputs["last"], outputs["target"], outputs["mask"])
    assert value(got) == pytest.approx(n * 0.25, rel=1e-6)
    assert outputs["prediction"].shape == outputs["target"].shape
    assert outputs["target"].shape[1] == 30 - n


def test_a_prediction_sees_no_later_frame():
    model = tiny(n_future=3)
    x = array(features(model))
    before = array(model.predict_ahead(ops.convert_to_tensor(x))["prediction"])
    x[:, 13:] += 7
    after = array(model.predict_ahead(ops.convert_to_tensor(x))["prediction"])
    np.testing.assert_array_equal(before[:, :13], after[:, :13])
    assert np.abs(before[:, 13:] - after[:, 13:]).max() > 1e-3


def test_padding_does_not_change_the_loss_of_a_batch():
    model, x = tiny(), array(features(tiny(), frames=30))
    lengths = np.array([30, 21, 9], "int32")
    for row, n in zip(x, lengths, strict=True):
        row[n:] = 0
    whole = loss_of(model, ops.convert_to_tensor(x), lengths)
    wide = np.concatenate([x, np.full((3, 11, 80), 9.0, "float32")], axis=1)
    assert loss_of(
        model, ops.convert_to_tensor(wide), lengths
    ) == pytest.approx(whole, rel=1e-6)
    single, weight = 0.0, 0
    for row, n in zip(x, lengths, strict=True):
        one = loss_of(model, ops.convert_to_tensor(row[None, :n]))
        single, weight = single + one * (n - 3), weight + n - 3
    assert whole == pytest.approx(single / weight, rel=1e-5)
    turned = ops.convert_to_tensor(x[::-1].copy())
    assert loss_of(model, turned, lengths[::-1].copy()) == pytest.approx(
        whole, rel=1e-6
    )


def test_too_short_utterances_add_nothing():
    model = tiny(n_future=5)
    x = features(model, frames=12)
    some = loss_of(model, x, np.array([12, 5, 2], "int32"))
    assert some == pytest.approx(loss_of(model, x[:1]), rel=1e-5)
    assert loss_of(model, x, np.array([5, 4, 1], "int32")) == 0.0
    with pytest.raises(ValueError, match="more than 5 frames"):
        model.predict_ahead(x[:, :5])


def test_a_batch_without_targets_leaves_the_weights():
    model = tiny(n_future=20)
    model.compile(optimizer=keras.optimizers.SGD(1.0))
    before = [v.numpy() for v in model.trainable_variables]
    x = {
        "waveform": np.ones((2, 16000), "float32") * 0.1,
        "lengths": np.array([2000, 900], "int32"),
    }
    assert step(model, x)["loss"] == 0.0
    for old, v in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, v.numpy())


def test_the_reference_loss_averages_padding_too():
    model, x = tiny(reference_loss=True), features(tiny())
    lengths = np.array([30, 12, 6], "int32")
    x = array(x)
    for row, n in zip(x, lengths, strict=True):
        row[n:] = 0
    model.postnet.bias.assign(np.full(80, 0.5))
    x = ops.convert_to_tensor(x)
    outputs = model.predict_ahead(x, ops.convert_to_tensor(lengths))
    prediction, target = array(outputs["prediction"]), array(outputs["target"])
    np.testing.assert_allclose(prediction[2, 3:], 0.5)
    want = np.abs(prediction - target).mean()
    assert loss_of(model, x, lengths) == pytest.approx(want, rel=1e-6)


def test_vq_predicts_from_codes_and_hands_on_what_was_before_them():
    model = tiny(codebooks=[5, 7], encoder={"layers": 1})
    x = features(model, clips=4, frames=60)
    outputs = model.predict_ahead(x)
    codes = array(outputs["codes"]).reshape(-1, 2)
    pairs = len(np.unique(codes, axis=0))
    rows = np.unique(
        array(outputs["prediction"]).reshape(-1, 80).round(5), axis=0
    )
    assert len(rows) == pairs <= 35
    wave = batch(2)["waveform"]
    plain = Encoder(recipe("apc"), model.encoder.backbone)
    np.testing.assert_array_equal(model.encoder.embed(wave), plain.embed(wave))


def test_the_gradient_passes_the_codes():
    model, x = tiny(codebooks=[16]), batch(8)
    model.compile()
    before = model.encoder.backbone.layers[0].kernel.numpy()
    logs = step(model, x)
    assert (
        np.abs(model.encoder.backbone.layers[0].kernel.numpy() - before).max()
        > 0
    )
    assert 1.0 < logs["codebook_perplexity"] <= 16.0


@pytest.mark.parametrize(
    "kwargs, match",
    [
        ({"n_future": 0}, "n_future"),
        ({"codebooks": [8], "codebook_dims": [5]}, "codebook_dims"),
        ({"encoder": kas.BYOLA(preset="tiny").encoder}, "one frame for each"),
    ],
)
def test_arguments_are_checked(kwargs, match):
    with pytest.raises(ValueError, match=match):
        tiny(**kwargs)


def test_what_the_normalisation_takes_away():
    x = waves(4)
    for normalize, alike in (("utterance", True), ("per_bin", False)):
        model = kas.APC(preset="tiny", encoder={"normalize": normalize})
        frontend = model.encoder.frontend
        assert frontend.normalize == normalize
        if not alike:
            frontend.adapt([x])
        # A microphone that is half as sensitive.
        near, far = (keras.ops.convert_to_numpy(frontend(y))
                     for y in (x, 0.5 * x))  # fmt: skip
        assert (np.abs(near - far).mean() < 0.01) == alike
        again = kas.APC.from_config(model.get_config())
        assert again.encoder.frontend.normalize == normalize


def test_trivial_predictors_on_real_speech():
    folder = data_folder()
    if folder is None:
        pytest.skip("needs the real audio, KERAS_AUDIO_SSL_DATA")
    data = kas.data.from_manifest(
        folder / "librispeech_mini" / "manifest.csv",
        seconds=8.0,
        batch_size=16,
        where="split=test",
        shuffle=False,
        crop="start",
    )
    x = data.batch(0, 0)
    copying, zero = {}, None
    for n in (1, 3, 5):
        model = tiny(n_future=n)
        known, valid = model.encoder.features(
            *(ops.convert_to_tensor(x[k]) for k in ("waveform", "lengths"))
        )
        outputs = model.predict_ahead(known, valid)
        mask, target = outputs["mask"], outputs["target"]
        copying[n] = value(masked_l1(outputs["last"], target, mask))
        zero = value(masked_l1(ops.zeros_like(target), target, mask))
    # What a trained model must beat grows with the distance.
    assert 0.2 < copying[1] < copying[3] < copying[5] < zero < 0.9
