import numpy as np
import pytest

from keras_audio_ssl.evaluation import nearest_neighbours
from keras_audio_ssl.evaluation.nearest_neighbours import Neighbours

pytestmark = pytest.mark.no_backend


def by_hand(x, y, test, k):
    """Sorts all neighbours of each example, one at a time."""
    out = []
    for row in test.astype("float64"):
        similarity = x.astype("float64") @ row
        nearest = np.argsort(-similarity)[:k]
        votes = {}
        for i in nearest:
            votes[y[i]] = votes.get(y[i], 0.0) + 1 + similarity[i]
        out.append(max(sorted(votes), key=votes.get))
    return np.array(out)


def test_votes_are_those_of_a_loop(monkeypatch):
    monkeypatch.setattr(nearest_neighbours, "BLOCK", 7)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 40)
    x = rng.standard_normal((40, 5)) + y[:, None]
    test = rng.standard_normal((20, 5)) + rng.integers(0, 3, 20)[:, None]
    train, test = Neighbours.prepare(x, test)
    np.testing.assert_allclose(np.linalg.norm(train, axis=1), 1, atol=1e-5)
    got = Neighbours.predict(train, y, test, [1, 4, 1000])
    for k, row in zip([1, 4, 40], got, strict=True):
        assert (row == by_hand(train, y, test, k)).all()


def test_the_nearest_of_a_training_example_is_itself():
    x = np.random.default_rng(1).standard_normal((30, 8))
    x[:, 3] = 2.0
    train, test = Neighbours.prepare(x, x)
    y = np.arange(30)
    assert (Neighbours.predict(train, y, test, [1])[0] == y).all()
