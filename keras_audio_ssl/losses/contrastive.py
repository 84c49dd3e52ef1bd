"""Losses over similarities of pairs, each against those of other clips."""

import keras
from keras import ops

from keras_audio_ssl._types import Tensor


def unit(x: Tensor) -> Tensor:
    """Vectors scaled to unit length.

    Args:
        x: `(..., dim)`.

    Returns:
        Like `x`; a zero vector stays zero.
    """
    x = ops.convert_to_tensor(x)
    square = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.maximum(square, 1e-12))


def cosine_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Cosines of all pairs.

    Args:
        a: `(rows, dim)`.
        b: `(columns, dim)`.

    Returns:
        `(rows, columns)`; 0 for a zero vector.
    """
    return unit(a) @ ops.transpose(unit(b))


def row_cross_entropy(similarities: Tensor) -> Tensor:
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


def contrastive_accuracy(similarities: Tensor) -> Tensor:
    """Share of rows whose largest entry lies on the diagonal.

    Args:
        similarities: `(batch, batch)`, anchors by positives.

    Returns:
        Scalar, 1 / batch by chance.
    """
    best = ops.argmax(similarities, axis=1)
    target = ops.arange(ops.shape(similarities)[0], dtype=best.dtype)
    return ops.mean(ops.cast(ops.equal(best, target), keras.config.floatx()))


def nt_xent(
    z1: Tensor, z2: Tensor, temperature: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each view with the other view of its clip.

    Normalised, temperature-scaled, over both views of the batch: each of the
    2 N vectors is to tell its partner from the 2 N - 2 vectors of other
    clips. What is left out is the vector itself alone, so the partner stands
    in the denominator too, and the loss is ln(2 N - 1) where all are equal
    and never below ln(1 + (2 N - 2) exp(-2 / temperature)).

    Args:
        z1: `(batch, dim)`, vectors of unit length, of one view.
        z2: `(batch, dim)`, those of the other, in the same order.
        temperature: Divides the cosines (tau).

    Returns:
        `(loss, accuracy)`: scalars, the mean over both views, and the share
        of vectors that are nearer to their partner than to any other.

    Reference:
        Chen et al., 2020, "A Simple Framework for Contrastive Learning of
        Visual Representations", arXiv 2002.05709, eq. 1.
    """
    z = ops.concatenate([z1, z2], axis=0)
    rows, count = ops.shape(z)[0], ops.shape(z1)[0]
    place = ops.arange(rows)
    # (2 N, 2 N); an entry with itself drops out of the softmax.
    s = (z @ ops.transpose(z)) / temperature
    itself = place[:, None] == place[None, :]
    s = ops.where(itself, ops.cast(-1e9, s.dtype), s)
    # Each pair stands for two rows, of the same numerator.
    pair = ops.sum(z1 * z2, axis=-1) / temperature
    loss = ops.mean(ops.logsumexp(s, axis=1)) - ops.mean(pair)
    # Row i's partner is row i + N, around the end.
    best = ops.cast(ops.argmax(s, axis=1), place.dtype)
    accuracy = ops.mean(
        ops.cast(best == (place + count) % rows, keras.config.floatx())
    )
    return loss, accuracy


def labelled_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of those rows that have a label.

    Args:
        logits: `(batch, classes)`.
        labels: `(batch,)` int32, -1 where there is none.

    Returns:
        Scalar; 0, with zero gradient, where no row has one.
    """
    known = ops.cast(labels >= 0, logits.dtype)
    # Rows without a label look up class 0, and count 0 times.
    place = ops.maximum(labels, 0)[:, None]
    own = ops.take_along_axis(logits, place, axis=1)[:, 0]
    terms = (ops.logsumexp(logits, axis=1) - own) * known
    return ops.sum(terms) / ops.maximum(ops.sum(known), 1.0)
