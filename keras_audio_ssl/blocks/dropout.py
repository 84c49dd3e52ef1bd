"""Dropout whose draws cost less than Keras'."""

from typing import Any

import keras

import keras_audio_ssl.backend as backend
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks.seeds import fresh_seed
from keras_audio_ssl.engine import Registered


class Dropout(Registered, keras.layers.Dropout):
    """`keras.layers.Dropout` with draws that are quicker made.

    In training each value is kept with the probability `1 - rate` (on PyTorch
    to the nearest of 65,536 parts) and divided by it, or becomes zero. With a
    shape of the noise it draws as Keras' does.

    Reference:
        Srivastava et al., 2014, "Dropout", JMLR 15.
    """

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        plain = self.noise_shape is None and 0 < self.rate < 1
        if not (training and plain):
            return super().call(inputs, training=training)
        return backend.drop_out(inputs, self.rate, self.seed_generator)


def drop_out(rate: float, name: str, dtype: Any = None) -> Any:
    """A `Dropout` that draws from a seed of its own."""
    return Dropout(rate, seed=fresh_seed(), name=name, dtype=dtype)
