"""EfficientNet-B0 on log-mel maps, exact for clips of unequal length."""

from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks import ConvNorm
from keras_audio_ssl.blocks import FramePool
from keras_audio_ssl.blocks import fresh_seed
from keras_audio_ssl.blocks import mask_frames
from keras_audio_ssl.encoders.backbone import Backbone
from keras_audio_ssl.engine import Layer

# kernel, repeats, filters, expansion, stride of the first block (Table 1).
STAGES = (
    (3, 1, 16, 1, 1),
    (3, 2, 24, 6, 2),
    (5, 2, 40, 6, 2),
    (3, 3, 80, 6, 2),
    (5, 3, 112, 6, 1),
    (5, 4, 192, 6, 2),
    (3, 1, 320, 6, 1),
)
STEM, TOP = 32, 1280


class EfficientNetB0(Backbone):
    """EfficientNet-B0 without top, max-pooled, with one input channel.

    Equal to `keras.applications.EfficientNetB0(include_top=False,
    pooling="max")`, but a clip's padding is masked after each layer and the
    squeeze pools over valid frames only, so that a clip's vectors are those
    of the clip alone. `keras.applications` divides its input by 255; so did
    COLA's released code, which feeds log-mels: `rescale` does the same.

    Args:
        n_features: Mel bands, at least 32.
        drop_connect: Rate of dropped residual branches at the last block.
        rescale: Factor on the features, 1 / 255 for COLA as released.

    Reference:
        Tan & Le, 2019, "EfficientNet: Rethinking Model Scaling for
        Convolutional Neural Networks", arXiv 1905.11946.
    """

    min_frames = 32

    def __init__(
        self,
        n_features: int = 64,
        drop_connect: float = 0.2,
        rescale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if n_features < 32:
            raise ValueError(
                f"`n_features` must be at least 32. Received: {n_features}"
            )
        policy = self.dtype_policy
        self.stem = unit(1, n_features, STEM, 3, 2, dtype=policy)
        bins, channels = -(-n_features // 2), STEM
        self.stages, self.strides, self.dims = [], [], []
        stride, done = 2, 0
        blocks = sum(stage[1] for stage in STAGES)
        for kernel, repeats, filters, expansion, first in STAGES:
            stage = []
            for repeat in range(repeats):
                block = MBConv(
                    channels,
                    bins,
                    filters,
                    kernel,
                    first if repeat == 0 else 1,
                    expansion,
                    drop_connect * done / blocks,
                    dtype=policy,
                )
                stage.append(block)
                bins, channels, done = block.bins, filters, done + 1
            stride *= first
            self.stages.append(stage)
            self.strides.append(stride)
            self.dims.append(bins * channels)
        self.top = unit(channels, bins, TOP, dtype=policy)
        self.strides.append(stride)
        self.dims.append(TOP)
        self.pooling = FramePool(("max",), name="pooling", dtype=policy)

    def levels(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> list[Tensor]:
        x = features[..., None] * self.rescale
        valid = None if lengths is None else half(lengths)
        x = self.stem(x, lengths=valid, training=training)
        hidden = []
        for stage, dim in zip(self.stages, self.dims, strict=False):
            for block in stage:
                if valid is not None and block.stride == 2:
                    out = half(valid)
                else:
                    out = valid
                x = block(x, lengths=valid, after=out, training=training)
                valid = out
            level = x if valid is None else mask_frames(x, valid)
            hidden.append(ops.reshape(level, (-1, ops.shape(x)[1], dim)))
        x = self.top(x, lengths=valid, training=training)
        # Over frequency: (batch, time, filters).
        frames = ops.max(x, axis=2)
        return [*hidden, frames]


def half(lengths: Tensor) -> Tensor:
    """Valid steps after a stride of 2, at least one."""
    return ops.maximum(ops.cast(lengths, "int32") // 2, 1)


def unit(
    channels: int,
    bins: int,
    filters: int,
    kernel: int = 1,
    stride: int = 1,
    **options: Any,
) -> Any:
    """A built `ConvNorm`, padded as `keras.applications` does."""
    pad = None
    if stride == 2:
        # Time as if of even length, as for an input of unknown length.
        low = kernel // 2 - (1 - bins % 2)
        pad = ((kernel // 2 - 1, kernel // 2), (low, kernel // 2))
    layer = ConvNorm(filters, kernel, stride, pad, **options)
    layer.build((None, None, bins, channels))
    return layer


class MBConv(Layer):
    """Inverted residual: expand, depthwise, squeeze and excite, project.

    Args:
        channels: Channels in.
        bins: Frequency bins in.
        filters: Channels out.
        kernel: Size of the depthwise kernel, along time and frequency.
        stride: Of the depthwise convolution.
        expansion: Channels inside, for each channel in.
        drop: Rate at which clips go without the block in training.

    Reference:
        Tan & Le, 2019, "EfficientNet", arXiv 1905.11946.
    """

    def __init__(
        self,
        channels: int,
        bins: int,
        filters: int,
        kernel: int,
        stride: int,
        expansion: int,
        drop: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        wide = channels * expansion
        self.expand = None
        if expansion != 1:
            self.expand = unit(channels, bins, wide, **policy)
        self.depthwise = unit(
            wide, bins, wide, kernel, stride, depthwise=True, **policy
        )
        init = keras.initializers.VarianceScaling(
            2.0, "fan_out", "truncated_normal"
        )
        narrow = max(1, channels // 4)
        self.squeeze = keras.layers.Dense(
            narrow, "silu", kernel_initializer=init, **policy
        )
        self.excite = keras.layers.Dense(
            wide, "sigmoid", kernel_initializer=init, **policy
        )
        self.squeeze.build((None, wide))
        self.excite.build((None, narrow))
        self.bins = -(-bins // stride)
        self.project = unit(wide, self.bins, filters, activation=None, **policy)
        self.residual = stride == 1 and channels == filters
        self.drop = keras.layers.Dropout(
            drop if self.residual else 0.0,
            noise_shape=(None, 1, 1, 1),
            seed=fresh_seed(),
            **policy,
        )

    def call(
        self,
        inputs: Tensor,
        lengths: Tensor | None = None,
        after: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        x = inputs
        if self.expand:
            x = self.expand(x, lengths=lengths, training=training)
        x = self.depthwise(x, lengths=after, training=training)
        if after is None:
            pooled = ops.mean(x, axis=(1, 2))
        else:
            count = ops.cast(after * x.shape[2], x.dtype)[:, None]
            pooled = ops.sum(x, axis=(1, 2)) / count
        gate = self.excite(self.squeeze(pooled))
        x = self.project(x * gate[:, None, None, :], training=training)
        if self.residual:
            x = inputs + self.drop(x, training=training)
        return x
