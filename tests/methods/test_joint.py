import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from keras_audio_ssl.augment import Gain
from keras_audio_ssl.losses import nt_xent
from tests.contract import batch
from tests.contract import waves
from tests.gradients import gradients


def array(x):
    return ops.convert_to_numpy(x)


def tiny(**kwargs):
    keras.utils.set_random_seed(0)
    model = kas.Joint(preset="tiny", **kwargs)
    if not model.encoder.frontend.adapted:
        model.encoder.frontend.adapt([waves(8, seconds=1.0)])
    return model


PLAIN = {"augmentations": None, "mixup_ratio": 0.0}


def test_the_usual_encoder():
    model = kas.Joint()
    frontend = model.encoder.frontend
    assert frontend.normalize == "per_bin" and frontend.amplitude == "l2"
    assert model.encoder.dim == 512 and model.stretched.frames == 94
    # Whole clips are scaled as crops are, but for less than a frame.
    assert frontend.amplitude_samples == pytest.approx(
        model.crop.length, abs=frontend.hop_length
    )
    crop = int(frontend.frame_lengths(model.crop.length))
    assert crop == model.stretched.longest
    assert model.decoder.kernel.shape == (512, 8 * 64)
    # Another front end has no such scale.
    other = kas.Joint(encoder={"frontend": "byol_a"})
    assert other.encoder.frontend.amplitude_samples is None
    rate = model.default_optimizer(1000)._learning_rate
    assert float(array(rate(50))) == pytest.approx(1e-3)
    assert float(array(rate(1000))) == pytest.approx(0, abs=1e-8)


def test_a_plain_view_is_its_target():
    model = tiny(**PLAIN)
    view, target = model.view(waves(4, seconds=1.5), 1)
    np.testing.assert_array_equal(array(view), array(target))
    assert view.shape == (4, model.stretched.frames, 32)


def test_what_is_hidden_and_mixed_is_not_in_the_target():
    x = waves(6, seconds=1.5)
    # All hidden: the view says nothing, the target all.
    model = tiny(**PLAIN, mask=(10_000, 0, 50))
    view, target = model.view(x, 1)
    assert np.mean(array(view) == 0) > 0.9 and np.mean(array(target) == 0) < 0.1
    # Another clip is heard in the view, at most to the share given, and not
    # in the target.
    mixing = {**PLAIN, "mixup_ratio": 0.9, "stretch": (1.0, 1.0)}
    least = round(0.485 * 16000)
    x = x[:, :least]
    views, targets = tiny(**mixing).view(x, 1)
    plain, _ = tiny(**{**PLAIN, "stretch": (1.0, 1.0)}).view(x, 1)
    np.testing.assert_allclose(array(targets), array(plain), atol=2e-5)
    assert np.abs(array(views) - array(plain)).max() > 0.1
    loud = np.concatenate([x[:3], 0 * x[3:]])
    views, _ = tiny(**mixing).view(loud, 3)
    plain, _ = tiny(**{**PLAIN, "stretch": (1.0, 1.0)}).view(loud, 3)
    # A silent clip three places on takes a share of the power away; where
    # silence was, the clip three places on is heard.
    assert (array(views)[3:] > array(plain)[3:] - 1e-3).all()


def test_each_view_is_mixed_with_another_clip():
    model, seen = tiny(), []

    def view(x, other):
        seen.append(other)
        return kas.Joint.view(model, x, other)

    model.view = view
    model(waves(4, seconds=1.0), training=True)
    assert seen == [1, 2]


def test_the_loss_is_the_sum_of_both():
    model = tiny(contrast_weight=0.5, denoise_weight=2.0)
    x = batch(5)
    out = model(x, training=True)
    loss = float(array(model.pretext_loss(out, x)))
    contrast, _ = nt_xent(out["first"], out["second"], 0.2)
    frames = out["prediction"].shape[2]
    # 47 frames at a stride of 8: 40 are rebuilt.
    assert frames == 40 and out["target"].shape == (5, 2, 47, 32)
    error = np.abs(array(out["prediction"]) - array(out["target"])[:, :, :40])
    want = 0.5 * float(array(contrast)) + 2.0 * error.mean()
    assert loss == pytest.approx(want, rel=1e-5)
    logs = {m.name: float(array(m.result())) for m in model.metrics[1:]}
    assert logs["denoising_l1"] == pytest.approx(error.mean(), rel=1e-5)
    assert logs["zero_l1"] == pytest.approx(
        np.abs(array(out["target"])[:, :, :40]).mean(), rel=1e-5
    )


@pytest.mark.parametrize("alone", ["contrast", "denoise"])
def test_either_teaches_alone(alone):
    other = {"contrast": "denoise", "denoise": "contrast"}[alone]
    model = tiny(**{f"{other}_weight": 0.0})
    x, variables = batch(5), model.trainable_variables
    _, found = gradients(
        lambda: model.pretext_loss(model(x, training=True), x), variables
    )
    moved = {id(v) for v, g in zip(variables, found, strict=True) if np.any(g)}
    for head, of in ((model.projector, "contrast"), (model.decoder, "denoise")):
        of_head = {id(v) for v in head.trainable_variables}
        assert bool(of_head & moved) == (alone == of)
    assert {id(v) for v in model.encoder.trainable_variables} & moved


def test_it_learns_to_denoise_and_to_tell_clips_apart():
    # Tones that come and go, without noise, of which no frame is known from
    # another one.
    rng = np.random.default_rng(0)
    t = np.arange(16000) / 16000
    pitch, beat = rng.uniform(200, 3000, (24, 1)), rng.uniform(2, 9, (24, 1))
    x = np.sin(2 * np.pi * pitch * t) * (1 + np.sin(2 * np.pi * beat * t))
    model = tiny(learning_rate=3e-3, augmentations=None)
    model.compile(model.default_optimizer(90))
    history = model.fit(
        x.astype("float32") / 4, batch_size=12, epochs=45, verbose=0
    ).history
    assert history["denoising_l1"][-1] < 0.6 * history["zero_l1"][-1]
    # By chance it is 1 / 23.
    assert history["view_retrieval"][-1] > 0.3


def test_settings_that_make_no_sense():
    for wrong in (
        {"temperature": 0.0}, {"contrast_weight": -1.0}, {"mixup_ratio": 1.0},
        {"stretch": (2.0, 1.0)}, {"augmentations": [Gain()]},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="Received"):
            kas.Joint(preset="tiny", **wrong)
    with pytest.raises(ValueError, match="at least 3 clips"):
        model = tiny()
        model.compile()
        model.fit(waves(2, seconds=1.0), batch_size=2, verbose=0)
