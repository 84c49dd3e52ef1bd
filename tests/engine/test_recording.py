import inspect
import json

import keras
import numpy as np
import pytest

import keras_audio_ssl as kas
from keras_audio_ssl import engine
from keras_audio_ssl.encoders import AudioNTT
from tests.contract import batch
from tests.contract import same
from tests.contract import step
from tests.contract import waves
from tests.contract import weights_of
from tests.methods.denoising import Denoising


class Scale(engine.Layer):
    """Multiplies, after another layer."""

    PRESETS = {"double": {"factor": 2.0, "more": {"a": 1, "b": 2}}}

    def __init__(self, factor, inner=None, sizes=(1, 2), more=None, **kwargs):
        super().__init__(**kwargs)
        self.early = (self.factor, self.sizes, hasattr(self, "inner"))
        self.sizes = [2 * n for n in sizes]

    def call(self, x):
        return self.factor * (x if self.inner is None else self.inner(x))


class Shift(Scale):
    """A second level, which fixes an argument of the first."""

    RETIRED = ("old",)
    RENAMED = {"shift": "offset"}

    def __init__(self, offset=np.float32(0.5), **kwargs):
        super().__init__(factor=3.0, **kwargs)

    def call(self, x):
        return super().call(x) + self.offset


def test_arguments_are_attributes_and_configuration():
    layer = Scale(4.0, sizes=(3,), name="scale")
    assert layer.early == (4.0, [3], True)
    assert Scale(1.0, inner=layer).early == (1.0, [1, 2], False)
    # What a class makes of an argument stays; the argument is recorded.
    assert layer.sizes == [6] and layer.inner is None and layer.built
    config = layer.get_config()
    assert config["sizes"] == [3] and config["factor"] == 4.0
    assert set(config) == {
        "name", "trainable", "dtype", "factor", "inner", "sizes", "more",
    }  # fmt: skip


def test_two_levels_a_preset_and_a_nested_layer_come_back():
    inner = Scale(preset="double", more={"b": 5}, name="inner")
    assert inner.more == {"a": 1, "b": 5} and inner.factor == 2.0
    layer = Shift(inner=inner, dtype="mixed_bfloat16")
    text = json.dumps(keras.saving.serialize_keras_object(layer))
    again = keras.saving.deserialize_keras_object(json.loads(text))
    assert isinstance(again, Shift) and again.dtype_policy.name == (
        "mixed_bfloat16"
    )
    x = np.ones((2, 3), "float32")
    assert float(keras.ops.max(again(x))) == float(keras.ops.max(layer(x)))
    config = again.get_config()
    assert config == json.loads(json.dumps(layer.get_config()))
    assert "factor" not in config and config["offset"] == 0.5
    assert Shift.from_config({**config, "old": 3}).offset == 0.5
    before = {k: v for k, v in config.items() if k != "offset"}
    assert Shift.from_config({**before, "shift": 0.25}).offset == 0.25
    assert Shift(shift=0.25).get_config()["offset"] == 0.25
    with pytest.raises(ValueError, match="earlier name of `offset`"):
        Shift(shift=1.0, offset=2.0)
    with pytest.raises(ValueError, match=r"'double'\. Received: 'half'"):
        Scale(preset="half")


def test_a_class_is_registered_by_being_defined():
    assert keras.saving.get_registered_name(Shift) == "tests>Shift"
    name = keras.saving.get_registered_name(kas.evaluation.LogMelStatistics)
    assert name == "keras_audio_ssl>LogMelStatistics"


def test_signatures_show_what_a_constructor_takes():
    assert "preset" in inspect.signature(kas.BYOLA).parameters
    assert "preset" not in inspect.signature(AudioNTT).parameters
    with pytest.raises(TypeError, match="positional"):
        Scale(1.0, None, (1,), {}, 5)


def test_positions_win_over_presets():
    model = kas.COLA("cnn", preset="tiny")
    assert model.encoder.dim == 512 and model.embedding_dim == 64


def test_frozen_layers_stay_frozen_in_files(tmp_path):
    encoder = Denoising().encoder
    encoder.backbone.blocks[0].trainable = False
    count = len(encoder.trainable_weights)
    assert count < len(Denoising().encoder.trainable_weights)
    encoder.save(tmp_path / "some.keras")
    again = kas.load_encoder(tmp_path / "some.keras")
    assert len(again.trainable_weights) == count
    assert not again.backbone.blocks[0].norm.trainable


def test_a_frozen_encoder_in_a_functional_model_stays_so(tmp_path):
    encoder = Denoising().encoder
    encoder.trainable = False
    inputs = keras.Input((8000,))
    outputs = keras.layers.Dense(3)(encoder(inputs)["clip"])
    model = keras.Model(inputs, outputs)
    assert len(model.trainable_weights) == 2
    model.save(tmp_path / "functional.keras")
    again = keras.saving.load_model(tmp_path / "functional.keras")
    assert len(again.trainable_weights) == 2
    x = waves(2, 0.5)
    want = model.predict(x, verbose=0)
    np.testing.assert_allclose(again.predict(x, verbose=0), want, atol=1e-6)


@pytest.mark.parametrize("dtype", [None, "mixed_bfloat16"])
def test_a_method_made_of_settings_goes_on_where_it_was(tmp_path, dtype):
    settings = {"dim": 16, "n_mels": 16, "dropout": 0.1}
    model = Denoising(encoder=settings, noise=0.3, dtype=dtype)
    assert model.encoder.dim == 16 and model.encoder.frontend.n_mels == 16
    assert model.encoder.backbone.conv_channels == 8
    model.compile()
    model.fit(batch(4), verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.get_config()["encoder"] == settings
    assert step(model, batch(4)) == step(again, batch(4))
    assert same(weights_of(model), weights_of(again))


def test_encoders_come_back_from_their_name_and_from_themselves():
    bands = AudioNTT(16, dim=8, conv_channels=2)
    for encoder in (
        "cnn",
        {"backbone": "recurrent", "units": 8, "layers": 1},
        bands,
        Denoising(encoder=bands).encoder,
    ):
        model = Denoising(encoder=encoder)
        again = Denoising.from_config(model.get_config())
        for a, b in zip(model.weights, again.weights, strict=True):
            assert a.shape == b.shape
    # The paper's front end has the bands that a backbone reads.
    assert model.encoder.frontend.n_mels == 16


def test_settings_that_nobody_knows_are_named():
    with pytest.raises(ValueError, match=r"no setting 'unit'.*conv_channels"):
        Denoising(encoder={"unit": 3})
    with pytest.raises(ValueError, match="no backbone 'rnn'.*recurrent"):
        Denoising(encoder={"backbone": "rnn"})
    with pytest.raises(ValueError, match=r"encoder=\{'units': 3\}"):
        kas.APC(units=3)


def test_a_layer_without_a_constructor_has_no_arguments():
    class Bare(engine.Layer):
        def call(self, x):
            return x

    layer = Bare(name="bare")
    assert Bare.from_config(layer.get_config()).name == "bare"
