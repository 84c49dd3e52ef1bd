"""The networks of PANNs that read log-mels, and the one on the waveform."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks import BatchNorm
from keras_audio_ssl.blocks import ConvNorm
from keras_audio_ssl.blocks import ConvNorm1D
from keras_audio_ssl.blocks import FramePool
from keras_audio_ssl.blocks import drop_out
from keras_audio_ssl.blocks import mask_frames
from keras_audio_ssl.encoders.backbone import Backbone
from keras_audio_ssl.engine import Layer
from keras_audio_ssl.engine import frame_mask


class PooledConvs(Layer):
    """Convolutions with batch norm and ReLU, then an average over squares.

    Args:
        filters: Channels out.
        width: Channels in.
        kernel_size: Of each convolution, odd.
        convs: How many.
        pool: Size and stride of the average pooling; a remainder is dropped.
        dropout: Rate, after the pooling.

    Call arguments:
        x: `(batch, time, frequency, channels)`, zero past each clip's end.
        lengths: Optional `(batch,)`, valid steps of time.

    Returns:
        `(batch, time // pool, frequency // pool, filters)`.
    """

    def __init__(
        self,
        filters: int,
        width: int,
        kernel_size: int = 3,
        convs: int = 2,
        pool: int = 2,
        dropout: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.layers = []
        for i in range(convs):
            layer = ConvNorm(
                filters, kernel_size, activation="relu", momentum=0.9,
                epsilon=1e-5, kernel_initializer="glorot_uniform",
                name=f"conv_{i}", dtype=self.dtype_policy,
            )  # fmt: skip
            layer.build((None, None, None, filters if i else width))
            self.layers.append(layer)
        self.drop = drop_out(dropout, "dropout", dtype=self.dtype_policy)

    def output_lengths(self, lengths: Any) -> Any:
        """Valid steps of the output, at least one."""
        return ops.maximum(ops.cast(lengths, "int32") // self.pool, 1)

    def call(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        for layer in self.layers:
            x = layer(x, lengths=lengths, training=training)
        if self.pool > 1:
            x = backend.average_pool(x, (self.pool, self.pool))
            if lengths is not None:
                x = mask_frames(x, self.output_lengths(lengths))
        return self.drop(x, training=training)


class Panns(Backbone):
    """What PANNs' networks have after their frames: max + mean over time.

    After them there may be a dense layer with ReLU, of the same width.
    """

    def add_pooling(self, width: int, dense: bool) -> None:
        """Makes the layers of the clip vector."""
        policy = {"dtype": self.dtype_policy}
        self.pooling = FramePool(("mean", "max"), name="pooling", **policy)
        self.embedding: Any = None
        if dense:
            self.embedding = keras.layers.Dense(
                width, "relu", name="embedding", **policy
            )
            self.embedding.build((None, width))

    def clip_vector(
        self,
        frames: Tensor,
        lengths: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        pooled = self.pooling(frames, lengths=lengths)
        return self.embedding(pooled) if self.dense else pooled


class PannsConv(Panns):
    """Blocks of convolutions on log-mels; max + mean over time.

    A frame is the mean of the last block's map over frequency. The other
    levels are such means too.

    Args:
        n_features: Mel bands.
        filters: Channels of each block; None for the paper's.
        dropout: Rate after each block.
        input_norm: Whether each band is batch-normalised first.
        dense: Whether the dense layer of PANNs follows the pooling.

    Attributes:
        FILTERS: The paper's.
        KERNEL_SIZE: Of the convolutions.
        CONVS: How many a block has.
        POOLS_LAST: Whether the last block is pooled too.
    """

    FILTERS: tuple[int, ...]
    KERNEL_SIZE: int
    CONVS: int
    POOLS_LAST: bool

    def __init__(
        self,
        n_features: int = 80,
        filters: Sequence[int] | None = None,
        dropout: float = 0.2,
        input_norm: bool = True,
        dense: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.filters = filters = list(filters or self.FILTERS)
        pooled = len(filters) - (not self.POOLS_LAST)
        self.min_frames = 2**pooled
        if n_features < self.min_frames:
            raise ValueError(
                f"`n_features` must be at least {self.min_frames}, for "
                f"{pooled} poolings. Received: {n_features}"
            )
        self.norm = None
        if input_norm:
            self.norm = BatchNorm(
                momentum=0.9, epsilon=1e-5, name="norm", **policy
            )
            self.norm.build((None, None, n_features))
        self.blocks, self.strides, width, step = [], [], 1, 1
        for i, channels in enumerate(filters):
            pool = 2 if i < pooled else 1
            block = PooledConvs(
                channels, width, self.KERNEL_SIZE, self.CONVS, pool, dropout,
                name=f"block_{i}", **policy,
            )  # fmt: skip
            self.blocks.append(block)
            width, step = channels, step * pool
            self.strides.append(step)
        self.dims = list(filters)
        self.add_pooling(width, dense)

    def levels(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> list[Tensor]:
        x, hidden = features, []
        if self.norm is not None:
            mask = None
            if lengths is not None:
                mask = frame_mask(lengths, ops.shape(x)[1])
            x = self.norm(x, training=training, mask=mask)
            x = x if mask is None else mask_frames(x, lengths)
        x = x[..., None]
        for block in self.blocks:
            x = block(x, lengths=lengths, training=training)
            if lengths is not None:
                lengths = block.output_lengths(lengths)
            mean = ops.mean(ops.cast(x, "float32"), axis=2)
            hidden.append(ops.cast(mean, x.dtype))
        return hidden


class CNN14(PannsConv):
    """CNN14 of PANNs on log-mels: 2048 values.

    Args:
        n_features: Mel bands.
        filters: Channels of each block; None for the paper's.
        dropout: Rate after each block.
        input_norm: Whether each band is batch-normalised first.
        dense: Whether the dense layer of PANNs follows the pooling.

    Reference:
        Kong et al., 2020, "PANNs: Large-Scale Pretrained Audio Neural
        Networks for Audio Pattern Recognition", arXiv 1912.10211.
    """

    FILTERS = (64, 128, 256, 512, 1024, 2048)
    KERNEL_SIZE, CONVS, POOLS_LAST = 3, 2, False


class CNN6(PannsConv):
    """CNN6 of PANNs on log-mels: 512 values.

    Args:
        n_features: Mel bands.
        filters: Channels of each block; None for the paper's.
        dropout: Rate after each block.
        input_norm: Whether each band is batch-normalised first.
        dense: Whether the dense layer of PANNs follows the pooling.

    Reference:
        Kong et al., 2020, arXiv 1912.10211.
    """

    FILTERS = (64, 128, 256, 512)
    KERNEL_SIZE, CONVS, POOLS_LAST = 5, 1, True


class Res1dBlock(Layer):
    """Two convolutions over time around a shortcut.

    The main path is max-pooled first, the shortcut averaged; the second
    convolution's scale starts at 0, so that a block begins as its shortcut.

    Args:
        filters: Channels out.
        width: Channels in.
        stride: Of the poolings, whose remainder is dropped.
        dropout: Rate between the convolutions.

    Call arguments:
        x: `(batch, time, width)`, zero past each clip's end.
        lengths: Optional `(batch,)`, valid frames.

    Returns:
        `(batch, time // stride, filters)`.
    """

    def __init__(
        self,
        filters: int,
        width: int,
        stride: int = 1,
        dropout: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.first = ConvNorm1D(filters, 3, pad=1, name="first", **policy)
        self.first.build((None, None, width))
        self.second = ConvNorm1D(
            filters, 3, dilation=2, pad=2, gamma_initializer="zeros",
            name="second", **policy,
        )  # fmt: skip
        self.second.build((None, None, filters))
        self.short = None
        if stride > 1 or width != filters:
            self.short = ConvNorm1D(
                filters, 1, activation=None, name="short", **policy
            )
            self.short.build((None, None, width))
        self.drop = drop_out(dropout, "dropout", **policy)

    def output_lengths(self, lengths: Any) -> Any:
        """Valid frames of the output, at least one."""
        return ops.maximum(ops.cast(lengths, "int32") // self.stride, 1)

    def call(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        x = short = ops.cast(x, self.compute_dtype)
        if self.stride > 1:
            # As a map of one row.
            x, size = ops.expand_dims(x, axis=1), (1, self.stride)
            short = ops.squeeze(backend.average_pool(x, size), axis=1)
            x = ops.squeeze(backend.max_pool(x, size), axis=1)
            if lengths is not None:
                lengths = self.output_lengths(lengths)
                x, short = mask_frames(x, lengths), mask_frames(short, lengths)
        options = {"lengths": lengths, "training": training}
        x = self.drop(self.first(x, **options), training=training)
        if self.short is not None:
            short = self.short(short, **options)
        return self.second(x, around=short, **options)


class Res1dNet31(Panns):
    """Res1dNet31 of PANNs on the waveform, without classifier: 2048 values.

    A convolution of 11 samples and stride 5, then stages of residual blocks;
    max + mean over time, and a dense layer.

    Args:
        n_features: 1, the waveform.
        filters: Channels of each stage. The first keeps the rate, the others
            take every fourth frame.
        blocks: In a stage.
        dropout: Rate in the blocks.
        dense: Whether the dense layer of PANNs follows the pooling.

    Reference:
        Kong et al., 2020, arXiv 1912.10211.
    """

    def __init__(
        self,
        n_features: int = 1,
        filters: Sequence[int] = (64, 128, 256, 512, 1024, 1024, 2048),
        blocks: int = 2,
        dropout: float = 0.1,
        dense: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.conv = ConvNorm1D(
            filters[0], 11, 5, pad=5, activation=None, name="conv", **policy
        )
        self.conv.build((None, None, n_features))
        self.stages, self.strides, step = [], [], 5
        width = filters[0]
        for i, channels in enumerate(filters):
            stage = []
            for j in range(blocks):
                stride = 4 if i and not j else 1
                block = Res1dBlock(
                    channels, width, stride, dropout,
                    name=f"stage_{i}_{j}", **policy,
                )  # fmt: skip
                stage.append(block)
                width, step = channels, step * stride
            self.stages.append(stage)
            self.strides.append(step)
        self.min_frames = step - 4
        self.dims = list(filters)
        self.add_pooling(width, dense)

    def level_lengths(self, lengths: Tensor, level: int = -1) -> Tensor:
        valid = self.conv.output_lengths(ops.cast(lengths, "int32"))
        for stage in self.stages[: range(len(self.stages))[level] + 1]:
            for block in stage:
                valid = block.output_lengths(valid)
        return valid

    def levels(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> list[Tensor]:
        x, hidden = self.conv(features, lengths, training=training), []
        if lengths is not None:
            lengths = self.conv.output_lengths(ops.cast(lengths, "int32"))
        for stage in self.stages:
            for block in stage:
                x = block(x, lengths=lengths, training=training)
                if lengths is not None:
                    lengths = block.output_lengths(lengths)
            hidden.append(x)
        return hidden
