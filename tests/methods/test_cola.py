import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from keras_audio_ssl.blocks import BilinearSimilarity
from keras_audio_ssl.features import scale_amplitude
from tests.contract import batch
from tests.contract import step
from tests.contract import waves


def array(x):
    return ops.convert_to_numpy(x)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def tiny(**kwargs):
    keras.utils.set_random_seed(0)
    return kas.COLA(preset="tiny", **kwargs)


def test_the_paper_is_the_default():
    keras.utils.set_random_seed(0)
    model = kas.COLA()
    assert type(model.encoder.backbone).__name__ == "EfficientNetB0"
    trained = sum(
        int(np.prod(v.shape)) for v in model.encoder.trainable_variables
    )
    assert trained == 4_006_972
    head = sum(int(np.prod(v.shape)) for v in model.projector.weights)
    assert head == 655_872 + 1_024
    assert model.bilinear.weight.shape == (512, 512)
    assert float(np.std(model.bilinear.weight.numpy())) == pytest.approx(
        0.05, rel=0.02
    )
    frames = model.encoder.frontend.frame_lengths(model.crop.length)
    assert int(frames) == 98
    rate = model.default_optimizer().learning_rate
    assert float(array(rate)) == pytest.approx(1e-3)


def test_bilinear_with_the_identity_is_cosine_with_temperature_one():
    model = tiny(similarity="cosine", temperature=1.0)
    layer = BilinearSimilarity(16)
    layer.weight.assign(np.eye(16))
    a, p = normal(5, 16), normal(5, 16, seed=1)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, p)]
    got = array(layer(*(ops.convert_to_tensor(u) for u in unit)))
    np.testing.assert_allclose(got, array(model.similarities(a, p)), atol=1e-6)


def test_the_matrix_is_not_symmetric():
    layer = BilinearSimilarity(6)
    a, p = (
        ops.convert_to_tensor(normal(4, 6)),
        ops.convert_to_tensor(normal(4, 6, seed=1)),
    )
    before = array(layer(a, p))
    layer.weight.assign(layer.weight.numpy().T)
    assert before.shape == (4, 4)
    assert np.abs(before - array(layer(a, p))).max() > 1e-3


@pytest.mark.parametrize("similarity", ["bilinear", "cosine"])
def test_the_loss_starts_near_ln_of_the_batch_and_leaves_it(similarity):
    model, x = tiny(similarity=similarity), batch(24)
    model.compile(optimizer=keras.optimizers.Adam(3e-3))
    first = step(model, x)
    assert abs(first["loss"] - np.log(24)) < 1.5
    history = model.fit(x, batch_size=24, epochs=40, verbose=0).history
    assert history["contrastive_accuracy"][-1] > 5 / 24
    assert history["loss"][-1] < 0.8 * np.log(24)


def test_permuted_positives_leave_nothing_to_learn():
    model = tiny(seconds=0.485)
    x = batch(16)["waveform"]
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    rng = np.random.default_rng(0)
    accuracies = []
    for _ in range(12):
        pairs = {
            "anchor": x[:, :7760],
            "positive": x[rng.permutation(16), 8000:15760],
        }
        accuracies.append(step(model, pairs)["contrastive_accuracy"])
        model.reset_metrics()
    assert np.mean(accuracies) < 4 / 16


def test_ready_pairs_are_trained_on_without_crops():
    model = tiny(noise=0.0)
    x = waves(6)
    pairs = {"anchor": x[:, :7760], "positive": x[:, 8000:15760]}
    got = array(
        model.segments({k: ops.convert_to_tensor(v) for k, v in pairs.items()})
    )
    want = np.concatenate([pairs["anchor"], pairs["positive"]])
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    np.testing.assert_allclose(got, want, atol=1e-6)
    model.compile()
    assert np.isfinite(model.fit(pairs, verbose=0).history["loss"]).all()


def test_segments_have_unit_norm_and_the_noise_is_on_the_positive():
    x = ops.convert_to_tensor(waves(64))
    clean = array(tiny(noise=0.0).segments(x))
    noisy = array(tiny(noise=0.001).segments(x))
    np.testing.assert_allclose(np.linalg.norm(clean, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(clean[:64], noisy[:64])
    noise = noisy[64:] - clean[64:]
    assert noise.std() == pytest.approx(0.001, rel=0.02)
    assert abs(noise.mean()) < 1e-5


def test_a_long_clip_has_the_amplitude_of_its_segments():
    x = waves(2, seconds=4.0)
    for normalize, shift in (("segment", 0.0), ("clip", np.log(4.0))):
        model = kas.COLA(preset="tiny", seconds=1.0, normalize=normalize)
        frontend = model.encoder.frontend
        # Four times the same second: each has the features of one.
        second = x[:, :16000]
        alone = array(frontend(second))
        four = array(frontend(np.tile(second, 4)))[:, : alone.shape[1]]
        loud = alone > -8
        assert loud.mean() > 0.1
        np.testing.assert_allclose((alone - four)[loud], 0.5 * shift, atol=1e-3)


def test_the_clip_can_be_normalised_in_place_of_the_segment():
    x = ops.convert_to_tensor(waves(4))
    got = array(tiny(noise=0.0, normalize="clip").segments(x))
    assert np.linalg.norm(got, axis=1).max() < 1.0
    whole = array(scale_amplitude(x, "l2"))[0]
    start = np.argmin(
        [np.abs(whole[s : s + 7760] - got[0]).sum() for s in range(11440)]
    )
    np.testing.assert_allclose(got[0], whole[start : start + 7760], atol=1e-6)


def test_an_amplitude_that_the_front_end_does_not_take_is_kept():
    other = kas.BYOLA(preset="tiny").encoder
    model = tiny(encoder=other)
    x = waves(5)
    got = array(model.segments(ops.convert_to_tensor(x)))
    assert np.linalg.norm(got, axis=1).max() > 2.0
    model.compile()
    assert np.isfinite(model.fit(x, batch_size=5, verbose=0).history["loss"][0])
    for settings, amplitude in (
        ({"frontend": "byol_a"}, None),
        ({"amplitude": "rms"}, "rms"),
        ({"frontend": "byol_a", "amplitude": "l2"}, "l2"),
    ):
        frontend = tiny(encoder=settings).encoder.frontend
        assert frontend.amplitude == amplitude
        assert bool(frontend.amplitude_samples) == (amplitude == "l2")


def test_the_exported_encoder_has_neither_head_nor_matrix():
    model = tiny()
    names = " ".join(v.path for v in model.encoder.weights)
    assert "bilinear" not in names and "projector" not in names
    inside = {id(v) for v in model.encoder.weights}
    assert not inside & {id(v) for v in model.projector.weights}


def test_short_clips_warn_and_single_clips_are_refused():
    model = tiny()
    model.compile()
    with pytest.warns(UserWarning, match="no longer than the segment"):
        model.fit(waves(4, seconds=0.4), verbose=0)
    with pytest.raises(ValueError, match="at least 2 clips. Received: 1"):
        model.fit(waves(1), verbose=0)


@pytest.mark.parametrize(
    "kwargs, match",
    [
        ({"similarity": "euclid"}, "similarity"),
        ({"normalize": "never"}, "normalize"),
        ({"encoder": "resnet"}, "encoder"),
        ({"seconds": 0.01}, "seconds"),
    ],
)
def test_arguments_are_checked(kwargs, match):
    with pytest.raises(ValueError, match=match):
        tiny(**kwargs)


@pytest.mark.parametrize("make", [kas.COLA, kas.Joint])
def test_clips_are_scaled_as_segments_at_any_rate(make):
    def frontend(**kwargs):
        model = make(preset="tiny", **kwargs)
        return model.encoder.frontend, model.crop.length

    usual, _ = frontend()
    for given in (
        {"sample_rate": 8000}, {"encoder": {"sample_rate": 8000}},
    ):  # fmt: skip
        found, length = frontend(**given)
        assert found.sample_rate == 8000
        # As long as at the usual rate, and as the segments but for a frame.
        assert found.amplitude_samples == usual.amplitude_samples // 2
        assert abs(found.amplitude_samples - length) <= found.hop_length
    for wrong in (8000.5, -1, "8k"):
        with pytest.raises(ValueError, match="sample_rate"):
            frontend(sample_rate=wrong)
    louder, _ = frontend(encoder={"amplitude": "rms"})
    assert louder.amplitude_samples is None
