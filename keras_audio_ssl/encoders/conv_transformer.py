"""Transformers behind convolutions that quarter the time: MPC's, MAM's."""

import math
from typing import Any

import keras
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks import ConvNorm
from keras_audio_ssl.blocks import FramePool
from keras_audio_ssl.blocks import TransformerBlock
from keras_audio_ssl.blocks import drop_out
from keras_audio_ssl.blocks import layer_norm
from keras_audio_ssl.blocks import mask_frames
from keras_audio_ssl.blocks import pad_frames
from keras_audio_ssl.blocks import sinusoids
from keras_audio_ssl.encoders.backbone import Backbone
from keras_audio_ssl.encoders.transformer import head_mask
from keras_audio_ssl.encoders.transformer import through_blocks
from keras_audio_ssl.engine import frame_mask

STEP = 4


class ConvTransformer(Backbone):
    """Time and frequency by four, then a transformer; a base class.

    Time is padded to a multiple of four first, so that a frame is always at
    the same place of its step. A subclass makes `layers`, `drop` and
    `pooling`, and implements `embed`.
    """

    has_attention = True
    reference_padding: bool = False
    head_mask: Any = None

    def embed(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        """`(batch, 4 * steps, bins)` to `(batch, steps, dim)`.

        Args:
            x: Features, zero past each clip's end.
            lengths: `(batch,)` valid feature frames, or None.
            training: bool.
        """
        raise NotImplementedError

    def finish(self, hidden: list[Tensor]) -> Any:
        """The levels, of what went into the first layer and out of each."""
        return hidden

    def level_lengths(self, lengths: Tensor, level: int = -1) -> Tensor:
        steps = (ops.cast(lengths, "int32") + STEP - 1) // STEP
        return ops.maximum(steps, 1)

    def levels(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
        return_attention: bool = False,
    ) -> Any:
        x, mask, time = features, None, features.shape[1]
        if self.reference_padding:
            lengths = None
            x = x[:, : ops.shape(x)[1] // STEP * STEP]
        elif lengths is None and not (
            isinstance(time, int) and time % STEP == 0
        ):
            # The frames that are added are none of the clip's.
            lengths = ops.full((ops.shape(x)[0],), ops.shape(x)[1], "int32")
        if lengths is not None:
            x = mask_frames(x, lengths)
        x = self.embed(pad_frames(x, STEP), lengths, training)
        if lengths is not None:
            lengths = self.level_lengths(lengths)
            mask = frame_mask(lengths, ops.shape(x)[1])
        x = x + ops.cast(sinusoids(ops.shape(x)[1], self.units), x.dtype)
        hidden, maps = through_blocks(
            self.drop(x, training=training),
            self.layers,
            mask,
            self.head_mask,
            training=training,
            return_attention=return_attention,
        )
        hidden = self.finish(hidden)
        if lengths is not None:
            hidden = [mask_frames(x, lengths) for x in hidden]
        return (hidden, maps) if return_attention else hidden


class MPCTransformer(ConvTransformer):
    """Two convolutions with batch norms, then layers that normalise last.

    Its levels are the embedded input and the output of each layer, `layers +
    1` in all, of 25 frames a second where features have 100.

    Args:
        n_features: Bins of the features.
        filters: Channels of the convolutions; 64 is enough for a small
            machine.
        units: Width, even.
        layers: How many.
        heads: Of each layer's attention.
        feed_forward: Width inside each layer's feed-forward network; 2048
            for LibriSpeech.
        dropout: Rate, everywhere.
        channels: Maps that the bins are of, one after the other, as where
            two deltas follow a filterbank: 3.
        reference_padding: Pad as the released code does: what fills no step
            is cut off, `lengths` mean nothing, padding is attended to and
            counts in the batch norms' statistics.
        prunable: Whether there is the variable `head_mask`, as of
            `Transformer`.
        output_level: Index of the level that is the output.

    Reference:
        Jiang et al., 2019, "Improving Transformer-based Speech Recognition
        Using Unsupervised Pre-training", arXiv 1910.09932.
    """

    def __init__(
        self,
        n_features: int = 40,
        filters: int = 512,
        units: int = 512,
        layers: int = 12,
        heads: int = 8,
        feed_forward: int = 1280,
        dropout: float = 0.1,
        channels: int = 1,
        reference_padding: bool = False,
        prunable: bool = False,
        output_level: int = -1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_sizes(layers, units)
        if channels < 1 or n_features % channels:
            raise ValueError(
                f"`channels` must divide the {n_features} features. "
                f"Received: {channels}"
            )
        policy = {"dtype": self.dtype_policy}
        self.convs, bins, width = [], n_features // channels, channels
        for i in range(2):
            conv = ConvNorm(
                filters, 3, 2, pad=((0, 1), (bins % 2, 1)), activation=None,
                kernel_initializer="glorot_uniform", name=f"conv_{i}", **policy,
            )  # fmt: skip
            conv.build((None, None, bins, width))
            self.convs.append(conv)
            bins, width = -(-bins // 2), filters
        self.dense = keras.layers.Dense(units, name="dense", **policy)
        self.dense.build((None, None, bins * filters))
        self.layers = [
            TransformerBlock(
                units, heads, feed_forward, dropout, "gelu_tanh",
                epsilon=1e-8, truncated=True, name=f"layer_{i}", **policy,
            )
            for i in range(layers)
        ]  # fmt: skip
        self.drop = drop_out(dropout, "dropout", **policy)
        if prunable:
            self.head_mask = head_mask(self, layers, heads)
        self.pooling = FramePool(("mean",), name="pooling", **policy)
        self.dims, self.strides = [units] * (layers + 1), [STEP] * (layers + 1)
        if reference_padding:
            self.min_frames, self.exact_lengths = STEP, False

    def embed(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        bins = self.n_features // self.channels
        shape = (-1, ops.shape(x)[1], self.channels, bins)
        # A map (batch, time, bins, channels): deltas are channels.
        x = ops.transpose(ops.reshape(x, shape), (0, 1, 3, 2))
        for conv in self.convs:
            if lengths is not None:
                lengths = (ops.cast(lengths, "int32") + 1) // 2
            x = ops.relu6(conv(x, lengths=lengths, training=training))
        x = ops.reshape(x, (-1, ops.shape(x)[1], x.shape[2] * x.shape[3]))
        return ops.relu6(self.dense(x))


class MAMTransformer(ConvTransformer):
    """Two convolutions, then layers that normalise first.

    Its levels are the embedded input, the output of each layer and the last
    one normalised, `layers + 2` in all, of 25 frames a second where features
    have 100.

    Args:
        n_features: Bins of the features.
        units: Width, of the convolutions too; even.
        layers: How many.
        heads: Of each layer's attention.
        feed_forward: Width inside each layer's feed-forward network.
        dropout: Rate, everywhere.
        prunable: Whether there is the variable `head_mask`, as of
            `Transformer`.
        output_level: Index of the level that is the output.

    Reference:
        Chen et al., 2020, "MAM: Masked Acoustic Modeling for End-to-End
        Speech-to-Text Translation", arXiv 2010.11445; sizes of ESPnet's.
    """

    def __init__(
        self,
        n_features: int = 80,
        units: int = 256,
        layers: int = 12,
        heads: int = 4,
        feed_forward: int = 2048,
        dropout: float = 0.1,
        prunable: bool = False,
        output_level: int = -1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_sizes(layers, units)
        policy = {"dtype": self.dtype_policy}
        self.convs, bins, width = [], n_features, 1
        for i in range(2):
            conv = keras.layers.Conv2D(
                units, 3, 2, "same", "channels_last", activation="relu",
                name=f"conv_{i}", **policy,
            )  # fmt: skip
            conv.build((None, None, bins, width))
            self.convs.append(conv)
            bins, width = -(-bins // 2), units
        self.dense = keras.layers.Dense(units, name="dense", **policy)
        self.dense.build((None, None, bins * units))
        self.layers = [
            TransformerBlock(
                units, heads, feed_forward, dropout, "relu", pre_norm=True,
                name=f"layer_{i}", **policy,
            )
            for i in range(layers)
        ]  # fmt: skip
        self.norm = layer_norm(units, "norm", **policy)
        self.drop = drop_out(dropout, "dropout", **policy)
        if prunable:
            self.head_mask = head_mask(self, layers, heads)
        self.pooling = FramePool(("mean",), name="pooling", **policy)
        self.dims, self.strides = [units] * (layers + 2), [STEP] * (layers + 2)

    def embed(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        x = ops.expand_dims(ops.cast(x, self.compute_dtype), axis=-1)
        for conv in self.convs:
            x = halving_conv(x, conv)
            if lengths is not None:
                # Past a clip's end there is the bias, and the next sees it.
                lengths = (ops.cast(lengths, "int32") + 1) // 2
                x = mask_frames(x, lengths)
        x = ops.reshape(x, (-1, ops.shape(x)[1], x.shape[2] * x.shape[3]))
        return self.dense(x) * math.sqrt(self.units)

    def finish(self, hidden: list[Tensor]) -> Any:
        return [*hidden, self.norm(hidden[-1])]


def halving_conv(x: Tensor, conv: keras.layers.Conv2D) -> Tensor:
    """A convolution of 3 x 3 in steps of two, by the backend's quickest way.

    Args:
        x: `(batch, time, bins, channels)`, of an even time.
        conv: Whose padding is "same".
    """
    # As Keras pads: an even size has its one zero at the end.
    bins = (1, 1) if x.shape[2] % 2 else (0, 1)
    y = backend.conv(x, conv.kernel, 2, ((0, 1), bins))
    return conv.activation(y + ops.cast(conv.bias, y.dtype))


def check_sizes(layers: int, units: int) -> None:
    """Refuses sizes of which no transformer can be.

    Raises:
        ValueError: There is no layer, or the width is odd.
    """
    if layers < 1 or units % 2:
        raise ValueError(
            "`layers` must be positive and `units` even. "
            f"Received: layers={layers}, units={units}"
        )
