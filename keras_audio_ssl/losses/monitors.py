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
    x = unit(x)
    # From the first one on: equal vectors then deviate by exactly 0.
    return ops.mean(ops.std(x - x[:1], axis=0))
