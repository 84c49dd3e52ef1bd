"""Features cut into patches, and patches put together again."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.engine import Layer
from keras_audio_ssl.engine import check_choice

AXES = ("freq", "time", "time_freq")


class Patches(Layer):
    """Cuts features into patches of one size, in a fixed order.

    Those early in time come first, of them those low in frequency. What fills
    no patch at the end of time or frequency is left out.

    Args:
        axis: `"freq"`, `"time"` or `"time_freq"`, along what is cut.
        patches: How many; with `"time_freq"` two numbers, along time and
            along frequency. None for 8, or 3 by 3.
        gap: Frames or bins between neighbours that are left out; None for 2
            along `"time"`, whose frames overlap, else 0.
        norm: Whether each patch is standardised, so that its level tells
            nothing.

    Call arguments:
        x: `(batch, time, bins)`, both known.

    Returns:
        `(batch, number, frames of a patch, bins of a patch)`.

    Raises:
        ValueError: There are fewer than two patches, or too few frames or
            bins for them.

    Attributes:
        counts: Patches along time and along frequency.
        gaps: Frames and bins between them.
        number: Patches.
    """

    def __init__(
        self,
        axis: str = "freq",
        patches: int | Sequence[int] | None = None,
        gap: int | None = None,
        norm: bool = False,
        **kwargs: Any,
    ) -> None:
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        self.counts = patch_counts(axis, patches)
        gap = (2 if axis == "time" else 0) if gap is None else gap
        if gap < 0:
            raise ValueError(f"`gap` must not be negative. Received: {gap}")
        self.gaps = tuple(gap if count > 1 else 0 for count in self.counts)
        self.number = self.counts[0] * self.counts[1]

    @property
    def least(self) -> tuple[int, ...]:
        """Fewest frames and bins that can be cut."""
        return tuple(
            count + gap * (count - 1)
            for count, gap in zip(self.counts, self.gaps, strict=True)
        )

    def sizes(self, time: Size, bins: int) -> tuple[Size, ...]:
        """Frames and bins of a patch of so many frames and bins.

        Raises:
            ValueError: There are too few.
        """
        # A time that is not known is no int.
        short = isinstance(time, int) and time < self.least[0]
        if short or bins < self.least[1]:
            raise ValueError(
                f"{self.number} patches need at least {self.least[0]} frames "
                f"of {self.least[1]} bins. Received: {time} of {bins}"
            )
        return tuple(
            (size - gap * (count - 1)) // count
            for size, count, gap in zip(
                (time, bins), self.counts, self.gaps, strict=True
            )
        )

    def call(self, x: Tensor) -> Tensor:
        sizes = self.sizes(*ops.shape(x)[1:])
        steps = [n + gap for n, gap in zip(sizes, self.gaps, strict=True)]
        if any(self.gaps):
            # The last is followed by a gap too.
            x = ops.pad(x, ((0, 0), *((0, gap) for gap in self.gaps)))
        rows, columns = self.counts
        x = x[:, : rows * steps[0], : columns * steps[1]]
        x = ops.reshape(x, (-1, rows, steps[0], columns, steps[1]))
        # Without the gap behind each.
        x = x[:, :, : sizes[0], :, : sizes[1]]
        # (batch, rows, columns, frames, bins).
        x = ops.transpose(x, (0, 1, 3, 2, 4))
        x = ops.reshape(x, (-1, self.number, *sizes))
        if not self.norm:
            return x
        x = x - ops.mean(x, axis=(2, 3), keepdims=True)
        power = ops.mean(ops.square(x), axis=(2, 3), keepdims=True)
        # A patch of silence stays zero.
        return x * ops.rsqrt(ops.maximum(power, 1e-8))

    def join(self, patches: Tensor) -> Tensor:
        """Features of patches, without what was left out.

        Args:
            patches: `(batch, number, frames, bins)`.

        Returns:
            `(batch, time, bins)`.
        """
        _, _, frames, bins = patches.shape
        rows, columns = self.counts
        x = ops.reshape(patches, (-1, rows, columns, frames, bins))
        x = ops.transpose(x, (0, 1, 3, 2, 4))
        return ops.reshape(x, (-1, rows * frames, columns * bins))


def patch_counts(
    axis: str, patches: int | Sequence[int] | None = None
) -> tuple[int, int]:
    """Patches along time and along frequency; see `Patches`.

    Raises:
        ValueError: The axis is another, or there are fewer than two patches.
    """
    check_choice("axis", axis, AXES)
    grid = axis == "time_freq"
    if patches is None:
        patches = (3, 3) if grid else 8
    pair = isinstance(patches, (tuple, list)) and len(patches) == 2
    if grid != pair:
        raise ValueError(
            "`patches` must be a number, or for axis='time_freq' two, along "
            f"time and along frequency. Received: {patches}, axis={axis!r}"
        )
    both: dict[str, Any] = {
        "freq": (1, patches),
        "time": (patches, 1),
        "time_freq": patches,
    }
    rows, columns = map(int, both[axis])
    if min(rows, columns) < 1 or rows * columns < 2:
        raise ValueError(
            f"There must be at least two `patches`. Received: {patches}"
        )
    return rows, columns
