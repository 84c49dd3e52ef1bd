"""COLA against the formulas of the authors' code, and its encoder.

Tolerances: head and similarities 2e-5, losses and the gradient 1e-5,
log-mels 1e-3 above -9.
"""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.encoders import AudioNTT
from keras_audio_ssl.encoders import EfficientNetB0
from keras_audio_ssl.features import mel_filterbank
from keras_audio_ssl.features import recipe
from keras_audio_ssl.features import scale_amplitude
from keras_audio_ssl.losses import contrastive_accuracy
from keras_audio_ssl.methods.cola import COLA
from tests.gradients import gradients
from tests.gradients import numpy

GOLDEN = "cola"

HEAD = ("head/dense_kernel_in_out", "head/dense_bias")
NORM = ("head/ln_gamma", "head/ln_beta")


def make(golden, similarity, temperature=None):
    """COLA with the golden head, and its encoder's clip vectors."""
    if not golden.has(*HEAD, *NORM, "head/pooled_anchor_then_positive"):
        pytest.skip("the folder holds no head")
    width, dim = golden[HEAD[0]].shape
    model = COLA(
        encoder=AudioNTT(8, dim=width, conv_channels=2),
        embedding_dim=dim,
        similarity=similarity,
        temperature=temperature,
    )
    head = model.projector
    head.dense.set_weights([golden[key] for key in HEAD])
    if similarity == "bilinear":
        head.norm.set_weights([golden[key] for key in NORM])
        if golden.has("bilinear/W"):
            model.bilinear.weight.assign(golden["bilinear/W"])
    clips = golden["head/pooled_anchor_then_positive"]
    return model, ops.convert_to_tensor(clips)


def pairs(embedding):
    anchor, positive = ops.split(ops.convert_to_tensor(embedding), 2)
    return {"anchor": anchor, "positive": positive}


@pytest.fixture
def bilinear(golden):
    return make(golden, "bilinear")


def test_head(golden, bilinear):
    model, clips = bilinear
    embedding = numpy(model.projector(clips))
    golden.close(embedding, "head/embedding_bilinear", atol=2e-5)


def test_bilinear(golden, bilinear):
    model, clips = bilinear
    outputs = pairs(model.projector(clips))
    similarities = model.similarities(**outputs)
    golden.close(numpy(similarities), "bilinear/similarities", atol=2e-5)
    accuracy = numpy(contrastive_accuracy(similarities))
    golden.close(accuracy, "bilinear/accuracy", atol=1e-6)
    loss = numpy(model.pretext_loss(outputs, None))
    golden.close(loss, "bilinear/loss", atol=1e-5)
    golden.close(numpy(model.accuracy.result()), "bilinear/accuracy", atol=1e-6)


def test_gradient_of_the_bilinear_weight(golden, bilinear):
    model, clips = bilinear
    loss, grads = gradients(
        lambda: model.pretext_loss(pairs(model.projector(clips)), None),
        [model.bilinear.weight],
    )
    golden.close(loss, "bilinear/loss", atol=1e-5)
    golden.close(grads[0], "bilinear/grad_W", atol=1e-5)


def test_cosine(golden):
    if not golden.has("dot/temperature"):
        pytest.skip("no cosine variant")
    temperature = float(golden["dot/temperature"])
    golden.near(temperature, golden.config.get("tau", temperature))
    model, clips = make(golden, "cosine", temperature)
    embedding = model.projector(clips)
    golden.close(numpy(embedding), "dot/embedding", atol=2e-5)
    outputs = pairs(embedding)
    cosines = numpy(model.similarities(**outputs)) * temperature
    golden.close(cosines, "dot/cosine", atol=2e-5)
    loss = numpy(model.pretext_loss(outputs, None))
    golden.close(loss, "dot/loss", atol=1e-5)


def test_third_party_convention(golden, bilinear):
    if not golden.has("pytorch/linear_weight_out_in"):
        pytest.skip("no third-party convention")
    model, clips = bilinear
    model.projector.norm.epsilon = 1e-5
    weight = golden["pytorch/linear_weight_out_in"]
    # PyTorch's Linear is x1 weight^T.
    model.bilinear.weight.assign(weight.T)
    outputs = pairs(model.projector(clips))
    logits = numpy(model.similarities(**outputs))
    golden.close(logits, "pytorch/logits", atol=2e-5)
    loss = numpy(model.pretext_loss(outputs, None))
    golden.close(loss, "pytorch/loss", atol=1e-5)


def front_end(golden):
    mels = golden["logmel/log_mel_time_by_band"].shape[1]
    wave = [k for k in golden.keys if k.startswith("logmel/wav_")]
    wave = [k for k in wave if golden[k].ndim]
    return recipe("cola", n_mels=mels), golden[wave[0]][None]


def test_log_mel(golden):
    if not golden.has("logmel/log_mel_time_by_band"):
        pytest.skip("no log-mel")
    frontend, wave = front_end(golden)
    scaled = numpy(scale_amplitude(ops.convert_to_tensor(wave), "l2"))
    norm = np.linalg.norm(scaled.astype("float64"))
    golden.close(norm, "logmel/wav_l2_normalised_norm", atol=1e-5)
    want = golden["logmel/log_mel_time_by_band"]
    got = numpy(frontend(wave))[0]
    # Near the floor of 1e-5 the clip hides the rest.
    golden.near(got, want, atol=1e-3, where=want > -9, what="log-mel")
    silence = numpy(frontend(np.zeros_like(wave)))
    ends = [silence.min(), silence.max()]
    golden.close(ends, "logmel/silence_value", atol=1e-5)


def test_mel_matrix(golden):
    if not golden.has("logmel/mel_matrix", "logmel/log_mel_time_by_band"):
        pytest.skip("no mel matrix")
    want, frontend = golden["logmel/mel_matrix"], front_end(golden)[0]
    got = mel_filterbank(
        frontend.sample_rate,
        frontend.n_fft,
        frontend.n_mels,
        frontend.f_min,
        frontend.f_max,
        frontend.mel_scale,
        frontend.mel_norm,
    )
    # The reference computed its triangles in float32.
    got = got[:, : want.shape[1]]
    golden.close(got, "logmel/mel_matrix", atol=5e-5)


# One worker makes them.
with_networks = pytest.mark.xdist_group("efficientnet")


@pytest.fixture(scope="module")
def networks():
    """Ours and keras.applications', with the same random weights."""
    keras.utils.set_random_seed(0)
    ours = EfficientNetB0(64)
    theirs = keras.applications.EfficientNetB0(
        include_top=False,
        weights=None,
        input_shape=(None, ours.n_features, 1),
        pooling="max",
    )
    rng = np.random.default_rng(0)
    ready = "rescaling", "normalization"
    source = [v for v in theirs.weights if not v.path.startswith(ready)]
    for variable, copy in zip(source, by_order(ours), strict=True):
        value = numpy(variable)
        wide = [n for n in value.shape if n > 1]
        assert wide == [n for n in copy.shape if n > 1], copy.path
        if value.ndim == 1:
            value = value + 0.2 * rng.uniform(-1, 1, value.shape)
        variable.assign(value)
        # Dense layers here are convolutions of width 1 there.
        copy.assign(np.reshape(value, copy.shape))
    return ours, theirs


def by_order(network):
    """Variables in the order of the graph of keras.applications."""
    stages = [block for stage in network.stages for block in stage]
    found = conv_norm(network.stem)
    for block in stages:
        found += conv_norm(block.expand) if block.expand else []
        found += conv_norm(block.depthwise)
        for dense in (block.squeeze, block.excite):
            found += [dense.kernel, dense.bias]
        found += conv_norm(block.project)
    return found + conv_norm(network.top)


def conv_norm(layer):
    norm = layer.norm
    return [
        layer.conv.kernel,
        norm.gamma,
        norm.beta,
        norm.moving_mean,
        norm.moving_variance,
    ]


@with_networks
def test_parameters(golden, networks):
    ours, theirs = networks
    # Keras begins with a Normalization that does nothing: 3 numbers.
    # (Keras numbers the names of layers that a process makes again.)
    made = [re.sub(r"_\d+$", "", layer.name) for layer in theirs.layers]
    idle = theirs.layers[made.index("normalization")].count_params()
    golden.close(ours.count_params() + idle, "effnet/n_params")
    if golden.has("effnet/first_layers"):
        names = golden["effnet/first_layers"].tolist()
        assert made[: len(names)] == names
        golden.compared += 1


def run(network, **arrays):
    """Clip vectors of a backbone by one graph, quicker to compile."""
    inputs = {
        name: keras.Input(array.shape[1:], dtype=array.dtype.name, name=name)
        for name, array in arrays.items()
    }
    outputs = network(**inputs)["clip"]
    return keras.Model(inputs, outputs).predict_on_batch(arrays)


@with_networks
@pytest.mark.parametrize("frames", [98, 71])
def test_network_is_that_of_keras(networks, frames):
    ours, theirs = networks
    rng = np.random.default_rng(frames)
    x = rng.normal(size=(2, frames, ours.n_features)).astype("float32")
    got = run(ours, features=x)
    want = theirs.predict_on_batch(255 * x[..., None])
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


@with_networks
def test_network_of_padded_clips_is_that_of_keras_alone(networks):
    ours, theirs = networks
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 98, ours.n_features)).astype("float32")
    lengths = np.array([98, 71], "int32")
    x[1, 71:] = 7.0
    got = run(ours, features=x, lengths=lengths)
    for row, length in enumerate(lengths):
        # Twice, as a shape of the test above is compiled already.
        clip = np.repeat(x[row : row + 1, :length, :, None], 2, axis=0)
        want = theirs.predict_on_batch(255 * clip)[0]
        assert np.abs(got[row] - want).max() <= 1e-5 * np.abs(want).max()
