"""The convolutional encoders of BYOL-A, versions 1 and 2."""

from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks import ConvBlock
from keras_audio_ssl.blocks import FramePool
from keras_audio_ssl.blocks import drop_out
from keras_audio_ssl.blocks import mask_frames
from keras_audio_ssl.encoders.backbone import Backbone
from keras_audio_ssl.engine import check_choice


class AudioNTT(Backbone):
    """Convolution blocks, two dense layers a frame, max + mean over time.

    Version 1 has three blocks and gives the dense output; version 2 has two
    and joins the convolution's features to the dense output.

    Args:
        n_features: Mel bands of the features.
        version: `"v1"` (2021) or `"v2"` (2022).
        dim: Width of frames and clip vector; None for the paper's, 512 (v1)
            or 3072 (v2, of which the convolution gives
            `conv_channels * n_features / 4`).
        hidden_dim: Width of the first dense layer; None for the paper's:
            `dim` (v1) or 2048 (v2).
        conv_channels: Filters of each block.
        dropout: Rate between the dense layers.

    Reference:
        Niizumi et al., 2021, arXiv 2103.06695 (v1); 2023, "BYOL for Audio:
        Exploring Pre-trained General-purpose Audio Representations", arXiv
        2204.07402 (v2).
    """

    def __init__(
        self,
        n_features: int = 64,
        version: str = "v1",
        dim: int | None = None,
        hidden_dim: int | None = None,
        conv_channels: int = 64,
        dropout: float = 0.3,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("version", version, ("v1", "v2"))
        blocks = 3 if version == "v1" else 2
        stride = self.min_frames = 2**blocks
        if n_features < stride:
            raise ValueError(
                f"`n_features` must be at least {stride}. "
                f"Received: {n_features}"
            )
        conv_dim = conv_channels * (n_features // stride)
        dim = dim or (512 if version == "v1" else 3072)
        self.hidden_dim = hidden_dim or (dim if version == "v1" else 2048)
        out_dim = dim if version == "v1" else dim - conv_dim
        if out_dim < 1:
            raise ValueError(
                f"`dim` must exceed the convolution's {conv_dim} features. "
                f"Received: dim={dim}"
            )
        policy = {"dtype": self.dtype_policy}
        self.blocks = []
        for i in range(blocks):
            block = ConvBlock(conv_channels, name=f"block_{i}", **policy)
            channels = conv_channels if i else 1
            block.build((None, None, n_features // 2**i, channels))
            self.blocks.append(block)
        self.fc1 = keras.layers.Dense(
            self.hidden_dim, activation="relu", name="fc1", **policy
        )
        self.fc2 = keras.layers.Dense(
            out_dim, activation="relu", name="fc2", **policy
        )
        self.dropout = drop_out(dropout, "dropout", **policy)
        self.fc1.build((None, None, conv_dim))
        self.fc2.build((None, None, self.hidden_dim))
        self.pooling = FramePool(("mean", "max"), name="pooling", **policy)
        self.dims = [
            conv_channels * (n_features // 2 ** (i + 1)) for i in range(blocks)
        ] + [self.hidden_dim, dim]
        self.strides = [2 ** (i + 1) for i in range(blocks)] + [stride] * 2

    def levels(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> list[Tensor]:
        x, hidden = features[..., None], []
        for i, block in enumerate(self.blocks):
            x = block(x, lengths=lengths, training=training)
            if lengths is not None:
                lengths = block.output_lengths(lengths)
            # Frequency major, channels minor.
            flat = (-1, ops.shape(x)[1], self.dims[i])
            hidden.append(ops.reshape(x, flat))
        conv = hidden[-1]
        hidden.append(self.fc1(conv))
        out = self.fc2(self.dropout(hidden[-1], training=training))
        if self.version == "v2":
            # v2: what the convolutions gave stands beside what is made of it.
            out = ops.concatenate([conv, out], axis=-1)
        hidden.append(out)
        if lengths is not None:
            hidden[-2:] = [mask_frames(h, lengths) for h in hidden[-2:]]
        return hidden
