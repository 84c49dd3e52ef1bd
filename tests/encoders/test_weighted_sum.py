import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.encoders import Transformer
from keras_audio_ssl.features import recipe
from tests.contract import waves
from tests.encoders.tiny import array


def transformer():
    keras.utils.set_random_seed(1)
    net = Transformer(20, 16, 2, 4, 24)
    return Encoder(recipe("tera", n_mels=20), net)


@pytest.fixture
def encoder():
    return transformer()


def test_it_starts_as_the_mean_of_the_levels(encoder):
    mixed, x = kas.WeightedSum(encoder), waves(2)
    hidden = encoder(x, return_hidden=True)["hidden"]
    out = mixed(x, return_hidden=True)
    want = np.mean([array(h) for h in hidden], axis=0)
    np.testing.assert_allclose(array(out["frames"]), want, atol=1e-5)
    np.testing.assert_allclose(array(out["clip"]), want.mean(1), atol=1e-5)
    assert mixed.dim == encoder.dim and len(out["hidden"]) == 3
    np.testing.assert_allclose(mixed.level_weights, 1 / 3, atol=1e-6)
    assert mixed.frame_rate == encoder.frame_rate


def test_shares_are_a_softmax_and_levels_can_be_chosen(encoder):
    mixed, x = kas.WeightedSum(encoder, levels=[0, -1]), waves(2)
    mixed.backbone.mixture.assign([0.0, 100.0])
    np.testing.assert_allclose(
        array(mixed(x)["frames"]), array(encoder(x)["frames"]), atol=1e-5
    )
    np.testing.assert_allclose(mixed.level_weights, [0, 1], atol=1e-6)


def test_a_frozen_classifier_trains_the_shares_alone(encoder):
    mixed = kas.WeightedSum(encoder)
    before = [v.numpy() for v in encoder.weights]
    classifier = kas.Classifier(mixed, classes=2, freeze=True)
    classifier.compile(keras.optimizers.Adam(0.05))
    classifier.fit(waves(8), np.arange(8) % 2, epochs=3, verbose=0)
    for old, v in zip(before, encoder.weights, strict=True):
        np.testing.assert_array_equal(old, v.numpy())
    assert np.abs(mixed.level_weights - 1 / 3).max() > 1e-3
    np.testing.assert_allclose(
        array(mixed.frozen(waves(2))["clip"]),
        array(mixed(waves(2), training=False)["clip"]),
        atol=1e-6,
    )


def test_it_is_saved_and_embeds_lengths_alike(encoder, tmp_path):
    mixed = kas.WeightedSum(encoder, pooling=("mean", "std"))
    mixed.backbone.mixture.assign([0.3, -0.2, 0.5])
    mixed.save(tmp_path / "mixed.keras")
    again = kas.load_encoder(tmp_path / "mixed.keras")
    assert isinstance(again, kas.WeightedSum)
    clips = [waves(1)[0], waves(1)[0][:9001], waves(1)[0][:12345]]
    got = again.embed(clips)
    assert got.shape == (3, 32)
    np.testing.assert_allclose(got, mixed.embed(clips), atol=1e-6)
    alone = np.stack([mixed.embed(clip) for clip in clips])
    np.testing.assert_allclose(got, alone, atol=1e-5)


def test_rates_are_those_of_the_coarsest():
    from keras_audio_ssl.features import LogMel
    from tests.encoders.tiny import RoundsUp

    encoder = Encoder(LogMel(n_mels=5), RoundsUp())
    out = kas.WeightedSum(encoder)(waves(1))
    assert out["frames"].shape == encoder(waves(1))["frames"].shape


def test_levels_of_different_width_are_refused():
    from keras_audio_ssl.encoders import AudioNTT

    encoder = Encoder(recipe("byol_a", n_mels=32, mean=0.0, std=1.0),
                      AudioNTT(32, "v1", 24, conv_channels=8))  # fmt: skip
    with pytest.raises(ValueError, match="one width"):
        kas.WeightedSum(encoder)
    last = kas.WeightedSum(encoder, levels=[-1])
    assert np.isfinite(ops.convert_to_numpy(last(waves(1))["clip"])).all()
