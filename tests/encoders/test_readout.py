import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from keras_audio_ssl.encoders import AudioNTT
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.encoders import RecurrentStack
from keras_audio_ssl.encoders.readout import averaged
from keras_audio_ssl.encoders.readout import repeated
from keras_audio_ssl.features import LogMel
from tests.encoders.tiny import RoundsUp
from tests.encoders.tiny import array
from tests.encoders.tiny import noise


def readout(**kwargs):
    keras.utils.set_random_seed(1)
    return kas.Readout(Encoder(LogMel(n_mels=5), RoundsUp()), **kwargs)


def test_means_leave_out_what_is_not_there():
    x = noise(2, 7, 3)
    got = array(averaged(ops.convert_to_tensor(x), 3, 3))
    for i, want in enumerate((x[:, :3], x[:, 3:6], x[:, 6:])):
        np.testing.assert_allclose(got[:, i], want.mean(1), atol=1e-6)
    x[1, 4:] = np.nan
    got = array(averaged(ops.convert_to_tensor(x), 3, 3, np.array([7, 4])))
    np.testing.assert_allclose(got[1, 0], x[1, :3].mean(0), atol=1e-6)
    np.testing.assert_allclose(got[1, 1], x[1, 3], atol=1e-6)
    assert not got[1, 2].any()


@pytest.mark.parametrize("frames", [93, 94, 95, 96, 97, 98])
def test_strides_that_round_up(frames):
    net = readout().backbone
    x = noise(2, frames, 5)
    out = net(x)
    fine, coarse = (array(h) for h in out["hidden"])
    assert fine.shape[1] == -(-frames // 2)
    assert coarse.shape[1] == -(-frames // 4)
    assert int(array(net.frame_lengths([frames]))[0]) == coarse.shape[1]
    got = array(out["frames"])
    assert got.shape == (2, coarse.shape[1], 8)
    for i in range(coarse.shape[1]):
        want = fine[:, 2 * i : 2 * i + 2].mean(1)
        np.testing.assert_allclose(got[:, i, :4], want, atol=1e-6)
    np.testing.assert_array_equal(got[..., 4:], coarse)


def test_rounding_up_does_not_let_padding_in():
    encoder = readout(pooling=("mean", "max", "std"))
    waves = [noise(n, seed=n) for n in (15520, 15680, 9001, 12345, 400)]
    together = encoder.embed(waves)
    frames = encoder.embed_frames(waves)
    for wave, vector, rows in zip(waves, together, frames, strict=True):
        alone = encoder(wave[None])
        np.testing.assert_allclose(array(alone["clip"])[0], vector, atol=1e-5)
        np.testing.assert_allclose(array(alone["frames"])[0], rows, atol=1e-5)


def test_a_readout_of_a_readout_knows_its_levels():
    net = readout(levels=[1, 0]).backbone
    again = kas.Readout(readout(levels=[1, 0]), levels=[1]).backbone
    lengths = np.array([97, 96])
    assert array(net.level_lengths(lengths, 0)).tolist() == [25, 24]
    assert array(net.level_lengths(lengths, 1)).tolist() == [49, 48]
    assert array(again.level_lengths(lengths, 0)).tolist() == [49, 48]
    assert array(again.frame_lengths(lengths)).tolist() == [25, 24]


def test_levels_of_one_rate_are_as_they_were():
    encoder = Encoder(LogMel(n_mels=5), RecurrentStack(5, 3, 2))
    wave = noise(1, 8000)
    hidden = encoder(wave, return_hidden=True)["hidden"]
    got = array(kas.Readout(encoder)(wave)["frames"])
    want = np.concatenate([array(h) for h in hidden], -1)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("frames", [93, 96])
def test_the_finest_rate_repeats_what_is_coarser(frames):
    net = readout(rate="finest").backbone
    x = noise(2, frames, 5)
    out = net(x)
    fine, coarse = (array(h) for h in out["hidden"])
    got = array(out["frames"])
    assert got.shape == (2, fine.shape[1], 8)
    np.testing.assert_array_equal(got[..., :4], fine)
    for i in range(fine.shape[1]):
        np.testing.assert_array_equal(got[:, i, 4:], coarse[:, i // 2])
    assert int(array(net.frame_lengths([frames]))[0]) == fine.shape[1]
    # The clip vector is that of the levels, whatever the rate.
    usual = readout().backbone
    np.testing.assert_allclose(array(usual(x)["clip"]), array(out["clip"]))


def test_the_last_frame_stands_for_what_follows_it():
    x = noise(2, 3, 4)
    got = array(repeated(ops.convert_to_tensor(x), 8, 2, np.array([3, 2])))
    np.testing.assert_array_equal(got[0], x[0, [0, 0, 1, 1, 2, 2, 2, 2]])
    np.testing.assert_array_equal(got[1], x[1, [0, 0, 1, 1, 1, 1, 1, 1]])
    got = array(repeated(ops.convert_to_tensor(x), 7, 2))
    np.testing.assert_array_equal(got, x[:, [0, 0, 1, 1, 2, 2, 2]])


@pytest.mark.parametrize("strides", ["up", "down"])
def test_at_the_finest_rate_padding_stays_out(strides, tmp_path):
    encoder = readout(rate="finest")
    if strides == "down":
        cnn = AudioNTT(16, conv_channels=4, dim=6)
        encoder = kas.Readout(Encoder(LogMel(n_mels=16), cnn), rate="finest")
        assert encoder.frame_rate == 50
    waves = [noise(1, n, seed=n)[0] for n in (15520, 15680, 9001, 12345, 8400)]
    frames = encoder.embed_frames(waves)
    encoder.save(tmp_path / "fine.keras")
    opened = kas.load_encoder(
        tmp_path / "fine.keras", custom_objects={"RoundsUp": RoundsUp}
    )
    assert opened.frame_rate == encoder.frame_rate
    for wave, rows, again in zip(
        waves, frames, opened.embed_frames(waves), strict=True
    ):
        alone = encoder(wave[None])
        np.testing.assert_allclose(array(alone["frames"])[0], rows, atol=1e-5)
        np.testing.assert_array_equal(rows, again)


def test_an_unknown_rate_is_refused():
    with pytest.raises(ValueError, match="rate"):
        readout(rate="fine")


def test_levels_may_be_any_whole_numbers():
    inner = Encoder(LogMel(n_mels=5), RoundsUp())
    for cls in (kas.Readout, kas.WeightedSum):
        for levels in (range(2), np.arange(2), (0, 1)):
            encoder = cls(inner, levels=levels)
            assert encoder.get_config()["levels"] == [0, 1]
            assert encoder.backbone.indices == [0, 1]
