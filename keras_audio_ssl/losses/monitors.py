"""Numbers that tell a collapse, which the loss does not."""

from keras import ops

from keras_audio_ssl.losses.contrastive import unit


def embedding_std(x):
    """Deviation of each dimension of the unit vectors, averaged.

    Near 0 all clips look alike (collapse); healthy is about 1 / sqrt(dim).

    Args:
        x: `(batch, dim)`.

    Returns:
        Scalar.
    """
    return ops.mean(ops.std(unit(x), axis=0))
