"""Distances between predictions and targets."""

from keras import ops

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.losses.contrastive import unit


def unit_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of the vectors scaled to unit length: 2 - 2 cos.

    Args:
        a: `(batch, dim)`.
        b: `(batch, dim)`.

    Returns:
        `(batch,)`, between 0 and 4.

    Reference:
        Grill et al., 2020, arXiv 2006.07733, eq. 2.
    """
    return 2.0 - 2.0 * ops.sum(unit(a) * unit(b), axis=-1)


def masked_l1(
    prediction: Tensor, target: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Mean absolute error over what is selected of the whole batch.

    Args:
        prediction: `(batch, frames, dim)`.
        target: `(batch, frames, dim)`.
        mask: Boolean `(batch, frames)` or `(batch, frames, dim)`, what
            counts; everything when None.

    Returns:
        Scalar; 0, with zero gradient, where nothing is selected.
    """
    return masked_mean(ops.abs(prediction - target), mask)


def masked_mse(
    prediction: Tensor, target: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Mean squared error over what is selected of the whole batch.

    Args:
        prediction: `(batch, frames, dim)`.
        target: `(batch, frames, dim)`.
        mask: As of `masked_l1`.

    Returns:
        Scalar; 0, with zero gradient, where nothing is selected.
    """
    return masked_mean(ops.square(prediction - target), mask)


def masked_mean(error: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over what is selected of the whole batch, one division in all.

    Args:
        error: `(batch, frames, dim)`.
        mask: As of `masked_l1`.

    Returns:
        Scalar.
    """
    if mask is None:
        return ops.mean(error)
    if len(mask.shape) < len(error.shape):
        # A mask of frames weights the mean over bins.
        error = ops.mean(error, axis=-1)
    weights = ops.cast(mask, error.dtype)
    return ops.sum(error * weights) / ops.maximum(ops.sum(weights), 1.0)
