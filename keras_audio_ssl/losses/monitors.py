"""Numbers that tell a collapse, which the loss does not."""

from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.losses.contrastive import unit


def correlation(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Pearson's correlation, over what is selected.

    Args:
        a: `(batch,)`.
        b: `(batch,)`.
        mask: Boolean `(batch,)`; everything when None.

    Returns:
        Scalar in [-1, 1]; 0 where one of them is constant.
    """
    weights = ops.ones_like(a) if mask is None else ops.cast(mask, a.dtype)
    weights = weights / ops.maximum(ops.sum(weights), 1.0)

    def mean(x: Tensor) -> Tensor:
        return ops.sum(weights * x)

    a, b = a - mean(a), b - mean(b)
    power = mean(ops.square(a)) * mean(ops.square(b))
    return mean(a * b) * ops.rsqrt(ops.maximum(power, 1e-12))


def embedding_std(x: Tensor, mask: Tensor | None = None) -> Tensor:
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
