"""Soft ranks and their gradient in NumPy, for a backend that runs at once.

SciPy pools the neighbours of one sequence, in C++. Many rows go through one
call, each so far below the one before it that no block joins two of them.
"""

import functools
import math
from typing import Any
from typing import NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

# What offsets may round away of scores and of ranks.
RESOLUTION = 1e-9
# Powers of two that float64 has, up and down, with room for sums.
EXPONENTS = 500, 900
EPSILON = float(np.finfo("float64").eps)
# Up to so many scores a row, all stretches of them are the quicker way to
# exponentials; of scores so far apart they are numbers still.
FEW, NATS = 12, 600.0
# More than any mean of them.
NONE = 1e300


class Unfit(Exception):
    """float64 has no room for the scores' exponentials, or they are NaN."""


class Pooled(NamedTuple):
    """What the gradient needs of soft ranks, of scores that are pooled.

    Attributes:
        places: Of the sorted scores in the flat array, row by row.
        starts: Where blocks begin among them.
        counts: How long they are.
        ranks: Sorted, and only for `"kl"`.
    """

    places: Array
    starts: Array
    counts: Array
    ranks: Array | None = None


def soft_ranks(z: Array, kind: str) -> tuple[Array, Pooled]:
    """Soft ranks; see `portable.soft_ranks`.

    Returns:
        The ranks, as `z` in shape and dtype, and what `gradient` needs.

    Raises:
        Unfit: The plain function is to be taken.
    """
    n = z.shape[-1]
    rows = z.reshape(-1, n)
    order = np.argsort(-rows, axis=-1)
    order += np.arange(0, rows.size, n)[:, None]
    s = rows.ravel()[order].astype("float64")
    if not math.isfinite(s.sum()):
        raise Unfit
    out = np.empty(z.size, z.dtype)
    if kind == "l2":
        ranks, kept = ranks_by_means(s, order)
    elif n <= FEW and (s[:, 0] - s[:, -1]).max() < NATS:
        ranks, kept = ranks_of_few(s, order)
    else:
        # A block of one has its rank.
        out[order] = ranks_down(n)[0]
        ranks, kept = ranks_by_exponentials(s, order)
    out[kept.places] = ranks
    return out.reshape(z.shape), kept


def ranks_by_means(s: Array, order: Array) -> tuple[Array, Pooled]:
    """Soft ranks by squared distances.

    Args:
        s: float64 `(rows, n)`, sorted.
        order: Their places in the flat array.
    """
    y = s - ranks_down(s.shape[1])[0]
    starts = blocks_of_means(y)
    counts = lengths_of(starts, s.size)
    means = np.add.reduceat(y.ravel(), starts) / counts
    ranks = s.ravel() - np.repeat(means, counts)
    return ranks, Pooled(order.ravel(), starts, counts)


def ranks_of_few(s: Array, order: Array) -> tuple[Array, Pooled]:
    """Soft ranks by divergence, from the means of all stretches of a row.

    A place's value is the least of the largest: over all stretches from one
    beginning that reach the place, and then over the beginnings.

    Args:
        s: float64 `(rows, n)`, sorted.
        order: Their places in the flat array.
    """
    rows, n = s.shape
    s = np.ascontiguousarray(s.T)
    x = np.empty((n + 1, rows))
    np.exp(s - s[0], out=x[:-1])
    x[-1] = NONE
    values = (stretches(n) @ x).reshape(n, n, rows)
    for end in reversed(range(n - 1)):
        np.maximum(values[end], values[end + 1], out=values[end])
    least = values.min(axis=1)
    begins = np.empty((rows, n), bool)
    begins[:, 0] = True
    np.not_equal(least[:-1], least[1:], out=begins[:, 1:].T)
    ranks = (x[:-1] / least).T.ravel()
    starts = np.flatnonzero(begins)
    counts = lengths_of(starts, ranks.size)
    return ranks, Pooled(order.ravel(), starts, counts, ranks)


def ranks_by_exponentials(s: Array, order: Array) -> tuple[Array, Pooled]:
    """Soft ranks by divergence, of blocks of more than one score."""
    rho, bits = ranks_down(s.shape[1])
    among, weights, starts = blocks_of_exponentials(s, rho, bits)
    counts = lengths_of(starts, len(among))
    # Beside the largest of the block, whose sum is then at least 1.
    pooled = s.ravel()[among]
    ranks = np.exp(pooled - np.repeat(pooled[starts], counts))
    scale = sums_of(weights, starts) / sums_of(ranks, starts)
    ranks *= np.repeat(scale, counts)
    return ranks, Pooled(order.ravel()[among], starts, counts, ranks)


@functools.lru_cache(maxsize=16)
def ranks_down(n: int) -> tuple[Array, Array]:
    """Ranks from n to 1, float64 `(n,)`, and their logarithms to base 2."""
    ranks = np.arange(n, 0, -1.0)
    return ranks, np.log2(ranks)


@functools.lru_cache(maxsize=16)
def stretches(n: int) -> Array:
    """What gives the means of all stretches of neighbours, over their ranks.

    Returns:
        float64 `(n * n, n + 1)`: a row for each end and beginning. Where that
        is after the end, it takes the last value.
    """
    place = np.arange(n)
    ends, begins = place[:, None, None], place[:, None]
    inside = (place >= begins) & (place <= ends)
    weight = np.maximum(inside @ ranks_down(n)[0], 1.0)
    none = (begins > ends).astype("float64")
    means = np.concatenate([inside / weight[..., None], none], axis=-1)
    return means.reshape(n * n, n + 1)


def gradient(upstream: Array, kept: Pooled) -> Array:
    """Gradient by the scores, from that by their soft ranks.

    Args:
        upstream: `(..., n)`.
        kept: What `soft_ranks` has given.
    """
    places, starts, counts, ranks = kept
    # The rank of a block of one does not move.
    out = np.zeros(upstream.size, upstream.dtype)
    g = upstream.ravel()[places].astype("float64")
    if ranks is None:
        g -= np.repeat(np.add.reduceat(g, starts) / counts, counts)
    else:
        g *= ranks
        share = sums_of(g, starts) / sums_of(ranks, starts)
        g -= ranks * np.repeat(share, counts)
    out[places] = g
    return out.reshape(upstream.shape)


def sums_of(x: Array, starts: Array) -> Array:
    """Sums of parts, from where they begin; of no part, none."""
    return np.add.reduceat(x, starts) if len(starts) else x[:0]


def lengths_of(starts: Array, size: int) -> Array:
    """How long parts are, from where they begin and where the last one ends."""
    lengths = np.empty_like(starts)
    np.subtract(starts[1:], starts[:-1], out=lengths[:-1])
    lengths[-1:] = size - starts[-1:]
    return lengths


def blocks_of_means(y: Array) -> Array:
    """Where the blocks of the regressions by squared distances begin.

    Args:
        y: float64 `(rows, n)`.

    Returns:
        Places in the flat array.
    """
    n = y.shape[1]
    # Each row below the one before, as far as no digit is lost. A hair from
    # place to place keeps equal values apart: they are no rise.
    span = float(y.max() - y.min()) + 1.0
    together = max(int(RESOLUTION / (EPSILON * span)), 1)
    hairs, starts = np.arange(n) * RESOLUTION, []
    for at in range(0, len(y), together):
        part = y[at : at + together]
        down = np.arange(0.0, len(part))[:, None] * span + hairs
        starts.append(pooled(part - down) + at * n)
    return starts[0] if len(starts) == 1 else np.concatenate(starts)


def blocks_of_exponentials(
    s: Array, rho: Array, bits: Array
) -> tuple[Array, Array, Array]:
    """The blocks of the regressions by divergence, of more than one score.

    They are those of the mean of `exp(s) / rho` with the weights `rho`.

    Args:
        s: float64 `(rows, n)`, sorted.
        rho: n to 1.
        bits: Their logarithms to base 2.

    Returns:
        Places in the flat array, the weights there, and where blocks begin
        among them, a few of one score too.

    Raises:
        Unfit: Too far from each other, without a gap.
    """
    y = s * (1.0 / math.log(2.0)) - bits
    # A block's value lies between its members': where nothing before is below
    # anything after, none is across.
    after = np.maximum.accumulate(y[:, ::-1], axis=1)[:, ::-1]
    before = np.minimum.accumulate(y, axis=1)
    apart = np.empty(len(s) * len(rho) + 1, bool)
    apart[-1] = True
    cut = apart[:-1].reshape(s.shape)
    cut[:, 0] = True
    np.greater_equal(before[:, :-1], after[:, 1:], out=cut[:, 1:])
    among = np.flatnonzero(~(apart[:-1] & apart[1:]))
    weights = rho[among % len(rho)]
    runs = np.flatnonzero(apart[among])
    if not len(runs):
        return among, weights, runs
    # Runs can be moved together, each by a power of two below the one before.
    lengths = lengths_of(runs, len(among))
    y = y.ravel()[among]
    y -= np.repeat(np.maximum.reduceat(y, runs), lengths)
    height = 1.0 - np.floor(np.minimum.reduceat(y, runs))
    room = sum(EXPONENTS)
    if height.max() > room:
        raise Unfit
    ends = np.cumsum(height)
    tops = ends - height
    y -= np.repeat(tops, lengths)
    starts, at = [], 0
    while at < len(runs):
        end = int(np.searchsorted(ends, tops[at] + room, side="right"))
        part = slice(runs[at], runs[end] if end < len(runs) else len(among))
        part_of_y = np.exp2(y[part] + (tops[at] + EXPONENTS[0]))
        starts.append(pooled(part_of_y, weights[part]) + runs[at])
        at = end
    return among, weights, np.concatenate(starts)


def pooled(y: Array, w: Array | None = None) -> Array:
    """Where the blocks of a sequence begin that does not rise."""
    # Not with the package: it takes a while.
    from scipy.optimize import isotonic_regression

    return isotonic_regression(-y.ravel(), weights=w).blocks[:-1]
