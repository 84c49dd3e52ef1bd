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


class Unfit(Exception):
    """float64 has no room for the scores' exponentials, or they are NaN."""


class Pooled(NamedTuple):
    """What the gradient needs of soft ranks.

    Attributes:
        places: Of the sorted scores in the flat array, row by row.
        starts: Where blocks begin in the sorted array.
        counts: How long they are.
        ranks: Sorted, and only for `"kl"`.
        shares: Of each score in its block's sum of exponentials, likewise.
    """

    places: Array
    starts: Array
    counts: Array
    ranks: Array | None = None
    shares: Array | None = None


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
    rho, bits = ranks_down(n)
    if kind == "l2":
        y = s - rho
        starts = blocks_of_means(y)
        counts = lengths_of(starts, s.size)
        means = np.add.reduceat(y.ravel(), starts) / counts
        ranks = s.ravel() - np.repeat(means, counts)
        kept = Pooled(order.ravel(), starts, counts)
    else:
        starts = blocks_of_exponentials(s, rho, bits)
        counts = lengths_of(starts, s.size)
        # Beside the largest of the block, whose sum is then at least 1.
        flat = s.ravel()
        shares = np.exp(flat - np.repeat(flat[starts], counts))
        sums = np.add.reduceat(shares, starts)
        of_rho = np.add.reduceat(np.tile(rho, len(s)), starts)
        ranks = shares * np.repeat(of_rho / sums, counts)
        shares /= np.repeat(sums, counts)
        kept = Pooled(order.ravel(), starts, counts, ranks, shares)
    return put_back(ranks, kept.places, z), kept


@functools.lru_cache(maxsize=16)
def ranks_down(n: int) -> tuple[Array, Array]:
    """Ranks from n to 1, float64 `(n,)`, and their logarithms to base 2."""
    ranks = np.arange(n, 0, -1.0)
    return ranks, np.log2(ranks)


def gradient(upstream: Array, kept: Pooled) -> Array:
    """Gradient by the scores, from that by their soft ranks.

    Args:
        upstream: `(..., n)`.
        kept: What `soft_ranks` has given.
    """
    places, starts, counts, ranks, shares = kept
    g = upstream.ravel()[places].astype("float64")
    if ranks is None or shares is None:
        down = g - np.repeat(np.add.reduceat(g, starts) / counts, counts)
    else:
        g = g * ranks
        down = g - shares * np.repeat(np.add.reduceat(g, starts), counts)
    return put_back(down, places, upstream)


def put_back(values: Array, places: Array, like: Array) -> Array:
    """Sorted values in their scores' places, in the shape of an array."""
    out = np.empty(like.size, like.dtype)
    out[places] = values
    return out.reshape(like.shape)


def lengths_of(starts: Array, size: int) -> Array:
    """How long parts are, from where they begin and where the last one ends."""
    lengths = np.empty_like(starts)
    np.subtract(starts[1:], starts[:-1], out=lengths[:-1])
    lengths[-1] = size - starts[-1]
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


def blocks_of_exponentials(s: Array, rho: Array, bits: Array) -> Array:
    """Where the blocks of the regressions by divergence begin.

    They are those of the mean of `exp(s) / rho` with the weights `rho`.

    Args:
        s: float64 `(rows, n)`, sorted.
        rho: n to 1.
        bits: Their logarithms to base 2.

    Returns:
        Places in the flat array.

    Raises:
        Unfit: Too far from each other, without a gap.
    """
    n = len(rho)
    y = s * (1.0 / math.log(2.0)) - bits
    # Rows can be moved together, each by a power of two below the one before,
    # as can what is so far apart in a row that no block holds both.
    apart = np.empty(s.shape, bool)
    apart[:, 0] = True
    np.greater(s[:, :-1] - s[:, 1:], math.log(n), out=apart[:, 1:])
    runs = np.flatnonzero(apart)
    lengths = lengths_of(runs, s.size)
    y = y.ravel()
    y -= np.repeat(np.maximum.reduceat(y, runs), lengths)
    height = 1.0 - np.floor(np.minimum.reduceat(y, runs))
    room = sum(EXPONENTS)
    if height.max() > room:
        raise Unfit
    ends = np.cumsum(height)
    tops = ends - height
    y -= np.repeat(tops, lengths)
    weights, starts, at = np.tile(rho, len(s)), [], 0
    while at < len(runs):
        end = int(np.searchsorted(ends, tops[at] + room, side="right"))
        part = slice(runs[at], runs[end] if end < len(runs) else s.size)
        part_of_y = np.exp2(y[part] + (tops[at] + EXPONENTS[0]))
        starts.append(pooled(part_of_y, weights[part]) + runs[at])
        at = end
    return np.concatenate(starts)


def pooled(y: Array, w: Array | None = None) -> Array:
    """Where the blocks of a sequence begin that does not rise."""
    # Not with the package: it takes a while.
    from scipy.optimize import isotonic_regression

    return isotonic_regression(-y.ravel(), weights=w).blocks[:-1]
