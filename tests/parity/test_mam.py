"""MAM against the arrays of its definition; no code of its authors is public.

Tolerances: levels and reconstruction 3e-5 absolute at valid frames, losses
1e-5 relative.
"""

import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from tests.gradients import numpy

GOLDEN = "mam"


def variables(model):
    """Variable of each name of the layout."""
    net, head = model.encoder.backbone, model.head
    found = {"mask_vector": model.time.vector}
    layers = {
        "conv1": net.convs[0],
        "conv2": net.convs[1],
        "in": net.dense,
        "out": head.dense,
        "deconv1": head.convs[0],
        "deconv2": head.convs[1],
    }
    norms = {"ln": net.norm}
    for i, block in enumerate(net.layers):
        attention = block.attention
        layers |= {
            f"block{i}/q": attention.query,
            f"block{i}/k": attention.key,
            f"block{i}/v": attention.value,
            f"block{i}/o": attention.out,
            f"block{i}/ffn1": block.inner,
            f"block{i}/ffn2": block.outer,
        }
        norms[f"block{i}/ln1"] = block.attention_norm
        norms[f"block{i}/ln2"] = block.outer_norm
    for name, layer in layers.items():
        found[f"{name}/kernel"] = layer.kernel
        found[f"{name}/bias"] = layer.bias
    for name, layer in norms.items():
        found[f"{name}/gamma"] = layer.gamma
        found[f"{name}/beta"] = layer.beta
    return found


@pytest.fixture
def model(golden):
    config = golden.config
    model = kas.MAM(
        encoder={
            "units": config["d"],
            "heads": config["heads"],
            "layers": config["layers"],
            "feed_forward": config["feed_forward"],
            "n_mels": golden["in/features"].shape[-1],
        }
    )
    weights, ours = golden.group("sd"), variables(model)
    assert set(ours) == set(weights)
    for name, variable in ours.items():
        variable.assign(weights[name])
    return model


def lengths(golden):
    return golden["in/lengths"].astype("int32")


def inside(lengths, like):
    """Where an array `(batch, frames, dim)` is of the clips."""
    valid = np.arange(like.shape[1]) < lengths[:, None]
    return np.broadcast_to(valid[..., None], like.shape)


def hidden(golden, model, key):
    valid = lengths(golden)
    read = model.encoder.backbone(golden[key], lengths=valid)
    return read["hidden"], numpy(model.encoder.backbone.level_lengths(valid))


def test_levels(golden, model):
    levels, steps = hidden(golden, model, "in/masked_features")
    assert (
        model.encoder.backbone.layers[0].outer_norm.epsilon
        == (golden.config["layer_norm_eps"])
    )
    for i, level in enumerate(levels):
        got = numpy(level)
        where = inside(steps, got)
        golden.close(got, f"out/hidden_{i}", 3e-5, where=where)
        assert not got[~where].any()
    golden.equal(steps, "out/output_lengths")


def test_the_encoder_of_a_clean_input(golden, model):
    levels, steps = hidden(golden, model, "in/features")
    got = numpy(levels[-1])
    golden.close(
        got, "out/clean_encoder_output", 3e-5, where=inside(steps, got)
    )


def test_the_altered_input(golden, model):
    got = model.time.apply(
        *(
            ops.convert_to_tensor(golden[key])
            for key in ("in/features", "in/selected_frames")
        )
    )
    golden.close(numpy(got), "in/masked_features")


def test_reconstruction_and_losses(golden, model):
    valid = ops.convert_to_tensor(lengths(golden))
    prediction = model.reconstruct(
        ops.convert_to_tensor(golden["in/masked_features"]), valid
    )
    got = numpy(prediction)
    where = inside(lengths(golden), got)
    golden.close(got, "out/reconstruction", 3e-5, where=where)
    selected = golden["in/selected_frames"][..., None]
    outputs = {
        "prediction": prediction,
        "target": ops.convert_to_tensor(golden["in/features"]),
        "label": ops.convert_to_tensor(np.broadcast_to(selected, got.shape)),
        "valid": ops.convert_to_tensor(where[..., 0]),
    }
    for loss_on in ("all", "masked"):
        model.loss_on = loss_on
        loss = numpy(model.pretext_loss(outputs, None))
        golden.close(loss, f"out/loss_{loss_on}_frames", rtol=1e-5)
