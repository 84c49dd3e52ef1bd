"""The small convolutional network of Audio2Vec, and of others by slices."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks import FactorizedBlock
from keras_audio_ssl.blocks import FramePool
from keras_audio_ssl.blocks import Patches
from keras_audio_ssl.blocks import mask_frames
from keras_audio_ssl.encoders.backbone import Backbone
from keras_audio_ssl.engine import check_choice


class SliceCNN(Backbone):
    """Convolution blocks, maxima over all of time and frequency, a matrix.

    Makes one vector of a slice of any size: its output has one frame. Clips
    are read by `Windowed`.

    Args:
        n_features: Bins of the features.
        channels: Filters of each block, which halves time and frequency.
        dim: Width of the vector.
        pool: What becomes of a last frame or bin that has no partner:
            `"drop"` or `"keep"`, for slices as thin as one bin.

    Reference:
        Tagliasacchi et al., 2019, "Self-supervised audio representation
        learning for mobile devices", arXiv 1905.11796.
    """

    def __init__(
        self,
        n_features: int = 64,
        channels: Sequence[int] = (8, 16, 32, 64, 128),
        dim: int = 128,
        pool: str = "drop",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("pool", pool, ("drop", "keep"))
        if not channels or min(channels) < 1 or dim < 1:
            raise ValueError(
                "`channels` must hold at least one number, and they and `dim` "
                f"be positive. Received: channels={channels}, dim={dim}"
            )
        least = 2 ** len(channels) if pool == "drop" else 1
        if n_features < least:
            raise ValueError(
                f"`n_features` must be at least {least} for {len(channels)} "
                f"blocks. Received: {n_features}"
            )
        policy = {"dtype": self.dtype_policy}
        self.min_frames = least
        self.blocks, self.dims, width, bins = [], [], 1, n_features
        for i, filters in enumerate(channels):
            block = FactorizedBlock(
                width, filters, pool, name=f"block_{i}", **policy
            )
            bins = int(block.output_lengths(bins))
            self.blocks.append(block)
            self.dims.append(bins * filters)
            width = filters
        self.dense = keras.layers.Dense(dim, name="dense", **policy)
        self.dense.build((None, width))
        self.dims.append(dim)
        self.strides = [2 ** (i + 1) for i in range(len(channels))]
        # One vector, of whatever there is.
        self.strides.append(self.strides[-1])
        self.pooling = FramePool(("mean",), name="pooling", **policy)

    def level_lengths(self, lengths: Tensor, level: int = -1) -> Tensor:
        lengths = ops.cast(lengths, "int32")
        for block in self.blocks[: level % len(self.dims) + 1]:
            lengths = block.output_lengths(lengths)
        if level % len(self.dims) == len(self.blocks):
            return ops.ones_like(lengths)
        return ops.maximum(lengths, 1)

    def levels(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> list[Tensor]:
        x, hidden = features[..., None], []
        if lengths is not None:
            lengths = ops.cast(lengths, "int32")
            x = mask_frames(x, lengths)
        for block, dim in zip(self.blocks, self.dims, strict=False):
            x = block(x, lengths=lengths, training=training)
            if lengths is not None:
                lengths = block.output_lengths(lengths)
            # (batch, time, bins, filters) to (batch, time, bins * filters).
            hidden.append(ops.reshape(x, (-1, ops.shape(x)[1], dim)))
        # What lies past a clip's end is zero, and nothing is below it.
        vector = self.dense(ops.max(x, axis=(1, 2)))
        return [*hidden, vector[:, None]]


class PatchCNN(Backbone):
    """A `SliceCNN` over each patch of a window, the vectors joined.

    Makes one vector of a window, of as many parts as there are patches, in
    their order: those early in time first, of them those low in frequency.

    Args:
        n_features: Bins of the features.
        axis: Along what it is cut, see `Patches`.
        patches: How many, see `Patches`.
        gap: Frames or bins between patches, see `Patches`.
        patch_norm: Whether each patch is standardised.
        channels: Of the blocks, see `SliceCNN`.
        dim: Width of a patch's vector.

    Reference:
        Carr et al., 2021, "Self-Supervised Learning of Audio Representations
        from Permutations with Differentiable Ranking", arXiv 2103.09879.
    """

    # A window is cut as it is, padding and all.
    exact_lengths = False

    def __init__(
        self,
        n_features: int = 64,
        axis: str = "freq",
        patches: int | Sequence[int] | None = None,
        gap: int | None = None,
        patch_norm: bool = False,
        channels: Sequence[int] = (32, 64, 128),
        dim: int = 128,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cutter = Patches(axis, patches, gap, patch_norm, name="patches")
        self.min_frames = self.cutter.least[0]
        _, bins = self.cutter.sizes(self.min_frames, n_features)
        policy = {"dtype": self.dtype_policy}
        self.network = SliceCNN(
            bins, channels, dim, pool="keep", name="network", **policy
        )
        self.dims = [self.cutter.number * n for n in self.network.dims]
        # Of each patch the mean over its frames: one vector a window.
        self.strides = [self.min_frames] * len(self.dims)
        self.pooling = FramePool(("mean",), name="pooling", **policy)

    def level_lengths(self, lengths: Tensor, level: int = -1) -> Tensor:
        return ops.ones_like(ops.cast(lengths, "int32"))

    def levels(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> list[Tensor]:
        patches = self.cutter(features)
        # One batch of (batch * patches, frames, bins).
        flat = ops.reshape(patches, (-1, *ops.shape(patches)[2:]))
        read = self.network(flat, training=training)
        means = [ops.mean(level, axis=1) for level in read["hidden"]]
        return [
            ops.reshape(level, (-1, 1, dim))
            for level, dim in zip(means, self.dims, strict=True)
        ]
