import keras
import numpy as np
import pytest

from keras_audio_ssl.augment import RandomPairs
from keras_audio_ssl.augment import RandomSlices
from keras_audio_ssl.augment import RunningMean
from keras_audio_ssl.augment import take_slices
from tests.gradients import numpy


def times(clips=4, frames=60, bins=3):
    """Features that say of which clip and frame they are."""
    clip, frame = np.arange(clips)[:, None], np.arange(frames)
    x = (1000 * clip + frame).astype("float32")
    return np.repeat(x[..., None], bins, axis=-1)


def seed():
    return keras.random.SeedGenerator(0)


def test_slices_are_taken_from_their_places():
    x = times()
    starts = np.array([[0, 50], [3, 4], [9, 9], [1, 30]], "int32")
    got = numpy(take_slices(x, starts, 10))
    for row in range(4):
        for k in range(2):
            want = x[row, starts[row, k] : starts[row, k] + 10]
            np.testing.assert_array_equal(got[row, k], want)


@pytest.mark.parametrize(
    "frames, count, gap", [(8, 5, 2), (8, 1, 0), (12, 5, 0)]
)
def test_neighbours_stand_a_gap_apart(frames, count, gap):
    slices = RandomSlices(frames, count, gap)
    assert slices.span == count * frames + (count - 1) * gap
    got, valid = slices(times(), seed=seed())
    assert got.shape == (4, count, frames, 3) and numpy(valid).all()
    got = numpy(got)[..., 0]
    first = got[:, 0, 0] % 1000
    assert (first >= 0).all() and (first <= 60 - slices.span).all()
    for k in range(count):
        for f in range(frames):
            want = got[:, 0, 0] + k * (frames + gap) + f
            np.testing.assert_array_equal(got[:, k, f], want)


def test_every_place_of_a_clip_is_as_likely_and_no_other_is_drawn():
    slices = RandomSlices(10)
    lengths = np.tile(np.array([60, 13, 10], "int32"), 2000)
    starts, clips, valid = map(numpy, slices.draw(lengths, seed()))
    np.testing.assert_array_equal(clips, np.arange(6000))
    assert valid.all() and starts.shape == (6000, 1)
    for i, places in enumerate((51, 4, 1)):
        counts = np.bincount(starts[i::3, 0].astype(int), minlength=places)
        assert len(counts) == places
        expected = 2000 / places
        chi = ((counts - expected) ** 2 / expected).sum()
        assert chi < places + 4.5 * np.sqrt(2 * places)
    again = numpy(slices.draw(lengths, seed())[0])
    np.testing.assert_array_equal(again, starts)


def test_a_clip_that_is_too_short_gives_slices_of_another():
    slices, lengths = RandomSlices(20, 2, 1), np.array([40, 41, 60, 5])
    x = times()
    for row, n in zip(x, lengths, strict=True):
        row[n:] = -1.0
    got, valid = slices(x, lengths=lengths.astype("int32"), seed=seed())
    np.testing.assert_array_equal(numpy(valid), [0, 1, 1, 0])
    np.testing.assert_array_equal(numpy(got)[:, 0, 0, 0] // 1000, [1, 1, 2, 1])
    assert (numpy(got) >= 0).all()
    pairs = RandomPairs(10, 41)
    got, _, valid = pairs(x, lengths=lengths.astype("int32"), seed=seed())
    np.testing.assert_array_equal(numpy(valid), [0, 1, 1, 0])
    assert (numpy(got) >= 0).all()


def test_pairs_are_a_uniform_distance_apart():
    draws, pairs = 100_000, RandomPairs(24, 60)
    lengths = np.full(draws, 60, "int32")
    starts, distance, _, _ = map(numpy, pairs.draw(lengths, seed()))
    assert pairs.most == 36 and pairs.span == 60
    np.testing.assert_array_equal(np.abs(starts[:, 0] - starts[:, 1]), distance)
    assert starts.min() == 0 and starts.max() == 36
    counts = np.bincount(distance.astype(int), minlength=37)
    assert len(counts) == 37
    chi = ((counts - draws / 37) ** 2 / (draws / 37)).sum()
    assert chi < 36 + 4.5 * np.sqrt(72)
    apart = distance > 0
    later = (starts[apart, 0] > starts[apart, 1]).mean()
    assert abs(later - 0.5) < 0.01
    # Given the distance, each place is as likely.
    near = starts[distance == 10].min(axis=1)
    assert near.min() == 0 and near.max() == 26
    assert abs(near.mean() - 13) < 0.6


def test_pairs_keep_to_a_window_and_away_from_the_ends():
    pairs = RandomPairs(5, 20, margin=7, overlap=False)
    assert pairs.span == 34
    lengths = np.array([34, 50] * 3000, "int32")
    starts, distance, _, _ = map(numpy, pairs.draw(lengths, seed()))
    assert distance.min() == 5 and distance.max() == 15
    assert starts[::2].min() == 7 and starts[::2].max() == 7 + 15
    assert starts[1::2].min() == 7 and starts[1::2].max() == 50 - 7 - 5


def test_too_few_frames_are_refused():
    with pytest.raises(ValueError, match="at least 61 feature frames.*60"):
        RandomSlices(61)(times(), seed=seed())
    with pytest.raises(ValueError, match="at least 64 feature frames.*60"):
        RandomPairs(10, 64)(times(), seed=seed())
    for window in (10, 9):
        with pytest.raises(ValueError, match="no room for two slices"):
            RandomPairs(10, window)
    with pytest.raises(ValueError, match="no room"):
        RandomPairs(10, 20, overlap=False)
    with pytest.raises(ValueError, match="frames=0"):
        RandomSlices(0)
    with pytest.raises(ValueError, match="margin=-1"):
        RandomPairs(4, 9, margin=-1)


def test_a_running_mean_is_that_of_all_batches_and_then_of_late_ones():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 1, (5, 4, 6, 2)).astype("float32")
    mean = RunningMean(2)
    assert not numpy(mean(x[0])).any()
    for batch in x:
        got = numpy(mean(batch, training=True))
    np.testing.assert_allclose(got, x.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(numpy(mean(x[0])), got)
    short = RunningMean(2, max_batches=2)
    for value in (0.0, 4.0, 8.0):
        got = short(np.full((3, 2), value, "float32"), training=True)
    np.testing.assert_allclose(numpy(got), 5.0)
