import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.augment import Silence


def array(x):
    return ops.convert_to_numpy(x)


def test_a_stretch_of_each_clip_is_zero():
    layer = Silence(40)
    x = np.ones((4000, 100), "float32")
    lengths = np.full(4000, 100, "int32")
    lengths[:1000] = 20
    x[:1000, 20:] = 0.0
    seed = keras.random.SeedGenerator(0)
    y = array(layer(x, lengths=lengths, seed=seed))
    lost = (x != 0) & (y == 0)
    # One stretch, and nothing else is changed.
    edges = np.abs(np.diff(np.pad(lost, ((0, 0), (1, 1))).astype(int), axis=1))
    assert set(edges.sum(1)) <= {0, 2}
    np.testing.assert_array_equal(y[~lost], x[~lost])
    widths = lost.sum(1)
    # Uniform from 0 to 40, and in short clips to the whole of them.
    for part, most in ((widths[1000:], 40), (widths[:1000], 20)):
        assert part.max() == most and part.min() == 0
        std = np.sqrt(((most + 1) ** 2 - 1) / 12 / len(part))
        assert part.mean() == pytest.approx(most / 2, abs=5 * std)
    # Places are as likely early as late.
    first, last = lost[1000:, :50].mean(), lost[1000:, 50:].mean()
    assert first == pytest.approx(last, rel=0.1)


def test_silence_of_no_width_changes_nothing():
    x = np.ones((3, 10), "float32")
    seed = keras.random.SeedGenerator(0)
    np.testing.assert_array_equal(array(Silence(0)(x, seed=seed)), x)
    with pytest.raises(ValueError, match="samples"):
        Silence(-1)
