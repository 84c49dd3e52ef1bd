"""`augmentation=` of every method: what changes a batch before the task."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from keras_audio_ssl.augment import waveform_layers
from keras_audio_ssl.methods import METHODS
from keras_audio_ssl.methods import PretextModel
from keras_audio_ssl.methods import make_method
from keras_audio_ssl.methods import method_class
from keras_audio_ssl.methods import settings_of
from keras_audio_ssl.runs import plan


class Halved(keras.layers.Layer):
    """A layer of a user's, which knows of no training."""

    def call(self, x):
        return x / 2


class Task(PretextModel):
    """Gives what it is given."""

    def __init__(self, **kwargs):
        super().__init__(
            "cnn", {"backbone": "cnn", "frontend": "cola"}, **kwargs
        )

    def call(self, x, training=False):
        return x


class Below(Task):
    """Asks the class above."""

    def call(self, x, training=False):
        return super().call(x, training=training)


def task(*layers, cls=Task):
    return cls(augmentation=list(layers))


X = np.random.default_rng(0).uniform(-1, 1, (3, 800)).astype("float32")


@pytest.mark.parametrize("cls", [Task, Below])
def test_once_in_training_alone(cls):
    model = task(Halved(), cls=cls)
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(X, training=True)), X / 2
    )
    np.testing.assert_array_equal(ops.convert_to_numpy(model(X)), X)
    # After an error too.
    with pytest.raises(ValueError, match="Received a dict with"):
        model({"anchor": X}, training=True)
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(X, training=True)), X / 2
    )


def test_padding_stays_zero_and_the_rest_of_a_batch_as_it_was():
    lengths = np.array([800, 500, 300], "int32")
    padded = X * (np.arange(800) < lengths[:, None])
    model = task("white_noise", keras.layers.GaussianNoise(0.5, seed=1))
    out = model({"waveform": padded, "lengths": lengths}, training=True)
    assert set(out) == {"waveform", "lengths"}
    changed = ops.convert_to_numpy(out["waveform"])
    for row, before, n in zip(changed, padded, lengths, strict=True):
        assert not row[n:].any()
        assert np.abs(row[:n] - before[:n]).max() > 0.1


def test_in_the_order_given_and_in_files(tmp_path):
    model = kas.COLA(
        preset="tiny",
        augmentation=["gain", keras.layers.GaussianNoise(0.01)],
    )
    model.save(tmp_path / "cola.keras")
    again = kas.hub.load_model(tmp_path / "cola.keras")
    kinds = [type(layer).__name__ for layer in again.augmentation]
    assert kinds == ["Gain", "GaussianNoise"]
    assert again.augmentation[1].stddev == 0.01
    # Not of the encoder's business.
    model.encoder.save(tmp_path / "encoder.keras")
    assert not hasattr(kas.load_encoder(tmp_path / "encoder.keras"), "gain")


@pytest.mark.no_backend
def test_what_it_may_be():
    assert waveform_layers(None) == [] and waveform_layers(()) == []
    with pytest.raises(ValueError, match="time_stretch.*Received: 'nosie'"):
        waveform_layers("nosie")
    with pytest.raises(ValueError, match=r"a list of them. Received: <func"):
        waveform_layers([np.flip])
    with pytest.raises(ValueError, match="`augmentation` of waveform are"):
        waveform_layers("spec_augment")


def test_another_shape_is_refused():
    model = task(keras.layers.Reshape((400, 2)))
    with pytest.raises(ValueError, match=r"must give waveforms of the shape"):
        model(X, training=True)


@pytest.mark.no_backend
def test_the_command_knows_it():
    for name in METHODS:
        cls = method_class(name)
        plan.check_settings(cls, {"augmentation": "gain"})
        assert settings_of(cls)["augmentation"] is None
    with pytest.raises(ValueError, match="Known:.*augmentation"):
        plan.check_settings(cls, {"augment": "gain"})


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_takes_it(name, monkeypatch):
    given = []
    monkeypatch.setattr(
        PretextModel, "altered", lambda self, x: given.append(x) or 1 / 0
    )
    model = make_method(name, preset="tiny", augmentation="gain")
    assert [type(layer).__name__ for layer in model.augmentation] == ["Gain"]
    with pytest.raises(ZeroDivisionError):
        model.call(X, training=True)
    assert given[0] is X
