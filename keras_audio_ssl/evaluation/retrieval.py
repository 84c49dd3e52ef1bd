"""Retrieval: does what belongs together come first? Scored without training."""

from typing import Any

import numpy as np


def mean_average_precision(scores: Any, relevant: Any) -> tuple[float, int]:
    """How high each query ranks what it is to find.

    The average precision of a query is the mean, over all entries that it is
    to find, of the share of such entries among those ranked as high or
    higher: 1 where they all come first. Entries of equal scores are ranked as
    one, so their order does not matter. A query that has nothing to find is
    none.

    Args:
        scores: `(queries, entries)`, higher for what is more alike.
        relevant: `(queries, entries)`, whether an entry is to be found.

    Returns:
        `(mean, queries)`: the mean over the queries that have something to
        find, and how many these are.

    Raises:
        ValueError: The shapes differ, a score is not finite, or there is
            nothing to find at all.

    Example:
        >>> relevant = [[True, False, True, False]]
        >>> mean, queries = mean_average_precision([[9, 8, 7, 6]], relevant)
        >>> round(mean, 3), queries
        (0.833, 1)
    """
    from sklearn.metrics import average_precision_score

    scores = np.asarray(scores, "float64")
    relevant = np.asarray(relevant, "bool")
    if scores.ndim != 2 or scores.shape != relevant.shape:
        raise ValueError(
            "`scores` and `relevant` must be (queries, entries). "
            f"Received: {scores.shape} and {relevant.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError("`scores` must be finite.")
    found = [
        average_precision_score(wanted, row)
        for row, wanted in zip(scores, relevant, strict=True)
        if wanted.any()
    ]
    if not found:
        raise ValueError(
            "No query has anything to find: `relevant` is False everywhere."
        )
    return float(np.mean(found)), len(found)
