"""Where clips are cut that are too long for a network.

What one needs grows with the length of a clip, or its square: a transformer of
the package takes 1.5 GB for a minute, 5.4 GB for two.
"""

import math

# A longer clip is cut into equal blocks of at most so many seconds.
LONG_SECONDS, BLOCK_SECONDS = 60, 30


def block_count(seconds: float) -> int:
    """Of how many blocks' vectors a clip's vector is the mean."""
    if seconds <= LONG_SECONDS:
        return 1
    return math.ceil(seconds / BLOCK_SECONDS)
