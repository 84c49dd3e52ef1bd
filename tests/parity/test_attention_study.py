"""The metrics of attention heads against the definitions' own numbers.

Tolerances: 1e-6 in float64, ranks and categories exact.
"""

import numpy as np
import pytest

from keras_audio_ssl.evaluation.attention import METRICS
from keras_audio_ssl.evaluation.attention import AttentionStudy

pytestmark = pytest.mark.no_backend

GOLDEN = "attention_study"
ATOL = 1e-6


@pytest.fixture
def study(golden):
    """The golden maps, added clip by clip."""
    if not golden.has("in/attention", "in/lengths", "in/labels"):
        pytest.skip("the folder holds no maps")
    labels = golden["in/labels"]
    made = AttentionStudy([str(i) for i in range(phonemes(golden, labels))])
    for maps, length, said in zip(
        golden["in/attention"], golden["in/lengths"], labels, strict=True
    ):
        made.add(maps[:, :length, :length], said[:length])
    return made


def phonemes(golden, labels):
    if golden.has("f64/phoneme_background"):
        return len(golden["f64/phoneme_background"])
    return labels.max() + 1


@pytest.mark.parametrize("name", METRICS)
def test_metrics(golden, study, name):
    key = f"f64/{name}"
    if not golden.has(key):
        pytest.skip(f"no {key}")
    golden.close(study.metrics[name], key, ATOL)


def test_ranks_and_categories(golden, study):
    golden.equal(study.ranks, "out/ranks")
    golden.equal(study.categories, "out/category")


def test_phonemes(golden, study):
    golden.close(study.relation, "f64/phoneme_relation", ATOL)
    golden.close(study.background, "f64/phoneme_background", ATOL)
    np.testing.assert_allclose(study.relation.sum((1, 2)), 1, atol=ATOL)
    key = "f64/phoneme_relation_relative"
    if golden.has(key):
        blank = np.isnan(golden[key])
        np.testing.assert_array_equal(np.isnan(study.relative), blank)
        got, want = (np.nan_to_num(x) for x in (study.relative, golden[key]))
        golden.near(got, want, ATOL, what=key)


def test_the_uniform_head(golden, study):
    """Of the heads, by their names, the one that looks everywhere alike."""
    if not golden.has("in/head_names"):
        pytest.skip("the heads have no names")
    [where] = np.flatnonzero(golden["in/head_names"] == "uniform")
    lengths = golden["in/lengths"]
    mean = np.log(lengths).mean()
    golden.near(study.metrics["globalness"][where], mean, ATOL)
    golden.near(study.metrics["verticality"][where], -mean, ATOL)
    relative = study.relative[where]
    seen = study.background > 0
    golden.near(relative[seen], np.zeros(seen.sum()), 1e-5)
