"""Standardised multinomial logistic regression, for any number of values."""

import warnings
from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from keras_audio_ssl.evaluation.vectors import standardise

# scikit-learn is imported where it computes: whoever uses the package for
# anything else would wait a second for it.

# Beyond so many examples and so many values at once, the exact solution
# takes hours on a laptop: the leading principal components stand in.
MAX_DIMS = 4096
COMPONENTS = 2048


class Logistic:
    """Multinomial logistic regression with an L2 penalty (scikit-learn).

    Attributes:
        grid: Values of C, the weight of the data against the penalty, from
            which one is chosen: 0.01, 0.1, 1, 10.
    """

    name = "logistic regression"
    symbol = "C"
    grid: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0)

    @staticmethod
    def prepare(
        train: np.ndarray, test: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Standardises, and drops directions that cannot matter."""
        return fewer_dims(*standardise(train, test))

    @staticmethod
    def predict(
        x: np.ndarray,
        y: np.ndarray,
        test: np.ndarray,
        grid: Sequence[float],
        steps: int = 1000,
    ) -> np.ndarray:
        """Predicted classes for each C.

        Args:
            x: `(examples, dims)`, prepared.
            y: `(examples,)`, integers.
            test: `(test examples, dims)`, prepared.
            grid: Values of C.
            steps: Of L-BFGS, at most.

        Returns:
            `(len(grid), test examples)`.
        """
        if len(np.unique(y)) == 1:
            return np.full((len(grid), len(test)), y[0])
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(max_iter=steps, warm_start=True)
        out = np.zeros((len(grid), len(test)), y.dtype)
        # Steps are short: threads that wait for each other, or for another
        # process on the same cores, made them ten times slower.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            # Few examples of many speakers look like a regression to it.
            warnings.filterwarnings("ignore", "The number of unique classes")
            for i in np.argsort(grid):
                model.set_params(C=grid[i])
                out[i] = model.fit(x, y).predict(test)
        return out


def fewer_dims(
    train: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fewer values with the same inner products.

    With fewer examples than values, a penalised linear classifier depends on
    the inner products of the examples alone. A Cholesky factor of their
    matrix has the same ones in as many values as there are examples, so the
    solution is the same, and 251 examples of 10,000 values take as long as
    of 251. Where both are above 4096 the 2048 leading principal components
    are taken instead, which is an approximation.

    Args:
        train: `(examples, dims)`, standardised.
        test: `(test examples, dims)`, likewise.

    Returns:
        Both with at most `min(examples, dims, 4096)` values.
    """
    n, dims = train.shape
    if min(n, dims) > MAX_DIMS:
        from sklearn.utils.extmath import randomized_svd

        _, _, axes = randomized_svd(
            train, COMPONENTS, n_oversamples=32, n_iter=2, random_state=0
        )
        return train @ axes.T, test @ axes.T
    if dims <= n:
        return train, test
    gram = (train @ train.T).astype("float64")
    across = (train @ test.T).astype("float64")
    ridge = 1e-6 * max(np.trace(gram) / n, 1e-12)
    while True:
        try:
            factor = np.linalg.cholesky(gram + ridge * np.eye(n))
            break
        except np.linalg.LinAlgError:  # float32 products, equal examples
            ridge *= 10
    from scipy.linalg import solve_triangular

    projected = solve_triangular(factor, across, lower=True).T
    return factor.astype("float32"), projected.astype("float32")
