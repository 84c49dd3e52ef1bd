"""SpecAugment on views: bands filled with the smallest value."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_audio_ssl._types import Seed
from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment.alteration import uniform_int
from keras_audio_ssl.augment.draws import masked
from keras_audio_ssl.augment.draws import smallest
from keras_audio_ssl.augment.draws import valid_lengths
from keras_audio_ssl.augment.protocol import Augmentation


def fill_bands(
    x: Tensor, frames: Tensor, bins: Tensor, lengths: Tensor | None = None
) -> Tensor:
    """Fills bands of frames and of bins with a clip's smallest value.

    Args:
        x: `(batch, time, bins)`.
        frames: Boolean `(batch, time)`.
        bins: Boolean `(batch, bins)`.
        lengths: Optional `(batch,)`, valid frames.

    Returns:
        Like `x`.
    """
    # (batch, frames, bins).
    hidden = frames[:, :, None] | bins[:, None, :]
    return masked(ops.where(hidden, smallest(x, lengths), x), lengths)


class SpecAugment(Augmentation):
    """Hides bands of frequency, and of time, of each clip.

    Widths are uniform from 0 on, and so are places.

    Args:
        bins: Widest band of bins.
        frames: Widest band of frames.
        count: Bands of each kind, which may overlap.

    Raises:
        ValueError: A width is negative, or `count` not positive.

    Reference:
        Park et al., 2019, arXiv 1904.08779; the widths of Fonseca et al.,
        2021, arXiv 2011.07616, as released.
    """

    domain = "features"

    def __init__(
        self, bins: int = 19, frames: int = 19, count: int = 2, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if min(bins, frames) < 0 or count < 1:
            raise ValueError(
                "`bins` and `frames` must not be negative and `count` be "
                f"positive. Received: bins={bins}, frames={frames}, "
                f"count={count}"
            )

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        valid = valid_lengths(shape, lengths)
        every = ops.full_like(valid, shape[2])
        return {
            "frames": self.bands(valid, shape[1], self.frames, seed),
            "bins": self.bands(every, shape[2], self.bins, seed),
        }

    def bands(
        self, room: Tensor, size: Size, widest: Tensor, seed: Seed
    ) -> Tensor:
        """Boolean `(batch, size)`: bands within the first `room` places."""
        room = ops.broadcast_to(room[:, None], (ops.shape(room)[0], self.count))
        width = uniform_int(ops.full_like(room, widest + 1), seed)
        width = ops.minimum(width, room)
        start = uniform_int(room - width + 1, seed)[..., None]
        place = ops.arange(size, dtype="int32")
        inside = (place >= start) & (place < start + width[..., None])
        return ops.any(inside, axis=1)

    def apply(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        frames: Tensor,
        bins: Tensor,
    ) -> Tensor:
        return fill_bands(x, frames, bins, lengths)
