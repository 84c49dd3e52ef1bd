"""Slices of features, all of one length, from random places of clips."""

from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Seed
from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment.alteration import uniform_int
from keras_audio_ssl.augment.alteration import valid_frames
from keras_audio_ssl.engine import Layer


def take_slices(
    features: Tensor, starts: Tensor, frames: int, clips: Size | None = None
) -> Tensor:
    """Slices of clips.

    Args:
        features: `(batch, time, bins)`.
        starts: `(batch, slices)` int32, the first frame of each.
        frames: Of a slice.
        clips: `(batch,)` int32, the clip that each row is taken from; None
            for its own.

    Returns:
        `(batch, slices, frames, bins)`.
    """
    batch, time, bins = ops.shape(features)
    if clips is None:
        clips = ops.arange(batch, dtype="int32")
    # Places in all clips' frames, one behind the other.
    first = clips[:, None] * time + ops.cast(starts, "int32")
    place = first[..., None] + ops.arange(frames, dtype="int32")
    flat = ops.reshape(features, (-1, bins))
    return ops.take(flat, place, axis=0)


class RandomSlices(Layer):
    """Neighbouring slices of each clip, from a random place.

    A clip that is too short gives slices of another one of the batch, and is
    marked: no slice holds what is no sound.

    Args:
        frames: Of a slice.
        count: Slices.
        gap: Frames between two of them that are left out.

    Call arguments:
        features: `(batch, time, bins)`.
        lengths: Optional `(batch,)`, valid frames.
        seed: `keras.random.SeedGenerator`.

    Returns:
        `(slices, valid)`: `(batch, count, frames, bins)`, and boolean
        `(batch,)`, whether they are of the row's own clip.

    Attributes:
        span: Frames from the beginning of the first slice to the end of the
            last.
    """

    def __init__(
        self, frames: int, count: int = 1, gap: int = 0, **kwargs: Any
    ) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        if frames < 1 or count < 1 or gap < 0:
            raise ValueError(
                "`frames` and `count` must be positive and `gap` not "
                f"negative. Received: frames={frames}, count={count}, "
                f"gap={gap}"
            )
        self.span = count * frames + (count - 1) * gap

    def draw(self, lengths: Tensor, seed: Seed = None) -> Tensor:
        """Where the slices of each clip begin.

        Args:
            lengths: `(batch,)` int32, valid frames.
            seed: `keras.random.SeedGenerator`.

        Returns:
            `(starts, clips, valid)`: `(batch, count)` int32, the first frame
            of each slice, of which clip, `(batch,)` int32, and whether it is
            the row's own.
        """
        clips, valid = own_or_another(lengths, self.span)
        room = ops.take(lengths, clips, axis=0) - self.span
        start = uniform_int(ops.maximum(room, 0) + 1, seed)
        step = self.frames + self.gap
        places = step * ops.arange(self.count, dtype="int32")
        return start[:, None] + places, clips, valid

    def call(
        self, features: Tensor, lengths: Tensor | None = None, seed: Seed = None
    ) -> tuple[Tensor, Tensor]:
        check_span(features, self.span)
        starts, clips, valid = self.draw(valid_frames(features, lengths), seed)
        return take_slices(features, starts, self.frames, clips), valid


class RandomPairs(Layer):
    """Two slices of each clip, a uniform distance apart, in either order.

    The distance is uniform from 0 to the most, and then the place: two
    independent places would be near each other too often.

    Args:
        frames: Of a slice.
        window: Frames of the part of a clip that both are from, itself at a
            random place.
        margin: Frames at both ends of a clip that are not used.
        overlap: Whether the slices may overlap, default True.

    Call arguments:
        features: `(batch, time, bins)`.
        lengths: Optional `(batch,)`, valid frames.
        seed: `keras.random.SeedGenerator`.

    Returns:
        `(slices, distance, valid)`: `(batch, 2, frames, bins)`, int32
        `(batch,)`, frames from one slice's beginning to the other's, and
        `valid` as for `RandomSlices`.

    Attributes:
        span: Frames that it needs of a clip.
        most: The largest distance.

    Raises:
        ValueError: The window has no room for two slices.

    Reference:
        Tagliasacchi et al., 2019, arXiv 1905.11796.
    """

    def __init__(
        self,
        frames: int,
        window: int,
        margin: int = 0,
        overlap: bool = True,
        **kwargs: Any,
    ) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        if frames < 1 or margin < 0:
            raise ValueError(
                "`frames` must be positive and `margin` not negative. "
                f"Received: frames={frames}, margin={margin}"
            )
        self.most, self.least = window - frames, 0 if overlap else frames
        if self.most <= self.least:
            raise ValueError(
                f"A window of {window} frames has no room for two slices of "
                f"{frames} frames at different distances."
            )
        self.span = window + 2 * margin

    def draw(
        self, lengths: Tensor, seed: Seed = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Where the slices of each clip begin.

        Args:
            lengths: `(batch,)` int32, valid frames.
            seed: `keras.random.SeedGenerator`.

        Returns:
            `(starts, distance, clips, valid)`: int32 `(batch, 2)`, from the
            clip's beginning, and `(batch,)`; the others as for `RandomSlices`.
        """
        clips, valid = own_or_another(lengths, self.span)
        room = ops.take(lengths, clips, axis=0) - self.span
        window = self.margin + uniform_int(ops.maximum(room, 0) + 1, seed)
        choices = ops.full_like(window, self.most - self.least + 1)
        # The distance first, then where the earlier slice begins: so that
        # distances are uniform.
        distance = self.least + uniform_int(choices, seed)
        first = window + uniform_int(self.most - distance + 1, seed)
        later = first + distance
        turned = keras.random.uniform(ops.shape(first), seed=seed) < 0.5
        starts = ops.stack(
            [ops.where(turned, later, first), ops.where(turned, first, later)],
            axis=1,
        )
        return starts, distance, clips, valid

    def call(
        self, features: Tensor, lengths: Tensor | None = None, seed: Seed = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        check_span(features, self.span)
        starts, distance, clips, valid = self.draw(
            valid_frames(features, lengths), seed
        )
        slices = take_slices(features, starts, self.frames, clips)
        return slices, distance, valid


def check_span(features: Tensor, span: int) -> None:
    """Refuses features with too few frames for any clip.

    Raises:
        ValueError: There are too few.
    """
    time = features.shape[1]
    if isinstance(time, int) and time < span:
        raise ValueError(
            f"Slices need clips of at least {span} feature frames. "
            f"Received: {time}"
        )


def own_or_another(lengths: Tensor, span: int) -> tuple[Tensor, Tensor]:
    """Which clip each row is taken from: its own, if it is long enough.

    Args:
        lengths: `(batch,)` int32, valid frames.
        span: Frames that are needed.

    Returns:
        `(clips, valid)`: `(batch,)` int32, the row itself or the first that
        is long enough; and boolean, whether it is the row itself.
    """
    valid = lengths >= span
    rows = ops.arange(ops.shape(lengths)[0], dtype="int32")
    # What stands in for a short clip, whose row then does not count.
    first = ops.cast(ops.argmax(ops.cast(valid, "int32")), "int32")
    return ops.where(valid, rows, first), valid
