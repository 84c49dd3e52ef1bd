"""A stack of convolutions on the waveform."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks import ConvNorm1D
from keras_audio_ssl.blocks import FramePool
from keras_audio_ssl.encoders.backbone import Backbone

# Taps and stride of each: 160 samples a frame.
CONV160 = ((10, 5), *(((4, 2),) * 5))


class WaveformConv(Backbone):
    """Strided convolutions, a norm and ReLU each; max + mean over time.

    Args:
        n_features: 1, the waveform.
        units: Channels of each layer.
        convs: Taps and stride of each layer. The default makes a frame of 160
            samples.
        norm: `"group"` or `"batch"`.
        groups: Of the former.

    Reference:
        The smaller waveform encoder of a re-implementation of Wang & van den
        Oord, 2021, arXiv 2103.06508.
    """

    def __init__(
        self,
        n_features: int = 1,
        units: int = 512,
        convs: Sequence[Sequence[int]] = CONV160,
        norm: str = "group",
        groups: int = 32,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not convs or min(min(pair) for pair in convs) < 1:
            raise ValueError(
                "`convs` must hold taps and strides, positive. "
                f"Received: {convs}"
            )
        self.layers, width, step = [], n_features, 1
        self.strides, self.min_frames = [], 1
        for i, (taps, stride) in enumerate(convs):
            layer = ConvNorm1D(
                units, taps, stride, norm=norm, groups=groups,
                name=f"conv_{i}", dtype=self.dtype_policy,
            )  # fmt: skip
            layer.build((None, None, width))
            self.layers.append(layer)
            width, step = units, step * stride
            self.strides.append(step)
        for taps, stride in reversed(convs):
            self.min_frames = (self.min_frames - 1) * stride + taps
        self.dims = [units] * len(convs)
        self.pooling = FramePool(
            ("mean", "max"), name="pooling", dtype=self.dtype_policy
        )

    def level_lengths(self, lengths: Tensor, level: int = -1) -> Tensor:
        lengths = ops.cast(lengths, "int32")
        for layer in self.layers[: range(len(self.layers))[level] + 1]:
            lengths = layer.output_lengths(lengths)
        return lengths

    def levels(
        self,
        features: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> list[Tensor]:
        x, hidden = features, []
        for layer in self.layers:
            x = layer(x, lengths=lengths, training=training)
            if lengths is not None:
                lengths = layer.output_lengths(lengths)
            hidden.append(x)
        return hidden
