import csv

import numpy as np
import pytest
import soundfile

from keras_audio_ssl.evaluation import equal_error_rate
from keras_audio_ssl.evaluation import verify

pytestmark = pytest.mark.no_backend


def by_hand(scores, same):
    """Where the two rates cross, by trying every threshold."""
    best = None
    for t in [*sorted(set(scores)), max(scores) + 1]:
        refused = np.mean([s < t for s, y in zip(scores, same) if y])
        accepted = np.mean([s >= t for s, y in zip(scores, same) if not y])
        if best is None or abs(refused - accepted) < best[0]:
            best = abs(refused - accepted), (refused + accepted) / 2
    return best[1]


@pytest.mark.parametrize("gap", [0.0, 0.5, 1.5, 4.0])
def test_the_rate_is_where_both_errors_are_equal(gap):
    rng = np.random.default_rng(0)
    same = rng.uniform(size=600) < 0.4
    scores = rng.standard_normal(600) + gap * same
    rate, threshold = equal_error_rate(scores, same)
    assert rate == pytest.approx(by_hand(scores, same), abs=5e-3)
    refused = np.mean(scores[same] < threshold)
    accepted = np.mean(scores[~same] >= threshold)
    assert refused == pytest.approx(rate, abs=5e-3)
    assert accepted == pytest.approx(rate, abs=5e-3)


def test_perfect_inverted_and_equal_scores():
    same = np.array([True, True, False, False])
    assert equal_error_rate([3, 2, 1, 0], same)[0] == 0.0
    assert equal_error_rate([0, 1, 2, 3], same)[0] == 1.0
    assert equal_error_rate([1, 1, 1, 1], same)[0] == 0.5
    # The order decides, and nothing else.
    scores = np.random.default_rng(0).standard_normal(50)
    same = np.arange(50) % 3 == 0
    assert equal_error_rate(scores, same)[0] == pytest.approx(
        equal_error_rate(np.exp(scores), same)[0]
    )


@pytest.mark.parametrize(
    "scores, same, match",
    [
        ([1.0, 2.0], [True, True], "of one class and of two"),
        ([1.0, np.nan], [True, False], "finite"),
        ([1.0, 2.0], [True], "pairs"),
    ],
)
def test_nonsense_is_refused(scores, same, match):
    with pytest.raises(ValueError, match=match):
        equal_error_rate(scores, same)


class Pitches:
    """Share of a clip's power near some pitches."""

    sample_rate = 8000

    def embed(self, waves):
        spectra = [np.abs(np.fft.rfft(w, 512)) for w in waves]
        return np.array(spectra, "float32")


@pytest.fixture
def manifest(tmp_path):
    rng, rows = np.random.default_rng(0), []
    t = np.arange(4000) / 8000
    for speaker, pitch in (("a", 300), ("b", 900), ("", 500)):
        for i in range(4):
            wave = 0.3 * np.sin(2 * np.pi * pitch * t)
            wave += 0.01 * rng.standard_normal(len(t))
            soundfile.write(tmp_path / f"{speaker}_{i}.wav", wave, 8000)
            rows.append({"file": f"{speaker}_{i}.wav", "speaker": speaker,
                         "split": "test" if i else "train"})  # fmt: skip
    path = tmp_path / "manifest.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_pairs_of_a_manifest(manifest):
    result = verify(Pitches(), manifest, "speaker", seen="unseen")
    assert (result.same, result.different) == (12, 16)
    assert result.equal_error_rate == 0.0 and result.classes == 2
    assert len(result.skipped) == 4 and "no speaker" in str(result)
    assert result.to_dict()["dim"] == 257
    some = verify(Pitches(), manifest, "speaker", where="split=test")
    assert (some.same, some.different) == (6, 9)
    centred = verify(Pitches(), manifest, "speaker", centre=True)
    assert centred.equal_error_rate == 0.0
    assert centred.threshold < result.threshold


def test_what_cannot_be_verified(manifest):
    with pytest.raises(ValueError, match="No column 'who'"):
        verify(Pitches(), manifest, "who")
    with pytest.raises(ValueError, match="of one class and of two"):
        verify(Pitches(), manifest, "speaker", where="speaker=a")
    with pytest.raises(ValueError, match="seen"):
        verify(Pitches(), manifest, "speaker", seen="perhaps")
