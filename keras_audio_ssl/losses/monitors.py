"""Numbers that tell a collapse, which the loss does not."""

from keras import ops

from keras_audio_ssl.losses.contrastive import unit


def embedding_std(x, mask=None):
    """Deviation of each dimension of the unit vectors, averaged.

    Near 0 all clips look alike (collapse); healthy is about 1 / sqrt(dim).

    Args:
        x: `(batch, dim)`.
        mask: Boolean `(batch,)`, what counts; everything when None.

    Returns:
        Scalar.
    """
    x = unit(x)
    # From the first one on: equal vectors then deviate by exactly 0.
    if mask is None:
        return ops.mean(ops.std(x - x[:1], axis=0))
    weight = ops.cast(mask, x.dtype)[:, None]
    first = ops.argmax(ops.cast(mask, "int32"))
    x = (x - ops.take(x, first, axis=0)) * weight
    count = ops.maximum(ops.sum(weight), 1.0)
    off = (x - ops.sum(x, axis=0) / count) * weight
    return ops.mean(ops.sqrt(ops.sum(ops.square(off), axis=0) / count))
