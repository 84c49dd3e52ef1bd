import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from keras_audio_ssl.evaluation import logistic_regression
from keras_audio_ssl.evaluation.logistic_regression import Logistic
from keras_audio_ssl.evaluation.logistic_regression import fewer_dims
from keras_audio_ssl.evaluation.vectors import standardise

pytestmark = pytest.mark.no_backend


def clusters(n, dims, classes=4, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    centres = rng.standard_normal((classes, dims))
    x = centres[y] + spread * rng.standard_normal((n, dims))
    return x.astype("float32"), y


def test_standardise_uses_the_training_part_only():
    rng = np.random.default_rng(0)
    train, test = 5 + 3 * rng.random((20, 4)), rng.random((7, 4))
    first, second = standardise(train, test)
    mean, std = train.mean(0), train.std(0)
    np.testing.assert_allclose(first, (train - mean) / std, atol=1e-5)
    np.testing.assert_allclose(second, (test - mean) / std, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 3.7, -1e4, 1e-9])
def test_constant_values_become_zero(value):
    x, _ = clusters(20, 3)
    x[:, 1] = value
    test = x.copy()
    test[:, 1] += 1  # varies in the test part alone
    for part in standardise(x, test):
        assert np.isfinite(part).all()
        assert not part[:, 1].any()
        assert np.abs(part[:, 0]).max() > 0.5


def test_rounding_noise_counts_as_constant():
    x, _ = clusters(50, 3)
    x[:, 2] = 0.1 + 1e-8 * np.random.default_rng(0).standard_normal(50)
    assert not standardise(x, x)[0][:, 2].any()


@pytest.mark.parametrize("c", [0.01, 1.0, 10.0])
def test_fewer_dims_keep_the_solution(c):
    # One draw for both parts, so that there is something to recognise.
    x, y = clusters(100, 500, spread=6.0)
    train, test = standardise(x[:40], x[40:])
    small, small_test = fewer_dims(train, test)
    assert small.shape == (40, 40) and small_test.shape == (60, 40)
    np.testing.assert_allclose(small_test @ small.T, test @ train.T, atol=0.02)
    answers = [
        LogisticRegression(C=c, tol=1e-6, max_iter=5000)
        .fit(a.astype("float64"), y[:40])
        .predict_proba(b.astype("float64"))
        for a, b in ((train, test), (small, small_test))
    ]
    np.testing.assert_allclose(*answers, atol=2e-3)
    assert 0.3 < (answers[0].argmax(1) == y[40:]).mean() < 1


def test_equal_examples_have_a_factor():
    x, y = clusters(12, 50)
    x[6:] = x[:6]
    small, _ = fewer_dims(*standardise(x, x))
    assert np.isfinite(small).all()


def test_nothing_but_constants_is_finite():
    x = np.ones((10, 30), "float32")
    train, test = Logistic.prepare(x, x)
    answer = Logistic.predict(train, np.arange(10) % 2, test, [0.1, 1.0])
    assert answer.shape == (2, 10)


def test_many_of_both_take_principal_components(monkeypatch):
    monkeypatch.setattr(logistic_regression, "MAX_DIMS", 50)
    monkeypatch.setattr(logistic_regression, "COMPONENTS", 20)
    x, y = clusters(300, 80)
    train, test = Logistic.prepare(x[:200], x[200:])
    assert train.shape == (200, 20) and test.shape == (100, 20)
    answer = Logistic.predict(train, y[:200], test, [1.0])[0]
    assert (answer == y[200:]).mean() > 0.9


def test_each_c_is_that_of_scikit_learn_in_the_order_given():
    x, y = clusters(120, 10, spread=3.0)
    train, test = Logistic.prepare(x[:80], x[80:])
    grid = [10.0, 0.001, 0.1]
    got = Logistic.predict(train, y[:80], test, grid)
    for c, row in zip(grid, got, strict=True):
        model = LogisticRegression(C=c, max_iter=1000).fit(train, y[:80])
        assert (model.predict(test) == row).mean() > 0.97
    assert (got[0] != got[1]).any()


def test_one_class_and_one_example_a_class():
    x, _ = clusters(40, 30, classes=40)
    one = Logistic.predict(x, np.full(40, 3), x, [0.1, 1.0])
    assert (one == 3).all() and one.shape == (2, 40)
    # scikit-learn warns of this; a probe of 251 speakers is like that.
    each = Logistic.predict(x, np.arange(40), x, [10.0])[0]
    assert each.tolist() == list(range(40))
