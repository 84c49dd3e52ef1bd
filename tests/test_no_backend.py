"""The mark `no_backend` cannot stand where it is not true."""

import keras
import numpy as np
import pytest

import keras_audio_ssl.backend as backend
from keras_audio_ssl.features import recipe
from tests.conftest import Computed

FRONTEND = recipe("byol_a", n_mels=16)


@pytest.mark.no_backend
@pytest.mark.parametrize(
    "compute",
    [
        lambda: keras.ops.add(1, 2),
        lambda: keras.ops.convert_to_tensor([1.0]),
        lambda: keras.random.normal((2,), seed=0),
        lambda: keras.Variable(0.0),
        lambda: keras.random.SeedGenerator(0),
        lambda: keras.layers.Dense(2).build((None, 3)),
        lambda: keras.layers.ReLU()(np.zeros(3)),
        lambda: FRONTEND(np.zeros((1, 16000), "float32")),
        lambda: keras.backend.backend(),
        lambda: keras.config.backend(),
        lambda: backend.is_stateless(),
    ],
)
def test_whatever_a_backend_does_is_refused(compute):
    with pytest.raises(Computed, match="mark `no_backend` must go"):
        compute()


def test_other_tests_compute():
    assert float(keras.ops.add(1.0, 2.0)) == 3.0
    assert keras.backend.backend() == keras.config.backend()
