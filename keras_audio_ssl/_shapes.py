"""Which axis of an array holds the clips, and which the samples."""

from typing import Any

# A file has at most so many channels, and a clip more samples than that.
CHANNELS = 8


def rows(array: Any, name: str = "Audio") -> Any:
    """An array as `(batch, samples)`; a last axis of one entry goes.

    Raises:
        ValueError: It has another rank, or is one clip of several channels.
    """
    shape = tuple(array.shape)
    if len(shape) == 3 and shape[2] == 1:
        return array[:, :, 0]
    if len(shape) != 2:
        raise ValueError(
            f"{name} must have the shape (batch, samples). Received: {shape}"
            + (
                "; channels are averaged first: x.mean(axis=-1)"
                if len(shape) == 3
                else ""
            )
        )
    if 1 <= shape[1] <= CHANNELS < shape[0]:
        raise ValueError(
            f"{name} of shape {shape} would be {shape[0]:,} clips of "
            f"{shape[1]} samples. One clip of {shape[1]} channels, as "
            "soundfile reads it, is x.mean(axis=1), or give its path."
        )
    return array
