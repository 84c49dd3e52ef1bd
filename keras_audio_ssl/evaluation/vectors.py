"""Vectors of clips, brought to one scale."""

import numpy as np


def standardise(
    train: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scales each value to mean 0 and deviation 1 on the training part.

    Values that are constant there, up to rounding, become 0 everywhere.

    Args:
        train: `(examples, dims)`.
        test: `(test examples, dims)`.

    Returns:
        Both, float32.
    """
    # `StandardScaler` leaves what is constant in training as large as it is in
    # the test part.
    mean = train.mean(axis=0, dtype="float64")
    std = train.std(axis=0, dtype="float64")
    noise = 1e-6 * (np.abs(mean) + np.sqrt(np.mean(np.square(std))))
    constant = std <= noise
    scale = np.where(constant, 0.0, 1 / np.where(constant, 1.0, std))
    a, b = (
        ((x - mean.astype("float32")) * scale.astype("float32"))
        for x in (train.astype("float32"), test.astype("float32"))
    )
    return a, b


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Vectors scaled to length 1, in float64; zero vectors stay zero."""
    x = np.asarray(x, "float64")
    if x.ndim != 2 or not np.isfinite(x).all():
        raise ValueError(
            "Embeddings must be finite numbers (clips, dim). "
            f"Received: shape {x.shape}"
        )
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1.0)
