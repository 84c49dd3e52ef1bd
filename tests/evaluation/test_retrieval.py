import numpy as np
import pytest

from keras_audio_ssl.evaluation import mean_average_precision

pytestmark = pytest.mark.no_backend


def test_a_case_by_hand():
    scores = [
        [0.9, 0.8, 0.7, 0.6],  # found at ranks 1 and 3: (1/1 + 2/3) / 2
        [0.1, 0.2, 0.3, 0.4],  # at rank 4: 1/4
        [0.4, 0.3, 0.2, 0.1],  # nothing to find: no query
        [0.1, 0.9, 0.2, 0.8],  # all that is to be found comes first: 1
    ]
    relevant = [[1, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1]]
    mean, queries = mean_average_precision(scores, relevant)
    assert queries == 3
    assert mean == pytest.approx((5 / 6 + 1 / 4 + 1) / 3)


def test_against_a_loop():
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((20, 30))
    relevant = rng.uniform(size=(20, 30)) < 0.1
    expected = []
    for row, wanted in zip(scores, relevant):
        hits, precisions = 0, []
        for rank, entry in enumerate(np.argsort(-row), 1):
            if wanted[entry]:
                hits += 1
                precisions.append(hits / rank)
        if precisions:
            expected.append(np.mean(precisions))
    mean, queries = mean_average_precision(scores, relevant)
    assert queries == len(expected) < 20
    assert mean == pytest.approx(np.mean(expected))
    # The order decides, and nothing else.
    assert mean_average_precision(np.exp(scores), relevant)[0] == mean


def test_equal_scores_have_no_order():
    # All at once: two of four.
    for relevant in ([[1, 1, 0, 0]], [[0, 0, 1, 1]]):
        assert mean_average_precision(np.zeros((1, 4)), relevant)[0] == 0.5


@pytest.mark.parametrize(
    "scores, relevant, match",
    [
        ([[1.0, np.nan]], [[True, False]], "finite"),
        ([[1.0, 2.0]], [[True]], "entries"),
        ([1.0, 2.0], [True, False], "entries"),
        ([[1.0, 2.0]], [[False, False]], "nothing|anything"),
    ],
)
def test_nonsense_is_refused(scores, relevant, match):
    with pytest.raises(ValueError, match=match):
        mean_average_precision(scores, relevant)
