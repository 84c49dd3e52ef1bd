import random

import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from keras_audio_ssl.encoders import AudioNTT
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.evaluation import LogMelStatistics
from keras_audio_ssl.evaluation import untrained
from keras_audio_ssl.features import recipe


def noise(seconds, seed=0):
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(round(16000 * seconds))).astype("float32")


def weights(model):
    return [ops.convert_to_numpy(v) for v in model.weights]


def test_vectors_are_mean_and_deviation_of_the_frames():
    encoder = LogMelStatistics()
    waves = [noise(0.5), noise(1.3, 1), noise(0.2, 2)]
    clips, frames = encoder.embed(waves), encoder.embed_frames(waves)
    assert clips.shape == (3, 128) and encoder.dim == 128
    for wave, clip, frame in zip(waves, clips, frames, strict=True):
        assert frame.shape == (len(wave) // 160 + 1, 64)
        frame = frame.astype("float64")
        np.testing.assert_allclose(clip[:64], frame.mean(0), atol=1e-4)
        np.testing.assert_allclose(clip[64:], frame.std(0), atol=1e-4)
    assert encoder.frame_rate == 100


def test_ten_times_the_amplitude_adds_the_logarithm_of_a_hundred():
    encoder = LogMelStatistics(n_mels=20)
    quiet, loud = encoder.embed([noise(0.5), 10 * noise(0.5)])
    np.testing.assert_allclose(loud[:20] - quiet[:20], np.log(100), atol=0.02)
    np.testing.assert_allclose(loud[20:], quiet[20:], atol=0.02)


def test_other_rates():
    encoder = LogMelStatistics(n_mels=16, sample_rate=8000)
    assert encoder.frame_rate == 100
    assert np.isfinite(encoder.embed(noise(0.4))).all()


def test_silence_is_finite():
    vector = LogMelStatistics().embed(np.zeros(4000, "float32"))
    np.testing.assert_allclose(vector[:64], np.log(1e-6), atol=1e-3)
    assert np.abs(vector[64:]).max() < 1e-3


def test_it_is_saved_like_any_encoder(tmp_path):
    encoder = LogMelStatistics(n_mels=24)
    encoder.save(tmp_path / "logmel.keras")
    again = keras.saving.load_model(tmp_path / "logmel.keras")
    np.testing.assert_array_equal(
        again.embed(noise(0.5)), encoder.embed(noise(0.5))
    )


@pytest.fixture(scope="module")
def encoder():
    frontend = recipe("byol_a", n_mels=16)
    encoder = Encoder(frontend, AudioNTT(16, dim=16, conv_channels=8))
    encoder.frontend.adapt([noise(1.0)[None]])
    return encoder


def test_untrained_has_other_weights_and_the_same_front_end(encoder):
    before = weights(encoder)
    fresh = untrained(encoder)
    assert type(fresh) is type(encoder) and fresh.dim == encoder.dim
    assert fresh.frontend.adapted
    for a, b in zip(weights(fresh.frontend), before, strict=False):
        np.testing.assert_array_equal(a, b)
    assert float(ops.convert_to_numpy(fresh.frontend.std)) != 1.0
    kernels = [
        (a, ops.convert_to_numpy(b))
        for a, b in zip(weights(fresh), encoder.weights, strict=True)
        if "kernel" in b.path
    ]
    assert len(kernels) > 3
    for a, b in kernels:
        assert np.abs(a - b).max() > 1e-3
        # Drawn from the same distribution.
        assert 0.7 < a.std() / b.std() < 1.4
    for a, b in zip(weights(encoder), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_untrained_follows_its_seed_alone(encoder):
    state = random.getstate()
    first = weights(untrained(encoder, seed=3))
    assert random.getstate() == state
    random.random()
    second = weights(untrained(encoder, seed=3))
    other = weights(untrained(encoder, seed=4))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_untrained_readouts(encoder):
    readout = kas.Readout(encoder, levels=[0, -1])
    fresh = untrained(readout)
    assert fresh.dim == readout.dim
    got, was = fresh.embed(noise(0.5)), readout.embed(noise(0.5))
    assert np.abs(got - was).max() > 1e-3


def test_untrained_log_mels_are_the_same():
    encoder = LogMelStatistics()
    np.testing.assert_array_equal(
        untrained(encoder).embed(noise(0.5)), encoder.embed(noise(0.5))
    )


class TwoFrontEnds(Encoder):
    """An encoder that holds a second front end, beside its own."""

    def __init__(self, frontend, backbone, **kwargs):
        super().__init__(frontend, backbone, **kwargs)
        self.second = recipe("byol_a", n_mels=8)


def test_untrained_keeps_the_statistics_of_every_front_end():
    net = AudioNTT(16, dim=16, conv_channels=8)
    encoder = TwoFrontEnds(recipe("byol_a", n_mels=16), net)
    encoder.frontend.adapt([noise(1.0)[None]])
    encoder.second.adapt([0.01 * noise(1.0)[None]])
    fresh = untrained(encoder)
    for name in ("frontend", "second"):
        new, old = getattr(fresh, name), getattr(encoder, name)
        assert new.adapted and float(ops.convert_to_numpy(new.mean)) != 0.0
        for a, b in zip(weights(new), weights(old), strict=True):
            np.testing.assert_array_equal(a, b)
