"""Bounds and proxies of mutual information, from the scores of pairs."""

from keras import ops

from keras_audio_ssl._types import Tensor


def bce_information(positive: Tensor, negative: Tensor) -> Tensor:
    """Binary cross-entropy of telling pairs of one source from others.

    Args:
        positive: `(batch,)`, raw scores of pairs that belong together.
        negative: `(batch,)`, of pairs that do not.

    Returns:
        Scalar loss, 2 ln 2 where nothing is known.

    Reference:
        Ravanelli & Bengio, 2019, "Learning Speaker Representations with
        Mutual Information", arXiv 1812.00271, eq. 5.
    """
    # -ln s(p) - ln(1 - s(n)), without a logarithm of 0.
    return ops.mean(ops.softplus(-positive)) + ops.mean(ops.softplus(negative))


def mine_information(positive: Tensor, negative: Tensor) -> Tensor:
    """Minus the bound of Donsker and Varadhan, in nats.

    The gradient of its logarithm is biased where the batch is small.

    Args:
        positive: As of `bce_information`.
        negative: Likewise.

    Returns:
        Scalar loss, 0 where nothing is known; not bounded below.

    Reference:
        Belghazi et al., 2018, "Mutual Information Neural Estimation", arXiv
        1801.04062; Ravanelli & Bengio, 2019, arXiv 1812.00271, eq. 3.
    """
    count = ops.cast(ops.shape(negative)[0], negative.dtype)
    mean = ops.logsumexp(negative) - ops.log(count)
    # ln mean exp(n) - mean p.
    return mean - ops.mean(positive)


def nce_information(positive: Tensor, negative: Tensor) -> Tensor:
    """Cross-entropy of finding each pair among the negatives of the batch.

    Args:
        positive: As of `bce_information`.
        negative: Likewise; each pair has all of them beside it.

    Returns:
        Scalar loss, ln(batch + 1) where nothing is known.

    Reference:
        Ravanelli & Bengio, 2019, arXiv 1812.00271, eq. 4.
    """
    rest = ops.broadcast_to(ops.logsumexp(negative), ops.shape(positive))
    # -ln(e^p / (e^p + sum_j e^{n_j})) of each pair.
    return ops.mean(ops.logaddexp(positive, rest) - positive)
