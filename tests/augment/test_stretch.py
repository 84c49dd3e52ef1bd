import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.augment import Colour
from keras_audio_ssl.augment import FrequencyWarp
from keras_audio_ssl.augment import StretchedCrop
from keras_audio_ssl.augment import interpolation


def array(x):
    return ops.convert_to_numpy(x)


def generator(seed=0):
    return keras.random.SeedGenerator(seed)


def maps(clips=3, frames=30, bins=20):
    rng = np.random.default_rng(0)
    return rng.standard_normal((clips, frames, bins)).astype("float32")


def test_interpolation_is_numpys():
    place = np.random.default_rng(0).uniform(0, 9, (2, 7)).astype("float32")
    values = np.random.default_rng(1).standard_normal(10)
    got = array(interpolation(place, 10)) @ values
    np.testing.assert_allclose(
        got, np.interp(place, np.arange(10), values), atol=1e-5
    )


def test_a_stretched_crop_is_a_loop_of_interpolations():
    x, layer = maps(), StretchedCrop(12, (0.5, 2.0))
    drawn = layer.draw(x.shape, generator())
    first, count = (array(drawn[k]) for k in ("first", "count"))
    got = array(layer.apply(x, **drawn))
    assert got.shape == (3, 12, 20)
    for i in range(3):
        place = np.linspace(first[i], first[i] + count[i] - 1, 12)
        for k in range(20):
            want = np.interp(place, np.arange(30), x[i, :, k])
            np.testing.assert_allclose(got[i, :, k], want, atol=1e-5)


def test_parts_are_as_long_as_factors_say_and_lie_inside():
    layer = StretchedCrop(10, (0.5, 2.0))
    assert layer.longest == 20
    drawn = layer.draw((20_000, 24, 4), generator())
    first, count = (array(drawn[k]) for k in ("first", "count"))
    assert set(count) == set(range(5, 20)) and (first >= 0).all()
    assert (first + count <= 24).all() and (first + count == 24).any()
    # Lengths are uniform: the mean of 15, within five deviations.
    assert abs(count.mean() - 12) < 5 * np.sqrt((15**2 - 1) / 12 / 20_000)
    # Never longer than what there is.
    drawn = layer.draw((1000, 7, 4), generator())
    assert array(drawn["count"]).max() == 7
    # One factor and no room: the map itself.
    x = maps(frames=10)
    same = StretchedCrop(10, (1.0, 1.0))(x, seed=generator())
    np.testing.assert_allclose(array(same), x, atol=1e-5)
    for arguments in ((1, (1.0, 1.0)), (5, (2.0, 1.0)), (5, (0.0, 1.0))):
        with pytest.raises(ValueError, match="must be"):
            StretchedCrop(*arguments)


def test_a_warp_moves_a_peak_by_what_was_drawn():
    x = np.zeros((400, 2, 40), "float32")
    x[:, :, 20] = 1.0
    layer = FrequencyWarp(shift=4.0, stretch=0.1)
    drawn = layer.draw(x.shape, generator())
    move, factor = array(drawn["move"]), array(drawn["factor"])
    assert -4 <= move.min() < -3.8 and 3.8 < move.max() <= 4
    assert -0.1 <= factor.min() < -0.095 and 0.095 < factor.max() <= 0.1
    got = array(layer.apply(x, **drawn))[:, 0]
    # Bin k reads (1 + factor) k + move: the peak is where that is 20.
    place = (20 - move) / (1 + factor)
    found = (got * np.arange(40)).sum(1) / got.sum(1)
    assert np.abs(found - place).max() < 0.6
    # Nothing moves without a range, and outside is the outermost bin.
    np.testing.assert_allclose(
        array(FrequencyWarp(0.0, 0.0)(maps(), seed=generator())), maps(),
        atol=1e-6,
    )  # fmt: skip
    up, none = (ops.convert_to_tensor([v]) for v in (4.0, 0.0))
    moved = layer.apply(maps(1), move=up, factor=none)
    np.testing.assert_allclose(
        array(moved)[0, :, -4:], maps(1)[0, :, [-1] * 4].T, atol=1e-6
    )
    for arguments in ((-1.0, 0.1), (1.0, 1.0), (1.0, -0.1)):
        with pytest.raises(ValueError, match="stretch"):
            FrequencyWarp(*arguments)


def test_a_colour_is_one_curve_for_all_frames():
    x, layer = maps(500), Colour(1.5, knots=5)
    drawn = layer.draw(x.shape, generator())
    added = array(layer.apply(x, **drawn)) - x
    np.testing.assert_allclose(added, added[:, :1].repeat(30, 1), atol=1e-5)
    knots = np.linspace(0, 19, 5)
    for i in range(3):
        want = np.interp(np.arange(20), knots, array(drawn["curve"])[i])
        np.testing.assert_allclose(added[i, 0], want, atol=1e-5)
    curve = array(drawn["curve"])
    assert -1.5 <= curve.min() < -1.45 and 1.45 < curve.max() <= 1.5
    # Uniform: a deviation of the width over the root of twelve.
    assert curve.std() == pytest.approx(3 / np.sqrt(12), rel=0.05)
    for arguments in ((-1.0, 7), (1.0, 1)):
        with pytest.raises(ValueError, match="strength"):
            Colour(*arguments)
