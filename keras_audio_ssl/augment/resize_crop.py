"""BYOL-A's random resize crop, as two small matrix products."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_audio_ssl._types import Seed
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment.protocol import Augmentation


def cubic_weights(fraction: Tensor) -> Tensor:
    """Weights of the four neighbours at -1, 0, 1, 2; a = -0.75.

    Args:
        fraction: `(...)`, distance from neighbour 0, in [0, 1).

    Returns:
        `(..., 4)`.
    """
    a, t = -0.75, fraction

    def near(d: Tensor) -> Tensor:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Tensor) -> Tensor:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return ops.stack([far(t + 1), near(t), near(1 - t), far(2 - t)], axis=-1)


def resize_matrix(
    first: Tensor, length: Tensor, size: int, offset: Tensor
) -> Tensor:
    """Crop of a zero-padded axis and bicubic resize, as a matrix.

    Output `o` reads the crop at `o (length - 1) / (size - 1)` (corners
    aligned), indices clamped to the crop. The canvas is the axis itself
    with `offset` zeros before it.

    Args:
        first: `(batch,)` int32, first index of the crop in the canvas.
        length: `(batch,)` int32, width of the crop.
        size: Width of the axis, and of the output.
        offset: Zeros before the axis in the canvas.

    Returns:
        `(batch, size, size)`, output by input.
    """
    span = ops.cast(length - 1, "float32")[:, None]
    # Ends on ends (align corners): output o reads o (length - 1) / (size - 1).
    grid = ops.arange(size, dtype="float32")[None, :] / max(size - 1, 1)
    source = grid * span
    base = ops.floor(source)
    weights = cubic_weights(source - base)
    # (batch, size, 4) places in the crop, its edges repeated.
    taps = ops.cast(base, "int32")[..., None] + ops.arange(-1, 3, dtype="int32")
    taps = ops.clip(taps, 0, (length - 1)[:, None, None])
    # From the crop to the canvas to the map; places outside hit no column, and
    # read the canvas' zeros.
    taps = taps + first[:, None, None] - offset
    columns = ops.arange(size, dtype="int32")
    hit = ops.cast(ops.equal(taps[..., None], columns), "float32")
    return ops.sum(hit * weights[..., None], axis=2)


def crop_and_resize(
    x: Tensor, boxes: Tensor, canvas: tuple[int, int]
) -> Tensor:
    """Crops from a zero canvas around the map, resized to the map's size.

    Args:
        x: `(batch, time, bins)`, in the middle of the canvas.
        boxes: `(batch, 4)` int32: first bin, first frame, bins, frames.
        canvas: `(bins, frames)` of the canvas.

    Returns:
        Like `x`.
    """
    frames, bins = x.shape[1], x.shape[2]
    i, j, h, w = (boxes[:, k] for k in range(4))
    along_bins = resize_matrix(i, h, bins, (canvas[0] - bins) // 2)
    along_time = resize_matrix(j, w, frames, (canvas[1] - frames) // 2)
    # Y = A_T X A_F', (batch, frames, bins).
    return along_time @ x @ ops.transpose(along_bins, (0, 2, 1))


class RandomResizeCrop(Augmentation):
    """A random part of the map, stretched: shifts in pitch, time and tempo.

    Args:
        canvas: Size of the zero canvas as factors of (bins, frames).
        scale: Least and largest factor of both sizes of the crop.

    Time and bins of `x` must be known.

    Reference:
        Niizumi et al., 2021, arXiv 2103.06695, section III-C.
    """

    domain = "features"
    takes_lengths = False

    def __init__(
        self,
        canvas: Sequence[float] = (1.0, 1.5),
        scale: Sequence[float] = (0.6, 1.5),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 < scale[0] <= scale[1] or min(canvas) < 1:
            raise ValueError(
                "`scale` must be (least, largest) and `canvas` factors of at "
                f"least 1. Received: scale={scale}, canvas={canvas}"
            )

    def canvas_size(self, frames: int, bins: int) -> tuple[int, int]:
        """`(bins, frames)` of the canvas."""
        return int(self.canvas[0] * bins), int(self.canvas[1] * frames)

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        """Boxes `(batch, 4)`: first bin, first frame, bins, frames."""
        batch, frames, bins = shape
        u = keras.random.uniform((batch, 4), seed=seed)
        low, high = self.scale
        sizes = ops.convert_to_tensor([bins, frames], "float32")
        canvas = self.canvas_size(frames, bins)
        canvas = ops.convert_to_tensor(canvas, "float32")
        factor = low + (high - low) * u[:, :2]
        size = ops.clip(ops.floor(factor * sizes), 1.0, canvas)
        free = canvas - size
        first = ops.minimum(ops.floor(u[:, 2:] * (free + 1.0)), free)
        boxes = ops.concatenate([first, size], axis=1)
        return {"boxes": ops.cast(boxes, "int32")}

    def apply(
        self, x: Tensor, lengths: Tensor | None = None, *, boxes: Tensor
    ) -> Tensor:
        return crop_and_resize(x, boxes, self.canvas_size(*x.shape[1:]))
