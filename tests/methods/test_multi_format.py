import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from keras_audio_ssl.augment import Fade
from keras_audio_ssl.augment import Sometimes
from tests.contract import batch
from tests.contract import step
from tests.contract import waves
from tests.methods.test_lim import on_torch_alone
from tests.methods.test_lim import voices


def array(x):
    return ops.convert_to_numpy(x)


def tiny(**kwargs):
    keras.utils.set_random_seed(0)
    return kas.MultiFormat(preset="tiny", **kwargs)


def unit(*shape, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape).astype("float32")
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def outputs(first, second):
    vectors = {"first": first, "second": second}
    vectors = {k: ops.convert_to_tensor(v) for k, v in vectors.items()}
    return {**vectors, **{f"{k}_embedding": v for k, v in vectors.items()}}


def test_the_paper_is_the_default():
    model = kas.MultiFormat()
    waveform, spectrogram = model.parts
    assert (waveform.dim, spectrogram.dim, model.encoder.dim) == (512,) * 2 + (
        1024,
    )
    assert waveform.backbone.stride == 160
    assert spectrogram.frontend.n_features == 80
    assert model.crop.length == 48000
    assert [p.out.kernel.shape for p in model.projectors] == [(512, 128)] * 2
    config = model.default_optimizer(1000).get_config()["learning_rate"]
    rate = keras.optimizers.schedules.CosineDecay(**config["config"])
    rates = [float(array(rate(step))) for step in (0, 500, 1000)]
    assert rates == pytest.approx([1e-4, 5.05e-5, 1e-6])
    names = [name for name, _ in model.augmentations]
    assert names == ["waveform_mix", "silence", "spec_augment",
                     "spec_augment", "frequency_shift"]  # fmt: skip
    own = dict(model.augmentations)
    assert (own["waveform_mix"].a, own["waveform_mix"].b) == (5, 2)
    assert own["silence"].p == 0.5 and own["silence"].layer.samples == 4800
    assert (own["frequency_shift"].low, own["frequency_shift"].high) == (
        -10, 10,
    )  # fmt: skip
    masks = [layer.layer for name, layer in model.augmentations[2:4]]
    assert [(m.bins, m.frames, m.count) for m in masks] == [
        (0, 30, 1), (8, 0, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("negatives, count", [("all", 11), ("cross_format", 6)])
def test_where_all_are_alike_the_loss_is_the_logarithm_of_their_number(
    negatives, count
):
    model = tiny(negatives=negatives)
    same = np.repeat(unit(1, 8), 6, axis=0)
    loss = model.pretext_loss(outputs(same, same), None)
    assert float(array(loss)) == pytest.approx(np.log(count), rel=1e-5)


def test_losses_are_those_of_loops():
    w, s = unit(5, 8), unit(5, 8, seed=1)
    both = np.concatenate([w, s])
    rows = []
    for i in range(10):
        logits = [both[i] @ both[j] / 0.1 for j in range(10) if j != i]
        pair = both[i] @ both[(i + 5) % 10] / 0.1
        rows.append(np.log(np.sum(np.exp(logits))) - pair)
    loss = tiny().pretext_loss(outputs(w, s), None)
    assert float(array(loss)) == pytest.approx(np.mean(rows), rel=1e-5)
    cross = w @ s.T / 0.1
    each = []
    for m in (cross, cross.T):
        each.append(np.mean(np.log(np.exp(m).sum(1)) - np.diag(m)))
    model = tiny(negatives="cross_format")
    loss = model.pretext_loss(outputs(w, s), None)
    assert float(array(loss)) == pytest.approx(np.mean(each), rel=1e-5)
    logs = {m.name: float(array(m.result())) for m in model.metrics}
    assert logs["waveform_loss"] == pytest.approx(each[0], rel=1e-5)
    assert logs["spectrogram_loss"] == pytest.approx(each[1], rel=1e-5)
    hits = [(m.argmax(1) == np.arange(5)).mean() for m in (cross, cross.T)]
    assert logs["waveform_retrieval"] == pytest.approx(hits[0])
    assert logs["spectrogram_retrieval"] == pytest.approx(hits[1])


@pytest.mark.parametrize("negatives", ["all", "cross_format"])
def test_two_encoders_meet_in_one_space(negatives):
    if negatives != "all":
        on_torch_alone()
    model, x = tiny(negatives=negatives), voices(96)
    model.compile(keras.optimizers.Adam(3e-3))
    first = step(model, x[:24])
    history = model.fit(x, batch_size=24, epochs=20, verbose=0).history
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    for name in ("waveform", "spectrogram"):
        # A collapse would bring clips nearer than random weights do.
        std = f"{name}_embedding_std"
        assert history[std][-1] > 0.8 * first[std]
    # Clips that it never heard, among 24: chance is 1 / 24. So many, as of
    # the clips of one batch alone 5 to 12 are found.
    unseen = voices(120, seed=7)
    logs = model.evaluate(unseen, batch_size=24, verbose=0, return_dict=True)
    assert logs["waveform_retrieval"] > 5 / 24
    assert logs["spectrogram_retrieval"] > 5 / 24


def moved(model, x):
    """Whether each encoder's weights move in a step."""
    before = [[v.numpy() for v in p.trainable_variables] for p in model.parts]
    weights = [p.trainable_variables for p in model.parts]
    step(model, x)
    return [
        [bool(np.abs(v.numpy() - b).max() > 0) for v, b in zip(vs, bs)]
        for vs, bs in zip(weights, before)
    ]


def test_gradients_reach_both_and_one_can_be_frozen():
    on_torch_alone()
    model, x = tiny(), batch(8)
    model.compile()
    # All but biases of nothing: convolutions here have none.
    assert all(np.mean(part) > 0.9 for part in moved(model, x))
    model = tiny()
    model.parts[0].trainable = False
    kept = [v.numpy() for v in model.parts[0].weights]
    model.compile()
    _, spectrogram = moved(model, x)
    assert np.mean(spectrogram) > 0.9
    for value, variable in zip(kept, model.parts[0].weights, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_three_encoders_are_kept(tmp_path):
    model, x = tiny(), batch(8)
    model.compile()
    model.fit(x, batch_size=8, verbose=0)
    kept = model.exports()
    assert list(kept) == ["", "waveform", "spectrogram"]
    clips, opened = [waves(1)[0], waves(1, seconds=0.7)[0]], {}
    for name, encoder in kept.items():
        path = tmp_path / f"x{name}.keras"
        encoder.save(path)
        opened[name] = kas.load_encoder(path).embed(clips)
        np.testing.assert_allclose(
            opened[name], encoder.embed(clips), atol=1e-5
        )
    np.testing.assert_allclose(
        opened[""],
        np.concatenate([opened["waveform"], opened["spectrogram"]], axis=1),
        atol=1e-5,
    )
    # Each takes waveforms and is told by what it reads inside.
    kinds = [type(kept[n].frontend).__name__ for n in
             ("waveform", "spectrogram")]  # fmt: skip
    assert kinds == ["Waveform", "LogMel"]
    assert kept["spectrogram"].frontend.adapted


def test_the_log_mel_inside_is_measured_by_fit():
    model = tiny()
    front = model.parts[1].frontend
    assert not front.adapted
    model.compile()
    model.fit(batch(8), batch_size=8, verbose=0)
    assert front.adapted


def test_one_encoder_is_the_baseline_of_one_format():
    models = []
    for given, kind in (("cnn6", "LogMel"), ("conv160", "Waveform")):
        settings = {"backbone": given}
        settings |= (
            {"n_mels": 32, "filters": (8, 8)}
            if given == "cnn6"
            else {"units": 16, "convs": ((10, 5), (8, 8)), "groups": 4}
        )
        model = tiny(encoder=settings)
        assert type(model.encoder.frontend).__name__ == kind
        assert len(model.projectors) == 1
        assert list(model.exports()) == [""]
        models.append(model)
    on_torch_alone()
    for model in models:
        model.compile()
        logs = step(model, batch(6))
        assert np.isfinite(logs["loss"]) and "first_retrieval" in logs


def changes(model, x):
    """What augmentations change of the two views, at the same crops."""
    views = []
    for training in (False, True):
        model.seed_generator.state.assign([5, 0])
        views.append([array(v) for v in model.views(x, training)])
    return [np.abs(a - b) for a, b in zip(*views, strict=True)]


def test_waveform_changes_reach_both_and_silence_the_waveform_alone():
    x = ops.convert_to_tensor(voices(6, seconds=0.5))
    none = changes(tiny(), x)
    assert not none[0].any() and not none[1].any()
    # The crops are the whole clips: they start where they must.
    both = changes(tiny(augmentations="waveform_mix"), x)
    assert both[0].max() > 0.01 and both[1].max() > 0.1
    one = changes(tiny(augmentations="silence", time_mask=0.4), x)
    assert one[0].max() > 0.01 and not one[1].any()
    other = changes(tiny(augmentations=("spec_augment", "frequency_shift")), x)
    assert not other[0].any() and other[1].max() > 0.1


def test_augmentations_can_be_switched_off_and_others_given():
    off = tiny(
        augmentations=("waveform_mix", "silence", "spec_augment"),
        mix_beta=None, time_mask=0.0, freq_mask=0,
    )  # fmt: skip
    assert off.augmentations == []
    for wrong in ("sneeze", 3):
        with pytest.raises(ValueError, match="augmentations"):
            tiny(augmentations=(wrong,))
    model = tiny(augmentations=("gain", Sometimes(Fade(), 0.5), "noise"))
    assert [name for name, _ in model.augmentations][::2] == ["gain", "noise"]
    on_torch_alone()
    model.compile()
    assert np.isfinite(step(model, batch(4))["loss"])


def test_short_clips_are_repeated_with_a_warning():
    model = tiny()
    model.compile()
    with pytest.warns(UserWarning, match="no longer than the crops"):
        model.fit(waves(4, seconds=0.4), verbose=0)
    with pytest.raises(ValueError, match="at least 2 clips. Received: 1"):
        model.fit(waves(1), verbose=0)


@pytest.mark.parametrize(
    "kwargs, match",
    [
        ({"negatives": "none"}, "negatives"),
        ({"temperature": 0.0}, "temperature"),
        ({"seconds": 0.01}, "`seconds` must be at least"),
        ({"waveform_encoder": 3}, "encoder"),
        ({"spectrogram_encoder": {"sample_rate": 8000, "f_max": 3900.0}},
         "one sample rate"),
    ],
)  # fmt: skip
def test_arguments_are_checked(kwargs, match):
    with pytest.raises(ValueError, match=match):
        tiny(**kwargs)
