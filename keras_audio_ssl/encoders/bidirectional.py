"""The bidirectional recurrent encoder of Speech2Vec."""

from typing import Any

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks import BidirectionalLSTM
from keras_audio_ssl.blocks import EndsPool
from keras_audio_ssl.encoders.backbone import Backbone


class BidirectionalStack(Backbone):
    """Bidirectional LSTM layers; a clip is the last states of both directions.

    The clip vector is the forward state after the last valid frame, then the
    backward state after the first.

    Args:
        n_features: Features of a frame.
        units: Of each direction.
        layers: Number of layers.

    Reference:
        Chung & Glass, 2018, "Speech2Vec: A Sequence-to-Sequence Framework
        for Learning Word Embeddings from Speech", arXiv 1803.08976.
    """

    def __init__(
        self,
        n_features: int = 13,
        units: int = 25,
        layers: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if layers < 1:
            raise ValueError(f"`layers` must be positive. Received: {layers}")
        policy = {"dtype": self.dtype_policy}
        widths = [n_features] + [2 * units] * layers
        self.layers = [
            BidirectionalLSTM(width, units, name=f"lstm_{i}", **policy)
            for i, width in enumerate(widths[:-1])
        ]
        self.pooling = EndsPool(name="pooling", **policy)
        self.dims, self.strides = widths[1:], [1] * layers

    def levels(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> list[Tensor]:
        x, hidden = features, []
        for layer in self.layers:
            x = layer(x, lengths=lengths)
            hidden.append(x)
        return hidden
