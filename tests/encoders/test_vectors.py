"""An encoder among the layers of a Keras model."""

import keras
import numpy as np
import pytest

import keras_audio_ssl as kas
from keras_audio_ssl.encoders import Vectors
from tests.encoders.tiny import array
from tests.encoders.tiny import noise


def tiny():
    keras.utils.set_random_seed(0)
    return kas.methods.make_method("cola", preset="tiny").encoder


@pytest.mark.parametrize("of", ["clip", "frames"])
def test_a_sequential_goes_on_from_either(of, tmp_path):
    encoder, x = tiny(), noise(2, 8000)
    dense = keras.layers.Dense(3)
    model = keras.Sequential([Vectors(encoder, of), dense])
    want = array(dense(encoder(x)[of]))
    np.testing.assert_allclose(array(model(x)), want, atol=1e-5)
    assert model.input_shape == (2, 8000)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(array(again(x)), want, atol=1e-5)


def test_shapes_are_known_before_there_is_sound():
    inputs = keras.Input((16000,))
    assert Vectors(tiny())(inputs).shape == (None, 64)
    assert Vectors(tiny(), "frames")(inputs).shape == (None, 12, 64)


def test_what_it_may_be_made_of():
    with pytest.raises(ValueError, match="`encoder` must be.*Received: Dense"):
        Vectors(keras.layers.Dense(3))
    with pytest.raises(ValueError, match="of"):
        Vectors(tiny(), "hidden")
