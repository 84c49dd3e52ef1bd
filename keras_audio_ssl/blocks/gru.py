"""A gated recurrent unit with one fast recurrence per backend."""

from collections.abc import Sequence
from typing import Any

from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks.recurrence import Recurrence


class GRU(Recurrence):
    """Unidirectional GRU over right-padded sequences, quick on every backend.

    The weights have the layout of `keras.layers.GRU(reset_after=True)`:
    `kernel` (dim, 3 * units), `recurrent_kernel` (units, 3 * units) and `bias`
    (2, 3 * units), gates in the order update, reset, candidate. So
    `get_weights` of one layer fits `set_weights` of the other.

    Under a half precision policy the state is kept in float32.

    Args:
        units: Size of the state and of the output.
        return_state: Also return the state after each sequence's last
            valid frame, to go on from there. Defaults to `False`.
        kernel_initializer: Initializer of the input weights. Defaults to
            `"glorot_uniform"`.
        recurrent_initializer: Initializer of the recurrent weights. Defaults
            to `"orthogonal"`.
        bias_initializer: Initializer of the biases. Defaults to `"zeros"`.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments:
        x: `(batch, frames, dim)`.
        mask: `(batch, frames)` bool, `True` where a frame is valid. Padding
            must be on the right. Outputs of padded frames are exact zeros.
        initial_state: `(batch, units)`, zeros by default.

    Returns:
        `(batch, frames, units)`, or with `return_state` a tuple of that and
        the state `(batch, units)`.

    Raises:
        ValueError: If `units` is not positive or the input has no three axes.

    Reference:
        Cho et al., 2014, arXiv 1406.1078, in the variant that applies the
        reset gate after the matrix product.

    Example:
        >>> layer = GRU(512, return_state=True)
        >>> frames, state = layer(np.zeros((16, 300, 80), "float32"))
        >>> frames.shape, state.shape
        ((16, 300, 512), (16, 512))
    """

    GATES = 3

    def __init__(
        self,
        units: int,
        return_state: bool = False,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            **kwargs,
        )
        self.return_state = bool(return_state)

    @property
    def bias_shape(self) -> tuple[int, ...]:
        # One of the input and one of the recurrence.
        return (2, self.GATES * self.units)

    def call(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        initial_state: Tensor | None = None,
    ) -> Any:
        dtype = self.state_dtype
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

    def compute_output_shape(self, input_shape: Sequence[Any]) -> Any:
        shape = (*input_shape[:-1], self.units)
        if self.return_state:
            return shape, (input_shape[0], self.units)
        return shape

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Any:
        return (mask, None) if self.return_state else mask
