import keras
import numpy as np
import pytest
from keras import layers

import keras_audio_ssl as kas
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.encoders import KerasBackbone
from keras_audio_ssl.encoders import Windowed
from keras_audio_ssl.encoders import make_encoder
from keras_audio_ssl.features import LogMel
from keras_audio_ssl.features import Waveform
from tests.encoders.tiny import array
from tests.encoders.tiny import noise


def conv(kernel, stride, padding="valid", dim=3):
    return layers.Conv1D(dim, kernel, stride, padding, activation="tanh")


def build(*parts):
    keras.utils.set_random_seed(0)
    return keras.Sequential(list(parts))


# Network, stride, fewest samples.
RAW = [
    (lambda: build(conv(400, 320)), 320, 400),
    (lambda: build(conv(10, 5), conv(8, 4), conv(4, 2)), 40, 105),
    (lambda: build(conv(3000, 1600, "same")), 1600, 1),
    (lambda: build(conv(3, 1, "same"), layers.MaxPool1D(8)), 8, 8),
    (lambda: build(conv(20000, 7)), 7, 20000),
    (lambda: layers.Identity(), 1, 1),
]


@pytest.mark.parametrize("make, stride, least", RAW)
def test_networks_on_samples_are_measured(make, stride, least):
    encoder = Encoder(Waveform(), KerasBackbone(make(), 1))
    assert encoder.backbone.stride == stride
    assert encoder.min_samples == encoder.backbone.min_frames == least
    for samples in {least, least + 1, 30000, 31999, 32000, 32001}:
        out = encoder(noise(1, samples))
        count = int(array(encoder.frame_lengths(np.array([samples])))[0])
        assert out["frames"].shape[1] == count
    with pytest.raises(ValueError, match="at least|must have the shape"):
        encoder(np.zeros((1, least - 1), "float32"))


def test_clips_of_unequal_length_do_not_see_each_other():
    net = build(conv(400, 160), conv(5, 2, "same"))
    encoder = Encoder(Waveform(), KerasBackbone(net, 1))
    waves = [noise(1, n, seed=n)[0] for n in (8000, 5001, 8000, 5000, 300)]
    together, frames = encoder.embed(waves), encoder.embed_frames(waves)
    for wave, vector, rows in zip(waves, together, frames, strict=True):
        padded = np.pad(wave, (0, max(0, 400 - len(wave))))
        alone = encoder(padded[None])
        np.testing.assert_allclose(array(alone["clip"])[0], vector, atol=1e-5)
        np.testing.assert_allclose(array(alone["frames"])[0], rows, atol=1e-5)
    assert kas.Readout(encoder).backbone.exact_lengths is False
    # Lengths select what is pooled.
    batch = np.stack([np.pad(w, (0, 8000 - len(w))) for w in waves])
    out = encoder(batch, lengths=np.array([len(w) for w in waves], "int32"))
    valid = int(array(encoder.frame_lengths(np.array([5001])))[0])
    want = array(out["frames"])[1, :valid].mean(0)
    np.testing.assert_allclose(array(out["clip"])[1], want, atol=1e-5)


def test_networks_on_features_are_measured():
    maps = build(
        layers.Conv2D(4, 3, 2, "same"), layers.MaxPool2D(2, padding="same")
    )
    net = KerasBackbone(maps, 8)
    assert net.channel_axis and (net.stride, net.min_frames) == (4, 1)
    assert net.dim == 8
    for time in (1, 4, 5, 97):
        frames = net(noise(1, time, 8))["frames"].shape[1]
        assert frames == int(array(net.frame_lengths([time]))[0])


def test_networks_that_give_one_vector():
    net = KerasBackbone(
        build(conv(5, 2), layers.MaxPool1D(4), layers.GlobalAvgPool1D()), 8
    )
    assert array(net.frame_lengths([400, 100])).tolist() == [1, 1]
    # A mean of none would be NaN.
    assert 11 <= net.min_frames <= 22
    assert np.isfinite(array(net(noise(1, net.min_frames, 8))["clip"])).all()


def test_a_network_of_one_length_reads_any_in_windows(tmp_path):
    inputs = keras.Input((96, 8))
    x = layers.Dense(6)(layers.Flatten()(inputs))
    net = KerasBackbone(keras.Model(inputs, x), 8)
    assert net.min_frames == 96
    frontend = LogMel(n_mels=8)
    encoder = Encoder(frontend, Windowed(net, 96, 48))
    wave = noise(1, 40000)
    features = array(frontend(wave))
    want = np.concatenate(
        [array(net(features[:, i : i + 96])["clip"]) for i in (0, 48, 96, 144)]
    )
    np.testing.assert_allclose(encoder.embed_frames(wave[0]), want, atol=1e-4)
    encoder.save(tmp_path / "windows.keras")
    again = keras.saving.load_model(tmp_path / "windows.keras")
    np.testing.assert_array_equal(again.embed(wave), encoder.embed(wave))


def test_what_it_cannot_read_is_refused():
    net = keras.Sequential([keras.Input((None, 7)), layers.Dense(3)])
    with pytest.raises(ValueError, match="of 8 bins.*none of the times 128"):
        KerasBackbone(net, 8)
    with pytest.raises(ValueError, match="must give.*Received"):
        KerasBackbone(layers.Reshape((2, 4, 2, 64)), 8)
    net = keras.Sequential([keras.Input((32, 8, 3)), layers.Conv2D(3, 3)])
    with pytest.raises(ValueError, match="maps of 3 channels.*Conv2D"):
        KerasBackbone(net, 8)


def test_a_network_of_other_bins_is_told_of_the_front_end():
    built = layers.Dense(3)
    built.build((None, None, 7))
    with pytest.raises(ValueError, match="`n_mels` follows.*value 7") as caught:
        kas.COLA(encoder=built)
    assert "Arguments received" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    # As it is told.
    encoder = make_encoder(built, kas.features.recipe("cola", n_mels=7))
    assert kas.COLA(encoder=encoder).encoder.frontend.n_mels == 7
    net = keras.Sequential([keras.Input((None, 60)), layers.Dense(3)])
    assert kas.COLA(encoder=net).encoder.frontend.n_mels == 60
    front = kas.Speech2Vec(encoder=net).encoder.frontend
    assert (front.n_mfcc, front.n_mels) == (60, 60)


def test_a_network_of_maps_of_one_length_is_built_for_it():
    net = build(layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(3))
    backbone = KerasBackbone(net, 8)
    assert backbone.channel_axis and backbone.min_frames == 128


def test_framewise_networks_may_be_padded(tmp_path):
    framewise = KerasBackbone(layers.Dense(3), 8, exact_lengths=True)
    encoder = Encoder(LogMel(n_mels=8), framewise)
    assert encoder.backbone.exact_lengths
    assert not make_encoder(
        layers.Dense(3), LogMel(n_mels=8)
    ).backbone.exact_lengths
    encoder.save(tmp_path / "dense.keras")
    again = keras.saving.load_model(tmp_path / "dense.keras")
    assert again.backbone.exact_lengths


def pooled(kind):
    """Networks that pool over time what is left of it, and may be nothing."""
    keras.utils.set_random_seed(0)
    conv = keras.layers.Conv1D(4, 5, strides=2)
    pool = keras.layers.GlobalAveragePooling1D()
    if kind == "sequential":
        return keras.Sequential([keras.Input((None, 12)), conv, conv2(), pool])
    x = keras.Input((None, 12))
    if kind == "functional":
        return keras.Model(x, pool(conv2()(conv(x))))
    inner = keras.Input((None, 12))
    front = keras.Model(inner, conv2()(conv(inner)))
    if kind == "nested":
        return keras.Model(x, pool(front(x)))
    assert kind == "nested pool"
    inner = keras.Input((None, 4))
    return keras.Model(x, keras.Model(inner, pool(conv2()(inner)))(conv(x)))


def conv2():
    return keras.layers.Conv1D(4, 3, strides=2)


@pytest.mark.parametrize(
    "kind", ["sequential", "functional", "nested", "nested pool"]
)
def test_the_least_time_is_found_as_if_it_were_computed(kind):
    net = KerasBackbone(pooled(kind), 12)

    def mean_of_frames(time):
        frames = np.ones((1, time, 12), "float32")
        return keras.ops.convert_to_numpy(net.network(frames))

    # All frames are alike, so their mean is that of many.
    want, defined = mean_of_frames(50), []
    for time in range(1, 20):
        # Where convolutions are left without frames a mean is of none, or
        # the backend refuses; on some CPUs TensorFlow's is of any numbers.
        try:
            got = mean_of_frames(time)
            defined.append(bool(np.allclose(got, want, rtol=1e-5)))
        except Exception:
            defined.append(False)
    assert net.min_frames == defined.index(True) + 1 == 9
    assert all(defined[net.min_frames - 1 :])


def test_a_graph_is_not_computed_to_measure_it(monkeypatch):
    x = keras.Input((None, 12))
    far = keras.layers.ZeroPadding1D((10**6, 1))(x)
    net = keras.Model(x, keras.layers.GRU(2)(far))

    def refuse(*args, **kwargs):
        raise AssertionError("it is computed")

    monkeypatch.setattr(keras.layers.GRU, "call", refuse)
    assert KerasBackbone(net, 12).min_frames == 1
