"""A gated recurrent unit with one fast recurrence per backend."""

from typing import Any

import keras
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl.engine import Layer


class GRU(Layer):
    """Unidirectional GRU over right-padded sequences, quick on every backend.

    The weights have the layout of `keras.layers.GRU(reset_after=True)`:
    `kernel` (dim, 3 * units), `recurrent_kernel` (units, 3 * units) and `bias`
    (2, 3 * units), gates in the order update, reset, candidate. So
    `get_weights` of one layer fits `set_weights` of the other.

    Under a half precision policy the state is kept in float32.

    Args:
        units: int. Size of the state and of the output.
        return_state: bool. Also return the state after each sequence's last
            valid frame, to go on from there. Defaults to `False`.
        kernel_initializer: initializer of the input weights. Defaults to
            `"glorot_uniform"`.
        recurrent_initializer: initializer of the recurrent weights. Defaults
            to `"orthogonal"`.
        bias_initializer: initializer of the biases. Defaults to `"zeros"`.
        **kwargs: passed to `keras.layers.Layer`.

    Call arguments:
        x: `(batch, frames, dim)`.
        mask: `(batch, frames)` bool, `True` where a frame is valid. Padding
            must be on the right. Outputs of padded frames are exact zeros.
        initial_state: `(batch, units)`, zeros by default.

    Returns:
        `(batch, frames, units)`, or with `return_state` a tuple of that and
        the state `(batch, units)`.

    Raises:
        ValueError: if `units` is not positive or the input has no three axes.

    Reference:
        Cho et al., 2014, arXiv 1406.1078, in the variant that applies the
        reset gate after the matrix product.

    Example:

    >>> layer = GRU(512, return_state=True)
    >>> frames, state = layer(np.zeros((16, 300, 80), "float32"))
    >>> frames.shape, state.shape
    ((16, 300, 512), (16, 512))
    """

    def __init__(
        self,
        units: int,
        return_state: bool = False,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if int(units) != units or units < 1:
            raise ValueError(
                f"`units` must be a positive integer. Received: units={units!r}"
            )
        self.units = int(units)
        self.return_state = bool(return_state)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(
            recurrent_initializer
        )
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.supports_masking = True

    def build(self, input_shape):
        if len(input_shape) != 3 or input_shape[-1] is None:
            raise ValueError(
                "`GRU` expects an input of shape (batch, frames, dim) with a "
                f"known dim. Received: shape={tuple(input_shape)}"
            )
        self.input_spec = keras.layers.InputSpec(
            ndim=3, axes={-1: input_shape[-1]}
        )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], 3 * self.units),
            initializer=self.kernel_initializer,
        )
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel",
            shape=(self.units, 3 * self.units),
            initializer=self.recurrent_initializer,
            autocast=False,
        )
        self.bias = self.add_weight(
            name="bias",
            shape=(2, 3 * self.units),
            initializer=self.bias_initializer,
            autocast=False,
        )

    def call(self, x, mask=None, initial_state=None):
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        if initial_state is None:
            state = ops.zeros((ops.shape(x)[0], self.units), dtype=dtype)
        else:
            state = ops.cast(initial_state, dtype)
        outputs = backend.gru(
            x,
            state,
            ops.convert_to_tensor(self.kernel),
            ops.cast(self.recurrent_kernel, dtype),
            ops.cast(self.bias, dtype),
        )
        if mask is not None:
            # Padding is on the right: no valid frame follows a padded one,
            # so nothing need be held back inside the recurrence.
            mask = ops.cast(mask, "bool")
            outputs = ops.where(
                mask[:, :, None], outputs, ops.zeros((), outputs.dtype)
            )
        result = ops.cast(outputs, self.compute_dtype)
        if not self.return_state:
            return result
        if mask is None:
            return result, outputs[:, -1]
        lengths = ops.sum(ops.cast(mask, "int32"), axis=1)[:, None]
        last = ops.take_along_axis(
            outputs, ops.maximum(lengths - 1, 0)[:, :, None], axis=1
        )[:, 0]
        return result, ops.where(lengths > 0, last, state)

    def compute_output_shape(self, input_shape):
        shape = (*input_shape[:-1], self.units)
        if self.return_state:
            return shape, (input_shape[0], self.units)
        return shape

    def compute_mask(self, inputs, mask=None):
        return (mask, None) if self.return_state else mask
