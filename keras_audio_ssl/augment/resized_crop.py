"""A part of a map by area and aspect, stretched to the whole."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Seed
from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment.protocol import Augmentation
from keras_audio_ssl.augment.stretch import interpolation

ATTEMPTS = 10


def linear_matrix(first: Tensor, length: Tensor, size: Size) -> Tensor:
    """Crop of an axis and linear resize, as a matrix.

    Pixels have their centres at halves; past the crop's ends its outermost
    values are repeated.

    Args:
        first: `(batch,)` int32, first index of the crop.
        length: `(batch,)` int32, its width.
        size: Width of the axis, and of the output.

    Returns:
        `(batch, size, size)`, output by input.
    """
    width = ops.cast(length, "float32")[:, None]
    place = ops.arange(size, dtype="float32")[None]
    # Half-pixel centres, edges repeated.
    source = ops.clip((place + 0.5) * width / size - 0.5, 0.0, width - 1.0)
    source = source + ops.cast(first, "float32")[:, None]
    return interpolation(source, size)


def cut_and_resize(x: Tensor, boxes: Tensor) -> Tensor:
    """Parts of maps, resized to the maps' size.

    Args:
        x: `(batch, time, bins)`.
        boxes: `(batch, 4)` int32: first frame, first bin, frames, bins.

    Returns:
        Like `x`.
    """
    along_time = linear_matrix(boxes[:, 0], boxes[:, 2], x.shape[1])
    along_bins = linear_matrix(boxes[:, 1], boxes[:, 3], x.shape[2])
    return along_time @ x @ ops.transpose(along_bins, (0, 2, 1))


class RandomResizedCrop(Augmentation):
    """A random part of the map by area and aspect, resized to the whole.

    Ten parts are drawn, of which the first that fits is taken; if none does,
    the largest in the middle of an aspect that is allowed.

    Args:
        area: Least and largest share of the map's area.
        aspect: Least and largest ratio of bins to frames, whose logarithm is
            uniform.

    Time and bins of `x` must be known.

    Raises:
        ValueError: `area` or `aspect` is out of range.

    Reference:
        Szegedy et al., 2015, arXiv 1409.4842, section 6; Fonseca et al., 2021,
        arXiv 2011.07616.
    """

    domain = "features"
    takes_lengths = False

    def __init__(
        self,
        area: Sequence[float] = (0.8, 1.0),
        aspect: Sequence[float] = (3 / 4, 4 / 3),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not (0 < area[0] <= area[1] <= 1 and 0 < aspect[0] <= aspect[1]):
            raise ValueError(
                "`area` must be shares of a map and `aspect` ratios, each the "
                f"least and the largest. Received: area={area}, "
                f"aspect={aspect}"
            )

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        """Boxes `(batch, 4)`: first frame, first bin, frames, bins."""
        batch, frames, bins = shape
        u = keras.random.uniform((2, batch, ATTEMPTS), seed=seed)
        (least, most), (low, high) = self.area, map(math.log, self.aspect)
        # All attempts at once; the first that fits is taken.
        area = frames * bins * (least + (most - least) * u[0])
        # Uniform in its logarithm.
        ratio = ops.exp(low + (high - low) * u[1])
        width = ops.round(ops.sqrt(area * ratio))
        height = ops.round(ops.sqrt(area / ratio))
        fits = (width > 0) & (width <= bins) & (height > 0) & (height <= frames)
        first = ops.argmax(ops.cast(fits, "int32"), axis=1)[:, None]
        found = ops.any(fits, axis=1)
        height, width = (
            ops.where(found, ops.take_along_axis(v, first, axis=1)[:, 0], whole)
            for v, whole in zip(
                (height, width), self.fallback(frames, bins), strict=True
            )
        )
        free = [frames - height, bins - width]
        corner = keras.random.uniform((2, batch), seed=seed)
        top, left = (
            ops.where(
                found,
                ops.minimum(ops.floor(corner[i] * (free[i] + 1.0)), free[i]),
                ops.floor(free[i] / 2),
            )
            for i in range(2)
        )
        boxes = ops.stack([top, left, height, width], axis=1)
        return {"boxes": ops.cast(boxes, "int32")}

    def fallback(self, frames: Size, bins: int) -> tuple[Tensor, Tensor]:
        """Frames and bins of the part that is taken where none fits."""
        low, high = self.aspect
        if bins / frames < low:
            return round(bins / low), bins
        if bins / frames > high:
            return frames, round(frames * high)
        return frames, bins

    def apply(
        self, x: Tensor, lengths: Tensor | None = None, *, boxes: Tensor
    ) -> Tensor:
        return cut_and_resize(x, boxes)
