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


def unit_views(rows, dim):
    views = normal(rows, dim), normal(rows, dim, seed=1)
    return [v / np.linalg.norm(v, axis=1, keepdims=True) for v in views]


def nt_xent_by_loops(z1, z2, temperature):
    z = np.concatenate([z1, z2]).astype("float64")
    rows, terms, hits = len(z), [], []
    for i in range(rows):
        partner = (i + rows // 2) % rows
        s = {k: z[i] @ z[k] / temperature for k in range(rows) if k != i}
        terms.append(-s[partner] + np.log(np.exp(list(s.values())).sum()))
        hits.append(max(s, key=s.get) == partner)
    return np.mean(terms), np.mean(hits)


@pytest.mark.parametrize("temperature", [0.2, 0.5])
def test_nt_xent_against_loops(temperature):
    z1, z2 = unit_views(6, 5)
    z2 = z1 + 0.7 * z2
    z2 /= np.linalg.norm(z2, axis=1, keepdims=True)
    want = nt_xent_by_loops(z1, z2, temperature)
    got = [value(v) for v in losses.nt_xent(z1, z2, temperature)]
    np.testing.assert_allclose(got, want, rtol=1e-6)
    swapped = value(losses.nt_xent(z2, z1, temperature)[0])
    assert swapped == pytest.approx(want[0], rel=1e-6)
    assert 0 < got[1] < 1
    # Before the products or after them, it divides the same.
    root = np.sqrt(temperature)
    divided = losses.nt_xent(z1 / root, z2 / root, 1.0)[0]
    assert value(divided) == pytest.approx(want[0], rel=1e-5)


def test_nt_xent_has_its_bounds():
    z1, _ = unit_views(8, 64)
    flat = np.tile(z1[:1], (8, 1))
    for temperature in (0.2, 0.5, 1e6):
        loss = value(losses.nt_xent(flat, flat, temperature)[0])
        assert loss == pytest.approx(np.log(15), rel=1e-6)
    assert value(losses.nt_xent(*unit_views(8, 64), 1e6)[0]) == pytest.approx(
        np.log(15), rel=1e-5
    )
    # Pairs that are equal, all others as far apart as can be, and nearly so.
    line = np.array([[1.0], [-1.0]], "float32")
    loss, accuracy = losses.nt_xent(line, line, 0.5)
    assert value(loss) == pytest.approx(np.log(1 + 2 * np.exp(-4)), abs=1e-6)
    assert value(accuracy) == 1
    sharp, _ = losses.nt_xent(line, line, 1e-3)
    assert value(sharp) == pytest.approx(0, abs=1e-6)


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
