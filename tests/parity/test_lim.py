"""LIM: SincNet against its authors' code, and the objectives.

Tolerances: filters 1e-5, convolution 5e-5, encoder 2e-5 (5e-5 with batch
statistics), scores 1e-5, losses and gradients 1e-6; the gradients of a sum of
squares 1e-5 of the largest.
"""

import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.blocks import SincConv
from keras_audio_ssl.hub import import_checkpoint
from keras_audio_ssl.losses import bce_information
from keras_audio_ssl.methods.lim import LIM
from keras_audio_ssl.methods.lim import OBJECTIVES
from tests.gradients import gradients
from tests.gradients import numpy

GOLDEN = "lim"


def sinc(golden, group, rate):
    """A layer with the golden parameters."""
    keys = [f"{group}/{n}" for n in ("low_hz_", "band_hz_", "filters")]
    if not golden.has(*keys):
        pytest.skip("the folder holds no filters")
    filters, taps = golden[f"{group}/filters"].shape
    layer = SincConv(filters, taps, rate)
    first = [numpy(w) for w in (layer.low_hz, layer.band_hz)]
    layer.low_hz.assign(golden[f"{group}/low_hz_"][:, 0])
    layer.band_hz.assign(golden[f"{group}/band_hz_"][:, 0])
    return layer, first


def rate_of(golden):
    return int(golden.config["sample_rate"])


def test_filters_and_their_start(golden):
    rate = rate_of(golden)
    golden.close(rate, "sinc/sample_rate")
    layer, (low, band) = sinc(golden, "sinc", rate)
    golden.near(layer.filters, golden.config["sinc_filters"])
    golden.near(layer.kernel_size, golden.config["sinc_length"])
    golden.close(low[:, None], "sinc/low_hz_", rtol=1e-6)
    # A difference of rounded edges.
    golden.close(band[:, None], "sinc/band_hz_", atol=2e-3)
    golden.close(numpy(layer.filters_of()).T, "sinc/filters", atol=1e-5)


def test_convolution(golden):
    if not golden.has("sinc/wav_0p2s"):
        pytest.skip("the folder holds no waveform")
    layer, _ = sinc(golden, "sinc", rate_of(golden))
    y = numpy(layer(golden["sinc/wav_0p2s"][None, :, None]))
    golden.equal([1, y.shape[2], y.shape[1]], "sinc/output_shape")
    key = "sinc/output_first_64_samples"
    count = golden[key].shape[1] if golden.has(key) else 0
    golden.close(y[0, :count].T, key, atol=5e-5)
    mean = np.abs(y[0].astype("float64")).mean(axis=0)
    golden.close(mean, "sinc/output_abs_mean_per_filter", atol=5e-5)


def test_edge_filters_and_their_gradients(golden):
    layer, _ = sinc(golden, "sinc_edge", rate_of(golden))
    golden.close(numpy(layer.filters_of()).T, "sinc_edge/filters", atol=1e-5)
    if not golden.has("sinc_edge/x"):
        return
    x = golden["sinc_edge/x"].transpose(0, 2, 1)
    _, grads = gradients(
        lambda: ops.sum(ops.square(layer(ops.convert_to_tensor(x)))),
        [layer.low_hz, layer.band_hz],
    )
    for name, got in zip(("low", "band"), grads, strict=True):
        key = f"sinc_edge/grad_{name}_of_sum_sq"
        if golden.has(key):
            largest = np.abs(golden[key]).max()
            golden.close(got[:, None], key, atol=1e-5 * largest)


@pytest.fixture
def encoder(golden, tmp_path):
    """The golden network, through the importer."""
    parts = {"CNN_model_par": "sincnet", "DNN1_model_par": "mlp"}
    weights = {
        f"{name}.{key}": value
        for name, group in parts.items()
        for key, value in golden.group(group).items()
    }
    if not weights:
        pytest.skip("the folder holds no network")
    path, config = tmp_path / "sincnet.npz", golden.config
    np.savez(path, **weights)
    encoder, report = import_checkpoint(
        "sincnet", path, sample_rate=config["sample_rate"],
        kernel_size=config["lengths"][0], pools=config["pools"],
        slope=config["leaky_relu_slope"],
    )  # fmt: skip
    assert {e["source"] for e in report.mapped} == set(weights)
    assert not report.left_over
    sizes = [report.settings["sinc"], *report.settings["conv"]]
    golden.near(
        sizes, list(zip(config["filters"], config["lengths"], strict=True))
    )
    golden.near(report.settings["dense"], config["dense"])
    golden.near(report.settings["chunk"], config["window"])
    return encoder


def test_the_network_in_inference(golden, encoder):
    if not golden.has("enc/wave"):
        pytest.skip("the folder holds no chunks")
    net = encoder.backbone.backbone
    x = ops.convert_to_tensor(golden["enc/wave"][..., None])
    flat = numpy(net.flattened(net.convolved(x)[-1]))
    golden.close(flat.shape[1], "enc/out_dim")
    golden.close(flat, "enc/sincnet_out", atol=2e-5)
    golden.close(numpy(net(x)["clip"]), "enc/embedding_eval", atol=2e-5)
    # A chunk is a frame of the encoder, which adds nothing.
    frames = numpy(encoder.backbone(x)["frames"])[:, 0]
    golden.close(frames, "enc/embedding_eval", atol=2e-5)


def test_the_network_in_training(golden, encoder):
    if not golden.has("enc/wave"):
        pytest.skip("the folder holds no chunks")
    x = ops.convert_to_tensor(golden["enc/wave"][..., None])
    z = numpy(encoder.backbone.backbone(x, training=True)["clip"])
    golden.close(z, "enc/embedding_train", atol=5e-5)


def test_the_discriminator(golden):
    weights = [f"disc/{n}" for n in ("W1_in_out", "b1", "W2_in_out", "b2")]
    if not golden.has(*weights, "disc/z1", "disc/z2", "disc/zrand"):
        pytest.skip("the folder holds no discriminator")
    both, hidden = golden[weights[0]].shape
    network = keras.Sequential(
        [keras.Input((None, 1)), keras.layers.Dense(both // 2)]
    )
    model = LIM(encoder=network, disc_hidden=hidden)
    model.hidden.set_weights([golden[k] for k in weights[:2]])
    model.score.set_weights([golden[k] for k in weights[2:]])
    z = [ops.convert_to_tensor(golden[f"disc/{n}"]) for n in
         ("z1", "z2", "zrand")]  # fmt: skip
    outputs = model.compare(*z)
    golden.close(numpy(outputs["positive"]), "disc/score_pos", atol=1e-5)
    golden.close(numpy(outputs["negative"]), "disc/score_neg", atol=1e-5)
    for objective in OBJECTIVES:
        model.objective = objective
        loss = numpy(model.pretext_loss(outputs, None))
        golden.close(loss, f"loss/{objective}", atol=1e-6)


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_objectives_and_their_gradients(golden, objective):
    if not golden.has("disc/score_pos", "disc/score_neg"):
        pytest.skip("the folder holds no scores")
    scores = [keras.Variable(golden[f"disc/score_{n}"]) for n in ("pos", "neg")]
    loss, grads = gradients(
        lambda: OBJECTIVES[objective](*(s.value for s in scores)), scores
    )
    golden.close(loss, f"loss/{objective}", atol=1e-6)
    for name, got in zip(("pos", "neg"), grads, strict=True):
        golden.close(got, f"loss/{objective}_grad_{name}", atol=1e-6)


def test_extreme_scores(golden):
    if not golden.has("loss/stable_scores"):
        pytest.skip("the folder holds no extreme scores")
    scores = ops.convert_to_tensor(golden["loss/stable_scores"])
    loss = numpy(bce_information(scores, scores))
    golden.close(loss, "loss/stable_bce", rtol=1e-6)
