"""The shape of a cloud of embeddings, in numbers."""

import numpy as np

from keras_audio_ssl.evaluation.nearest_neighbours import Neighbours
from keras_audio_ssl.evaluation.vectors import unit_rows


def effective_rank(x: np.ndarray) -> float:
    """How many dimensions the clips really use, 1 to min(clips - 1, dim).

    The exponential of the entropy of the singular values, of vectors whose
    mean was taken away.

    Args:
        x: `(clips, dim)`.

    Raises:
        ValueError: Not a table of finite numbers.

    Reference:
        Roy & Vetterli, 2007, "The effective rank: A measure of effective
        dimensionality"; centred, as a common offset tells no clip apart.

    Example:
        >>> round(effective_rank(np.eye(4)[[0, 0, 1, 1]]), 6)
        1.0
    """
    x = unit_rows(x)
    values = np.linalg.svd(x - x.mean(axis=0), compute_uv=False)
    if values[0] <= 1e-12:
        return 1.0
    share = values[values > 0] / values.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def alignment(first: np.ndarray, second: np.ndarray) -> float:
    """Mean squared distance of the unit vectors of pairs, 0 to 4.

    Args:
        first: `(clips, dim)`, one part of each clip.
        second: The same, another part.

    Raises:
        ValueError: The shapes differ, or not tables of finite numbers.

    Reference:
        Wang & Isola, 2020, arXiv 2005.10242.

    Example:
        >>> alignment(np.eye(3), np.eye(3))
        0.0
    """
    first, second = unit_rows(first), unit_rows(second)
    if first.shape != second.shape:
        raise ValueError(
            "Pairs must have one shape. "
            f"Received: {first.shape} and {second.shape}"
        )
    return float(np.square(first - second).sum(axis=1).mean())


def uniformity(x: np.ndarray) -> float:
    """Logarithm of the mean of exp(-2 distance^2) over pairs of clips.

    0 where all clips are one point, about -4 on a full sphere: lower spreads
    more evenly.

    Args:
        x: `(clips, dim)`, two clips or more.

    Raises:
        ValueError: Not a table of finite numbers, or a single clip.

    Reference:
        Wang & Isola, 2020, arXiv 2005.10242.

    Example:
        >>> round(uniformity(np.eye(2)), 6)
        -4.0
    """
    x = unit_rows(x)
    if len(x) < 2:
        raise ValueError("Uniformity needs two clips. Received: one")
    pairs = np.triu_indices(len(x), 1)
    squares = np.maximum(2 - 2 * (x @ x.T)[pairs], 0)
    return float(np.log(np.exp(-2 * squares).mean()))


def neighbour_accuracy(x: np.ndarray, labels: np.ndarray) -> float:
    """Share of clips whose nearest other clip has their label.

    Args:
        x: `(clips, dim)`; each dimension is standardised, then the cosine
            decides.
        labels: `(clips,)`.

    Raises:
        ValueError: Another number of labels than clips, or not a table of
            finite numbers.

    Example:
        >>> neighbour_accuracy(np.eye(4)[[0, 0, 1, 1]], np.array([0, 0, 1, 1]))
        1.0
    """
    x = np.asarray(x, "float64")
    labels = np.asarray(labels)
    if labels.shape != x.shape[:1]:
        raise ValueError(
            f"There must be a label for each of {len(x)} clips. "
            f"Received: shape {labels.shape}"
        )
    x, _ = Neighbours.prepare(x, x)
    # Of equal neighbours the first, so that a collapse has one figure;
    # `NearestNeighbors` takes any.
    similarity = x @ x.T
    np.fill_diagonal(similarity, -np.inf)
    return float((labels[similarity.argmax(axis=1)] == labels).mean())
