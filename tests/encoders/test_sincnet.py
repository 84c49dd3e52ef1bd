import keras
import numpy as np
import pytest

from keras_audio_ssl.encoders import SincNet
from tests.encoders.tiny import array
from tests.encoders.tiny import noise

SMALL = {"chunk": 400, "hop": 160, "sinc": (6, 31), "conv": ((5, 5),),
         "pools": (3, 2), "dense": (12, 8), "block": 4}  # fmt: skip


def small(**kwargs):
    keras.utils.set_random_seed(0)
    return SincNet(**{**SMALL, **kwargs})


def test_the_paper_is_the_default():
    net = SincNet()
    chunk = net.backbone

    def count(*layers):
        return sum(
            int(np.prod(v.shape))
            for layer in layers
            for v in layer.trainable_variables
        )

    assert count(chunk.sinc) == 160
    assert count(*chunk.convs) == 42_120
    assert count(*chunk.norms) == 209_240
    assert count(chunk.norm_in) == 6_400
    assert count(chunk.norm_flat, *chunk.dense_layers,
                 *chunk.dense_norms) == 21_568_040  # fmt: skip
    assert (net.dim, net.frames, net.stride) == (2048, 3200, 160)
    times = [norm.time for norm in chunk.norms]
    assert times == [983, 326, 107] and chunk.norm_flat.time == 6420
    kernel = chunk.dense_layers[1].kernel.numpy()
    most = np.sqrt(0.01 / 4096)
    assert 0.99 * most < np.abs(kernel).max() < 1.001 * most
    assert {norm.momentum for norm in chunk.dense_norms} == {0.95}


@pytest.mark.parametrize("norm", ["sincnet", "time"])
def test_a_frame_is_the_embedding_of_its_chunk(norm):
    net = small(norm=norm, gate=0.0)
    x = noise(2, 1500, 1)
    frames = array(net(x)["frames"])
    assert frames.shape == (2, 7, 8)
    for i in range(7):
        chunk = x[:, 160 * i : 160 * i + 400]
        alone = array(net.backbone(chunk)["clip"])
        np.testing.assert_allclose(frames[:, i], alone, atol=1e-5)


def test_the_clip_vector_is_the_mean_of_loud_unit_chunks():
    net = small()
    x = noise(3, 1500, 1)
    # Two of seven chunks of the first clip are quiet, all of the last silent.
    x[0, 700:] *= 0.01
    x[2] = 0.0
    out = net(x)
    frames, clips = array(out["frames"]), array(out["clip"])
    for rows, wave, clip in zip(frames, x, clips, strict=True):
        parts = [wave[160 * i : 160 * i + 400] for i in range(7)]
        energy = np.array([np.square(part).mean() for part in parts])
        keep = energy >= 0.1 * energy.mean()
        unit = rows / np.maximum(
            np.linalg.norm(rows, axis=1, keepdims=True), 1e-6
        )
        np.testing.assert_allclose(clip, unit[keep].mean(0), atol=1e-5)
        if wave is x[0]:
            assert 1 < keep.sum() < 7
    ungated = array(small(gate=0.0)(x)["clip"])
    assert np.abs(ungated[0] - clips[0]).max() > 1e-3
    np.testing.assert_allclose(ungated[1:], clips[1:], atol=1e-6)


def test_a_clip_shorter_than_a_chunk_is_repeated():
    net = small()
    x = noise(2, 600, 1)
    x[0, 150:] = 7.0
    out = net(x, lengths=np.array([150, 600]))
    again = np.tile(x[0, :150], (3, 1))[None, :400]
    for key in ("frames", "clip"):
        want = array(net(again)[key])[0]
        alone = array(net(x[:1, :150])[key])[0]
        got = array(out[key])[0]
        got = got[:1] if key == "frames" else got
        np.testing.assert_allclose(got, want, atol=1e-5)
        np.testing.assert_allclose(alone, want, atol=1e-5)
    # One chunk of the first clip, and nothing where the second has more.
    assert not array(out["frames"])[0, 1:].any()


def test_weights_of_the_time_norm_fit_chunks_of_any_length():
    short, long = small(norm="time"), small(norm="time", chunk=900)
    long.set_weights(short.get_weights())
    x = noise(2, 900, 1)
    for net in (short.backbone, long.backbone):
        assert net.min_frames < 100
    got = array(long(x)["frames"])[:, 0]
    np.testing.assert_allclose(got, array(short.backbone(x)["clip"]), atol=1e-5)
    fixed = small()
    with pytest.raises(ValueError, match="has 400 samples. Received: 900"):
        fixed.backbone(x)


def test_levels_are_means_over_chunks():
    net = small()
    x = noise(1, 400, 1)
    hidden = [array(h) for h in net(x)["hidden"]]
    inner = [array(h) for h in net.backbone(x)["hidden"]]
    assert [h.shape for h in hidden] == [(1, 1, d) for d in (6, 5, 12, 8)]
    for outer, own in zip(hidden, inner, strict=True):
        np.testing.assert_allclose(outer[:, 0], own.mean(1), atol=1e-5)


@pytest.mark.parametrize(
    "settings, match",
    [
        ({"norm": "layer"}, "norm"),
        ({"chunk": 40}, "`chunk` must be at least 48"),
        ({"pools": (3,)}, "pools"),
        ({"gate": -1}, "gate"),
        ({"n_features": 2}, "one feature"),
        ({"dense": ()}, "dense"),
    ],
)
def test_nonsense_is_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        small(**settings)
