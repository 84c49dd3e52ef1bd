"""MPC against the model of its authors.

Tolerances: levels and prediction 3e-5 absolute, losses 1e-5 relative,
gradients 3e-4 of the largest entry of each array.
"""

import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from keras_audio_ssl.engine import frame_mask
from keras_audio_ssl.features import recipe
from tests.gradients import gradients
from tests.gradients import numpy

GOLDEN = "mpc"


def variables(model):
    """Variable of each name of the toolkit's."""
    net, found = model.encoder.backbone, {}

    def dense(name, layer):
        found[f"{name}/kernel"] = layer.kernel
        found[f"{name}/bias"] = layer.bias

    def norm(name, layer, kinds):
        for kind in kinds:
            found[f"{name}/{kind}"] = getattr(layer, kind)

    scale = ("gamma", "beta")
    for i, conv in enumerate(net.convs, 1):
        found[f"x_net/conv{i}/kernel"] = conv.conv.kernel
        norm(f"x_net/bn{i}", conv.norm,
             (*scale, "moving_mean", "moving_variance"))  # fmt: skip
    dense("x_net/dense", net.dense)
    for i, block in enumerate(net.layers):
        for theirs, ours in (
            ("wq", "query"), ("wk", "key"), ("wv", "value"), ("dense", "out"),
        ):  # fmt: skip
            layer = getattr(block.attention, ours)
            dense(f"encoder/{i}/self_attn/{theirs}", layer)
        dense(f"encoder/{i}/ffn1", block.inner)
        dense(f"encoder/{i}/ffn2", block.outer)
        norm(f"encoder/{i}/norm1", block.attention_norm, scale)
        norm(f"encoder/{i}/norm2", block.outer_norm, scale)
    dense("final_layer", model.head)
    return found


def flat(golden, key):
    """`(batch, time, dim, channels)` as our bins, channel after channel."""
    x = golden[key]
    if x.ndim == 3:
        x = x.reshape(*x.shape[:2], *golden["in/features"].shape[2:])
    x = np.moveaxis(x, 3, 2)
    return x.reshape(*x.shape[:2], -1)


def order(golden):
    """Place, among the outputs of a step, of ours in the toolkit's order."""
    _, _, bins, channels = golden["in/features"].shape
    frames = golden["out/prediction"].shape[-1] // (bins * channels)
    places = np.arange(frames * bins * channels)
    places = places.reshape(frames, bins, channels).transpose(0, 2, 1)
    return places.reshape(-1)


def convert(golden, name, value):
    """An array of the toolkit's in our order."""
    return value[..., order(golden)] if name.startswith("final") else value


@pytest.fixture
def model(golden):
    config = golden.config
    _, _, bins, channels = golden["in/features"].shape
    encoder = {
        "filters": config["filters"],
        "units": config["d"],
        "heads": config["heads"],
        "layers": config["layers"],
        "feed_forward": config["feed_forward"],
        "n_features": bins * channels,
        "channels": channels,
        "reference_padding": True,
    }
    if channels == 1:
        encoder["n_mels"] = bins
    else:
        frontend = recipe("mpc", n_mels=bins, deltas=channels - 1)
        net = kas.encoders.MPCTransformer(**encoder)
        encoder = kas.Encoder(frontend, net)
    model = kas.MPC(
        encoder=encoder,
        proportion=1 - config["keep_probability"],
        chunk_size=config["chunk_size"],
        reference_loss=True,
    )
    weights = golden.group("sd")
    ours = variables(model)
    assert set(ours) == set(weights)
    for name, variable in ours.items():
        variable.assign(convert(golden, name, weights[name]))
    return model


def lengths(golden):
    return golden["in/lengths"].astype("int32")


def task(golden, model):
    """What the task gives for the input that the toolkit has drawn."""
    inputs = ops.convert_to_tensor(flat(golden, "in/masked_features"))
    valid = ops.convert_to_tensor(lengths(golden))
    prediction = model.reconstruct(inputs, valid)
    frames = prediction.shape[1]
    # What is hidden is known by being zero, inside a clip's steps.
    steps = model.encoder.backbone.level_lengths(valid)
    seen = frame_mask(model.stride * steps, frames)[..., None]
    return {
        "prediction": prediction,
        "target": ops.convert_to_tensor(flat(golden, "in/target")[:, :frames]),
        "label": (inputs[:, :frames] == 0) & seen,
    }


def test_levels(golden, model):
    """At padded steps too, which the toolkit attends to."""
    hidden = model.encoder.backbone(
        flat(golden, "in/masked_features"), lengths=lengths(golden)
    )["hidden"]
    names = ["embedding", *(f"hidden_{i}" for i in range(1, len(hidden)))]
    for name, level in zip(names, hidden, strict=True):
        golden.close(numpy(level), f"out/{name}", atol=3e-5)


def test_output_lengths(golden, model):
    frames = golden["in/features"].shape[1] // model.stride * model.stride
    used = np.minimum(lengths(golden), frames)
    golden.equal(used, "in/used_lengths")
    steps = numpy(model.encoder.backbone.level_lengths(used))
    golden.equal(steps, "out/output_lengths")


def test_prediction(golden, model):
    got = numpy(task(golden, model)["prediction"])
    want = golden["out/prediction"][..., order(golden)]
    golden.near(got.reshape(want.shape), want, atol=3e-5)


def test_losses(golden, model):
    outputs = task(golden, model)
    label = numpy(outputs["label"]).astype(bool)
    if golden.has("in/loss_selection"):
        want = golden["in/loss_selection"][..., order(golden)]
        np.testing.assert_array_equal(label.reshape(want.shape), want)
    loss = numpy(model.pretext_loss(outputs, None))
    golden.close(loss, "out/loss_reference", rtol=1e-5)
    model.reference_loss = False
    loss = numpy(model.pretext_loss(outputs, None))
    golden.close(loss, "out/loss_masked_mean", rtol=1e-5)


def test_gradients(golden, model):
    want, ours = golden.group("grad"), variables(model)
    if not want:
        pytest.skip("the folder holds no gradients")
    loss, got = gradients(
        lambda: model.pretext_loss(task(golden, model), None),
        [ours[name] for name in want],
    )
    golden.close(loss, "out/loss_reference", rtol=1e-5)
    for name, gradient in zip(want, got, strict=True):
        array = convert(golden, name, want[name])
        atol = 3e-4 * np.abs(array).max()
        if name.endswith("wk/bias"):
            # A softmax does not see it: both are rounding errors.
            atol = 1e-6 * np.abs(want[name.replace("bias", "kernel")]).max()
        golden.near(gradient, array, atol, what=name)


def test_the_input_that_the_toolkit_drew_from_its_chunks(golden, model):
    x, masked = flat(golden, "in/features"), flat(golden, "in/masked_features")
    x = x[:, : masked.shape[1]]
    hidden = (masked == 0).all(-1)
    zero = np.zeros(hidden.shape, "int32")
    altered = model.time.apply(
        *(ops.convert_to_tensor(a) for a in (x, hidden, zero, zero))
    )
    golden.near(numpy(altered), masked, what="in/masked_features")
    if golden.has("in/target"):
        golden.near(x, flat(golden, "in/target"), what="in/target")
