"""The tables at the end of a run."""

import numpy as np
import pytest

import keras_audio_ssl as kas
from keras_audio_ssl import evaluation
from keras_audio_ssl.evaluation import comparison
from keras_audio_ssl.runs import beside
from keras_audio_ssl.runs import own_audio
from keras_audio_ssl.runs import report
from keras_audio_ssl.runs.arguments import Arguments


class Lengths:
    """An encoder that hears how long a clip is."""

    sample_rate = 16000
    dim = 1

    def __init__(self):
        self.calls = []

    def embed(self, waves):
        self.calls.append([len(wave) for wave in waves])
        return np.array([[len(wave)] for wave in waves], "float32")


@pytest.mark.no_backend
def test_clips_of_like_length_meet_and_vectors_stay_where_they_were(
    monkeypatch,
):
    one, told = Lengths(), []
    monkeypatch.setattr(
        evaluation,
        "readings",
        lambda encoder, levels: [("log_mel", None), ("clip", encoder)],
    )
    rng = np.random.default_rng(0)
    waves = [np.zeros(n, "float32") for n in rng.integers(1, 900, 150)]
    ((row, vectors),) = beside.vectors_beside(one, waves, ["clip"], told.append)
    assert row == "clip" and sum(told) == 150
    assert vectors[:, 0].tolist() == [len(wave) for wave in waves]
    lengths = sum(one.calls, [])
    assert lengths == sorted(lengths) and len(one.calls) == 3


@pytest.mark.any_backend
def test_the_probe_stands_beside_draws_of_random_weights(monkeypatch, tmp_path):
    monkeypatch.setattr(report, "PROBE_CLIPS", (34, 17))
    encoder = kas.COLA(preset="tiny").encoder
    arguments = Arguments(
        "cola", "synthetic", tmp_path / "x.keras", progress=False
    )
    found = report.probe_synthetic(encoder, arguments)
    draws = found["untrained_draws"]
    assert len(draws) == comparison.DRAWS
    assert found["untrained"] == pytest.approx(np.mean(draws))
    assert (found["classes"], found["clips"]) == (17, 17)
    for name in ("trained", "untrained", "log_mel_statistics"):
        assert 0 <= found[name] <= 1


PROBED = {"trained": 0.6, "untrained": 0.4, "untrained_draws": [0.3, 0.4, 0.5],
          "log_mel_statistics": 0.5, "classes": 17, "clips": 720}  # fmt: skip


@pytest.mark.no_backend
def test_a_probe_in_words():
    said = "\n".join(report.probe_in_words(PROBED))
    assert "this encoder          0.600\n" in said
    assert "the same, untrained   0.400  0.300-0.500\n" in said
    assert "this encoder: better than untrained, by 95 %" in said
    assert "3 draws of random weights" in said
    lucky = {**PROBED, "untrained_draws": [0.3, 0.3, 0.6]}
    said = "\n".join(report.probe_in_words(lucky))
    assert "this encoder: no different from untrained" in said


def halves(trained, *draws):
    rows = [
        {"own_half_nearest": share, "effective_rank": 10 * share}
        for share in (trained, *draws)
    ]
    mean = {name: np.mean([r[name] for r in rows[1:]]) for name in rows[0]}
    return {
        "clips": 128, "dim": 64, "trained": rows[0], "untrained": mean,
        "untrained_draws": rows[1:],
    }  # fmt: skip


@pytest.mark.no_backend
def test_halves_in_words():
    said = "\n".join(own_audio.own_audio_in_words(halves(0.9, 0.3, 0.4, 0.5)))
    assert "this encoder          0.900               9.0\n" in said
    # The columns are apart.
    assert "untrained   0.400  0.300-0.500  4.0  3.0-5.0\n" in said
    assert "own half nearest: better than untrained, by 95 %" in said
    # 256 halves would tell these two apart; they are of 128 clips.
    said = "\n".join(own_audio.own_audio_in_words(halves(0.50, 0.39, 0.40)))
    assert "own half nearest: no different from untrained" in said


@pytest.mark.no_backend
def test_a_run_of_before_has_one_draw():
    probe, own = dict(PROBED), halves(0.9, 0.4)
    del probe["untrained_draws"], own["untrained_draws"]
    for said in (
        report.probe_in_words(probe),
        own_audio.own_audio_in_words(own),
    ):
        assert "one draw of random weights" in said[-1]
        assert any("untrained   0.400" in line for line in said)
        assert not any("0.400-0.400" in line for line in said)
