import keras
import numpy as np
import pytest

import keras_audio_ssl as kas
from keras_audio_ssl.encoders import AudioNTT
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.encoders import WaveformConv
from keras_audio_ssl.encoders import join_encoders
from keras_audio_ssl.features import Waveform
from keras_audio_ssl.features import recipe
from tests.encoders.tiny import noise


def parts(rate=16000):
    keras.utils.set_random_seed(0)
    fine = Encoder(
        Waveform(sample_rate=rate),
        WaveformConv(1, 4, ((10, 5), (64, 32)), groups=2),
    )
    front = recipe("byol_a", n_mels=16, mean=-7.0, std=4.0)
    return [fine, Encoder(front, AudioNTT(16, dim=6, conv_channels=2))]


def test_vectors_of_both_and_frames_at_the_slower_rate():
    fine, coarse = parts()
    both = join_encoders([fine, coarse])
    waves = [noise(1, n, seed=n)[0] for n in (16000, 9001)]
    vectors = both.embed(waves)
    assert both.dim == 10 and both.frame_rate == coarse.frame_rate
    assert both.min_samples == max(fine.min_samples, coarse.min_samples)
    for wave, vector, frames in zip(
        waves, vectors, both.embed_frames(waves), strict=True
    ):
        want = [fine.embed(wave), coarse.embed(wave)]
        np.testing.assert_allclose(vector, np.concatenate(want), atol=1e-5)
        slow = coarse.embed_frames(wave)
        np.testing.assert_allclose(frames[:, 4:], slow, atol=1e-5)
        # 160 samples in a frame here and 1280 there: the mean of eight.
        quick = fine.embed_frames(wave)[:8].mean(0)
        np.testing.assert_allclose(frames[0, :4], quick, atol=1e-5)


def test_levels_of_both_and_a_readout_of_them(tmp_path):
    both = join_encoders(parts())
    net = both.backbone
    assert net.dims == [4, 4, *parts()[1].backbone.dims, 10]
    wave = noise(1, 16000)
    hidden = both(wave, return_hidden=True)["hidden"]
    assert [h.shape[-1] for h in hidden] == net.dims
    for level, h in enumerate(hidden):
        assert int(net.level_lengths([16000], level)[0]) == h.shape[1]
    readout = kas.Readout(both, levels=[1, -2])
    readout.save(tmp_path / "both.keras")
    again = kas.load_encoder(tmp_path / "both.keras")
    np.testing.assert_array_equal(again.embed(wave), readout.embed(wave))


def test_what_cannot_be_joined():
    with pytest.raises(ValueError, match="two encoders or more"):
        join_encoders(parts()[:1])
    with pytest.raises(ValueError, match=r"\[8000, 16000\]"):
        join_encoders([parts(8000)[0], parts()[1]])
