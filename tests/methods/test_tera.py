import warnings

import keras
import numpy as np
import pytest

import keras_audio_ssl as kas
from keras_audio_ssl.features import LogMel
from tests.methods.reconstruction import altered
from tests.methods.reconstruction import array
from tests.methods.reconstruction import features
from tests.methods.reconstruction import no_prediction_sees_what_is_hidden
from tests.methods.reconstruction import padding_and_neighbours_change_nothing
from tests.methods.reconstruction import tiny

TIME = {"channel_share": 0, "noise_probability": 0}
CHANNELS = {"proportion": 0, "noise_probability": 0}
NOISE = {"proportion": 0, "channel_share": 0}


@pytest.fixture(scope="module")
def model():
    return tiny("tera")


@pytest.mark.parametrize(
    "layers, parameters",
    [(3, 21_327_360), (6, 42_590_976), (12, 85_118_208)],
)
def test_the_papers_sizes(layers, parameters):
    model = kas.TERA(encoder={"layers": layers})
    assert model.encoder.count_params() == parameters


def test_nothing_hidden_is_seen():
    no_prediction_sees_what_is_hidden(tiny("tera", noise_probability=0))


def test_padding_and_neighbours(model):
    padding_and_neighbours_change_nothing(model)


# As measured of the released code over 1500 draws of 500 frames.
def test_the_labelled_shares_are_the_references():
    x = np.ones((1000, 500, 80), "float32")
    for kwargs, share in (
        ({}, 0.231),
        # Where no utterance may be without a label, no width is 0.
        (CHANNELS, 8.5 / 80),
        ({**CHANNELS, "reference_policy": True}, 8.0 / 80),
    ):
        _, label = altered(tiny("tera", **kwargs), x)
        assert label.mean() == pytest.approx(share, abs=0.01), kwargs
        assert label.any(axis=(1, 2)).all() != bool(
            kwargs.get("reference_policy")
        )


def test_alterations_come_one_after_the_other():
    model = tiny("tera", noise_probability=1.0)
    model.time.dice = (1.0, 0.0)
    x, lengths = features(6, 60), [60, 60, 50, 40, 30, 20]
    hidden, label = altered(model, x, lengths)
    # Hidden elements hold noise alone, what is left holds itself and noise.
    valid = np.arange(60) < np.array(lengths)[:, None]
    assert not label[~valid].any()
    off = np.where(label, hidden, hidden - x)[valid]
    assert off.std() == pytest.approx(0.2, abs=0.01)
    np.testing.assert_array_equal(
        hidden[~valid][~label[~valid]] * 0, 0 * x[~valid][~label[~valid]]
    )
    rows = label.all(axis=-1)
    bands = label[:, :, :] & ~rows[..., None]
    assert rows.any() and bands.any()


def test_labels_stay_inside_the_clip():
    lengths = [40, 9, 25, 12]
    for kwargs in ({}, TIME, CHANNELS, NOISE):
        _, label = altered(tiny("tera", **kwargs), features(), lengths)
        for row, n in zip(label, lengths, strict=True):
            assert row[:n].any() and not row[n:].any()
    _, label = altered(tiny("tera", **NOISE), features(), lengths)
    assert all(row[:n].all() for row, n in zip(label, lengths, strict=True))
    model = tiny("tera", reference_loss=True, **NOISE)
    assert altered(model, features(), lengths)[1].all()


def test_short_utterances_learn_from_a_band_under_the_references_policy():
    model = tiny("tera", reference_policy=True)
    _, label = altered(model, features(200, 20))
    assert not label.all(axis=2).any(), "20 frames have no span"
    assert label.any()


def test_deltas_can_hide_with_their_bands():
    encoder = {"frontend": "kaldi_fbank240"}
    model = tiny("tera", channel_groups=3, encoder=encoder, **CHANNELS)
    _, label = altered(model, features(30, 10, 240))
    groups = label[:, 0].reshape(30, 3, 80)
    assert (groups == groups[:, :1]).all() and groups.any()


def band(model, x, start=32, width=16):
    """Error on a hidden band, and that of its two neighbours' mean."""
    hidden = x.copy()
    hidden[:, :, start : start + width] = 0
    target = x[:, :, start : start + width]
    got = array(model.reconstruct(hidden))[:, :, start : start + width]
    mean = (x[:, :, start - 1] + x[:, :, start + width])[..., None] / 2
    return np.abs(got - target).mean(), np.abs(mean - target).mean()


def test_a_hidden_band_is_rebuilt_by_who_has_learnt_it():
    """Channels move together in a slow way along frequency and time."""
    rng = np.random.default_rng(0)
    t, f = np.arange(50) / 50, np.arange(80) / 80
    pitch = rng.uniform(0.5, 1.5, (32, 1, 1))
    phase = rng.uniform(0, 6.3, (32, 1, 1))
    x = np.sin(2 * np.pi * (2 * t[:, None] + pitch * f) + phase)
    x = x.astype("float32")
    errors = {}
    for name, kwargs in (("channels", CHANNELS), ("time", TIME)):
        model = tiny("tera", encoder={"layers": 1, "dropout": 0.0}, **kwargs)
        head = keras.Sequential([Rebuild(model)])
        head.compile(keras.optimizers.Adam(3e-3), Labelled())
        head.fit(x, x, batch_size=16, epochs=60, verbose=0)
        errors[name] = band(model, x)
    got, neighbours = errors["channels"]
    assert got < 0.6 * neighbours
    # Who was never asked for a band is not clearly better than they are.
    assert errors["time"][0] > 0.6 * neighbours


class Rebuild(keras.layers.Layer):
    """Features to prediction and label of a TERA, joined."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def call(self, x):
        hidden, label = self.model.alter(x, None)
        label = keras.ops.broadcast_to(label, keras.ops.shape(x))
        return keras.ops.concatenate(
            [
                self.model.reconstruct(hidden, None, True),
                keras.ops.cast(label, "float32"),
            ],
            axis=-1,
        )


class Labelled(keras.losses.Loss):
    """Mean absolute error of what `Rebuild` labels."""

    def call(self, y_true, y_pred):
        rebuilt, label = keras.ops.split(y_pred, 2, axis=-1)
        off = keras.ops.abs(rebuilt - y_true) * label
        return keras.ops.sum(off, axis=(1, 2)) / keras.ops.sum(
            label, axis=(1, 2)
        )


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="alteration"):
        tiny("tera", proportion=0, **TIME)
    with pytest.raises(ValueError, match="groups"):
        tiny("tera", channel_groups=3)
    with pytest.raises(ValueError, match="channel_share"):
        tiny("tera", target="online_linear")
    with pytest.warns(UserWarning, match="less than one"):
        tiny("tera", encoder={"n_mels": 4})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny("tera", channel_share=0, target=LogMel(n_mels=12))
