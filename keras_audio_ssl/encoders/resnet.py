"""ResNet-18 on maps of one or more channels, and on waveforms."""

from typing import Any

from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks import BasicBlock
from keras_audio_ssl.blocks import FramePool
from keras_audio_ssl.blocks import conv_relu
from keras_audio_ssl.blocks import mask_frames
from keras_audio_ssl.blocks import max_pool
from keras_audio_ssl.encoders.backbone import Backbone

# Blocks of each stage, of 1, 2, 4 and 8 times the channels.
STAGES = (2, 2, 2, 2)


def half(lengths: Tensor) -> Tensor:
    """Of so many places, with a stride of 2, rounded up."""
    return (lengths + 1) // 2


class ResNet18(Backbone):
    """ResNet-18 without classes, averaged over frequency and time.

    torchvision's layout: a convolution of 7 x 7 and a pooling, each of
    stride 2, then four stages of two blocks.

    Args:
        n_features: Bins of the features, of all channels.
        channels: Of the map: neighbouring blocks of as many features.
        width: Filters of the first stage; the last one has, and a frame is,
            eight times as many.
        input_scale: Factor on the features, 36 000 for the published weights
            of Fonseca et al.

    Raises:
        ValueError: `channels` does not divide the features, or `width` is not
            positive.

    Reference:
        He et al., 2016, arXiv 1512.03385; of one channel in Fonseca et al.,
        2021, arXiv 2011.07616, of three in Al-Tahan & Mohsenzadeh, 2021,
        arXiv 2010.09542.
    """

    def __init__(
        self,
        n_features: int = 96,
        channels: int = 1,
        width: int = 64,
        input_scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_channels(n_features, channels)
        policy = {"dtype": self.dtype_policy}
        self.stem = conv_relu(width, 7, 2, name="stem", **policy)
        self.stem.build((None, None, None, channels))
        self.stages = stages(width, 3, 2, policy)
        self.pooling = FramePool(("mean",), name="pooling", **policy)
        bins = half(half(n_features // channels))
        self.dims, self.strides = [bins * width], [4]
        for stage in range(len(STAGES)):
            bins = half(bins) if stage else bins
            self.dims.append(bins * width * 2**stage)
            self.strides.append(4 * 2**stage)
        self.dims.append(width * 8)
        self.strides.append(self.strides[-1])

    def level_lengths(self, lengths: Tensor, level: int = -1) -> Tensor:
        stride = self.strides[level]
        lengths = ops.cast(lengths, "int32")
        return ops.maximum((lengths + stride - 1) // stride, 1)

    def levels(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> list[Tensor]:
        x = as_map(features, self.channels, self.input_scale)
        valid = None if lengths is None else half(ops.cast(lengths, "int32"))
        x = self.stem(x, lengths=valid, training=training)
        x = max_pool(x, 3, 2, (1, 1))
        if valid is not None:
            valid = half(valid)
            x = mask_frames(x, valid)
        maps, _ = through(self.stages, x, valid, training)
        hidden = [
            ops.reshape(m, (-1, ops.shape(m)[1], dim))
            for m, dim in zip(maps, self.dims, strict=False)
        ]
        return [*hidden, ops.mean(maps[-1], axis=2)]


class WaveformResNet18(Backbone):
    """ResNet-18 in one dimension, of kernels of 9 samples, averaged.

    A convolution of 7 and a pooling of 9, each of stride 2, then four stages
    of two blocks.

    Args:
        n_features: 1, the waveform.
        width: Filters of the first stage; the last one has eight times as
            many.

    Raises:
        ValueError: `width` is not positive.

    Reference:
        Al-Tahan & Mohsenzadeh, 2021, "CLAR", arXiv 2010.09542, as released.
    """

    # Fewer give no place after the pooling.
    min_frames = 13

    def __init__(
        self, n_features: int = 1, width: int = 64, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.stem = conv_relu(width, (7, 1), (2, 1), name="stem", **policy)
        self.stem.build((None, None, 1, n_features))
        self.stages = stages(width, (9, 1), (2, 1), policy)
        self.pooling = FramePool(("mean",), name="pooling", **policy)
        count = len(STAGES)
        self.dims = [width, *(width * 2**i for i in range(count))]
        self.strides = [4, *(4 * 2**i for i in range(count))]

    def level_lengths(self, lengths: Tensor, level: int = -1) -> Tensor:
        valid = (half(ops.cast(lengths, "int32")) - 5) // 2
        # The first stage has no stride.
        for _ in range(max(level % len(self.strides) - 1, 0)):
            valid = half(valid)
        return ops.maximum(valid, 1)

    def levels(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> list[Tensor]:
        valid = None if lengths is None else half(ops.cast(lengths, "int32"))
        x = self.stem(features[:, :, None], lengths=valid, training=training)
        x = max_pool(x, (9, 1), (2, 1), (1, 0))
        if valid is not None:
            valid = ops.maximum((valid - 5) // 2, 1)
            x = mask_frames(x, valid)
        maps, _ = through(self.stages, x, valid, training)
        return [ops.squeeze(m, axis=2) for m in maps]


def stages(
    width: int, kernel_size: Any, stride: Any, policy: dict[str, Any]
) -> list[list[Any]]:
    """Lists of blocks, the first of all but the first of a stride."""
    found, channels = [], width
    for i, count in enumerate(STAGES):
        filters, stage = width * 2**i, []
        for k in range(count):
            step = stride if i and not k else 1
            block = BasicBlock(
                channels, filters, kernel_size, step,
                name=f"block_{i}_{k}", **policy,
            )  # fmt: skip
            stage.append(block)
            channels = filters
        found.append(stage)
    return found


def through(
    stages: Any, x: Tensor, valid: Tensor | None, training: bool | None
) -> tuple[list[Tensor], Tensor | None]:
    """The map that went in and that of each stage, and its valid steps."""
    maps = [x]
    for i, stage in enumerate(stages):
        if i and valid is not None:
            valid = half(valid)
        for block in stage:
            x = block(x, lengths=valid, training=training)
        maps.append(x)
    return maps, valid


def check_channels(n_features: int, channels: int) -> None:
    """Refuses channels that do not divide the features.

    Raises:
        ValueError: They don't.
    """
    if channels < 1 or n_features % channels:
        raise ValueError(
            f"`channels` must divide the {n_features} features. "
            f"Received: {channels}"
        )


def as_map(features: Tensor, channels: int, scale: float = 1.0) -> Tensor:
    """`(batch, time, channels * bins)` as `(batch, time, bins, channels)`."""
    if scale != 1.0:
        features = features * scale
    if channels == 1:
        return features[..., None]
    batch, time, bins = ops.shape(features)
    x = ops.reshape(features, (batch, time, channels, bins // channels))
    # (batch, time, bins, channels).
    return ops.transpose(x, (0, 1, 3, 2))
