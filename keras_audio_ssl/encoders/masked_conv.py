"""The convolutions of NPC, which see all around a frame but the frame."""

from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks import BatchNorm
from keras_audio_ssl.blocks import FramePool
from keras_audio_ssl.blocks import MaskedConv1D
from keras_audio_ssl.blocks import drop_out
from keras_audio_ssl.blocks import mask_frames
from keras_audio_ssl.encoders.backbone import Backbone
from keras_audio_ssl.engine import Layer
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.engine import frame_mask


class TimeConvBlock(Layer):
    """A convolution of three frames and a dense layer, around them a shortcut.

    `act(x + dropout(norm(dense(act(norm(conv(x)))))))`.

    Args:
        units: Width.
        width: Channels in.
        dropout: Rate, before the shortcut.
        activation: `"relu"` or `"tanh"`.
        batch_norm: Whether there are the two normalisations.
        residual: Whether there is the shortcut.

    Call arguments:
        x: `(batch, time, width)`.
        lengths: Optional `(batch,)`, valid frames: those past them count as
            zeros, are left out of the batch statistics and are zero in the
            output.

    Returns:
        `(batch, time, units)`.
    """

    def __init__(
        self,
        units: int,
        width: int,
        dropout: float = 0.1,
        activation: str = "relu",
        batch_norm: bool = True,
        residual: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.act = keras.activations.get(activation)
        self.conv = MaskedConv1D(units, 3, name="conv", **policy)
        self.conv.build((None, None, width))
        self.dense = keras.layers.Dense(units, name="dense", **policy)
        self.dense.build((None, None, units))
        # As in PyTorch, not Keras' own defaults.
        self.norms = [
            BatchNorm(
                momentum=0.9, epsilon=1e-5, name=f"norm_{i}", **policy
            )
            for i in range(2 if batch_norm else 0)
        ]  # fmt: skip
        for norm in self.norms:
            norm.build((None, None, units))
        self.drop = drop_out(dropout, "dropout", **policy)

    def call(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        y = self.act(self.normal(0, self.conv(x, lengths), lengths, training))
        y = self.normal(1, self.dense(y), lengths, training)
        y = self.drop(y, training=training)
        y = self.act(x + y if self.residual else y)
        return y if lengths is None else mask_frames(y, lengths)

    def normal(
        self, i: int, x: Tensor, lengths: Tensor | None, training: bool | None
    ) -> Tensor:
        """Batch norm `i` of `(batch, frames, dim)`, if there are any."""
        if not self.norms:
            return x
        mask = None
        if training and lengths is not None:
            mask = frame_mask(lengths, ops.shape(x)[1])
        return self.norms[i](x, training=training, mask=mask)


class MaskedConvStack(Backbone):
    """Blocks of convolutions, and after each one that masks its middle.

    The masked convolution of block b, counted from 0, leaves out `input_mask
    + 2 (b + 1)` taps: as many as the blocks up to it look further. So none of
    its outputs sees the `input_mask` input frames around its own, and their
    sum, the feature, neither.

    Its levels are the output of each block, of each masked convolution, and
    the feature.

    Args:
        n_features: Bins of the features.
        units: Width.
        blocks: How many.
        kernel_size: Taps of the masked convolutions, odd. What lies further
            away than `kernel_size // 2 + blocks` frames is not seen.
        input_mask: Input frames that the feature does not see: its own and as
            many on both sides, odd.
        dropout: Rate in the blocks.
        activation: Of the blocks, `"relu"` or `"tanh"`.
        batch_norm: Whether the blocks normalise.
        residual: Whether blocks after the first add their input.
        cross_layer: Whether the feature joins all blocks, and not the last
            alone, which is then the one with a masked convolution.
        bottleneck: Width of the feature, by a matrix; None for `units`.
        output: `"unmasked"`, the last block, which sees its own frame and
            tells phones better, or `"masked"`, the feature, as in the paper.
        reference_padding: Let padding leak into what is near it, and count in
            the batch statistics, as in the released code.

    Raises:
        ValueError: The feature would see the frames that it must not, or
            nothing at all.

    Reference:
        Liu, Chung & Glass, 2020, "Non-Autoregressive Predictive Coding for
        Learning Speech Representations from Local Dependencies", arXiv
        2011.00406.
    """

    # The level that predicts, and that may not see what it predicts.
    blind_level = -1

    def __init__(
        self,
        n_features: int = 80,
        units: int = 512,
        blocks: int = 4,
        kernel_size: int = 15,
        input_mask: int = 5,
        dropout: float = 0.1,
        activation: str = "relu",
        batch_norm: bool = True,
        residual: bool = True,
        cross_layer: bool = True,
        bottleneck: int | None = None,
        output: str = "unmasked",
        reference_padding: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("activation", activation, ("relu", "tanh"))
        check_choice("output", output, ("unmasked", "masked"))
        if blocks < 1 or (bottleneck is not None and bottleneck < 1):
            raise ValueError(
                "`blocks` and `bottleneck` must be positive. "
                f"Received: blocks={blocks}, bottleneck={bottleneck}"
            )
        for name, size in (
            ("kernel_size", kernel_size), ("input_mask", input_mask),
        ):  # fmt: skip
            if size < 1 or size % 2 == 0:
                raise ValueError(
                    f"`{name}` must be odd and positive, so that a frame sees "
                    f"as far on both sides. Received: {size}"
                )
        widest = input_mask + 2 * blocks
        if kernel_size <= widest:
            raise ValueError(
                "`kernel_size` must exceed input_mask + 2 * blocks = "
                f"{widest}: else nothing is left of the last masked "
                f"convolution. Received: {kernel_size}"
            )
        policy = {"dtype": self.dtype_policy}
        self.blocks = [
            TimeConvBlock(
                units, units if i else n_features, dropout, activation,
                batch_norm, residual and i > 0, name=f"block_{i}", **policy,
            )
            for i in range(blocks)
        ]  # fmt: skip
        self.masked = []
        # Block i sees i + 1 frames on either side, so its mask is as much
        # wider: no level sees the `input_mask` frames in the middle.
        for i in range(0 if cross_layer else blocks - 1, blocks):
            conv = MaskedConv1D(
                units, kernel_size, input_mask + 2 * (i + 1), "tanh",
                name=f"masked_{i}", **policy,
            )  # fmt: skip
            conv.build((None, None, units))
            self.masked.append(conv)
        self.narrow = None
        if bottleneck is not None:
            self.narrow = keras.layers.Dense(
                bottleneck, use_bias=False, name="bottleneck", **policy
            )
            self.narrow.build((None, None, units))
        self.pooling = FramePool(("mean",), name="pooling", **policy)
        self.exact_lengths = not reference_padding
        self.output_level = -1 if output == "masked" else blocks - 1
        self.dims = [units] * (blocks + len(self.masked))
        self.dims.append(bottleneck or units)
        self.strides = [1] * len(self.dims)

    def levels(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> list[Tensor]:
        if self.reference_padding:
            lengths = None
        x, blocks = features, []
        for block in self.blocks:
            x = block(x, lengths=lengths, training=training)
            blocks.append(x)
        masked = [
            conv(x, lengths=lengths)
            for conv, x in zip(
                self.masked, blocks[-len(self.masked) :], strict=True
            )
        ]
        # Of all blocks, or of the last alone.
        feature = sum(masked[1:], masked[0])
        if self.narrow is not None:
            feature = self.narrow(feature)
        return [*blocks, *masked, feature]
