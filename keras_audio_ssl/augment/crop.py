"""Random segments of clips of unequal length."""

import keras
from keras import ops

from keras_audio_ssl.engine import Layer
from keras_audio_ssl.engine import check_choice


def crop(x, start, length):
    """Segments of one length that begin anywhere, zeros outside the clip.

    Args:
        x: `(batch, samples)`.
        start: `(batch,)` integers; negative ones begin with silence.
        length: Samples of the segments.

    Returns:
        `(batch, length)`.
    """
    positions = ops.arange(length, dtype="int32")[None, :]
    positions = positions + ops.cast(start, "int32")[:, None]
    last = ops.cast(ops.shape(x)[1], "int32") - 1
    inside = ops.logical_and(positions >= 0, positions <= last)
    taken = ops.take_along_axis(x, ops.clip(positions, 0, last), axis=1)
    return ops.where(inside, taken, 0.0)


class RandomCrop(Layer):
    """A random segment of each clip, uniform over its valid samples.

    Clips shorter than the segment stand whole, with silence around them or
    again and again.

    Args:
        length: Samples of the segment.
        pad: Where the silence goes for short clips, `"both"` (half of it
            before, the odd sample after) or `"right"`; or `"repeat"`, which
            fills the segment with the clip.

    Call arguments:
        waveform: `(batch, samples)`, zero past each clip's end.
        lengths: Optional `(batch,)`, valid samples.
        seed: `keras.random.SeedGenerator`.

    Returns:
        `(batch, length)`.
    """

    def __init__(self, length, pad="both", **kwargs):
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        if length < 1:
            raise ValueError(f"`length` must be positive. Received: {length}")
        check_choice("pad", pad, ("both", "right", "repeat"))
        self.length = int(length)

    def draw(self, waveform, lengths=None, seed=None):
        """First sample of each segment, `(batch,)` int32."""
        batch, samples = ops.shape(waveform)[0], ops.shape(waveform)[1]
        if lengths is None:
            lengths = ops.broadcast_to(ops.cast(samples, "int32"), (batch,))
        room = ops.cast(lengths, "int32") - self.length
        uniform = keras.random.uniform((batch,), seed=seed)
        free = ops.cast(ops.maximum(room, 0) + 1, "float32")
        start = ops.cast(ops.floor(uniform * free), "int32")
        start = ops.minimum(start, ops.maximum(room, 0))
        if self.pad != "both":
            return start
        return ops.where(room < 0, -((-room) // 2), start)

    def call(self, waveform, lengths=None, seed=None):
        start = self.draw(waveform, lengths, seed)
        if self.pad != "repeat":
            return crop(waveform, start, self.length)
        whole = ops.shape(waveform)[1] if lengths is None else lengths
        # After so many samples a segment begins again.
        span = ops.clip(ops.cast(whole, "int32"), 1, self.length)
        inside = ops.arange(self.length, dtype="int32")[None]
        inside = inside % ops.reshape(span, (-1, 1))
        return ops.take_along_axis(waveform, start[:, None] + inside, axis=1)
