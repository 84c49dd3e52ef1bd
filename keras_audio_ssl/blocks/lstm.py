"""A long short-term memory with one fast recurrence per backend."""

from collections.abc import Sequence
from typing import Any

from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.blocks.recurrence import Recurrence


class LSTM(Recurrence):
    """Unidirectional LSTM over right-padded sequences, quick on every backend.

    The weights have the layout of `keras.layers.LSTM`: `kernel` (dim, 4 *
    units), `recurrent_kernel` (units, 4 * units) and `bias` (4 * units,),
    gates in the order input, forget, candidate, output. So `get_weights` of
    one layer fits `set_weights` of the other.

    Under a half precision policy the state is kept in float32.

    Args:
        units: Size of the state and of the output.
        kernel_initializer: Initializer of the input weights. Defaults to
            `"glorot_uniform"`.
        recurrent_initializer: Initializer of the recurrent weights. Defaults
            to `"orthogonal"`.
        **kwargs: Passed to `keras.layers.Layer`.

    Call arguments:
        x: `(batch, frames, dim)`; or `(batch, 1, dim)`, what is read at each
            of so many `frames`.
        mask: `(batch, frames)` bool, `True` where a frame is valid. Padding
            must be on the right. Outputs of padded frames are exact zeros.
        initial_state: Pair of output and memory before the first frame, each
            `(batch, units)`; zeros by default.
        frames: int, where every frame reads the same.

    Returns:
        `(batch, frames, units)`.

    Raises:
        ValueError: If `units` is not positive or the input has no three axes.

    Reference:
        Hochreiter & Schmidhuber, 1997, with the forget gate of Gers et al.,
        2000, whose bias begins at 1 (Jozefowicz et al., 2015).

    Example:
        >>> layer = LSTM(50)
        >>> layer(np.zeros((16, 100, 13), "float32")).shape
        (16, 100, 50)
    """

    GATES = 4

    def __init__(
        self,
        units: int,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            units,
            kernel_initializer,
            recurrent_initializer,
            remember,
            **kwargs,
        )

    def call(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        initial_state: Tensor | None = None,
        frames: int | None = None,
    ) -> Tensor:
        if initial_state is None:
            shape = (ops.shape(x)[0], self.units)
            initial_state = [ops.zeros(shape, self.state_dtype)] * 2
        outputs = self.run(
            x,
            initial_state,
            ops.convert_to_tensor(self.kernel),
            self.recurrent_kernel,
            self.bias,
            frames,
        )
        if mask is not None:
            # Padding is on the right: no valid frame follows a padded one.
            mask = ops.cast(mask, "bool")[:, :, None]
            outputs = ops.where(mask, outputs, ops.zeros((), outputs.dtype))
        return outputs

    def run(
        self,
        x: Tensor,
        state: Tensor,
        kernel: Tensor,
        recurrent_kernel: Tensor,
        bias: Tensor,
        frames: Size | None = None,
    ) -> Tensor:
        """The recurrence of other weights; see `backend.lstm`."""
        dtype = self.state_dtype
        hidden, cell = (ops.cast(s, dtype) for s in state)
        outputs = backend.lstm(
            x,
            hidden,
            cell,
            kernel,
            ops.cast(recurrent_kernel, dtype),
            ops.cast(bias, dtype),
            frames,
        )
        return ops.cast(outputs, self.compute_dtype)

    def compute_output_shape(
        self, input_shape: Sequence[Any]
    ) -> tuple[Any, ...]:
        return (*input_shape[:-1], self.units)


def remember(shape: Sequence[int], dtype: Any = None) -> Any:
    """Initial biases `(4 * units,)`: 1 for the forget gate, 0 for others."""
    units = shape[0] // LSTM.GATES
    gates = [ops.full((units,), float(i == 1), dtype) for i in range(4)]
    return ops.concatenate(gates)
