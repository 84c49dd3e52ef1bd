"""Seeds for layers that draw."""

import random


def fresh_seed() -> int:
    """A new seed that follows `keras.utils.set_random_seed`.

    Without one, Keras' dropout on PyTorch draws from the global generator,
    which no file saves; and generators with neighbouring seeds give nearly
    the same draws there.
    """
    return random.getrandbits(31)
