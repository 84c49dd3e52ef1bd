"""What every augmentation keeps, whatever it does."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl import augment
from keras_audio_ssl.augment import AUGMENTATIONS
from keras_audio_ssl.augment import Sometimes
from keras_audio_ssl.augment import make_augmentations
from tests.contract import BACKEND

NAMES = sorted(AUGMENTATIONS)
every = pytest.mark.parametrize("name", NAMES)


def array(x):
    return ops.convert_to_numpy(x)


def generator(seed=0):
    return keras.random.SeedGenerator(seed)


def clips(domain, seed=0):
    """Four clips that differ, of 4096 samples or 24 frames of 20 bins."""
    rng = np.random.default_rng(seed)
    shape = (4, 4096) if domain == "waveform" else (4, 24, 20)
    return rng.uniform(-0.5, 0.5, shape).astype("float32")


def compiled(function):
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True)
    return function


@every
def test_shape_type_and_seed(name):
    layer = AUGMENTATIONS[name]()
    assert layer.domain in ("waveform", "features")
    x = clips(layer.domain)
    first = array(layer(x, seed=generator()))
    assert first.shape == x.shape and first.dtype == "float32"
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, array(layer(x, seed=generator())))
    assert np.abs(first - array(layer(x, seed=generator(1)))).max() > 0
    # Clips draw each their own: equal ones become unlike.
    same = np.tile(x[:1], (4,) + (1,) * (x.ndim - 1))
    if name not in ("mix_back", "waveform_mix"):
        out = array(layer(same, seed=generator()))
        assert np.abs(out - out[:1]).max() > 0
    # Half precision is no matter of theirs.
    assert layer.compute_dtype == "float32"


@every
def test_it_compiles(name):
    layer = AUGMENTATIONS[name]()
    x = clips(layer.domain)
    got = array(compiled(lambda x: layer(x, seed=3))(ops.convert_to_tensor(x)))
    np.testing.assert_allclose(got, array(layer(x, seed=3)), atol=2e-4)


@every
def test_what_lies_past_the_end_changes_nothing(name):
    layer = AUGMENTATIONS[name]()
    x, other = clips(layer.domain), clips(layer.domain, seed=1)
    lengths = np.array([x.shape[1] // 2, x.shape[1], x.shape[1] * 3 // 4, 12])
    if not layer.takes_lengths:
        with pytest.raises(ValueError, match="without padding"):
            layer(x, lengths=lengths)
        return
    past = np.arange(x.shape[1])[None] >= lengths[:, None]
    x[past] = 0
    out = array(layer(x, lengths=lengths, seed=generator()))
    assert not out[past].any() and np.isfinite(out).all()
    # Backgrounds are other clips, of which all is heard.
    if name != "waveform_mix":
        more = np.where(
            past.reshape(past.shape + (1,) * (x.ndim - 2)), other, x
        )
        again = array(layer(more, lengths=lengths, seed=generator()))
        np.testing.assert_allclose(out[~past], again[~past], atol=1e-6)


@every
def test_a_configuration_makes_it_again(name):
    layer = Sometimes(AUGMENTATIONS[name](), 0.6)
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == layer.get_config()
    x = clips(layer.domain)
    np.testing.assert_array_equal(
        array(layer(x, seed=generator())), array(again(x, seed=generator()))
    )


def test_sometimes_is_as_often_as_it_says():
    x = np.ones((20_000, 2), "float32")
    for p in (0.0, 0.25, 1.0):
        layer = Sometimes(augment.Gain(0.5, 0.9), p)
        changed = (array(layer(x, seed=generator())) != 1).all(axis=1)
        # Five deviations of a share.
        error = 5 * np.sqrt(p * (1 - p) / len(x))
        assert abs(changed.mean() - p) <= error
    layer = Sometimes(Sometimes(augment.Gain(0.5, 0.9), 0.5), 0.5)
    changed = (array(layer(x, seed=generator())) != 1).all(axis=1)
    assert changed.mean() == pytest.approx(0.25, abs=0.02)
    assert layer.domain == "waveform"
    with pytest.raises(ValueError, match="p"):
        Sometimes(augment.Gain(), 1.5)
    with pytest.raises(ValueError, match="must be an augmentation"):
        Sometimes(keras.layers.Identity())


def test_names_and_layers():
    gain = augment.Gain()
    layers = make_augmentations(("fade", gain), "waveform")
    assert isinstance(layers[0], augment.Fade) and layers[1] is gain
    assert make_augmentations(None, "waveform") == []
    assert len(make_augmentations("noise", "features")) == 1
    assert make_augmentations(gain, "waveform") == [gain]
    assert make_augmentations(["mixup"], "features", ("mixup",)) == ["mixup"]
    for given, domain, match in (
        ("noise", "waveform", "Received: 'noise'"),
        (gain, "features", "Received: Gain, of waveform"),
        ([3], "features", "Received: 3"),
    ):
        with pytest.raises(ValueError, match=match):
            make_augmentations(given, domain)


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda: augment.Gain(1.2, 0.8), "high"),
        (lambda: augment.Compression(0.0, 1.0), "low"),
        (lambda: augment.WhiteNoise(3, 2), "high"),
        (lambda: augment.MixedNoise(("green",)), "green"),
        (lambda: augment.MixedNoise(()), "empty"),
        (lambda: augment.TimeMask(0), "share"),
        (lambda: augment.FeatureNoise(-1), "std"),
        (lambda: augment.TimeShift(3, 2), "high"),
        (lambda: augment.FrequencyShift(fill="max"), "fill"),
        (lambda: augment.MixBack(1.0), "alpha"),
        (lambda: augment.MixBack(base=1.0), "base"),
        (lambda: augment.WaveformMix(0.0), "positive"),
        (lambda: augment.RandomResizedCrop((0.0, 1.0)), "area"),
        (lambda: augment.SpecAugment(count=0), "count"),
        (lambda: augment.TimeStretch(0.0), "low"),
        (lambda: augment.PitchShift(2, 1), "high"),
        (lambda: augment.PitchShift(window=1022), "window"),
    ],
)
def test_arguments_are_checked(make, match):
    with pytest.raises(ValueError, match=match):
        make()
