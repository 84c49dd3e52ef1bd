"""Convolutions over time alone, with padding masked out."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks.conv import BatchNorm
from keras_audio_ssl.blocks.conv import conv_1d
from keras_audio_ssl.blocks.conv import mask_frames
from keras_audio_ssl.engine import Layer
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.engine import frame_mask

NORMS = ("batch", "group")


class GroupNorm(Layer):
    """Normalisation of groups of channels over time, each clip by its own.

    In float32 under any dtype policy.

    Args:
        channels: How many.
        groups: Of neighbouring channels, as many each.
        epsilon: Added to the variance.

    Call arguments:
        x: `(batch, time, channels)`.
        lengths: Optional `(batch,)`, valid frames: statistics are theirs.

    Returns:
        Like `x`.

    Raises:
        ValueError: The groups are not equal.

    Reference:
        Wu & He, 2018, "Group Normalization", arXiv 1803.08494.
    """

    def __init__(
        self,
        channels: int,
        groups: int = 32,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if groups < 1 or channels % groups:
            raise ValueError(
                "`channels` must be a multiple of `groups`. Received: "
                f"channels={channels}, groups={groups}"
            )
        for name, start in (("gamma", "ones"), ("beta", "zeros")):
            weight = self.add_weight(
                shape=(channels,), initializer=start, dtype="float32",
                autocast=False, name=name,
            )  # fmt: skip
            setattr(self, name, weight)

    def call(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x, mask = ops.cast(x, "float32"), None
        if lengths is not None:
            mask = frame_mask(lengths, ops.shape(x)[1])[:, :, None]
            mask = ops.cast(mask, "float32")
        y = backend.group_norm(
            x, self.gamma.value, self.beta.value, self.groups, self.epsilon,
            mask,
        )  # fmt: skip
        return ops.cast(y, self.compute_dtype)


class ConvNorm1D(Layer):
    """Convolution over time without bias, normalisation and ReLU.

    Args:
        filters: Channels out.
        kernel_size: Taps.
        stride: Frames in between outputs.
        dilation: Frames in between taps; with it `stride` must be 1.
        pad: Zeros before and after.
        norm: `"batch"` or `"group"`.
        groups: Of the latter.
        activation: `"relu"` or None.
        gamma_initializer: Of the batch norm's scale.

    Call arguments:
        x: `(batch, time, channels)`.
        lengths: Optional `(batch,)`, valid frames at the input, which must be
            zero past them; they are left out of the statistics, and zero in
            the output, of which `output_lengths(lengths)` are valid.
        training: bool.
        around: Optional tensor like the output, zero past each clip's end,
            which is added before the ReLU.

    Returns:
        `(batch, output_lengths(time), filters)`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        stride: int = 1,
        dilation: int = 1,
        pad: int = 0,
        norm: str = "batch",
        groups: int = 32,
        activation: str | None = "relu",
        gamma_initializer: str = "ones",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("norm", norm, NORMS)
        check_choice("activation", activation, ("relu", None))
        policy = {"dtype": self.dtype_policy}
        self.conv = keras.layers.Conv1D(
            filters, kernel_size, stride, dilation_rate=dilation,
            use_bias=False, kernel_initializer="he_normal", name="conv",
            **policy,
        )  # fmt: skip
        if norm == "group":
            self.normal = GroupNorm(filters, groups, name="norm", **policy)
        else:
            # As in PyTorch, not Keras' own defaults.
            self.normal = BatchNorm(
                momentum=0.9, epsilon=1e-5, name="norm",
                gamma_initializer=gamma_initializer, **policy,
            )  # fmt: skip

    def build(self, input_shape: Sequence[Any]) -> None:
        self.conv.build((None, None, input_shape[-1]))
        if self.norm == "batch":
            self.normal.build((None, None, None, self.filters))

    def output_lengths(self, lengths: Any) -> Any:
        """Valid frames of the output, at least one, of `lengths`."""
        reach = (self.kernel_size - 1) * self.dilation + 1
        frames = (lengths + 2 * self.pad - reach) // self.stride + 1
        return ops.maximum(ops.cast(frames, "int32"), 1)

    def convolved(self, x: Tensor, kernel: Tensor) -> Tensor:
        """`x` convolved, without the norm."""
        x, pad = ops.cast(x, self.compute_dtype), (self.pad, self.pad)
        if self.dilation == 1:
            return conv_1d(x, kernel, self.stride, pad)
        x = ops.pad(x, ((0, 0), pad, (0, 0)))
        return ops.conv(
            x, ops.cast(kernel, x.dtype), 1, "valid", "channels_last",
            self.dilation,
        )  # fmt: skip

    def call(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
        around: Tensor | None = None,
    ) -> Tensor:
        kernel = ops.convert_to_tensor(self.conv.kernel)
        after = None if lengths is None else self.output_lengths(lengths)
        if self.norm == "group":
            x = self.normal(self.convolved(x, kernel), lengths=after)
        elif training and self.normal.trainable:
            # As a map: the backends have a kernel for these.
            x = ops.expand_dims(self.convolved(x, kernel), axis=2)
            if after is None and self.compute_dtype != "float64":
                gamma, beta = self.normal.scale_and_offset()
                if around is not None:
                    around = ops.expand_dims(around, axis=2)
                x, *moments = backend.batch_norm(
                    x, gamma, beta, self.normal.epsilon, around,
                    self.activation is not None,
                )  # fmt: skip
                self.normal.record(*moments)
                return ops.squeeze(x, axis=2)
            mask = None
            if after is not None:
                mask = frame_mask(after, ops.shape(x)[1])[:, :, None]
            x = self.normal(x, training=True, mask=mask)
            x = ops.squeeze(x, axis=2)
        else:
            # The normalisation is a factor of the kernel and an offset.
            gamma, beta = self.normal.scale_and_offset()
            mean, variance = self.normal.moving_moments()
            scale = gamma * ops.rsqrt(variance + self.normal.epsilon)
            x = self.convolved(x, ops.cast(kernel, "float32") * scale)
            x = x + ops.cast(beta - mean * scale, x.dtype)
        x = x if around is None else x + around
        if self.activation:
            x = ops.relu(x)
        return x if after is None else mask_frames(x, after)

    def compute_output_shape(
        self, input_shape: Sequence[Any]
    ) -> tuple[Any, ...]:
        batch, time, _ = input_shape
        if time is not None:
            reach = (self.kernel_size - 1) * self.dilation + 1
            time = (time + 2 * self.pad - reach) // self.stride + 1
        return batch, time, self.filters
