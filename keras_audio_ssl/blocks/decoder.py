"""A decoder that works on each frame alone."""

from typing import Any

import keras

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks.dropout import drop_out
from keras_audio_ssl.engine import Layer


class FrameDecoder(Layer):
    """Latents to features, frame by frame: dense layers with ELU.

    Args:
        dim: Width of the latents.
        output_dim: Bins that are rebuilt.
        units: Width of the hidden layers.
        layers: How many, at least 1.
        dropout: Rate after the first.

    Call arguments:
        x: `(batch, frames, dim)`.

    Returns:
        `(batch, frames, output_dim)`.

    Reference:
        Bai et al., 2021, arXiv 2010.03135.
    """

    def __init__(
        self,
        dim: int,
        output_dim: int,
        units: int = 512,
        layers: int = 3,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if layers < 1:
            raise ValueError(f"`layers` must be positive. Received: {layers}")
        policy = {"dtype": self.dtype_policy}
        widths = [dim, *[units] * layers]
        self.hidden = [
            keras.layers.Dense(units, "elu", name=f"hidden_{i}", **policy)
            for i in range(layers)
        ]
        for layer, width in zip(self.hidden, widths, strict=False):
            layer.build((None, None, width))
        self.drop = drop_out(dropout, "dropout", **policy)
        self.out = keras.layers.Dense(output_dim, name="out", **policy)
        self.out.build((None, None, units))

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        for i, layer in enumerate(self.hidden):
            x = layer(x)
            x = x if i else self.drop(x, training=training)
        return self.out(x)
