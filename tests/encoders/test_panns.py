import keras
import numpy as np
import pytest

from keras_audio_ssl.encoders import CNN6
from keras_audio_ssl.encoders import CNN14
from keras_audio_ssl.encoders import Res1dNet31
from keras_audio_ssl.encoders import WaveformConv
from tests.encoders.tiny import array
from tests.encoders.tiny import noise


def parameters(layer):
    return sum(int(np.prod(v.shape)) for v in layer.trainable_variables)


def test_the_papers_are_the_defaults():
    net = CNN14()
    widths = (1, 64, 128, 256, 512, 1024, 2048)
    convs = sum(
        9 * a * b + 9 * b * b + 4 * b
        for a, b in zip(widths[:-1], widths[1:], strict=True)
    )
    assert parameters(net) == convs + 2 * 80
    assert (net.stride, net.clip_dim, net.min_frames) == (32, 2048, 32)
    net = CNN6()
    convs = sum(
        25 * a * b + 2 * b for a, b in zip(widths[:4], widths[1:5], strict=True)
    )
    assert parameters(net) == convs + 2 * 80
    assert (net.stride, net.clip_dim, net.min_frames) == (16, 512, 16)
    net = WaveformConv()
    assert (net.stride, net.clip_dim) == (160, 512)
    assert parameters(net) == 512 * 10 + 5 * 4 * 512**2 + 6 * 2 * 512
    # Five strides of 2, then one of 5, from one frame on.
    assert net.min_frames == 475


def test_the_waveform_network_has_two_stages_of_blocks_a_width():
    net = Res1dNet31(filters=(4, 6, 8))
    assert net.strides == [5, 20, 80] and net.min_frames == 76
    assert net(noise(1, 76, 1))["frames"].shape == (1, 1, 8)
    with pytest.raises(ValueError, match="at least 76"):
        net(noise(1, 75, 1))
    # Blocks begin as their shortcuts.
    scales = [b.second.normal.gamma.numpy() for s in net.stages for b in s]
    assert all((scale == 0).all() for scale in scales)
    assert [b.short is None for s in net.stages for b in s] == [
        True, True, False, True, False, True,
    ]  # fmt: skip


def statistics(net, **kwargs):
    net(training=True, **kwargs)
    return [w.numpy() for w in net.weights if "moving" in w.path]


@pytest.mark.parametrize("name", ["cnn6", "cnn14", "res1d", "conv"])
def test_batch_statistics_are_of_valid_frames(name):
    def made():
        keras.utils.set_random_seed(0)
        if name == "conv":
            return WaveformConv(1, 4, ((10, 5), (4, 2)), norm="batch")
        if name == "res1d":
            return Res1dNet31(1, (4, 6), 1, dropout=0.0)
        cls = CNN6 if name == "cnn6" else CNN14
        return cls(16, (4, 6), dropout=0.0)

    x = noise(1, 64, made().n_features)
    padded = np.full((2, 96, x.shape[-1]), 5.0, "float32")
    padded[:, :64] = x
    for row in padded:
        row[64:] = 0.0
    alone = statistics(made(), features=np.repeat(x, 2, axis=0))
    with_more = statistics(made(), features=padded, lengths=np.array([64, 64]))
    for a, b in zip(alone, with_more, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="`n_features` must be at least 16"):
        CNN6(8)
    with pytest.raises(ValueError, match="groups"):
        WaveformConv(1, 10, groups=4)
    with pytest.raises(ValueError, match="convs"):
        WaveformConv(1, 8, ())


def test_the_frame_is_the_mean_over_frequency():
    net = CNN6(16, (4, 6))
    x = noise(2, 40, 16)
    hidden = [array(h) for h in net(x)["hidden"]]
    assert [h.shape for h in hidden] == [(2, 20, 4), (2, 10, 6)]
    clip = array(net(x)["clip"])
    np.testing.assert_allclose(
        clip, hidden[-1].mean(1) + hidden[-1].max(1), atol=1e-5
    )
