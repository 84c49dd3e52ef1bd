import numpy as np
import pytest

from keras_audio_ssl.features import RECIPES
from keras_audio_ssl.features import LogMel
from keras_audio_ssl.features import MagnitudePhaseMel
from keras_audio_ssl.features import recipe
from tests.features import golden_logmel
from tests.features import reference
from tests.features.helpers import numpy
from tests.parity.golden import Golden


@pytest.mark.parametrize("name", ["byol_a", "cola"])
def test_recipes_equal_the_golden_log_mels(name):
    golden = Golden(name)
    getattr(golden_logmel, name)(golden)
    golden.finish()


DIFFERENT = [
    name
    for i, name in enumerate(RECIPES)
    if RECIPES[name] not in list(RECIPES.values())[:i]
]
STRUCTURES = ["cola", "byol_a", "apc", "online_logmel_delta", "fonseca"]


def in_nats(frontend, x):
    """Decibels as natural logarithms of power; phases stay radians."""
    if getattr(frontend, "log", None) != "db":
        return x
    nats = x * (np.log(10.0) / 10)
    if isinstance(frontend, MagnitudePhaseMel):
        phases = slice(frontend.n_mels, 2 * frontend.n_mels)
        nats[..., phases] = x[..., phases]
    return nats


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_clip_does_not_depend_on_its_neighbours(name):
    frontend = recipe(name)
    shortest = max(frontend.min_samples, 60)
    lengths = np.array([4000, shortest, 2345], "int32")
    x = np.stack([reference.signal(4000, seed=i) for i in range(3)])
    rubbish = []
    for loud in (5.0, 0.0):
        x[1, shortest:] = loud
        x[2, 2345:] = -1.4 * loud
        rubbish.append(numpy(frontend(x, lengths=lengths)))
    got = rubbish[0]
    # The same computation twice: what lies past the ends changes no bit.
    np.testing.assert_array_equal(*rubbish)
    frames = frontend.frame_lengths(lengths)
    assert got.shape == (3, frames[0], frontend.n_features)
    assert np.isfinite(got).all()
    for i in (1, 2) if name in STRUCTURES else (2,):
        n = lengths[i]
        alone = numpy(frontend(x[i : i + 1, :n]))[0]
        assert len(alone) == frames[i] > 0
        # Fewer frames are multiplied in another order, and the logarithm of a
        # quiet band shows the last digits of the loud ones beside it: 5e-5 on
        # some processors. A frame too many or too few changes far more.
        # The bound is of natural logarithms; decibels are 4.3 times as many.
        np.testing.assert_allclose(
            in_nats(frontend, got[i, : frames[i]]),
            in_nats(frontend, alone),
            atol=2e-4,
        )
        assert not got[i, frames[i] :].any()


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_names_its_rates(name):
    frontend = recipe(name)
    assert frontend.frame_rate == frontend.sample_rate / frontend.hop_length
    one = int(frontend.frame_lengths(frontend.min_samples))
    assert one == 1
    assert frontend.n_features > 0


def test_overrides_and_unknown_names():
    frontend = recipe("cola", n_mels=40, hop_length=80)
    assert isinstance(frontend, LogMel)
    assert (frontend.n_features, frontend.frame_rate) == (40, 200.0)
    with pytest.raises(ValueError, match=r"nonesuch.*byol_a"):
        recipe("nonesuch")


@pytest.mark.parametrize("name", DIFFERENT)
@pytest.mark.parametrize("rate", [8000, 44100, 256000])
def test_bands_and_frames_follow_the_rate(name, rate):
    usual, other = recipe(name), recipe(name, sample_rate=rate)
    if usual.hop_length > 1:
        assert other.frame_rate == pytest.approx(usual.frame_rate, rel=0.02)
    if getattr(usual, "f_max", None) is not None:
        share = usual.f_max / usual.sample_rate
        assert other.f_max == pytest.approx(share * rate)
    if hasattr(usual, "n_fft"):
        assert other.n_fft >= other.win_length
        assert other.n_fft / rate >= 0.9 * usual.n_fft / usual.sample_rate
    if hasattr(usual, "n_mels"):
        assert other.n_features == usual.n_features
    # What is said is taken as it is.
    if hasattr(usual, "f_max"):
        said = recipe(name, sample_rate=rate, f_max=3000.0, hop_length=99)
        assert (said.f_max, said.hop_length) == (3000.0, 99)


def test_the_recipes_own_rate_changes_nothing():
    one, other = (
        recipe("fonseca", **more).get_config()
        for more in ({}, {"sample_rate": 22050})
    )
    assert {**one, "name": ""} == {**other, "name": ""}
