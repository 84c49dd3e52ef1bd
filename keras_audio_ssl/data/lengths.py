"""Lengths that batches are padded to."""


def bucket(samples: int, least: int = 1) -> int:
    """Rounds up to one of four lengths an octave, so that few shapes compile.

    Args:
        samples: A length, in samples.
        least: Shorter lengths count as this, 1 by default.

    Returns:
        The least whole number that is neither below `samples` nor below
        `least` and is 5, 6, 7 or 8 times a power of two, or below 8.

    Example:
        >>> bucket(16000), bucket(16385), bucket(3)
        (16384, 20480, 3)
    """
    samples = int(max(samples, least))
    grain = 1 << max(0, (samples - 1).bit_length() - 3)
    return -(-samples // grain) * grain
