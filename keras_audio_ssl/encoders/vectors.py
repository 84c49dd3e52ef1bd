"""One output of an encoder, for Keras models that go on from it."""

from typing import Any

from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.encoders.encoder import Encoder
from keras_audio_ssl.engine import Layer
from keras_audio_ssl.engine import check_choice


class Vectors(Layer):
    """The clip vectors, or the frames, of an encoder.

    An encoder gives both, a dict, of which layers of Keras make nothing. This
    stands between them, in a `Sequential` say.

    Args:
        encoder: `Encoder`, trained with what follows unless its `trainable`
            is False.
        of: `"clip"` (default) or `"frames"`.

    Call arguments:
        x: `(batch, samples)` float32 in [-1, 1], or a dict with `"waveform"`
            and `"lengths"`.

    Returns:
        `(batch, dim)`, or `(batch, frames, dim)`, float32.

    Raises:
        ValueError: `encoder` is none, or `of` something else.

    Example:
        >>> layers = [kas.encoders.Vectors(encoder), keras.layers.Dense(10)]
        >>> waveforms = np.zeros((32, 16000), "float32")
        >>> keras.Sequential(layers)(waveforms).shape
        (32, 10)
    """

    def __init__(
        self, encoder: Encoder, of: str = "clip", **kwargs: Any
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        if not isinstance(encoder, Encoder):
            raise ValueError(
                "`encoder` must be a keras_audio_ssl.Encoder. "
                f"Received: {type(encoder).__name__}"
            )
        check_choice("of", of, ("clip", "frames"))

    def call(self, x: Batch, training: bool | None = None) -> Tensor:
        return self.encoder(x, training=training)[self.of]

    def compute_output_spec(
        self, x: Tensor, training: bool | None = None
    ) -> Any:
        return self.encoder.compute_output_spec(x)[self.of]
