"""The transformer of Mockingjay, Audio ALBERT and TERA."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks import FramePool
from keras_audio_ssl.blocks import TransformerBlock
from keras_audio_ssl.blocks import drop_out
from keras_audio_ssl.blocks import layer_norm
from keras_audio_ssl.blocks import mask_frames
from keras_audio_ssl.blocks import normal_dense
from keras_audio_ssl.blocks import sinusoids
from keras_audio_ssl.blocks import stack_frames
from keras_audio_ssl.encoders.backbone import Backbone
from keras_audio_ssl.engine import frame_mask


class Transformer(Backbone):
    """Bidirectional transformer over feature frames.

    Its levels are the embedded input and the output of each layer, `layers +
    1` in all.

    Args:
        n_features: Bins of the features.
        units: Width, even.
        layers: How many.
        heads: Of each layer's attention.
        feed_forward: Width inside each layer's feed-forward network.
        dropout: Rate, everywhere.
        activation: `"gelu"` (exact), `"gelu_tanh"`, `"relu"` or `"swish"`.
        pre_norm: Whether layers normalise before their parts, and each level
            apart.
        share_layers: Whether all layers are one, applied again and again, as
            in Audio ALBERT.
        stack: Feature frames that are joined to one before the first layer; a
            tail that fills none is dropped.
        prunable: Whether there is the variable `head_mask`, `(layers,
            heads)`, not trained: 1 keeps a head, 0 switches it off.
        output_level: Index of the level that is the output.

    Reference:
        Liu et al., 2020, "Mockingjay", arXiv 1910.12638; Chi et al., 2021,
        "Audio ALBERT", arXiv 2005.08575.
    """

    has_attention = True

    def __init__(
        self,
        n_features: int = 80,
        units: int = 768,
        layers: int = 3,
        heads: int = 12,
        feed_forward: int = 3072,
        dropout: float = 0.1,
        activation: str = "gelu",
        pre_norm: bool = False,
        share_layers: bool = False,
        stack: int = 1,
        prunable: bool = False,
        output_level: int = -1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if layers < 1 or stack < 1 or units % 2:
            raise ValueError(
                "`layers` and `stack` must be positive and `units` even. "
                f"Received: layers={layers}, stack={stack}, units={units}"
            )
        policy = {"dtype": self.dtype_policy}
        self.n_layers = layers
        self.embedding = normal_dense(
            units, n_features * stack, "embedding", **policy
        )
        self.layers = [
            TransformerBlock(
                units, heads, feed_forward, dropout, activation, pre_norm,
                name=f"layer_{i}", **policy,
            )
            for i in range(1 if share_layers else layers)
        ]  # fmt: skip
        self.embedding_norm = layer_norm(units, "embedding_norm", **policy)
        self.norms = [
            layer_norm(units, f"norm_{i}", **policy)
            for i in range(layers + 1 if pre_norm else 0)
        ]
        self.drop = drop_out(dropout, "dropout", **policy)
        self.head_mask = None
        if prunable:
            self.head_mask = head_mask(self, layers, heads)
        self.pooling = FramePool(("mean",), name="pooling", **policy)
        self.min_frames = stack
        self.dims, self.strides = [units] * (layers + 1), [stack] * (layers + 1)

    def levels(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
        return_attention: bool = False,
    ) -> Any:
        x = features if lengths is None else mask_frames(features, lengths)
        x = stack_frames(x, self.stack)
        frames, mask = ops.shape(x)[1], None
        if lengths is not None:
            lengths = self.level_lengths(lengths)
            mask = frame_mask(lengths, frames)
        x = self.embedding(x)
        x = x + ops.cast(sinusoids(frames, self.units), x.dtype)
        x = self.drop(self.embedding_norm(x), training=training)
        blocks = self.layers * (self.n_layers if self.share_layers else 1)
        hidden, maps = through_blocks(
            x, blocks, mask, self.head_mask, training, return_attention
        )
        if self.pre_norm:
            hidden = [
                norm(x) for norm, x in zip(self.norms, hidden, strict=True)
            ]
        if lengths is not None:
            hidden = [mask_frames(x, lengths) for x in hidden]
        return (hidden, maps) if return_attention else hidden


def head_mask(backbone: Any, layers: int, heads: int) -> Tensor:
    """A backbone's variable that switches heads off, `(layers, heads)`."""
    return backbone.add_weight(
        shape=(layers, heads), initializer="ones", trainable=False,
        name="head_mask",
    )  # fmt: skip


def through_blocks(
    x: Tensor,
    blocks: Sequence[Any],
    mask: Tensor | None = None,
    head_mask: Tensor | None = None,
    training: bool | None = None,
    return_attention: bool = False,
) -> Any:
    """What goes into the first of `TransformerBlock`s, and out of each.

    Args:
        x: `(batch, frames, dim)`.
        blocks: A list of layers.
        mask: Boolean `(batch, frames)`, a clip's frames, or None.
        head_mask: `(layers, heads)`, or None.
        training: bool.
        return_attention: Whether the list of maps is filled.

    Returns:
        `(hidden, maps)`.
    """
    hidden, maps = [x], []
    for i, block in enumerate(blocks):
        x = block(
            x, valid=mask, training=training,
            head_mask=None if head_mask is None else head_mask[i],
            return_attention=return_attention,
        )  # fmt: skip
        if return_attention:
            x, probabilities = x
            maps.append(valid_corner(probabilities, mask))
        hidden.append(x)
    return hidden, maps


def valid_corner(maps: Tensor, mask: Tensor) -> Tensor:
    """Attention maps with zeros where the query is no frame of the clip."""
    if mask is None:
        return maps
    return ops.where(mask[:, None, :, None], maps, 0.0)
