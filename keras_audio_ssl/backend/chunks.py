"""Clips in pieces that stay in the processor's cache."""

import functools
import math
from collections.abc import Callable

import keras
from keras import ops

from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor

# What takes more bytes than the first is computed in pieces of about the
# second: twice as fast on JAX.
ABOVE = 8 * 2**20
ABOUT = 2 * 2**20
MOST_PIECES = 32


@functools.cache
def one_cpu() -> bool:
    """Whether all is computed on one CPU, whose cache is worth a thought."""
    devices = keras.distribution.list_devices()
    return len(devices) == 1 and devices[0].startswith("cpu")


def clips_at_once(x: Tensor, clip_bytes: Size, above: int, about: int) -> int:
    """How many clips of a batch a piece should have; 0 for all at once."""
    batch = x.shape[0]
    if not isinstance(batch, int) or not isinstance(clip_bytes, int):
        return 0
    return max(1, about // clip_bytes) if batch * clip_bytes >= above else 0


def in_pieces(
    function: Callable[[Tensor], Tensor], x: Tensor, clips: int
) -> Tensor:
    """`function(x)`, computed for so many clips at a time or more."""
    batch = x.shape[0]
    clips = max(clips, math.ceil(batch / MOST_PIECES))
    pieces = [function(x[i : i + clips]) for i in range(0, batch, clips)]
    return ops.concatenate(pieces, axis=0) if len(pieces) > 1 else pieces[0]
