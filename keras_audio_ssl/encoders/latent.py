"""Encoders to a few latent dimensions a frame, for DAPC."""

from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks import BidirectionalGRU
from keras_audio_ssl.blocks import FramePool
from keras_audio_ssl.blocks import drop_out
from keras_audio_ssl.blocks import mask_frames
from keras_audio_ssl.encoders.backbone import Backbone
from keras_audio_ssl.engine import check_choice

KINDS = ("gru", "dense")


class LatentStack(Backbone):
    """Layers over the frames, and a linear projection to the latents.

    Its levels are the layers' outputs and, last, the latents. The layer
    before the latents is richer, and the output where there is one.

    Args:
        n_features: Bins of the features.
        kind: `"gru"`, in both directions, or `"dense"` with ELU.
        units: Of each direction of a layer.
        layers: How many; with 0 the encoder is linear.
        dim: Latent dimensions.
        dropout: Rate between the layers.
        input_context: Neighbours on each side that a frame is joined with: t -
            1, ..., t - c, then t, then t + 1, ..., t + c; at a clip's ends the
            last frame stands for those that are missing.
        output_level: Index of the level that is the output; None for the last
            layer before the latents.

    Reference:
        Bai et al., 2021, "Deep Autoencoding Predictive Components", arXiv
        2010.03135.
    """

    def __init__(
        self,
        n_features: int = 80,
        kind: str = "gru",
        units: int = 256,
        layers: int = 3,
        dim: int = 64,
        dropout: float = 0.0,
        input_context: int = 0,
        output_level: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("kind", kind, KINDS)
        if layers < 0 or dim < 1 or input_context < 0:
            raise ValueError(
                "`layers` and `input_context` must not be negative and `dim` "
                f"positive. Received: layers={layers}, dim={dim}, "
                f"input_context={input_context}"
            )
        policy = {"dtype": self.dtype_policy}
        width, self.layers, self.drops = n_features, [], []
        width *= 1 + 2 * input_context
        self.dims = []
        for i in range(layers):
            if kind == "gru":
                layer = BidirectionalGRU(
                    width, units, name=f"gru_{i}", **policy
                )
                width = 2 * units
            else:
                layer = keras.layers.Dense(
                    units, "elu", name=f"dense_{i}", **policy
                )
                layer.build((None, None, width))
                width = units
            self.layers.append(layer)
            self.drops.append(drop_out(dropout, f"dropout_{i}", **policy))
            self.dims.append(width)
        self.projection = keras.layers.Dense(
            dim, use_bias=layers > 0, name="projection", **policy
        )
        self.projection.build((None, None, width))
        self.dims.append(dim)
        self.strides = [1] * (layers + 1)
        if output_level is None:
            self.output_level = -2 if layers else -1
        self.pooling = FramePool(("mean",), name="pooling", **policy)

    @property
    def is_linear(self) -> bool:
        """Whether the latents are a linear map of the features."""
        return not self.layers

    def levels(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> list[Tensor]:
        x = features if lengths is None else mask_frames(features, lengths)
        x, hidden = with_context(x, self.input_context, lengths), []
        for i, (layer, drop) in enumerate(
            zip(self.layers, self.drops, strict=True)
        ):
            if i:
                x = drop(x, training=training)
            if self.kind == "gru":
                x = layer(x, lengths=lengths)
            else:
                x = layer(x)
                x = x if lengths is None else mask_frames(x, lengths)
            hidden.append(x)
        x = self.projection(x)
        hidden.append(x if lengths is None else mask_frames(x, lengths))
        return hidden


def with_context(
    x: Tensor, context: int, lengths: Tensor | None = None
) -> Tensor:
    """Frames joined with their neighbours; see `LatentStack`."""
    if not context:
        return x
    place = ops.arange(ops.shape(x)[1], dtype="int32")[None]
    last = ops.shape(x)[1] - 1 + ops.zeros_like(place[:, :1])
    if lengths is not None:
        last = ops.maximum(ops.cast(lengths, "int32")[:, None] - 1, 0)
    # In the released code's order: t - 1 ... t - c, t, t + 1 ... t + c.
    steps = [
        *range(-1, -context - 1, -1),
        0,
        *range(1, context + 1),
    ]
    clips = ops.shape(x)[0]
    parts = []
    for step in steps:
        # Edges repeat: the first frame before the beginning, the last valid one
        # past the end.
        source = ops.minimum(ops.maximum(place + step, 0), last)
        source = ops.broadcast_to(source, (clips, ops.shape(x)[1]))
        parts.append(ops.take_along_axis(x, source[..., None], axis=1))
    return ops.concatenate(parts, axis=-1)
