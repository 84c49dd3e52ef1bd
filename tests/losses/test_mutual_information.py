import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.losses import bce_information
from keras_audio_ssl.losses import labelled_cross_entropy
from keras_audio_ssl.losses import mine_information
from keras_audio_ssl.losses import nce_information


def scores(batch=7, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 2, batch).astype("float32") for _ in range(2))


def value(loss, p, n):
    got = loss(ops.convert_to_tensor(p), ops.convert_to_tensor(n))
    return float(ops.convert_to_numpy(got))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_loops():
    p, n = scores()
    bce = mine = nce = 0.0
    for a, b in zip(p, n, strict=True):
        bce -= np.log(sigmoid(a)) + np.log(1 - sigmoid(b))
        mine -= a
        nce -= a - np.log(np.exp(a) + sum(np.exp(c) for c in n))
    bound = np.log(sum(np.exp(c) for c in n) / 7)
    assert value(bce_information, p, n) == pytest.approx(bce / 7, rel=1e-5)
    assert value(mine_information, p, n) == pytest.approx(
        mine / 7 + bound, rel=1e-5
    )
    assert value(nce_information, p, n) == pytest.approx(nce / 7, rel=1e-5)


@pytest.mark.parametrize("batch", [2, 5])
def test_where_nothing_is_known(batch):
    same = np.full(batch, 0.7, "float32")
    zero = np.zeros(batch, "float32")
    assert value(bce_information, zero, zero) == pytest.approx(2 * np.log(2))
    for s in (same, zero):
        assert value(mine_information, s, s) == pytest.approx(0, abs=1e-6)
        assert value(nce_information, s, s) == pytest.approx(np.log(batch + 1))


@pytest.mark.parametrize(
    "loss", [bce_information, mine_information, nce_information]
)
def test_large_scores_are_finite(loss):
    large = np.array([300.0, -300.0, 0.0], "float32")
    assert np.isfinite(value(loss, large, -large))
    assert np.isfinite(value(loss, -large, large))


def test_only_clips_with_a_label_count():
    logits = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    labels = np.array([2, -1, 0, -1], "int32")
    loss = labelled_cross_entropy(
        ops.convert_to_tensor(logits), ops.convert_to_tensor(labels)
    )
    log = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    want = -(log[0, 2] + log[2, 0]) / 2
    assert float(loss) == pytest.approx(want, rel=1e-5)
    none = labelled_cross_entropy(
        ops.convert_to_tensor(logits), ops.full((4,), -1, "int32")
    )
    assert float(none) == 0.0
