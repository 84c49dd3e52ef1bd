"""Random numbers as hashes of places: for masks, not for secrets.

A generator is a cipher of many passes; these take one where a compiler fuses
them.
"""

import numpy as np
from keras import ops

from keras_audio_ssl._types import Tensor

# Of C. Wellons, "Prospecting for Hash Functions", 2018.
ROUNDS = ((16, 0x7FEB352D), (15, 0x846CA68B))


def is_kept(places: Tensor, key: Tensor, rate: float) -> Tensor:
    """Whether each place is kept by a dropout.

    Args:
        places: uint32 `(count,)`, all different.
        key: Two random numbers, uint32 `(2,)`. With counters in their place
            one draw would be another, moved along.
        rate: Share of places that are dropped.

    Returns:
        Booleans `(count,)`.
    """
    numbers = scrambled(ops.bitwise_xor(scrambled(places + key[0]), key[1]))
    most = 2**32
    kept = min(max(round((1.0 - rate) * most), 0), most - 1)
    return numbers < ops.convert_to_tensor(np.uint32(kept))


def scrambled(x: Tensor) -> Tensor:
    """A permutation of all uint32: a bit that differs moves half of all."""
    for shift, factor in ROUNDS:
        x = ops.bitwise_xor(x, ops.right_shift(x, np.uint32(shift)))
        x = x * np.uint32(factor)
    return ops.bitwise_xor(x, ops.right_shift(x, np.uint32(16)))
