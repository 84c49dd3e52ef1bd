import numpy as np
import pytest
from keras import ops

from keras_audio_ssl import losses


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def value(x):
    return float(ops.convert_to_numpy(x))


def test_row_cross_entropy_against_loops():
    s = normal(7, 7) * 3
    want = np.mean(
        [-s[i, i] + np.log(np.exp(s[i].astype("float64")).sum())
         for i in range(7)]
    )  # fmt: skip
    assert value(losses.row_cross_entropy(s)) == pytest.approx(want, rel=1e-6)
    shifted = s + normal(7, 1, seed=1)
    assert value(losses.row_cross_entropy(shifted)) == pytest.approx(
        want, rel=1e-5
    )
    transposed = value(losses.row_cross_entropy(s.T.copy()))
    assert abs(transposed - want) > 1e-3
    equal = value(losses.row_cross_entropy(np.zeros((7, 7), "float32")))
    assert equal == pytest.approx(np.log(7), rel=1e-6)


def test_large_similarities_do_not_overflow():
    s = np.eye(4, dtype="float32") * 1e4
    assert value(losses.row_cross_entropy(s)) == pytest.approx(0, abs=1e-6)


def test_contrastive_accuracy():
    s = np.array([[3, 1, 2], [5, 4, 0], [0, 0, 9]], "float32")
    assert value(losses.contrastive_accuracy(s)) == pytest.approx(2 / 3)


def test_cosine_similarity_against_loops():
    a, b = normal(3, 5), normal(4, 5, seed=1)
    want = [
        [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for y in b] for x in a
    ]
    got = ops.convert_to_numpy(losses.cosine_similarity(a, b))
    np.testing.assert_allclose(got, want, atol=1e-6)
    zero = losses.cosine_similarity(np.zeros((2, 5), "float32"), b)
    assert not ops.convert_to_numpy(zero).any()


def test_unit_distance_against_loops():
    a, b = normal(6, 5), normal(6, 5, seed=1)
    want = [
        np.sum((x / np.linalg.norm(x) - y / np.linalg.norm(y)) ** 2)
        for x, y in zip(a, b)
    ]
    got = ops.convert_to_numpy(losses.unit_distance(a, b))
    np.testing.assert_allclose(got, want, atol=2e-6)
    same = ops.convert_to_numpy(losses.unit_distance(a, 3 * a))
    np.testing.assert_allclose(same, 0, atol=1e-6)


def test_masked_l1_against_loops():
    a, b = normal(3, 6, 4), normal(3, 6, 4, seed=1)
    mask = np.arange(6) < np.array([[6], [2], [0]])
    errors = [
        np.abs(a[i, t] - b[i, t]).mean()
        for i in range(3)
        for t in range(6)
        if mask[i, t]
    ]
    assert value(losses.masked_l1(a, b, mask)) == pytest.approx(
        np.mean(errors), rel=1e-6
    )
    assert value(losses.masked_l1(a, b)) == pytest.approx(
        np.abs(a - b).mean(), rel=1e-6
    )
    assert value(losses.masked_l1(a, b, np.zeros((3, 6), bool))) == 0.0


def test_embedding_std_tells_a_collapse():
    spread = value(losses.embedding_std(normal(500, 64)))
    assert spread == pytest.approx(1 / 8, rel=0.05)
    alike = np.repeat(normal(1, 64), 8, axis=0)
    assert value(losses.embedding_std(alike)) < 1e-6
