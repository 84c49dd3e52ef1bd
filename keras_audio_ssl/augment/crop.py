"""Random segments of clips of unequal length."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_audio_ssl._types import Seed
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.engine import Layer
from keras_audio_ssl.engine import check_choice


def crop(x: Tensor, start: Tensor, length: int) -> Tensor:
    """Segments of one length that begin anywhere, zeros outside the clip.

    Args:
        x: `(batch, samples)` or `(batch, time, bins)`.
        start: `(batch,)` integers, or `(batch, segments)` for several of
            each clip; negative ones begin with silence.
        length: Samples, or frames, of the segments.

    Returns:
        `(batch, length)`, with segments `(batch, segments, length)`; then
        the bins, if there are some.
    """
    positions = ops.arange(length, dtype="int32")
    positions = positions + ops.cast(start, "int32")[..., None]
    outer = tuple(positions.shape[1:])
    positions = ops.reshape(positions, (-1, int(np.prod(outer))))
    last = ops.cast(ops.shape(x)[1], "int32") - 1
    inside = ops.logical_and(positions >= 0, positions <= last)
    positions = ops.clip(positions, 0, last)
    if len(x.shape) == 3:
        inside, positions = inside[..., None], positions[..., None]
    taken = ops.take_along_axis(x, positions, axis=1)
    taken = ops.where(inside, taken, 0.0)
    return ops.reshape(taken, (-1, *outer, *x.shape[2:]))


def repeated(
    waveform: Tensor, least: int, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Clips shorter than so many samples, repeated until they have them.

    Args:
        waveform: `(batch, samples)`, zero past each clip's end.
        least: Samples that each clip is to have.
        lengths: Optional `(batch,)`, valid samples.

    Returns:
        `(waveform, lengths)`: `(batch, samples or least)`, and int32
        `(batch,)`; None where it was None and no clip is padded.
    """
    batch, samples = ops.shape(waveform)
    if isinstance(samples, int):
        if lengths is None and samples >= least:
            return waveform, None
        more = max(least - samples, 0)
    else:
        more = least
    if lengths is None:
        lengths = ops.full((batch,), samples, "int32")
    lengths = ops.maximum(ops.cast(lengths, "int32"), 1)
    place = ops.arange(least, dtype="int32")[None] % lengths[:, None]
    # A clip that is long enough finds itself there.
    begin = ops.take_along_axis(
        ops.pad(waveform, ((0, 0), (0, more))), place, axis=1
    )
    whole = ops.concatenate([begin, waveform[:, least:]], axis=1)
    return whole, ops.maximum(lengths, least)


class RandomCrop(Layer):
    """A random segment of each clip, uniform over its valid samples.

    Clips shorter than the segment stand whole, with silence around them or
    again and again.

    Args:
        length: Samples of the segment (frames, of features).
        pad: Where the silence goes for short clips, `"both"` (half of it
            before, the odd sample after) or `"right"`; or `"repeat"`, which
            fills the segment with the clip.

    Call arguments:
        x: `(batch, samples)` or `(batch, time, bins)`, zero past each clip's
            end.
        lengths: Optional `(batch,)`, valid samples.
        seed: `keras.random.SeedGenerator`.

    Returns:
        `(batch, length)` or `(batch, length, bins)`.
    """

    domain = "waveform"

    def __init__(self, length: int, pad: str = "both", **kwargs: Any) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        if length < 1:
            raise ValueError(f"`length` must be positive. Received: {length}")
        check_choice("pad", pad, ("both", "right", "repeat"))
        self.length = int(length)

    def draw(
        self, x: Tensor, lengths: Tensor | None = None, seed: Seed = None
    ) -> Tensor:
        """First sample of each segment, `(batch,)` int32."""
        batch, samples = ops.shape(x)[0], ops.shape(x)[1]
        if lengths is None:
            lengths = ops.broadcast_to(ops.cast(samples, "int32"), (batch,))
        room = ops.cast(lengths, "int32") - self.length
        uniform = keras.random.uniform((batch,), seed=seed)
        free = ops.cast(ops.maximum(room, 0) + 1, "float32")
        start = ops.cast(ops.floor(uniform * free), "int32")
        start = ops.minimum(start, ops.maximum(room, 0))
        if self.pad in ("right", "repeat"):
            return start
        # A short clip in the middle, the odd zero on the right.
        return ops.where(room < 0, -((-room) // 2), start)

    def call(
        self, x: Tensor, lengths: Tensor | None = None, seed: Seed = None
    ) -> Tensor:
        start = self.draw(x, lengths, seed)
        if self.pad == "repeat":
            x, _ = repeated(x, self.length, lengths)
        return crop(x, start, self.length)
