"""The residual GRU stack of APC."""

from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks import GRU
from keras_audio_ssl.blocks import FramePool
from keras_audio_ssl.blocks import drop_out
from keras_audio_ssl.blocks import mask_frames
from keras_audio_ssl.encoders.backbone import Backbone
from keras_audio_ssl.engine import frame_mask


class RecurrentStack(Backbone):
    """Unidirectional GRU layers with residual connections.

    A frame depends on the frames up to it alone, so it runs on streams:
    `stream` takes chunks and carries the state.

    Args:
        n_features: Bins of the features.
        units: Width of each layer.
        layers: Number of GRU layers.
        prenet_layers: Dense layers with ReLU before the GRUs.
        dropout: Rate after each layer, before the residual addition.
        dropout_last: Whether the last layer has dropout too, as in s3prl.
        residual_first: Whether the first GRU layer adds its input where the
            widths are equal, as in the official code (s3prl does not).

    Reference:
        Chung et al., 2019, "An Unsupervised Autoregressive Model for Speech
        Representation Learning", arXiv 1904.03240.
    """

    def __init__(
        self,
        n_features: int = 80,
        units: int = 512,
        layers: int = 3,
        prenet_layers: int = 0,
        dropout: float = 0.0,
        dropout_last: bool = False,
        residual_first: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if layers < 1:
            raise ValueError(f"`layers` must be positive. Received: {layers}")
        self.n_layers = layers
        policy = {"dtype": self.dtype_policy}
        self.prenet, self.layers, width = [], [], n_features
        for i in range(prenet_layers):
            dense = keras.layers.Dense(
                units, "relu", name=f"prenet_{i}", **policy
            )
            dense.build((None, None, width))
            self.prenet.append(dense)
            width = units
        for i in range(layers):
            gru = GRU(units, return_state=True, name=f"gru_{i}", **policy)
            gru.build((None, None, width))
            self.layers.append(gru)
            width = units
        # One dropout layer a place: each draws from a seed of its own.
        self.drops = [
            drop_out(dropout, f"dropout_{i}", **policy)
            for i in range(prenet_layers + layers)
        ]
        self.pooling = FramePool(("mean",), name="pooling", **policy)
        levels = layers + bool(prenet_layers)
        self.dims, self.strides = [units] * levels, [1] * levels

    def levels(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> list[Tensor]:
        hidden, _ = self._run(features, lengths, None, training)
        return hidden

    def stream(self, features: Tensor, state: Tensor | None = None) -> Any:
        """One chunk of a stream.

        Args:
            features: `(batch, time, bins)`, the next frames.
            state: What the call before returned; None at the start.

        Returns:
            `(frames (batch, time, dim), state)`; the chunks' frames are
            those of one pass over the whole.
        """
        hidden, state = self._run(features, None, state, False)
        return hidden[-1], state

    def _run(
        self,
        x: Tensor,
        lengths: Tensor | None,
        state: Any,
        training: bool | None,
    ) -> Any:
        mask = None
        if lengths is not None:
            mask = frame_mask(lengths, ops.shape(x)[1])
        drops, hidden, states = iter(self.drops), [], []
        for dense in self.prenet:
            x = next(drops)(dense(x), training=training)
        if self.prenet:
            x = x if lengths is None else mask_frames(x, lengths)
            hidden.append(x)
        for i, gru in enumerate(self.layers):
            before = None if state is None else state[i]
            out, after = gru(x, mask=mask, initial_state=before)
            drop = next(drops)
            if self.dropout_last or i + 1 < self.n_layers:
                out = drop(out, training=training)
            # The shortcut, after the dropout; layer 0 has one where widths are
            # equal.
            if out.shape[-1] == x.shape[-1] and (i or self.residual_first):
                out = out + x
            x = out if lengths is None else mask_frames(out, lengths)
            hidden.append(x)
            states.append(after)
        return hidden, states
