"""Predictive information of Gaussian processes, and what keeps it honest."""

import keras
from keras import ops

from keras_audio_ssl._types import Tensor


def log_determinant(matrix: Tensor) -> Tensor:
    """Logarithm of the absolute determinant.

    By QR, which fails on no matrix, compiles under XLA and has a gradient on
    every backend: NaN gives NaN and singular ones -inf.

    Args:
        matrix: `(n, n)`.

    Returns:
        Scalar.
    """
    _, upper = ops.qr(matrix)
    # |det Q| is 1, and R's is the product of its diagonal.
    return ops.sum(ops.log(ops.abs(ops.diagonal(upper))))


def block_toeplitz(matrix: Tensor, blocks: int) -> Tensor:
    """The symmetric block-Toeplitz matrix next to a matrix.

    After it is made symmetric, blocks of equal lag are replaced by their
    mean, as the covariance of neighbouring frames of a stationary process is.

    Args:
        matrix: `(blocks * dim, blocks * dim)`.
        blocks: Frames of a window.

    Returns:
        A matrix of the same shape.
    """
    dim = matrix.shape[0] // blocks
    matrix = (matrix + ops.transpose(matrix)) / 2
    # tiles[i, :, j] is the block (dim, dim) of frames i and j.
    tiles = ops.reshape(matrix, (blocks, dim, blocks, dim))
    lags = [
        sum(tiles[i, :, i + lag] for i in range(blocks - lag)) / (blocks - lag)
        for lag in range(blocks)
    ]
    # Of lag 0 already symmetric.
    rows = [
        ops.concatenate(
            [
                lags[j - i] if j >= i else ops.transpose(lags[i - j])
                for j in range(blocks)
            ],
            axis=1,
        )
        for i in range(blocks)
    ]
    return ops.concatenate(rows, axis=0)


def covariance(x: Tensor, weights: Tensor) -> Tensor:
    """Population covariance of weighted rows.

    Args:
        x: `(..., dim)`.
        weights: `(...)`, 1 counts and 0 does not.

    Returns:
        `(dim, dim)`; zeros where nothing counts.
    """
    x = ops.reshape(x, (-1, x.shape[-1]))
    weights = ops.reshape(ops.cast(weights, x.dtype), (-1, 1))
    count = ops.maximum(ops.sum(weights), 1.0)
    mean = ops.sum(x * weights, axis=0) / count
    off = (x - mean) * weights
    # Keras' own product leaves float64 on PyTorch.
    return (ops.transpose(off) @ off) / count


def window_covariance(
    latent: Tensor,
    lengths: Tensor | None = None,
    frames: int = 8,
    toeplitz: bool = True,
) -> Tensor:
    """Covariance of all windows of neighbouring frames inside of clips.

    Args:
        latent: `(batch, time, dim)`.
        lengths: `(batch,)` valid frames; all when None.
        frames: Of a window.
        toeplitz: Whether to make it block-Toeplitz.

    Returns:
        `(frames * dim, frames * dim)`, the first frame's dimensions first;
        zeros where no clip has a window.
    """
    latent = at_least_float32(latent)
    clips, time, dim = ops.shape(latent)
    if isinstance(time, int) and time < frames:
        return ops.zeros((frames * dim, frames * dim), latent.dtype)
    count = time - frames + 1
    # (batch, count, frames * dim): `frames` shifted copies side by side.
    windows = ops.concatenate(
        [latent[:, i : i + count] for i in range(frames)], axis=-1
    )
    if lengths is None:
        weights = ops.ones((clips, count), latent.dtype)
    else:
        last = ops.cast(lengths, "int32")[:, None] - frames
        # Windows that lie within the clip.
        weights = ops.arange(count, dtype="int32")[None] <= last
    sigma = covariance(windows, weights)
    return block_toeplitz(sigma, frames) if toeplitz else sigma


def predictive_information(
    latent: Tensor,
    lengths: Tensor | None = None,
    window: int = 4,
    toeplitz: bool = True,
    diagonal: float = 1e-4,
) -> Tensor:
    """Mutual information of the past and the future of a Gaussian process.

    `ln det S(T) - ln det S(2T) / 2`, with S(T) the covariance of windows of T
    neighbouring frames: what T frames tell of the next T, in nats. Needs more
    windows than a few times `2 * window * dim`; independent frames have about
    `(window * dim) ** 2 / (2 * windows)`, and not 0.

    Args:
        latent: `(batch, time, dim)`.
        lengths: `(batch,)` valid frames; all when None. No window lies across
            the end of a clip.
        window: T, frames of the past and of the future.
        toeplitz: Whether covariances of equal lag are averaged, as those of a
            stationary process are equal.
        diagonal: Added to the variances.

    Returns:
        Scalar, float32 or, for a float64 `latent`, float64; 0, with zero
        gradient, where no clip has a window.

    Raises:
        ValueError: `window` is not positive.

    Reference:
        Bai et al., 2021, "Representation Learning for Sequence Data with Deep
        Autoencoding Predictive Components", arXiv 2010.03135, section 2.
    """
    if window < 1:
        raise ValueError(f"`window` must be positive. Received: {window}")
    sigma = window_covariance(latent, lengths, 2 * window, toeplitz)
    # The unit cancels out; in that of the diagonal, no window gives exactly 0.
    if diagonal:
        eye = ops.eye(sigma.shape[0], dtype=sigma.dtype)
        sigma = sigma / diagonal + eye
    half = sigma.shape[0] // 2
    past = log_determinant(sigma[:half, :half])
    # PI = ln det S(T) - ln det S(2T) / 2: of a stationary process past and
    # future have one determinant.
    return past - 0.5 * log_determinant(sigma)


def orthogonality(latent: Tensor, lengths: Tensor | None = None) -> Tensor:
    """How far the frames' covariance is from the identity, squared.

    Args:
        latent: `(batch, time, dim)`.
        lengths: `(batch,)` valid frames; all when None.

    Returns:
        Scalar, the squared Frobenius norm of the difference.

    Reference:
        Bai et al., 2021, arXiv 2010.03135, section 3.
    """
    sigma = window_covariance(latent, lengths, 1, toeplitz=False)
    off = sigma - ops.eye(sigma.shape[0], dtype=sigma.dtype)
    return ops.sum(ops.square(off))


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision has no digits for a covariance."""
    if not ops.is_tensor(x):
        x = ops.convert_to_tensor(x)
    wide = ("float32", "float64")
    if keras.backend.standardize_dtype(x.dtype) in wide:
        return x
    return ops.cast(x, "float32")
