"""APC and VQ-APC against the networks of their authors and of s3prl.

Tolerances: hidden and prediction 1e-5 absolute, losses 1e-5 relative,
gradients 2e-4 of the largest entry of each array, codes equal.
"""

import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.hub import import_checkpoint
from keras_audio_ssl.hub.foreign.apc import head_rules
from keras_audio_ssl.hub.foreign.apc import rules
from tests.gradients import gradients
from tests.gradients import numpy

GOLDEN = "apc"

# Name of the golden model, importer, list of GRUs, output layer.
MODELS = {
    "official": ("apc_official", "rnns", "postnet.layer"),
    "prenet": ("apc_official", "rnns", "postnet.layer"),
    "s3prl": ("apc_s3prl", "rnn_layers", "postnet"),
    "vqapc": ("apc_s3prl", "rnn_layers", "postnet"),
}
every = pytest.mark.parametrize("name", MODELS)


@pytest.fixture
def model(golden, name, tmp_path):
    """The golden model, through the importer, and its report."""
    weights = golden.group(f"sd_{name}")
    if not weights:
        pytest.skip(f"the folder holds no {name}")
    path = tmp_path / f"{name}.npz"
    np.savez(path, **weights)
    return import_checkpoint(
        MODELS[name][0],
        path,
        whole=True,
        n_future=int(golden["in/n_future"]),
    )


def task(golden, model):
    """Outputs of the pretext task on the golden batch."""
    return model.predict_ahead(
        ops.convert_to_tensor(golden["in/features"]),
        ops.convert_to_tensor(golden["in/lengths"].astype("int32")),
    )


def levels(golden, model, shift):
    """Levels of the encoder, `(layers, batch, frames, units)`."""
    features = golden["in/features"]
    lengths = golden["in/lengths"].astype("int32")
    known = features[:, : features.shape[1] - shift]
    read = model.encoder.backbone(known, lengths=lengths - shift)
    return np.stack([numpy(level) for level in read["hidden"]])


@every
def test_importer_reads_the_sizes(golden, name, model):
    model, report = model
    sizes = report.settings
    names = {"layers": "layers"}
    if name == "prenet":
        names["prenet_layers"] = "prenet_layers"
    if name == "vqapc":
        names.update(codebooks="vq_codebooks", codebook_dims="vq_dims")
    for ours, theirs in names.items():
        if theirs in golden.config:
            golden.near(sizes[ours], golden.config[theirs], what=ours)
    mapped = [entry["source"] for entry in report.mapped]
    assert sorted(mapped) == sorted(golden.group(f"sd_{name}"))
    assert not report.left_over and not report.missing


@every
def test_prediction(golden, name, model):
    prediction = numpy(task(golden, model[0])["prediction"])
    golden.close(prediction, f"out_{name}/prediction", atol=1e-5)


@every
def test_hidden(golden, name, model):
    model, n = model[0], int(golden["in/n_future"])
    if name in ("official", "prenet"):
        keys = {f"out_{name}/hidden": n, f"out_{name}/hidden_full": 0}
        keys = {k: shift for k, shift in keys.items() if golden.has(k)}
        for key, shift in keys.items():
            want = golden[key]
            got = levels(golden, model, shift)
            first = int(name == "prenet")
            # The reference leaves the prenet's output past a clip's end;
            # ours is zero there, and the same where the clip is.
            golden.near(got[first:], want[first:], atol=1e-5, what=key)
            frames = np.arange(want.shape[2])
            inside = frames < golden["in/lengths"][:, None] - shift
            for level in range(first):
                where = np.broadcast_to(inside[..., None], got[level].shape)
                golden.near(got[level], want[level], 1e-5, where=where)
                assert not np.any(got[level][~where])
                features = golden["in/features"][:, : want.shape[2]]
                whole = model.encoder.backbone(features)["hidden"][level]
                golden.near(numpy(whole), want[level], atol=1e-5)
    else:
        last = levels(golden, model, n)[-1]
        golden.close(last, f"out_{name}/feature", atol=1e-5)


@every
def test_losses(golden, name, model):
    model = model[0]
    outputs = task(golden, model)
    for key, reference in (("all_frames", True), ("valid_frames", False)):
        model.reference_loss = reference
        loss = numpy(model.pretext_loss(outputs, None))
        golden.close(loss, f"out_{name}/loss_{key}", rtol=1e-5)


@pytest.mark.parametrize("name", ["vqapc"])
def test_codes(golden, name, model):
    codes = numpy(task(golden, model[0])["codes"])
    golden.equal(codes.transpose(2, 0, 1), "out_vqapc/codes")


@pytest.mark.parametrize("name", ["official"])
def test_gradients(golden, name, model):
    want, model = golden.group(f"grad_{name}"), model[0]
    model.reference_loss = True
    _, stack, postnet = MODELS[name]
    plan = [
        *rules(model.encoder.backbone, stack),
        *head_rules(model, postnet, []),
    ]
    loss, grads = gradients(
        lambda: model.pretext_loss(task(golden, model), None),
        [rule.variable for rule in plan],
    )
    golden.close(loss, f"out_{name}/loss_all_frames", rtol=1e-5)
    for rule, got in zip(plan, grads, strict=True):
        if not golden.has(*(f"grad_{name}/{s}" for s in rule.sources)):
            continue
        arrays = [want[source] for source in rule.sources]
        scale = [np.abs(array).max() for array in arrays]
        expected = rule.convert(*arrays)
        rows = zip(got, expected) if len(scale) > 1 else [(got, expected)]
        for (a, b), largest in zip(rows, scale, strict=True):
            golden.near(a, b, atol=2e-4 * largest, what=rule.sources[0])
