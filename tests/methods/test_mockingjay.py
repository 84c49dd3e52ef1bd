import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from keras_audio_ssl.features import LogMel
from tests.contract import batch
from tests.contract import step
from tests.contract import waves
from tests.methods.reconstruction import array
from tests.methods.reconstruction import features
from tests.methods.reconstruction import no_prediction_sees_what_is_hidden
from tests.methods.reconstruction import padding_and_neighbours_change_nothing
from tests.methods.reconstruction import tiny


@pytest.fixture(scope="module")
def model():
    return tiny("mockingjay")


@pytest.mark.parametrize(
    "encoder, parameters",
    [
        ({"frontend": "online_logmel_delta"}, 21_388_800),
        ({"layers": 12}, 85_118_208),
        (
            {"frontend": "online_logmel_delta", "layers": 12, "stack": 3},
            85_425_408,
        ),
    ],
)
def test_the_papers_sizes(encoder, parameters):
    model = kas.Mockingjay(encoder=encoder)
    trained = sum(int(np.prod(v.shape)) for v in
                  model.encoder.trainable_variables)  # fmt: skip
    assert trained == parameters
    if encoder == {"layers": 12}:
        head = [int(np.prod(v.shape)) for v in model.head.trainable_variables]
        assert sum(head) == 653_648


def test_the_papers_optimizer_spans_the_run():
    model = tiny("mockingjay", learning_rate=2e-4)
    optimizer = model.default_optimizer(1000)
    assert optimizer.weight_decay == 0.01
    assert optimizer.global_clipnorm == 5.0
    assert float(array(optimizer._learning_rate(70))) == pytest.approx(2e-4)
    assert float(array(optimizer._learning_rate(1000))) == 0.0
    optimizer.build(model.trainable_variables)
    decayed = {
        v.path.rsplit("/", 1)[-1]
        for v in model.trainable_variables
        if optimizer._use_weight_decay(v)
    }
    assert decayed == {"kernel"}


def test_nothing_hidden_is_seen(model):
    before = model.time.dice
    no_prediction_sees_what_is_hidden(model)
    model.time.dice = before


def test_padding_and_neighbours(model):
    padding_and_neighbours_change_nothing(model)


def test_positions_matter_and_rows_do_not(model):
    x = features(3, 30)
    frames = array(model.encoder.backbone(x)["frames"])
    order = np.random.default_rng(0).permutation(30)
    shuffled = array(model.encoder.backbone(x[:, order])["frames"])
    assert np.abs(shuffled - frames[:, order]).max() > 1e-2
    one = array(model.encoder.backbone(x[1:2])["frames"])
    np.testing.assert_allclose(one[0], frames[1], atol=1e-5)


def test_levels_and_maps_are_within_reach(model):
    outputs = model.encoder(waves(2), return_hidden=True, return_attention=True)
    hidden, maps = outputs["hidden"], outputs["attention"]
    assert len(hidden) == 3 and len(maps) == 2
    np.testing.assert_array_equal(array(hidden[-1]), array(outputs["frames"]))
    frames = hidden[0].shape[1]
    assert maps[0].shape == (2, 4, frames, frames)
    np.testing.assert_allclose(array(maps[1]).sum(-1), 1.0, atol=1e-5)
    assert model.encoder.frame_rate == 100.0


def test_a_linear_spectrum_is_predicted_from_stacked_mel():
    model = tiny("mockingjay", target="online_linear", span=1,
                 encoder={"stack": 3})  # fmt: skip
    x = batch(4)
    outputs = model(x)
    frames = int(model.encoder.frontend.frame_lengths(x["waveform"].shape[1]))
    assert outputs["altered"].shape == (4, frames // 3, 240)
    assert outputs["target"].shape == (4, frames // 3, 603)
    assert outputs["prediction"].shape == outputs["target"].shape
    # A stacked frame is three of the spectrum's, the first one first.
    spectrum = array(model.target_frontend(x["waveform"],
                                           lengths=x["lengths"]))  # fmt: skip
    want = spectrum[:, : frames // 3 * 3].reshape(4, -1, 603)
    np.testing.assert_allclose(array(outputs["target"]), want, atol=1e-5)
    label = array(outputs["label"])
    assert (label.all(-1) == label.any(-1)).all()
    for row, n in zip(label[..., 0], x["lengths"], strict=True):
        stacked = int(model.encoder.frontend.frame_lengths(n)) // 3
        assert row.sum() == round(0.15 * stacked) and not row[stacked:].any()
    model.compile()
    assert np.isfinite(step(model, x)["loss"])
    assert model.encoder.frame_rate == pytest.approx(100 / 3)
    again = type(model).from_config(model.get_config())
    assert again.target_frontend.n_features == 201


def test_an_encoder_with_fewer_frames_is_refused():
    with pytest.raises(ValueError, match="one frame for each"):
        kas.Mockingjay(encoder=kas.BYOLA(preset="tiny").encoder)
    with pytest.raises(ValueError, match="distance"):
        tiny("mockingjay", distance="l3")
    with pytest.raises(ValueError, match="span"):
        tiny("mockingjay", span=0)


def test_any_front_end_may_be_the_target():
    model = tiny("mockingjay", target=LogMel(n_mels=12))
    outputs = model({"waveform": waves(2)})
    assert outputs["target"].shape[-1] == 12
    loss = model.pretext_loss(outputs, None)
    assert np.isfinite(array(ops.convert_to_tensor(loss)))
