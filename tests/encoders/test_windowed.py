import keras
import numpy as np
import pytest

import keras_audio_ssl as kas
from keras_audio_ssl.encoders import AudioNTT
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.encoders import Windowed
from keras_audio_ssl.features import Waveform
from keras_audio_ssl.features import recipe
from tests.encoders.tiny import RoundsUp
from tests.encoders.tiny import array
from tests.encoders.tiny import noise


def inner():
    keras.utils.set_random_seed(0)
    return AudioNTT(16, dim=12, conv_channels=4)


def encoder(**kwargs):
    frontend = recipe("byol_a", n_mels=16, mean=-7.0, std=4.0)
    settings = {"frames": 24, "hop": 10, "block": 4, **kwargs}
    return Encoder(frontend, Windowed(inner(), **settings))


def by_hand(backbone, features, frames, hop):
    """The clip vector of each whole window, one at a time."""
    count = (features.shape[1] - frames) // hop + 1
    return np.stack(
        [
            array(backbone(features[:, i * hop : i * hop + frames])["clip"])
            for i in range(count)
        ],
        axis=1,
    )


@pytest.mark.parametrize("time, hop", [(24, None), (83, None), (83, 10)])
def test_a_frame_is_the_clip_vector_of_its_window(time, hop):
    net = Windowed(inner(), 24, hop, block=4)
    x = noise(2, time, 16)
    out = net(x)
    want = by_hand(net.backbone, x, 24, hop or 24)
    assert want.shape == (2, int(array(net.frame_lengths([time]))[0]), 12)
    np.testing.assert_allclose(array(out["frames"]), want, atol=1e-5)
    np.testing.assert_allclose(array(out["clip"]), want.mean(1), atol=1e-5)
    assert net.stride == (hop or 24) and net.dim == net.clip_dim == 12


def test_no_window_sees_what_follows_a_clip():
    net = Windowed(inner(), 24, 10, block=4)
    x, lengths = noise(4, 83, 16), np.array([83, 40, 24, 9])
    for row, length in zip(x, lengths, strict=True):
        row[length:] = 30.0
    out = net(x, lengths=lengths)
    frames, clip = array(out["frames"]), array(out["clip"])
    for i, (length, count) in enumerate(
        zip(lengths, (6, 2, 1, 1), strict=True)
    ):
        assert int(array(net.frame_lengths(lengths))[i]) == count
        alone = net(x[i : i + 1, :length])
        assert alone["frames"].shape[1] == count
        want = array(alone["frames"])[0]
        np.testing.assert_allclose(frames[i, :count], want, atol=1e-5)
        np.testing.assert_allclose(clip[i], array(alone["clip"])[0], atol=1e-5)
        assert not frames[i, count:].any()
    padded = np.pad(x[3:, :9], ((0, 0), (0, 15), (0, 0)))
    want = by_hand(net.backbone, padded, 24, 10)[0]
    np.testing.assert_allclose(frames[3, :1], want, atol=1e-5)


def test_a_few_windows_at_a_time(monkeypatch):
    net = Windowed(inner(), 8, 4, block=16)
    rows = []
    levels = AudioNTT.levels

    def watched(self, features, *args, **kwargs):
        rows.append(features.shape[0])
        return levels(self, features, *args, **kwargs)

    monkeypatch.setattr(AudioNTT, "levels", watched)
    net(noise(3, 400, 16))
    assert rows and set(rows) == {16}


def test_training_sees_the_windows_of_all_clips_at_once():
    net = Windowed(inner(), 24, block=1)
    x, lengths = noise(2, 96, 16), np.array([96, 24])
    x[1, 24:] = 1e4
    moving = [w for w in net.weights if w.path.endswith("moving_mean")]
    out = net(x, lengths=lengths, training=True)["frames"]
    assert out.shape == (2, 4, 12)
    assert moving and all(np.abs(array(w)).max() < 1.0 for w in moving)
    assert any(np.abs(array(w)).max() > 0.0 for w in moving)


def test_embedded_timed_and_saved_like_any_encoder(tmp_path):
    long = encoder()
    assert long.frame_rate == 10.0
    waves = [noise(1, n, seed=n)[0] for n in (16000, 9001, 2000)]
    together, frames = long.embed(waves), long.embed_frames(waves)
    for wave, vector, rows in zip(waves, together, frames, strict=True):
        np.testing.assert_allclose(long.embed(wave), vector, atol=1e-5)
        np.testing.assert_allclose(rows.mean(0), vector, atol=1e-5)
        features = array(long.features(wave[None])[0])
        assert len(rows) == max((features.shape[1] - 24) // 10 + 1, 1)
    # A frame begins where its time says.
    features = array(long.features(waves[0][None])[0])
    for i in (1, 6):
        at = round(i / long.frame_rate * long.frontend.frame_rate)
        part = long.backbone.backbone(features[:, at : at + 24])["clip"]
        np.testing.assert_allclose(frames[0][i], array(part)[0], atol=1e-5)
    long.save(tmp_path / "long.keras")
    again = kas.load_encoder(tmp_path / "long.keras")
    assert (again.backbone.frames, again.frame_rate) == (24, 10.0)
    np.testing.assert_array_equal(again.embed(waves), together)
    assert kas.Readout(long).embed(waves).shape == (3, 36)


def test_levels_of_the_backbone_are_levels_of_windows():
    net = Windowed(inner(), 24, 10, block=4, inner_levels=True)
    x, lengths = noise(2, 83, 16), np.array([83, 40])
    x[1, 40:] = 0.0
    hidden = net(x, lengths=lengths)["hidden"]
    assert [h.shape[-1] for h in hidden] == net.dims == net.backbone.dims
    assert net.strides == [10] * 5
    for place in (0, 5):
        window = x[:1, 10 * place : 10 * place + 24]
        own = net.backbone(window)
        want = [array(h)[0].mean(0) for h in own["hidden"][:-1]]
        for got, level in zip(
            hidden, [*want, array(own["clip"])[0]], strict=True
        ):
            np.testing.assert_allclose(array(got)[0, place], level, atol=1e-5)
    for level in hidden:
        assert not array(level)[1, 2:].any() and array(level)[1, 1].any()


def test_a_short_clip_is_followed_by_silence_where_it_may_not_be_padded():
    long = encoder(short="refuse")
    assert long.min_samples == long.samples_for(24)
    short = noise(1, 2000)
    with pytest.raises(ValueError, match=f"at least {long.min_samples}"):
        long(short)
    silence = np.zeros((1, long.min_samples), "float32")
    silence[:, :2000] = short
    np.testing.assert_allclose(
        long.embed(short[0]), array(long(silence)["clip"])[0], atol=1e-5
    )
    # Not the same as features of zero, which are those of the mean.
    assert np.abs(long.embed(short[0]) - encoder().embed(short[0])).max() > 1e-3


def test_windows_of_samples():
    keras.utils.set_random_seed(0)
    frontend = Waveform()
    net = Windowed(RoundsUp(1), 400, 160)
    wave = noise(1, 16000)
    out = Encoder(frontend, net)(wave)
    want = by_hand(net.backbone, wave[..., None], 400, 160)
    np.testing.assert_allclose(array(out["frames"]), want, atol=1e-5)


def test_part_of_a_functional_model():
    long = encoder()
    inputs = keras.Input((None,))
    model = keras.Model(inputs, long(inputs)["clip"])
    for samples in (16000, 24000):
        wave = noise(2, samples)
        np.testing.assert_allclose(
            model.predict(wave, verbose=0), long.embed(wave), atol=1e-5
        )


@pytest.mark.parametrize(
    "arguments", [{"frames": 0}, {"frames": 24, "hop": 0},
                  {"frames": 24, "block": 0}],
)  # fmt: skip
def test_nonsense_is_refused(arguments):
    with pytest.raises(ValueError, match="must be positive.*Received"):
        Windowed(inner(), **arguments)


def test_a_clip_shorter_than_a_window_can_be_repeated():
    net = Windowed(inner(), 24, 10, short="repeat")
    x = noise(2, 40, 16)
    x[0, 9:] = 30.0
    out = net(x, lengths=np.array([9, 40]))
    again = np.tile(x[:1, :9], (1, 3, 1))[:, :24]
    want = by_hand(net.backbone, again, 24, 10)[0]
    alone = array(net(x[:1, :9])["frames"])[0]
    np.testing.assert_allclose(array(out["frames"])[0, :1], want, atol=1e-5)
    np.testing.assert_allclose(alone, want, atol=1e-5)
    with pytest.raises(ValueError, match="short"):
        Windowed(inner(), 24, short="mirror")


def test_windows_that_the_backbone_cannot_take_are_refused():
    with pytest.raises(ValueError, match="`frames` must be at least 8.*: 7"):
        Windowed(inner(), 7)
