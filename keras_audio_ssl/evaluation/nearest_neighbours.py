"""Nearest neighbours among clip vectors."""

from collections.abc import Sequence

import numpy as np

from keras_audio_ssl.evaluation.vectors import standardise

BLOCK = 1024


class Neighbours:
    """Vote of the k most similar training examples, by cosine similarity.

    Vectors are standardised first; votes are weighted by the similarity.

    Attributes:
        grid: Values of k from which one is chosen: 1, 3, 10, 30.
    """

    name = "nearest neighbours"
    symbol = "k"
    grid: tuple[float, ...] = (1, 3, 10, 30)

    @staticmethod
    def prepare(
        train: np.ndarray, test: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Standardises, and scales each example to unit length."""
        a, b = (
            x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
            for x in standardise(train, test)
        )
        return a, b

    @staticmethod
    def predict(
        x: np.ndarray,
        y: np.ndarray,
        test: np.ndarray,
        grid: Sequence[float],
        steps: int = 0,
    ) -> np.ndarray:
        """Predicted classes for each k; arguments as of `Logistic.predict`."""
        from sklearn.neighbors import NearestNeighbors

        out = np.zeros((len(grid), len(test)), y.dtype)
        counts = [min(int(k), len(x)) for k in grid]
        classes = int(y.max()) + 1
        nearest = NearestNeighbors(n_neighbors=max(counts), metric="cosine")
        nearest.fit(x)
        for start in range(0, len(test), BLOCK):
            block = test[start : start + BLOCK]
            distance, order = nearest.kneighbors(block)
            # 1 and the cosine: opposite directions must take no votes away.
            weight = 2 - distance
            rows = np.arange(len(block))[:, None]
            for i, k in enumerate(counts):
                votes = np.zeros((len(block), classes))
                np.add.at(votes, (rows, y[order[:, :k]]), weight[:, :k])
                out[i, start : start + BLOCK] = votes.argmax(axis=1)
        return out
