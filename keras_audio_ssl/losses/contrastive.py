"""Losses over a square matrix of similarities."""

import keras
from keras import ops


def unit(x):
    """Vectors of unit length, `(..., dim)`; a zero vector stays zero."""
    x = ops.convert_to_tensor(x)
    square = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.maximum(square, 1e-12))


def cosine_similarity(a, b):
    """Cosines of all pairs.

    Args:
        a: `(rows, dim)`.
        b: `(columns, dim)`.

    Returns:
        `(rows, columns)`; 0 for a zero vector.
    """
    return unit(a) @ ops.transpose(unit(b))


def row_cross_entropy(similarities):
    """Cross-entropy of each row's softmax with its diagonal entry.

    Args:
        similarities: `(batch, batch)`, anchors by positives.

    Returns:
        Scalar, mean over rows: ln(batch) when all entries are equal.

    Reference:
        Saeed et al., 2021, arXiv 2010.10915, eq. 2.
    """
    diagonal = ops.diagonal(similarities)
    return ops.mean(ops.logsumexp(similarities, axis=1) - diagonal)


def contrastive_accuracy(similarities):
    """Share of rows whose largest entry lies on the diagonal.

    Args:
        similarities: `(batch, batch)`, anchors by positives.
    """
    best = ops.argmax(similarities, axis=1)
    target = ops.arange(ops.shape(similarities)[0], dtype=best.dtype)
    return ops.mean(ops.cast(ops.equal(best, target), keras.config.floatx()))
