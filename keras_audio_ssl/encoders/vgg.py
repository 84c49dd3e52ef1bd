"""The VGG-like and the recurrent network of Fonseca et al."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks import BidirectionalGRU
from keras_audio_ssl.blocks import conv_relu
from keras_audio_ssl.blocks import mask_frames
from keras_audio_ssl.blocks import max_pool
from keras_audio_ssl.blocks import pool_frames
from keras_audio_ssl.encoders.backbone import Backbone
from keras_audio_ssl.encoders.resnet import as_map
from keras_audio_ssl.encoders.resnet import check_channels
from keras_audio_ssl.engine import Layer
from keras_audio_ssl.engine import check_choice


class VGG(Backbone):
    """Groups of convolutions of 3 x 3, each group followed by a pooling.

    The clip vector is a dense layer of the largest and of the mean values of
    each channel over frequency and time; a frame is both over frequency.

    Args:
        n_features: Bins of the features, of all channels.
        channels: Of the map: neighbouring blocks of as many features.
        conv_channels: Filters of the first group, of which each following
            has twice as many.
        repeats: Convolutions of each group.
        dim: Width of the clip vector.
        input_scale: Factor on the features, see `ResNet18`.

    Raises:
        ValueError: There are too few bins, or `channels` does not divide
            them.

    Reference:
        Fonseca et al., 2021, arXiv 2011.07616.
    """

    def __init__(
        self,
        n_features: int = 96,
        channels: int = 1,
        conv_channels: int = 32,
        repeats: Sequence[int] = (3, 2, 1),
        dim: int = 512,
        input_scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_channels(n_features, channels)
        bins = n_features // channels
        check_bins(bins, 2 ** len(repeats))
        policy = {"dtype": self.dtype_policy}
        self.min_frames = 2 ** len(repeats)
        self.groups, width = [], channels
        self.dims, self.strides = [], []
        for i, count in enumerate(repeats):
            filters, group = conv_channels * 2**i, []
            for k in range(count):
                conv = conv_relu(filters, 3, name=f"conv_{i}_{k}", **policy)
                conv.build((None, None, None, width))
                group.append(conv)
                width = filters
            self.groups.append(group)
            bins //= 2
            self.dims.append(bins * width)
            self.strides.append(2 ** (i + 1))
        self.dims.append(2 * width)
        self.strides.append(self.strides[-1])
        self.pooling = MaxMeanDense(2 * width, dim, name="pooling", **policy)

    def levels(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> list[Tensor]:
        x, hidden = as_map(features, self.channels, self.input_scale), []
        for group, dim in zip(self.groups, self.dims, strict=False):
            for conv in group:
                x = conv(x, lengths=lengths, training=training)
            x, lengths = pooled(x, 2, lengths)
            hidden.append(ops.reshape(x, (*ops.shape(x)[:2], dim)))
        # Over frequency: (batch, time, 2 * filters).
        both = [ops.max(x, axis=2), ops.mean(x, axis=2)]
        return [*hidden, ops.concatenate(both, axis=-1)]


class CRNN(Backbone):
    """Three convolutions, then a recurrent layer in both directions.

    The clip vector is the product of the last states of both directions.

    Args:
        n_features: Bins of the features, 40 or more.
        conv_channels: Filters of each convolution, of 5 x 5.
        units: Of each direction, and width of the clip vector.
        crnn_backward: What of the backward direction the clip vector reads:
            `"final"`, its state after the whole clip, or `"last_index"`, its
            output at the last frame, which has seen that frame alone, as the
            published weights were trained with.
        input_scale: Factor on the features, see `ResNet18`.

    Raises:
        ValueError: There are too few bins, or `crnn_backward` is unknown.

    Reference:
        Fonseca et al., 2021, arXiv 2011.07616.
    """

    POOLS = ((2, 5), (2, 4), (2, 2))
    min_frames = 8

    def __init__(
        self,
        n_features: int = 96,
        conv_channels: int = 128,
        units: int = 64,
        crnn_backward: str = "final",
        input_scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("crnn_backward", crnn_backward, ("final", "last_index"))
        check_bins(n_features, 40)
        policy = {"dtype": self.dtype_policy}
        self.convs, width, bins = [], 1, n_features
        self.dims, self.strides = [], []
        for i, (along_time, along_bins) in enumerate(self.POOLS):
            conv = conv_relu(conv_channels, 5, name=f"conv_{i}", **policy)
            conv.build((None, None, None, width))
            self.convs.append(conv)
            width, bins = conv_channels, bins // along_bins
            self.dims.append(bins * width)
            self.strides.append(along_time ** (i + 1))
        self.gru = BidirectionalGRU(bins * width, units, name="gru", **policy)
        self.dims.append(2 * units)
        self.strides.append(self.strides[-1])
        self.pooling = LastStates(crnn_backward, name="pooling", **policy)

    def levels(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> list[Tensor]:
        x, hidden = as_map(features, 1, self.input_scale), []
        for conv, pool, dim in zip(
            self.convs, self.POOLS, self.dims, strict=False
        ):
            x = conv(x, lengths=lengths, training=training)
            x, lengths = pooled(x, pool, lengths)
            # Frequency major, channels minor.
            hidden.append(ops.reshape(x, (*ops.shape(x)[:2], dim)))
        return [*hidden, self.gru(hidden[-1], lengths=lengths)]


def pooled(
    x: Tensor, pool: Any, lengths: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """A map after a pooling that halves time, and its valid steps."""
    x = max_pool(x, pool)
    if lengths is None:
        return x, None
    lengths = ops.cast(lengths, "int32") // 2
    return mask_frames(x, lengths), lengths


def check_bins(bins: int, least: int) -> None:
    """Refuses features of which poolings would leave nothing.

    Raises:
        ValueError: They are fewer.
    """
    if bins < least:
        raise ValueError(
            f"`n_features` must be at least {least} a channel. Received: {bins}"
        )


class MaxMeanDense(Layer):
    """Largest values over time of half a frame, means of the other; dense.

    Args:
        input_dim: Width of a frame.
        dim: Width of the output, after ReLU.

    Call arguments:
        x: `(batch, frames, input_dim)`.
        lengths: Optional `(batch,)`, valid frames.

    Returns:
        `(batch, dim)`.
    """

    def __init__(self, input_dim: int, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(
            dim, "relu", name="dense", dtype=self.dtype_policy
        )
        self.dense.build((None, input_dim))

    def width(self, dim: int) -> int:
        """Of the clip vector."""
        return self.dim

    def call(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        largest, mean = ops.split(x, 2, axis=-1)
        (largest,) = pool_frames(largest, ("max",), lengths)
        (mean,) = pool_frames(mean, ("mean",), lengths)
        return self.dense(ops.concatenate([largest, mean], axis=-1))


class LastStates(Layer):
    """The product of the two directions' states at a clip's end.

    Args:
        backward: `"final"` or `"last_index"`, see `CRNN`.

    Call arguments:
        x: `(batch, frames, 2 * units)`, forward and then backward.
        lengths: Optional `(batch,)`, valid frames.

    Returns:
        `(batch, units)`.
    """

    def __init__(self, backward: str = "final", **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def width(self, dim: int) -> int:
        """Of the clip vector, of frames of this width."""
        return dim // 2

    def call(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        if lengths is None:
            last = x[:, -1]
        else:
            place = ops.maximum(ops.cast(lengths, "int32") - 1, 0)
            place = place[:, None, None]
            last = ops.take_along_axis(x, place, axis=1)[:, 0]
        ahead, back = ops.split(last, 2, axis=-1)
        if self.backward == "final":
            back = ops.split(x[:, 0], 2, axis=-1)[1]
        return ahead * back
