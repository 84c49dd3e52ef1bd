"""Convolution blocks over time-frequency maps, with padding masked out."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.engine import Layer
from keras_audio_ssl.engine import Registered
from keras_audio_ssl.engine import check_choice
from keras_audio_ssl.engine import frame_mask


def mask_frames(x: Any, lengths: Any) -> Any:
    """Sets frames past each clip's end to exact zeros.

    Args:
        x: `(batch, time, ...)`.
        lengths: `(batch,)` int, valid frames per clip.

    Returns:
        A tensor like `x`.

    Example:
        >>> mask_frames(np.ones((2, 3)), np.array([1, 3]))
        [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    x = ops.convert_to_tensor(x)
    mask = frame_mask(lengths, ops.shape(x)[1])
    mask = ops.reshape(mask, (-1, ops.shape(x)[1]) + (1,) * (len(x.shape) - 2))
    # `where`, not a product: a NaN in the padding must not survive.
    return ops.where(mask, x, ops.zeros((), x.dtype))


def max_pool(x: Any, size: Any, stride: Any = None, pad: Any = (0, 0)) -> Any:
    """Maxima of windows of a map without negative values.

    Args:
        x: `(batch, time, frequency, channels)`, rectified: zeros around it
            are never larger than what is there.
        size: int or two ints (time, frequency).
        stride: The same; `size` by default, which leaves a remainder out.
        pad: Two ints, zeros around time and around frequency.

    Returns:
        `(batch, (time + 2 pad - size) // stride + 1, ..., channels)`.
    """
    size = _pair("size", size)
    stride = size if stride is None else _pair("stride", stride)
    if any(pad):
        x = ops.pad(x, ((0, 0), *((n, n) for n in pad), (0, 0)))
    return backend.max_pool(x, size, stride)


def conv_1d(
    x: Tensor, kernel: Tensor, stride: int = 1, pad: tuple[int, int] = (0, 0)
) -> Tensor:
    """Convolves over time; the kernel takes the dtype of `x`.

    Args:
        x: `(batch, time, channels)`.
        kernel: `(taps, channels, filters)`.
        stride: Frames between outputs.
        pad: Zeros before and after.

    Returns:
        `(batch, (time + sum(pad) - taps) // stride + 1, filters)`.
    """
    # Time stands where a map has its frequencies, in which the backends'
    # kernels run: along the other axis they take two to four times as long.
    # An index would do for the axes; on TensorFlow its gradient is a copy.
    row, kernel = ops.expand_dims(x, axis=1), ops.expand_dims(kernel, axis=0)
    y = backend.conv(row, kernel, (1, stride), ((0, 0), pad))
    return ops.squeeze(y, axis=1)


def conv_across(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolves over the few bins of a map.

    As one product with a matrix of all bins to all bins: quicker than a
    convolution, half of which is zeros around the map.

    Args:
        x: `(batch, time, bins, channels)`, of no more bins than taps.
        kernel: `(1, taps, channels, filters)`, an odd number of taps.

    Returns:
        `(batch, time, bins, filters)`, with zeros around the bins.
    """
    bins, channels = x.shape[2:]
    taps, filters = kernel.shape[1], kernel.shape[3]
    none = ops.zeros((channels, filters), kernel.dtype)

    def tap(i: int) -> Tensor:
        return kernel[0, i] if 0 <= i < taps else none

    # From each bin (rows) to each (columns).
    matrix = [
        ops.concatenate([tap(i - j + taps // 2) for j in range(bins)], axis=1)
        for i in range(bins)
    ]
    flat = ops.reshape(x, (-1, ops.shape(x)[1], bins * channels))
    y = ops.matmul(flat, ops.cast(ops.concatenate(matrix, axis=0), x.dtype))
    return ops.reshape(y, (-1, ops.shape(x)[1], bins, filters))


class BatchNorm(Registered, keras.layers.BatchNormalization):
    """Batch normalisation of the last axis by each backend's fused kernel.

    Weights, statistics and numbers are those of
    `keras.layers.BatchNormalization` (whose arguments it takes), computed in
    float32 under any dtype policy.

    Call arguments:
        x: `(batch, ..., channels)`.
        training: Use, and record, the batch's own statistics.
        mask: bool, of the shape of `x` without its channels or broadcastable
            to it. Statistics are taken over `True` positions alone.

    Example:
        >>> norm = BatchNorm(momentum=0.9, epsilon=1e-5)
        >>> norm(np.ones((2, 9, 8, 4), "float32"), training=True).shape
        (2, 9, 8, 4)
    """

    def call(
        self,
        x: Tensor,
        training: bool | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        last = self.axis in (-1, len(x.shape) - 1)
        plain = last and not self.synchronized and not self.renorm
        if not plain or mask is not None or self.compute_dtype == "float64":
            return super().call(x, training=training, mask=mask)
        gamma, beta = self.scale_and_offset()
        if not (training and self.trainable):
            y = backend.affine(
                ops.cast(x, "float32"),
                *self.moving_moments(),
                gamma,
                beta,
                self.epsilon,
            )
            return ops.cast(y, self.compute_dtype)
        x = ops.cast(x, self.compute_dtype)
        y, mean, variance = backend.batch_norm(x, gamma, beta, self.epsilon)
        self.record(mean, variance)
        return y

    def scale_and_offset(self) -> tuple[Any, Any]:
        """Gamma and beta, float32, ones and zeros where there are none."""
        shape = self.moving_mean.shape
        # Half precision would be no partner for float32 on TensorFlow.
        return (
            ops.ones(shape, "float32")
            if self.gamma is None
            else ops.cast(self.gamma, "float32"),
            ops.zeros(shape, "float32")
            if self.beta is None
            else ops.cast(self.beta, "float32"),
        )

    def moving_moments(self) -> tuple[Any, Any]:
        """Moving mean and variance, float32."""
        return (
            ops.cast(self.moving_mean, "float32"),
            ops.cast(self.moving_variance, "float32"),
        )

    def record(self, mean: Any, variance: Any) -> None:
        """Moves the statistics towards those of a batch."""
        keep = self.momentum
        for weight, value in (
            (self.moving_mean, mean),
            (self.moving_variance, variance),
        ):
            value = ops.stop_gradient(value)
            weight.assign(weight * keep + value * (1.0 - keep))


class ConvBlock(Layer):
    """Convolution, batch normalisation, ReLU and max pooling.

    Numbers and gradients are those of `Conv2D(padding="same")`,
    `BatchNormalization`, `ReLU` and `MaxPooling2D` in a row; each backend
    takes its fastest way there. The sublayers `conv` and `norm` hold the
    weights.

    Args:
        filters: Channels out.
        kernel_size: int or two ints (time, frequency), odd. Defaults to 3.
        pool: int or two ints (time, frequency). Size and stride of the
            pooling; a remainder is dropped. Defaults to 2.
        momentum: Momentum of the moving statistics. Defaults to 0.9.
        epsilon: Added to the variance. Defaults to 1e-5.
        kernel_initializer: Initializer of the convolution. Defaults to
            `"glorot_uniform"`.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments:
        x: `(batch, time, frequency, channels)`.
        lengths: `(batch,)` int, valid time steps per clip. With it every clip
            gives what it gives alone: frames past its end count as zero
            padding for the convolution, are left out of the batch statistics
            and are zero in the output. `output_lengths(lengths)` time steps
            are valid there.
        training: bool.

    Returns:
        `(batch, time // pool, frequency // pool, filters)`.

    Raises:
        ValueError: If an argument is not positive or a kernel size is even.

    Example:
        >>> ConvBlock(64)(np.zeros((8, 96, 64, 1), "float32")).shape
        (8, 48, 32, 64)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int] = 3,
        pool: int | tuple[int, int] = 2,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if int(filters) != filters or filters < 1:
            raise ValueError(
                "`filters` must be a positive integer. "
                f"Received: filters={filters!r}"
            )
        self.filters = int(filters)
        self.kernel_size = _pair("kernel_size", kernel_size)
        if any(size % 2 == 0 for size in self.kernel_size):
            raise ValueError(
                "`kernel_size` must be odd, so that maps keep their size. "
                f"Received: kernel_size={kernel_size!r}"
            )
        self.pool = _pair("pool", pool)
        self.conv = keras.layers.Conv2D(
            self.filters,
            self.kernel_size,
            padding="same",
            data_format="channels_last",
            kernel_initializer=kernel_initializer,
            dtype=self.dtype_policy,
            name="conv",
        )
        self.norm = BatchNorm(
            momentum=momentum,
            epsilon=epsilon,
            dtype=self.dtype_policy,
            name="norm",
        )

    def build(self, input_shape: Sequence[Any]) -> None:
        self.input_spec = keras.layers.InputSpec(
            ndim=4, axes={-1: input_shape[-1]}
        )
        self.conv.build(input_shape)
        self.norm.build((*input_shape[:-1], self.filters))

    def output_lengths(self, lengths: Any) -> Any:
        """Valid time steps of the output, of `lengths` at the input."""
        return lengths // self.pool[0]

    def call(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        x = ops.cast(x, self.compute_dtype)
        if lengths is not None:
            lengths = ops.cast(lengths, "int32")
            x = mask_frames(x, lengths)
        kernel = ops.convert_to_tensor(self.conv.kernel)
        bias = ops.convert_to_tensor(self.conv.bias)
        gamma, beta = self.norm.scale_and_offset()
        if not (training and self.norm.trainable):
            # The normalisation is a factor of the kernel and an offset.
            mean, variance = self.norm.moving_moments()
            scale = gamma * ops.rsqrt(variance + self.norm.epsilon)
            offset = beta + scale * (ops.cast(bias, "float32") - mean)
            x = backend.conv(x, ops.cast(kernel, "float32") * scale)
            x = backend.max_pool(x, self.pool)
            x = ops.relu(x + ops.cast(offset, x.dtype))
        elif lengths is None:
            bias = ops.cast(bias, "float32")
            x, mean, variance = backend.conv_norm_pool(
                x,
                kernel,
                gamma,
                # Connected, with a gradient of exactly zero: the normalisation
                # takes the bias out again.
                beta + 0.0 * bias,
                self.norm.epsilon,
                self.pool,
            )
            self.norm.record(mean + bias, variance)
        else:
            x = backend.conv(x, kernel) + ops.cast(bias, x.dtype)
            mask = frame_mask(lengths, ops.shape(x)[1])
            mask = ops.broadcast_to(mask[:, :, None], ops.shape(x)[:-1])
            x = self.norm(x, training=True, mask=mask)
            x = ops.relu(backend.max_pool(x, self.pool))
        if lengths is not None:
            x = mask_frames(x, self.output_lengths(lengths))
        return x

    def compute_output_shape(
        self, input_shape: Sequence[Any]
    ) -> tuple[Any, ...]:
        batch, time, frequency, _ = input_shape
        return (
            batch,
            None if time is None else time // self.pool[0],
            None if frequency is None else frequency // self.pool[1],
            self.filters,
        )


ACTIVATIONS = {
    "silu": ops.silu,
    "relu": ops.relu,
    "relu6": ops.relu6,
    None: lambda x: x,
}


class ConvNorm(Layer):
    """Convolution without bias, batch normalisation and an activation.

    The unit of ResNets and, with SiLU, of the EfficientNets, dense or
    depthwise, with the fast paths of
    each backend. The sublayers `conv` and `norm` hold the weights and have
    the shapes of `Conv2D` (or `DepthwiseConv2D`) and `BatchNormalization`.

    Args:
        filters: Channels out; those in, if `depthwise`.
        kernel_size: int or two ints (time, frequency). Defaults to 1.
        stride: int or two ints (time, frequency), equal if `depthwise`.
            Defaults to 1.
        pad: Zeros before and after, for time and for frequency. Defaults to
            half the kernel on all sides.
        depthwise: Each channel has a kernel of its own. Defaults to
            `False`.
        activation: `"silu"`, `"relu"`, `"relu6"` or `None`. Defaults to
            `"silu"`.
        momentum: Momentum of the moving statistics. Defaults to 0.99.
        epsilon: Added to the variance. Defaults to 1e-3.
        kernel_initializer: Initializer. Defaults to the one of EfficientNet,
            normal with variance 2 / fan out.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments:
        x: `(batch, time, frequency, channels)`.
        lengths: `(batch,)` int, valid time steps of the OUTPUT per clip. What
            lies beyond is set to zero there, and left out of the statistics.
            The input must be zero past the clip's end.
        training: bool.
        around: Optional map like the output, zero past each clip's end, which
            is added before the activation.

    Returns:
        `(batch, time / stride, frequency / stride, filters)`, rounded up with
        the default padding.

    Raises:
        ValueError: If an argument is not positive or the activation unknown.

    Example:
        >>> layer = ConvNorm(16, 3, stride=2)
        >>> layer(np.zeros((2, 9, 8, 4), "float32")).shape
        (2, 5, 4, 16)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int] = 1,
        stride: int | tuple[int, int] = 1,
        pad: Any = None,
        depthwise: bool = False,
        activation: str | None = "silu",
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        kernel_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_choice("activation", activation, ACTIVATIONS)
        self.kernel_size = _pair("kernel_size", kernel_size)
        self.filters = _pair("filters", filters)[0]
        self.strides = _pair("stride", stride)
        if depthwise and self.strides[0] != self.strides[1]:
            raise ValueError(
                "`stride` of a depthwise convolution must be one number. "
                f"Received: stride={stride}"
            )
        self.pad = pad and tuple(tuple(int(n) for n in side) for side in pad)
        self.depthwise, self.activation = bool(depthwise), activation
        if kernel_initializer is None:
            kernel_initializer = keras.initializers.VarianceScaling(
                2.0, "fan_out", "truncated_normal"
            )
        options = {
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "use_bias": False,
            "data_format": "channels_last",
            "dtype": self.dtype_policy,
            "name": "conv",
        }
        if self.depthwise:
            self.conv = keras.layers.DepthwiseConv2D(
                depthwise_initializer=kernel_initializer, **options
            )
        else:
            self.conv = keras.layers.Conv2D(
                self.filters, kernel_initializer=kernel_initializer, **options
            )
        self.norm = BatchNorm(
            momentum=momentum,
            epsilon=epsilon,
            dtype=self.dtype_policy,
            name="norm",
        )

    def build(self, input_shape: Sequence[Any]) -> None:
        if self.depthwise and input_shape[-1] != self.filters:
            raise ValueError(
                "A depthwise convolution keeps its channels. Received: "
                f"filters={self.filters}, input shape={tuple(input_shape)}"
            )
        self.input_spec = keras.layers.InputSpec(
            ndim=4, axes={-1: input_shape[-1]}
        )
        # Any map size will do: the padding is not the sublayer's.
        self.conv.build((None, None, None, input_shape[-1]))
        self.norm.build((None, None, None, self.filters))

    @property
    def keeps_size(self) -> bool:
        """Whether it is dense and its map is as large as its input."""
        odd = all(size % 2 for size in self.kernel_size)
        plain = self.strides == (1, 1) and self.pad is None
        return odd and plain and not self.depthwise

    def convolved(self, x: Tensor, kernel: Tensor) -> Tensor:
        """`x` convolved, without the norm."""
        if self.depthwise:
            return backend.depthwise_conv(x, kernel, self.strides[0], self.pad)
        if x.shape[2] == kernel.shape[1] == 1 and self.strides[1] == 1:
            pad = (self.pad or backend.half_pad(kernel.shape))[0]
            row, kernel = ops.squeeze(x, axis=2), ops.squeeze(kernel, axis=1)
            y = conv_1d(row, kernel, self.strides[0], pad)
            return ops.expand_dims(y, axis=2)
        if (
            self.keeps_size
            and kernel.shape[0] == 1
            and backend.is_known(x.shape[2])
            and x.shape[2] <= kernel.shape[1]
        ):
            return conv_across(x, kernel)
        return backend.conv(x, kernel, self.strides, self.pad)

    def call(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        training: bool | None = None,
        around: Tensor | None = None,
    ) -> Tensor:
        x = ops.cast(x, self.compute_dtype)
        kernel = ops.convert_to_tensor(self.conv.kernel)
        gamma, beta = self.norm.scale_and_offset()

        def activate(x: Tensor) -> Tensor:
            x = x if around is None else x + around
            return ACTIVATIONS[self.activation](x)

        if not (training and self.norm.trainable):
            mean, variance = self.norm.moving_moments()
            scale = gamma * ops.rsqrt(variance + self.norm.epsilon)
            offset = beta - scale * mean
            kernel = ops.cast(kernel, "float32")
            kernel = kernel * (scale[:, None] if self.depthwise else scale)
            x = self.convolved(x, kernel) + ops.cast(offset, x.dtype)
            x = activate(x)
        elif lengths is None:
            norm = gamma, beta, self.norm.epsilon
            relu = self.activation == "relu"
            plain = relu or self.activation is None
            if plain and self.keeps_size and backend.folding_pays(x, kernel):
                x, *moments = backend.conv_batch_norm(
                    x, kernel, *norm, around, relu
                )
            elif plain:
                x = self.convolved(x, kernel)
                x, *moments = backend.batch_norm(x, *norm, around, relu)
            elif self.activation == "silu" and around is None:
                x = self.convolved(x, kernel)
                x, *moments = backend.norm_silu(x, *norm)
            else:
                x = self.convolved(x, kernel)
                x, *moments = backend.batch_norm(x, *norm)
                x = activate(x)
            self.norm.record(*moments)
        else:
            x = self.convolved(x, kernel)
            mask = frame_mask(ops.cast(lengths, "int32"), ops.shape(x)[1])
            mask = ops.broadcast_to(mask[:, :, None], ops.shape(x)[:-1])
            x = activate(self.norm(x, training=True, mask=mask))
        return x if lengths is None else mask_frames(x, lengths)

    def compute_output_shape(
        self, input_shape: Sequence[Any]
    ) -> tuple[Any, ...]:
        pad = self.pad or backend.half_pad(self.kernel_size)
        sizes = [
            None
            if size is None
            else (size + sum(around) - kernel) // stride + 1
            for size, around, kernel, stride in zip(
                input_shape[1:3],
                pad,
                self.kernel_size,
                self.strides,
                strict=True,
            )
        ]
        return (input_shape[0], *sizes, self.filters)


def _pair(name: str, value: Any) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or any(
        not math.isfinite(v) or int(v) != v or v < 1 for v in pair
    ):
        raise ValueError(
            f"`{name}` must be a positive integer or two of them. "
            f"Received: {name}={value!r}"
        )
    return int(pair[0]), int(pair[1])
