import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from keras_audio_ssl.augment import AUGMENTATIONS
from keras_audio_ssl.augment import Gain
from keras_audio_ssl.augment import Sometimes
from keras_audio_ssl.features import recipe
from keras_audio_ssl.losses import labelled_cross_entropy
from tests.contract import BACKEND
from tests.contract import batch
from tests.contract import check_views_stand_apart
from tests.contract import step
from tests.contract import waves
from tests.gradients import gradients


def array(x):
    return ops.convert_to_numpy(x)


def tiny(**kwargs):
    keras.utils.set_random_seed(0)
    return kas.CLAR(preset="tiny", **kwargs)


def two_kinds(clips=24, seed=0):
    """Low and high tones in noise, and which is which."""
    rng = np.random.default_rng(seed)
    y = np.arange(clips) % 2
    pitch = rng.uniform(200, 500, clips) * np.where(y, 5, 1)
    t = np.arange(7600) / 16000
    x = 0.2 * np.sin(2 * np.pi * pitch[:, None] * t)
    x += 0.05 * rng.standard_normal(x.shape)
    return x.astype("float32"), y.astype("int32")


@pytest.mark.parametrize(
    "input_type, parameters",
    [("spectrogram", 11_176_512), ("waveform", 11_167_552)],
)
def test_the_paper_is_the_default(input_type, parameters):
    model = kas.CLAR(input_type=input_type)
    encoder = model.encoder
    trained = sum(int(np.prod(v.shape)) for v in encoder.trainable_variables)
    assert trained == parameters and encoder.dim == 512
    assert model.samples == 16000 and encoder.sample_rate == 16000
    if input_type == "spectrogram":
        assert int(encoder.frontend.frame_lengths(16000)) == 126
        assert encoder.frontend.n_features == 3 * 128
    head = [tuple(v.shape) for v in model.projector.trainable_variables]
    assert head == [(512, 512), (512,), (512,), (512,)] * 2 + [(512, 128)]
    names = [(type(a.layer).__name__, a.p) for a in model.augmentations]
    assert names == [("Fade", 0.5), ("TimeMask", 0.25)]
    rate = model.default_optimizer(1000)._learning_rate
    assert float(array(rate(5))) == pytest.approx(5e-4)
    assert float(array(rate(10))) == pytest.approx(1e-3)
    assert float(array(rate(1000))) == pytest.approx(0, abs=1e-8)


def test_the_channels_are_what_they_say():
    frontend = recipe("clar", n_mels=64)
    t = np.arange(16000) / 16000
    at = frontend.transform_frequencies
    assert at[0] == 40 and at[32] == pytest.approx(40 * 200**0.5)
    wave = np.cos(2 * np.pi * at[40] * t).astype("float32")[None]
    size, phase, mel = np.split(array(frontend(wave))[0], 3, axis=-1)
    assert (np.argmax(size[20:100], axis=1) == 40).all()
    # The window's sum, of an amplitude of one half each side.
    assert size[50, 40] == pytest.approx(20 * np.log10(512) - 20, abs=0.1)
    # A hop later, the tone has gone on by so many radians.
    turn = 2 * np.pi * at[40] * 128 / 16000
    off = np.diff(phase[20:100, 40]) - turn
    np.testing.assert_allclose(np.cos(off), 1, atol=1e-4)
    silent = array(frontend(np.zeros((1, 4000), "float32")))[0]
    np.testing.assert_allclose(silent[:, :64], -100, atol=1e-3)
    np.testing.assert_allclose(silent[:, 64:128], 0, atol=1e-6)
    np.testing.assert_allclose(silent[:, 128:], -60, atol=1e-3)
    np.testing.assert_allclose(np.abs(phase).max(), np.pi, atol=0.1)
    with pytest.raises(ValueError, match="f_min"):
        recipe("clar", f_min=0.0)


def test_the_loss_starts_near_ln_of_the_negatives_and_views_are_found():
    model, x = tiny(learning_rate=3e-3), batch(16)
    model.compile(keras.optimizers.Adam(3e-3))
    first = step(model, x)
    assert abs(first["loss"] - np.log(31)) < 1
    history = model.fit(x, batch_size=16, epochs=25, verbose=0).history
    # Below this no loss of cosines can fall.
    assert np.log(1 + 30 * np.exp(-4)) < history["loss"][-1] < first["loss"]
    assert np.mean(history["view_retrieval"][-5:]) > 10 / 31
    check_views_stand_apart(model, x)


def test_views_are_two_and_as_often_augmented_as_they_should_be():
    model = tiny()
    x = ops.convert_to_tensor(0.3 * np.ones((1000, 400), "float32"))
    views = array(model.views(x))
    assert views.shape == (2000, 400)
    changed = (np.abs(views - 0.3) > 1e-6).any(axis=1)
    first, second = np.split(changed, 2)
    # Fades in half of all views, masks in a quarter of them.
    want = 1 - 0.5 * 0.75
    for view in (first, second):
        assert view.mean() == pytest.approx(want, abs=0.06)
    # On its own: whether one view is says nothing of the other.
    assert (first & second).mean() == pytest.approx(want**2, abs=0.07)
    untouched = array(tiny(augmentations=()).views(x))
    np.testing.assert_array_equal(
        untouched, 0.3 * np.ones((2000, 400), "float32")
    )


def test_names_and_layers_can_be_mixed():
    own = Gain(0.5, 0.6)
    model = tiny(augmentations=["white_noise", own], probability=0.8)
    named, layer = model.augmentations
    assert isinstance(named, Sometimes) and named.p == 0.8
    assert layer is own
    again = kas.CLAR.from_config(model.get_config())
    kinds = [type(a).__name__ for a in again.augmentations]
    assert kinds == ["Sometimes", "Gain"]
    assert again.augmentations[1].high == 0.6
    assert len(tiny(augmentations="fade").augmentations) == 1


def test_all_augmentations_of_waveforms_at_once():
    names = [n for n, a in AUGMENTATIONS.items() if a.domain == "waveform"]
    model = tiny(augmentations=names)
    model.compile()
    assert np.isfinite(step(model, batch(4))["loss"])
    # Silence too.
    silence = np.zeros((4, 7600), "float32")
    assert np.isfinite(step(model, silence)["loss"])


def test_labels_do_what_they_should():
    model = tiny(classes=["low", "high"])
    x, y = two_kinds(8)
    outputs = model(x, training=True)
    outputs = {k: ops.cast(v, "float32") for k, v in outputs.items()}

    def loss(labels, **weights):
        for name, value in weights.items():
            setattr(model, name, value)
        found = model.pretext_loss(outputs, x, labels)
        model.supervised_weight = model.contrastive_weight = 1.0
        return float(array(found))

    contrastive = loss(None)
    nothing = np.full(8, -1)
    assert loss(nothing) == contrastive
    assert loss(y, supervised_weight=0.0) == contrastive
    some = np.where(np.arange(8) < 3, y, -1)
    supervised = sum(
        float(array(labelled_cross_entropy(outputs[name], some)))
        for name in ("first_logits", "second_logits")
    )
    assert loss(some) == pytest.approx(contrastive + supervised, rel=1e-5)
    assert loss(some, contrastive_weight=0.0) == pytest.approx(
        supervised, rel=1e-5
    )
    # What stands for no label says nothing more.
    assert loss(np.where(some < 0, -7, some)) == loss(some)
    one = np.where(np.arange(8) == 2, y, -1)
    assert np.isfinite(loss(one))


def test_cross_entropy_of_labelled_rows_against_loops():
    rng = np.random.default_rng(0)
    logits = (3 * rng.standard_normal((6, 4))).astype("float32")
    labels = np.array([2, -1, 0, 3, -1, 1], "int32")
    terms = [
        np.log(np.exp(row.astype("float64")).sum()) - row[label]
        for row, label in zip(logits, labels)
        if label >= 0
    ]
    got = labelled_cross_entropy(ops.convert_to_tensor(logits), labels)
    assert float(array(got)) == pytest.approx(np.mean(terms), rel=1e-6)
    variable = keras.Variable(logits)
    none = np.full(6, -1, "int32")
    value, (grad,) = gradients(
        lambda: labelled_cross_entropy(ops.convert_to_tensor(variable), none),
        [variable],
    )
    assert value == 0 and not grad.any()


def test_few_labels_beside_many_clips_tell_the_classes():
    def six_tones(clips, seed):
        rng = np.random.default_rng(seed)
        y = np.arange(clips) % 6
        pitch = 300 * 1.5**y * rng.uniform(0.98, 1.02, clips)
        t = np.arange(7600) / 16000
        x = 0.15 * np.sin(2 * np.pi * pitch[:, None] * t)
        x += rng.uniform(0.1, 0.2, (clips, 1)) * rng.standard_normal(x.shape)
        return x.astype("float32"), y

    (x, y), (unseen, truth) = six_tones(36, 1), six_tones(96, 9)
    # A label of each tone, of six clips.
    few = np.where(np.arange(36) < 6, y, -1)
    model = tiny(classes=6, augmentations=("fade", "white_noise"))
    model.compile(keras.optimizers.Adam(3e-3))
    history = model.fit(x, few, batch_size=36, epochs=15, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    logits = model.predict(unseen, verbose=0)["first_logits"]
    # Three times chance.
    assert (logits.argmax(1) == truth).mean() > 0.5


def test_labels_of_a_run_are_its_classes(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    import soundfile

    x, y = two_kinds(16)
    rows = ["file,kind"]
    for i, (wave, label) in enumerate(zip(x, y, strict=True)):
        soundfile.write(folder / f"{i}.wav", wave, 16000)
        rows.append(f"{i}.wav,{('low', 'high')[label] if i % 4 < 2 else ''}")
    (folder / "clips.csv").write_text("\n".join(rows) + "\n")
    run = kas.pretrain(
        "clar",
        folder / "clips.csv",
        tmp_path / "clar.keras",
        preset="tiny",
        steps=3,
        batch_size=8,
        label="kind",
        label_fraction=0.5,
        progress=False,
        say=lambda *_: None,
    )
    assert "class_accuracy" in (tmp_path / "clar.run/history.csv").read_text()
    assert run is not None


def test_waveforms_need_no_spectrogram():
    keras.utils.set_random_seed(0)
    model = kas.CLAR(
        {"width": 2},
        input_type="waveform",
        seconds=0.1,
        head=(8, 8),
        augmentations=["white_noise"],
    )
    assert model.encoder.dim == 16
    model.compile()
    x = batch(4)
    if BACKEND == "jax":
        # Half a minute of compiling, of what two dimensions have as well.
        loss = model.evaluate(x, batch_size=4, verbose=0, return_dict=True)
        assert np.isfinite(loss["loss"])
    else:
        assert np.isfinite(step(model, x)["loss"])


def test_clips_are_cut_or_followed_by_silence():
    model = tiny()
    x = np.ones((2, 9000), "float32")
    got = array(model.clip({"waveform": x, "lengths": np.array([5000, 9000])}))
    assert got.shape == (2, 7600)
    assert got[1].all() and got[0, :5000].all() and not got[0, 5000:].any()
    short = array(model.clip(x[:, :100]))
    assert short.shape == (2, 7600) and short.sum() == 200


@pytest.mark.parametrize(
    "kwargs, match",
    [
        ({"input_type": "mel"}, "input_type"),
        ({"augmentations": ["mix_back"]}, "mix_back"),
        ({"temperature": 0}, "temperature"),
        ({"supervised_weight": -1}, "supervised_weight"),
        ({"classes": 1}, "classes"),
        ({"seconds": 0.001}, "seconds"),
        ({"probability": 2}, "p"),
    ],
)
def test_arguments_are_checked(kwargs, match):
    with pytest.raises(ValueError, match=match):
        tiny(**kwargs)


def test_one_clip_has_no_negatives():
    model = tiny()
    model.compile()
    with pytest.raises(ValueError, match="at least 2 clips. Received: 1"):
        model.fit(waves(1), verbose=0)
