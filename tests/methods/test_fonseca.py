import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from keras_audio_ssl.augment import Gain
from keras_audio_ssl.augment import repeated
from tests.contract import batch
from tests.contract import check_views_stand_apart
from tests.contract import step
from tests.contract import waves


def array(x):
    return ops.convert_to_numpy(x)


def tiny(**kwargs):
    keras.utils.set_random_seed(0)
    model = kas.Fonseca(preset="tiny", **kwargs)
    model.encoder.frontend.adapt([batch(8)])
    return model


@pytest.mark.parametrize(
    "name, dim, parameters",
    [
        ("resnet18", 512, 11_170_240),
        ("vgg", 512, 290_292 - 20 * 513),
        ("crnn", 64, None),
    ],
)
def test_the_paper_is_the_default(name, dim, parameters):
    model = kas.Fonseca() if name == "resnet18" else kas.Fonseca(name)
    encoder = model.encoder
    assert encoder.dim == dim and encoder.sample_rate == 22050
    assert encoder.frontend.n_features == 96 and model.crop.length == 101
    trained = sum(int(np.prod(v.shape)) for v in encoder.trainable_variables)
    assert parameters in (trained, None)
    assert [type(a).__name__ for a in model.augmentations] == [
        "MixBack", "RandomResizedCrop", "Compression", "FeatureNoise",
    ]  # fmt: skip
    assert model.augmentations[0].views == 2
    assert model.augmentations[0].base == 10
    optimizer = model.default_optimizer(1000)
    schedule = keras.optimizers.deserialize(
        keras.optimizers.serialize(optimizer)
    )._learning_rate
    rates = [float(array(schedule(s))) for s in (0, 649, 660, 900)]
    np.testing.assert_allclose(rates, [0.03, 0.03, 0.003, 0.0003], rtol=1e-5)
    assert optimizer.momentum == 0.9


def test_the_papers_decay_is_that_of_the_gradient():
    """A weight without gradient falls as with the reference's SGD."""
    weight = keras.Variable(np.ones(1, "float32"))
    model = kas.Fonseca(preset="tiny", solver="sgd", learning_rate=0.03)
    optimizer = model.default_optimizer(1000)
    theirs, speed = 1.0, 0.0
    for _ in range(200):
        optimizer.apply([ops.zeros(1)], [weight])
        speed = 0.9 * speed + 1e-4 * theirs
        theirs -= 0.03 * speed
    assert 1 - float(weight.numpy()[0]) == pytest.approx(1 - theirs, rel=0.06)


def test_the_loss_starts_near_ln_of_the_negatives_and_views_are_found():
    model, x = tiny(learning_rate=3e-3), batch(16)
    model.compile()
    first = step(model, x)
    # A little below: two patches of a tone are alike to any network.
    assert abs(first["loss"] - np.log(31)) < 1.5
    history = model.fit(x, batch_size=16, epochs=25, verbose=0).history
    assert history["loss"][-1] < 0.8 * first["loss"]
    assert np.mean(history["view_retrieval"][-5:]) > 10 / 31
    check_views_stand_apart(model, x)


def test_pairs_of_other_clips_leave_nothing_to_learn():
    model = tiny(learning_rate=3e-3)
    patches = array(model.patches(batch(16)))
    rng = np.random.default_rng(0)

    class Permuted(kas.Fonseca):
        def call(self, x, training=False):
            return self.compare(x["first"], x["second"], training=training)

    keras.utils.set_random_seed(0)
    model = Permuted(preset="tiny", learning_rate=3e-3)
    model.compile()
    accuracies = []
    for _ in range(12):
        pairs = {
            "first": patches[:16],
            "second": patches[16:][rng.permutation(16)],
        }
        accuracies.append(step(model, pairs)["view_retrieval"])
        model.reset_metrics()
    assert np.mean(accuracies) < 4 / 31


def test_patches_are_random_parts_of_the_clip():
    model, x = tiny(), waves(4, sample_rate=22050)
    whole = array(model.encoder.frontend.unnormalized(ops.convert_to_tensor(x)))
    got = array(model.patches(ops.convert_to_tensor(x)))
    assert got.shape == (8, 48, 32)
    starts = []
    for row, patch in enumerate(got):
        clip = whole[row % 4]
        found = [
            s
            for s in range(len(clip) - 47)
            if np.abs(clip[s : s + 48] - patch).max() < 1e-4
        ]
        assert len(found) == 1
        starts += found
    assert len(set(starts)) > 4


def test_short_clips_are_repeated():
    x = np.array([[1, 2, 3, 0, 0], [1, 2, 3, 4, 5]], "float32")
    got, lengths = repeated(ops.convert_to_tensor(x), 7, np.array([3, 5]))
    np.testing.assert_array_equal(
        array(got), [[1, 2, 3, 1, 2, 3, 1], [1, 2, 3, 4, 5, 1, 2]]
    )
    np.testing.assert_array_equal(array(lengths), [7, 7])
    got, lengths = repeated(ops.convert_to_tensor(x), 4, np.array([3, 5]))
    np.testing.assert_array_equal(
        array(got), [[1, 2, 3, 1, 0], [1, 2, 3, 4, 5]]
    )
    np.testing.assert_array_equal(array(lengths), [4, 5])
    same, none = repeated(ops.convert_to_tensor(x), 5)
    assert none is None
    np.testing.assert_array_equal(array(same), x)
    # A clip of one patch has one: both views are the same.
    model = tiny()
    frontend = model.encoder.frontend
    samples = frontend.min_samples + 47 * frontend.hop_length
    first, second = np.split(array(model.patches(waves(3)[:, :samples])), 2)
    np.testing.assert_array_equal(first, second)
    first, second = np.split(array(model.patches(waves(3)[:, :5000])), 2)
    assert first.shape == (3, 48, 32)
    np.testing.assert_array_equal(first, second)


def test_a_patch_does_not_depend_on_padding_or_neighbours():
    model = tiny()
    clips = waves(3, sample_rate=22050)[:, :11000]
    alone = array(model.patches(ops.convert_to_tensor(clips)))
    padded = np.zeros((3, 30000), "float32")
    padded[:, :11000] = clips
    # Clips that have few frames more than a patch: a start must be found.
    x = {"waveform": padded, "lengths": np.full(3, 11000)}
    model.seed_generator.state.assign(tiny().seed_generator.state.numpy())
    together = array(model.patches(x))
    np.testing.assert_allclose(together, alone, atol=2e-4)


def test_augmentations_by_name_and_none_at_all():
    model = tiny(augmentations=())
    assert model.augmentations == []
    x = ops.convert_to_tensor(waves(3))
    patches = model.patches(x)
    both = [array(v) for v in model.views(patches)]
    want = array(model.encoder.frontend.normalized(patches))
    np.testing.assert_array_equal(np.concatenate(both), want)
    model = tiny(
        augmentations=["noise", "frequency_shift"],
        noise=0.5,
        spec_augment={"bins": 5},
    )
    kinds = [type(a).__name__ for a in model.augmentations]
    assert kinds == ["FeatureNoise", "FrequencyShift", "SpecAugment"]
    assert model.augmentations[0].std == 0.5
    assert model.augmentations[2].bins == 5
    opened = type(model).from_config(model.get_config())
    assert [type(a).__name__ for a in opened.augmentations] == kinds
    assert opened.spec_augment == {"bins": 5}


def test_mix_back_of_nothing_is_nothing():
    model = tiny(mixback_alpha=0.0, augmentations=["mix_back"])
    patches = model.patches(ops.convert_to_tensor(waves(3)))
    got = np.concatenate([array(v) for v in model.views(patches)])
    want = array(model.encoder.frontend.normalized(patches))
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_a_front_end_without_logarithms_is_refused():
    with pytest.raises(ValueError, match="front end of logarithms"):
        kas.Fonseca({"backbone": "resnet18", "frontend": "waveform"})
    kas.Fonseca(
        {"backbone": "resnet18", "frontend": "waveform", "width": 4},
        augmentations=(),
    )
    other = kas.Fonseca({"backbone": "vgg", "frontend": "byol_a"})
    assert other.augmentations[0].base == pytest.approx(np.e)


@pytest.mark.parametrize("backward", ["final", "last_index"])
def test_the_recurrent_network_reads_what_it_says(backward):
    keras.utils.set_random_seed(0)
    net = kas.encoders.CRNN(
        40, conv_channels=4, units=3, crnn_backward=backward
    )
    x = np.random.default_rng(0).standard_normal((2, 32, 40)).astype("float32")
    outputs = net(x)
    frames, clip = array(outputs["frames"]), array(outputs["clip"])
    assert frames.shape == (2, 4, 6) and net.clip_dim == 3
    back = frames[:, 0 if backward == "final" else -1, 3:]
    np.testing.assert_allclose(clip, frames[:, -1, :3] * back, atol=1e-6)


def test_one_clip_has_no_negatives():
    model = tiny()
    model.compile()
    with pytest.raises(ValueError, match="at least 2 clips. Received: 1"):
        model.fit(waves(1), verbose=0)


@pytest.mark.parametrize(
    "kwargs, match",
    [
        ({"temperature": 0}, "temperature"),
        ({"frames": 3}, "frames"),
        ({"solver": "lamb"}, "solver"),
        ({"augmentations": ["fade"]}, "fade"),
        ({"augmentations": [Gain()]}, "Gain"),
        ({"mixback_alpha": 1.0}, "alpha"),
        ({"rrc": (0.0, 1.0, 0.5, 2.0)}, "area"),
        ({"encoder": {"crnn_backward": "x", "backbone": "crnn",
                      "n_mels": 96}}, "crnn_backward"),
    ],
)  # fmt: skip
def test_arguments_are_checked(kwargs, match):
    with pytest.raises(ValueError, match=match):
        tiny(**kwargs)
