import keras
import numpy as np
import pytest

import keras_audio_ssl as kas
from keras_audio_ssl.encoders import Transformer
from tests.contract import batch
from tests.contract import step
from tests.contract import waves
from tests.methods.reconstruction import altered
from tests.methods.reconstruction import array
from tests.methods.reconstruction import features
from tests.methods.reconstruction import no_prediction_sees_what_is_hidden
from tests.methods.reconstruction import padding_and_neighbours_change_nothing
from tests.methods.reconstruction import tiny

SMALL = {"units": 24, "heads": 3, "feed_forward": 40, "dropout": 0.0}


@pytest.fixture(scope="module")
def model():
    return tiny("audio_albert")


@pytest.mark.parametrize("layers", [1, 3, 12])
def test_the_layers_weights_are_those_of_one(layers):
    encoder = kas.AudioALBERT(encoder={"layers": layers}).encoder
    assert encoder.count_params() == 7_151_616
    of_layers = [
        v for v in encoder.trainable_variables if "embedding" not in v.path
    ]
    assert len(of_layers) == 16
    assert encoder.backbone.n_layers == layers
    assert len(encoder.backbone.dims) == layers + 1


def test_the_papers_input_is_stacked():
    model = kas.AudioALBERT(
        encoder={"frontend": "online_logmel_delta", "stack": 3}, span=1
    )
    assert model.encoder.count_params() == 7_458_816


def test_nothing_hidden_is_seen(model):
    no_prediction_sees_what_is_hidden(tiny("audio_albert"))
    padding_and_neighbours_change_nothing(model)


def test_each_level_is_the_one_layer_of_the_level_before(model):
    x = features(2, 20)
    backbone = model.encoder.backbone
    hidden = backbone(x)["hidden"]
    for i in range(backbone.n_layers):
        np.testing.assert_allclose(
            array(backbone.layers[0](hidden[i])), array(hidden[i + 1]),
            atol=1e-6,
        )  # fmt: skip


def test_it_is_a_mockingjay_whose_layers_are_equal():
    shared = Transformer(12, layers=3, share_layers=True, **SMALL)
    plain = Transformer(12, layers=3, **SMALL)
    for block in plain.layers:
        for ours, theirs in zip(
            block.weights, shared.layers[0].weights, strict=True
        ):
            ours.assign(theirs)
    for part in ("embedding", "embedding_norm"):
        getattr(plain, part).set_weights(getattr(shared, part).get_weights())
    x = features(2, 15, 12)
    for a, b in zip(shared(x)["hidden"], plain(x)["hidden"], strict=True):
        np.testing.assert_allclose(array(a), array(b), atol=1e-6)


def test_a_step_moves_every_level(model):
    fresh, x = tiny("audio_albert"), waves(2)
    before = fresh.encoder(x, return_hidden=True)["hidden"]
    fresh.compile(keras.optimizers.SGD(0.1))
    step(fresh, batch(4))
    after = fresh.encoder(x, return_hidden=True)["hidden"]
    for a, b in zip(before, after, strict=True):
        assert np.abs(array(a) - array(b)).max() > 1e-6
    assert len(fresh.encoder.backbone.layers) == 1


def test_files_do_not_grow_with_depth_and_depth_can_change(tmp_path):
    sizes = {}
    for layers in (1, 12):
        model = kas.AudioALBERT(encoder={**SMALL, "layers": layers})
        path = tmp_path / f"{layers}.keras"
        model.encoder.save(path)
        sizes[layers] = path.stat().st_size
    assert abs(sizes[12] - sizes[1]) < 0.02 * sizes[1]
    shallow, deep = (
        kas.load_encoder(tmp_path / f"{n}.keras").backbone for n in (1, 12)
    )
    config = {**shallow.get_config(), "layers": 12}
    grown = Transformer.from_config(config)
    grown.set_weights(deep.get_weights())
    x = features(1, 12)
    np.testing.assert_array_equal(
        array(grown(x)["frames"]), array(deep(x)["frames"])
    )


def test_a_learnt_vector_stands_for_what_is_hidden():
    model = tiny("audio_albert", mask_token=True)
    token = np.arange(80, dtype="float32")
    model.token.assign(token)
    x = features()
    hidden, label = altered(model, x)
    np.testing.assert_array_equal(hidden[~label], x[~label])
    np.testing.assert_array_equal(hidden[label].reshape(-1, 80)[3], token)
    assert (hidden[label].reshape(-1, 80) == token).all()
    model.compile(keras.optimizers.SGD(0.1))
    step(model, batch(4))
    assert np.abs(array(model.token) - token).max() > 0
    assert not any("token" in v.path for v in model.encoder.weights)


def test_heads_of_shared_layers_are_masked_apart():
    backbone = Transformer(
        12, layers=2, share_layers=True, prunable=True, **SMALL
    )
    x = features(1, 10, 12)
    whole = array(backbone(x)["frames"])
    outputs = []
    for layer in (0, 1):
        mask = np.ones((2, 3), "float32")
        mask[layer, 1] = 0
        backbone.head_mask.assign(mask)
        outputs.append(array(backbone(x)["frames"]))
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-6
    assert all(np.abs(o - whole).max() > 1e-6 for o in outputs)
