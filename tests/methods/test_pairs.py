"""Batches with a second sound for each clip, which second views are made of."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas

# What a call returns of the first and of the second view.
VIEWS = {
    "byol_a": ("prediction_1", "prediction_2"),
    "clar": ("first", "second"),
    "cola": ("anchor", "positive"),
    "fonseca": ("first", "second"),
    "joint": ("first", "second"),
    "lim": ("first", "second"),
    "multi_format": ("first", "second"),
}
SAMPLES = 32000
# One draw and no more, so that a batch's clips do not meet.
PLAIN = {
    "byol_a": {"augmentations": (), "post_norm": False},
    "clar": {"augmentations": ()},
    "cola": {},
    "fonseca": {"augmentations": ()},
    "joint": {"augmentations": (), "mixup_ratio": 0.0},
    "lim": {},
    "multi_format": {"augmentations": ()},
}
methods = pytest.mark.parametrize("name", sorted(VIEWS))


def noise(seed):
    x = np.random.default_rng(seed).normal(size=(4, SAMPLES))
    return 0.1 * x.astype("float32")


def views(name, x):
    """Both views of a new model of the same draws, as arrays."""
    keras.utils.set_random_seed(0)
    model = kas.methods.make_method(name, preset="tiny", **PLAIN[name])
    for front_end in model.unmeasured():
        front_end.adapt([noise(0)])
    if name == "lim":
        features = model.encoder.frontend(model.chunks(x))
        return np.split(ops.convert_to_numpy(features), 2)
    outputs = model(x, training=False)
    return [ops.convert_to_numpy(outputs[key]) for key in VIEWS[name]]


@pytest.mark.skipif(
    keras.backend.backend() != "torch",
    reason="which sound a view is made of is no backend's business",
)
@methods
def test_the_second_view_is_made_of_the_pair(name):
    x = {"waveform": noise(1), "lengths": np.full(4, SAMPLES, "int32")}
    alone = views(name, x)
    same = views(name, {**x, "pair": x["waveform"]})
    other = views(name, {**x, "pair": noise(2)})
    for a, b in zip(alone, same, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(other[0], alone[0], atol=1e-5)
    assert np.abs(other[1] - alone[1]).max() > 1e-3


@pytest.mark.parametrize("name", ["joint", "cola"])
def test_training_on_perturbed_patches(name):
    data = kas.data.synthetic(
        1.0, 4, kind="patches", pairs="perturbed", clips=8
    )
    model = kas.methods.make_method(
        name, preset="tiny", augmentation=keras.layers.GaussianNoise(0.01)
    )
    model.compile()
    history = model.fit(data, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_a_pair_is_augmented_as_its_clip_is():
    model = kas.methods.make_method(
        "cola", preset="tiny", augmentation=keras.layers.Rescaling(0.5)
    )
    x = {"waveform": noise(1), "pair": noise(2)}
    got = model.altered(x)
    for key, value in x.items():
        np.testing.assert_allclose(
            ops.convert_to_numpy(got[key]), 0.5 * value, rtol=1e-6
        )
