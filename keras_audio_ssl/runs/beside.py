"""Vectors of clips at hand, of an encoder and of what it must beat."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from keras_audio_ssl._types import Tensor

# Clips that are embedded between two reports of progress.
BLOCK = 64


def vectors_beside(
    encoder: Any,
    waves: Sequence[Tensor],
    rows: Sequence[str],
    told: Callable[[int], object],
) -> Iterator[tuple[str, Tensor]]:
    """Clip vectors of `evaluation.readings`, without the levels.

    Args:
        encoder: Trained.
        waves: `[(samples,)]` at its rate.
        rows: Those that are wanted, of `rows_beside`.
        told: Called with the number of clips, as they are embedded.

    Yields:
        `(row, vectors (clips, dim))`, in the order of the readings.
    """
    import numpy as np

    from keras_audio_ssl import evaluation

    # Clips of like length meet in a batch: half as many shapes to compile.
    order = np.argsort([len(wave) for wave in waves], kind="stable")
    for row, one in evaluation.readings(encoder, levels=False):
        if row not in rows:
            continue
        vectors = np.zeros((len(waves), one.dim), "float32")
        for at in range(0, len(order), BLOCK):
            block = order[at : at + BLOCK]
            vectors[block] = one.embed([waves[i] for i in block])
            told(len(block))
        yield row, vectors


def rows_beside(encoder: Any) -> list[str]:
    """The rows of `vectors_beside`."""
    from keras_audio_ssl.evaluation.comparison import reading_rows

    return reading_rows(encoder, levels=False)


def mean_and_range(draws: Sequence[float], digits: int = 3) -> str:
    """Of draws of random weights their mean, least and most; or the one."""
    mean = f"{sum(draws) / len(draws):.{digits}f}"
    if len(draws) == 1:
        return mean
    return f"{mean}  {min(draws):.{digits}f}-{max(draws):.{digits}f}"
