import json

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from keras_audio_ssl.data.clips.labels import sort_classes
from keras_audio_ssl.evaluation.folds import Division
from keras_audio_ssl.evaluation.folds import Fold
from keras_audio_ssl.evaluation.folds import divide
from keras_audio_ssl.evaluation.folds import make_folds
from keras_audio_ssl.evaluation.scoring import confusion_of
from keras_audio_ssl.evaluation.scoring import score

pytestmark = pytest.mark.no_backend


def problem(n=90, dims=6, noise=1.5, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = np.eye(3)[y] @ rng.standard_normal((3, dims))
    x = x + noise * rng.standard_normal((n, dims))
    return x.astype("float32"), y, [f"c{k}" for k in y]


def thirds(n):
    part = np.arange(n) % 3
    return [
        Fold(str(k), np.flatnonzero(part != k), np.flatnonzero(part == k))
        for k in range(3)
    ]


def test_scores_are_means_over_folds_and_classes():
    x, y, labels = problem()
    result = score(x, labels, thirds(90))
    assert 0.4 < result.accuracy < 1
    assert result.accuracy == pytest.approx(
        np.mean(list(result.per_fold.values()))
    )
    assert set(result.per_fold) == set(result.chosen) == {"0", "1", "2"}
    assert result.n == result.confusion.sum() == 90
    assert (result.confusion.sum(axis=1) == np.bincount(y)).all()
    true = np.repeat(np.arange(3), result.confusion.sum(axis=1))
    told = np.concatenate(
        [np.repeat(np.arange(3), r) for r in result.confusion]
    )
    assert result.balanced_accuracy == pytest.approx(
        balanced_accuracy_score(true, told)
    )
    assert result.chance == pytest.approx(np.bincount(y).max() / 90)
    assert result.unlearnt == 0


def test_the_interval_holds_the_shares_that_wilson_does_not_refuse():
    x, _, labels = problem()
    result = score(x, labels, thirds(90))
    low, high = result.interval
    assert result.to_dict()["interval"] == [low, high]
    # The score test refuses a true share p that lies 1.96 deviations off.
    p = np.linspace(0, 1, 100_001)[1:-1]
    deviation = np.sqrt(p * (1 - p) / result.n)
    kept = p[np.abs(result.accuracy - p) <= 1.96 * deviation]
    assert (low, high) == pytest.approx((kept[0], kept[-1]), abs=2e-5)
    result.accuracy = 1.0
    assert 0.95 < result.interval[0] < 0.96


@pytest.mark.parametrize("classifier", ["logistic", "knn"])
def test_the_choice_does_not_see_the_test_part(classifier):
    x, _, labels = problem(noise=2.5)
    folds = thirds(90)[:1]
    first = score(x, labels, folds, classifier=classifier)
    x, labels = x.copy(), list(labels)
    for i in folds[0].test:
        x[i] = 100.0
        labels[i] = "c0"
    second = score(x, labels, folds, classifier=classifier)
    assert first.chosen == second.chosen


def test_noise_asks_for_a_strong_penalty():
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    x = rng.standard_normal((120, 60)).astype("float32")
    x[:, 0] += 2 * y
    labels = list(map(str, y))
    folds = [Fold("a", np.arange(80), np.arange(80, 120))]
    grid = [0.001, 1000.0]
    chosen = score(x, labels, folds, grid=grid).chosen["a"]
    accuracy = {c: score(x, labels, folds, grid=[c]).accuracy for c in grid}
    assert accuracy[chosen] > accuracy[1000.0 if chosen < 1 else 0.001]


def test_given_validation_examples_choose():
    x, y, labels = problem(120)
    train, valid, test = np.split(np.arange(120), [60, 90])
    fold = Fold("t", train, test, (train, valid))
    grid = [0.0001, 1.0]
    base = score(x, labels, [fold], grid=grid)
    # Where validation has one class only, the heaviest penalty that still
    # answers it wins: the choice follows these examples, and these alone.
    flipped = list(labels)
    for i in valid:
        flipped[i] = "c0" if labels[i] != "c0" else "c1"
    other = score(x, flipped, [fold], grid=grid)
    assert base.chosen["t"] == 1.0
    assert other.chosen["t"] == 0.0001


def test_a_class_without_training_examples_is_counted():
    x, _, labels = problem(60)
    labels[0] = "only here"
    test = np.arange(20)
    result = score(x, labels, [Fold("a", np.arange(20, 60), test)])
    assert result.unlearnt == 1
    assert "lacks" in str(result)


def test_one_class_to_train_on_is_an_error():
    x, _, labels = problem(20)
    labels = ["a"] * 10 + ["b"] * 10
    with pytest.raises(ValueError, match="fold 'f' holds one class"):
        score(x, labels, [Fold("f", np.arange(10), np.arange(10, 20))])


def test_arguments_are_checked():
    x, _, labels = problem(20)
    with pytest.raises(ValueError, match=r"logistic, knn.*'svm'"):
        score(x, labels, thirds(20), classifier="svm")
    for grid in ([], [1.0, 0.0]):
        with pytest.raises(ValueError, match="positive values of C"):
            score(x, labels, thirds(20), grid=grid)


def test_groups_stay_together():
    groups = np.repeat([f"g{k}" for k in range(8)], [9, 1, 1, 2, 3, 4, 5, 5])
    part = divide(np.arange(30) % 3, groups, 3, seed=0)
    assert set(part) == {0, 1, 2}
    for name in set(groups):
        assert len(set(part[groups == name])) == 1
    assert np.bincount(part).max() <= 12


def test_classes_are_spread_over_the_parts():
    y = np.repeat([0, 1, 2, 3], [20, 10, 5, 2])
    part = divide(y, None, 5, seed=0)
    for k in range(4):
        counts = np.bincount(part[y == k], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert (divide(y, None, 5, seed=0) == part).all()
    assert (divide(y, None, 5, seed=1) != part).any()


def test_results_read_well_and_go_into_json():
    x, _, labels = problem()
    result = score(x, labels, thirds(90), task="colour")
    result.seen = "unseen"
    result.skipped = [("a.wav", "empty file")]
    text = str(result)
    for part in ("colour", f"{result.accuracy:.3f}", "unseen", "a.wav", "C:"):
        assert part in text
    out = json.loads(json.dumps(result.to_dict()))
    assert out["accuracy"] == result.accuracy
    assert out["confusion"] == result.confusion.tolist()
    assert out["skipped"] == [["a.wav", "empty file"]]
    assert "confusion" not in result.to_dict(confusion=False)


@pytest.mark.parametrize("grid, parts", [(None, 6), ([1.0], 1)])
def test_scoring_tells_how_far_it_is(grid, parts):
    x, _, labels = problem()
    told = []
    score(
        x, labels, thirds(90), grid=grid,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert [t for _, t in told] == [3 * parts] * len(told)
    done = [d for d, _ in told]
    assert done == sorted(done) and set(done) == set(range(3 * parts + 1))


def test_confusions_are_counted_as_in_a_loop():
    rng = np.random.default_rng(0)
    # Class 3 is answered and never tested, 4 neither.
    true, answer = rng.integers(0, 3, 50), rng.integers(0, 4, 50)
    counts, balanced = confusion_of(true, answer, 5)
    want = np.zeros((5, 5), int)
    for t, a in zip(true, answer):
        want[t, a] += 1
    assert (counts == want).all()
    shares = [want[c, c] / want[c].sum() for c in range(3)]
    assert balanced == pytest.approx(np.mean(shares), abs=1e-15)


@pytest.mark.parametrize("values", ["0 1 2 10", "b a d c", "1.5 a 2 10"])
def test_each_value_of_a_column_is_tested_once(values):
    column = np.random.default_rng(0).choice(values.split(), 60)
    table = {"fold": column.tolist(), "group": column.tolist()}
    labels = ["x", "y"] * 30
    folds, groups = make_folds(
        table, labels, Division("fold", None, "group"), seed=0
    )
    assert [fold.name for fold in folds] == sort_classes(set(column))
    assert (groups == column).all()
    for fold in folds:
        assert (fold.test == np.flatnonzero(column == fold.name)).all()
        assert (fold.train == np.flatnonzero(column != fold.name)).all()
    parts, _ = make_folds(table, labels, Division(None, None, None), seed=0)
    number = divide(np.arange(60) % 2, None, 5, seed=0)
    assert [part.name for part in parts] == list("01234")
    for k, part in enumerate(parts):
        assert (part.test == np.flatnonzero(number == k)).all()


def test_groups_are_dealt_out_alike_on_every_machine():
    # Equal sizes keep their order, and no sort may change it.
    groups = np.repeat([f"g{k:02}" for k in range(20)], 3)
    part = divide(np.zeros(60, int), groups, 5, seed=0)
    assert part[::3].tolist() == list(range(5)) * 4
