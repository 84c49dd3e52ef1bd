import keras
import numpy as np

from keras_audio_ssl.blocks import BidirectionalGRU
from keras_audio_ssl.blocks import reverse_frames


def test_both_directions_start_at_the_ends_of_the_clip():
    keras.utils.set_random_seed(0)
    layer = BidirectionalGRU(5, 4)
    x = np.random.default_rng(0).normal(size=(3, 9, 5)).astype("float32")
    lengths = np.array([9, 4, 1], "int32")
    got = keras.ops.convert_to_numpy(layer(x, lengths=lengths))
    for row, wave, n in zip(got, x, lengths, strict=True):
        alone = keras.ops.convert_to_numpy(layer(wave[None, :n]))[0]
        np.testing.assert_allclose(row[:n], alone, atol=1e-6)
        assert not row[n:].any()
        ahead = keras.ops.convert_to_numpy(layer.ahead(wave[None, :n]))[0]
        back = keras.ops.convert_to_numpy(layer.back(wave[None, :n][:, ::-1]))
        want = np.concatenate([ahead, back[0][::-1]], axis=-1)
        np.testing.assert_allclose(alone, want, atol=1e-6)
    turned = keras.ops.convert_to_numpy(reverse_frames(x, lengths))
    np.testing.assert_array_equal(turned[1, :4], x[1, :4][::-1])
    np.testing.assert_array_equal(turned[1, 4:], x[1, 4:])
