"""What the recurrent layers have in common."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_audio_ssl.engine import Layer


class Recurrence(Layer):
    """A recurrent layer's units and weights, in the layout of Keras' own.

    Args:
        units: Size of the state and of the output.
        kernel_initializer: Of the input weights.
        recurrent_initializer: Of the recurrent weights.
        bias_initializer: Of the biases.

    Attributes:
        GATES: How many, the candidate among them.

    Raises:
        ValueError: `units` is not positive, or the input has no three axes.
    """

    GATES: int

    def __init__(
        self,
        units: int,
        kernel_initializer: Any,
        recurrent_initializer: Any,
        bias_initializer: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if int(units) != units or units < 1:
            raise ValueError(
                f"`units` must be a positive integer. Received: units={units!r}"
            )
        self.units = int(units)
        get = keras.initializers.get
        self.kernel_initializer = get(kernel_initializer)
        self.recurrent_initializer = get(recurrent_initializer)
        self.bias_initializer = get(bias_initializer)
        self.supports_masking = True

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """Shape of the biases of all gates."""
        return (self.GATES * self.units,)

    @property
    def state_dtype(self) -> str:
        """In which the recurrence computes, whatever the policy."""
        return "float64" if self.compute_dtype == "float64" else "float32"

    def build(self, input_shape: Sequence[Any]) -> None:
        if len(input_shape) != 3 or input_shape[-1] is None:
            raise ValueError(
                f"`{type(self).__name__}` expects an input of shape (batch, "
                "frames, dim) with a known dim. Received: "
                f"shape={tuple(input_shape)}"
            )
        self.input_spec = keras.layers.InputSpec(
            ndim=3, axes={-1: input_shape[-1]}
        )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.GATES * self.units),
            initializer=self.kernel_initializer,
        )
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel",
            shape=(self.units, self.GATES * self.units),
            initializer=self.recurrent_initializer,
            autocast=False,
        )
        self.bias = self.add_weight(
            name="bias",
            shape=self.bias_shape,
            initializer=self.bias_initializer,
            autocast=False,
        )
