"""NPC's four variants against the network of the authors and of s3prl.

Tolerances: features and predictions 1e-5 absolute, losses 1e-5 relative,
gradients 2e-4 of the largest entry of each array, codes equal.
"""

import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.hub import import_checkpoint
from keras_audio_ssl.hub.foreign.npc import head_rules
from keras_audio_ssl.hub.foreign.npc import rules
from tests.gradients import gradients
from tests.gradients import numpy
from tests.gradients import seen_frames

GOLDEN = "npc"

VARIANTS = ("plain", "vq", "last_only", "bottleneck")
every = pytest.mark.parametrize("name", VARIANTS)
plain = pytest.mark.parametrize("name", ["plain"])


@pytest.fixture
def make(golden, name, tmp_path):
    """The golden model, through an importer: `make(settings)`, a report."""
    weights = golden.group(f"sd_{name}")
    if not weights:
        pytest.skip(f"the folder holds no {name}")
    path = tmp_path / f"{name}.npz"
    np.savez(path, **weights)
    # Only some files hold their masks, from which it is read.
    masks = any(k.endswith("conv_mask") for k in weights)
    known = {} if masks else {"input_mask": golden.config["input_mask"]}

    def make(format="npc_official", **settings):
        return import_checkpoint(
            format, path, whole=True, **{**known, **settings}
        )

    return make


def lengths_of(golden):
    return golden["in/lengths"].astype("int32")


def task(golden, model):
    """Outputs of the pretext task on the golden batch."""
    return model.predict_frames(
        ops.convert_to_tensor(golden["in/features"]),
        ops.convert_to_tensor(lengths_of(golden)),
    )


def levels(golden, model):
    """`(blocks, masked outputs, feature)` of the golden batch."""
    backbone = model.encoder.backbone
    read = backbone(golden["in/features"], lengths=lengths_of(golden))
    hidden = [numpy(level) for level in read["hidden"]]
    count = len(backbone.blocks)
    return hidden[:count], hidden[count:-1], hidden[-1]


@every
@pytest.mark.parametrize("format", ["npc_official", "npc_s3prl"])
def test_importers_read_the_sizes_and_every_tensor(golden, name, make, format):
    model, report = make(format)
    sizes, config = report.settings, golden.config
    for ours, theirs in (
        ("blocks", "blocks"), ("kernel_size", "kernel"),
        ("input_mask", "input_mask"),
    ):  # fmt: skip
        golden.near(sizes[ours], config[theirs], what=ours)
    golden.near(
        [i for i, b in enumerate(model.encoder.backbone.blocks) if b.residual],
        range(config["residual_from_block"], config["blocks"]),
    )
    assert sizes["cross_layer"] == (name != "last_only")
    if name == "vq":
        golden.near(sizes["codebooks"], config["vq_codebooks"])
        golden.near(sizes["codebook_dims"], config["vq_dims"])
    if name == "bottleneck":
        golden.near(sizes["bottleneck"], config["bottleneck"])
    mapped = {entry["source"] for entry in report.mapped}
    aside = {entry["source"] for entry in report.left_over}
    assert mapped | aside == set(golden.group(f"sd_{name}"))
    assert not report.missing and not report.unexplained
    assert all(s.endswith(("tracked", "conv_mask")) for s in aside)


@every
def test_leaking_padding_gives_the_references_numbers(golden, name, make):
    model, _ = make(reference_padding=True)
    outputs = task(golden, model)
    prediction = numpy(outputs["prediction"])
    golden.close(prediction, f"out_{name}/prediction", atol=1e-5)
    blocks, masked, feature = levels(golden, model)
    golden.close(feature, f"out_{name}/feature", atol=1e-5)
    for i, level in enumerate(blocks):
        golden.close(level, f"out_{name}/block_{i}", atol=1e-5)
    first = len(blocks) - len(masked)
    for i, level in enumerate(masked, first):
        golden.close(level, f"out_{name}/masked_{i}", atol=1e-5)
    loss = numpy(model.pretext_loss(outputs, None))
    golden.close(loss, f"out_{name}/loss", rtol=1e-5)
    if name == "vq":
        codes = numpy(outputs["codes"]).transpose(2, 0, 1)
        golden.equal(codes, "out_vq/codes")


@every
def test_with_lengths_a_clip_gives_what_it_gives_alone(golden, name, make):
    model, _ = make()
    outputs, lengths = task(golden, model), lengths_of(golden)
    results = {
        "prediction": numpy(outputs["prediction"]),
        "feature": levels(golden, model)[2],
    }
    backbone = model.encoder.backbone
    reach = backbone.kernel_size // 2 + len(backbone.blocks)
    frames = golden["in/features"].shape[1]
    # What padding cannot reach is the reference's, leaking or not.
    inside = np.arange(frames) < np.where(
        lengths < frames, lengths - reach, frames
    ).reshape(-1, 1)
    for what, got in results.items():
        where = np.broadcast_to(inside[..., None], got.shape)
        golden.close(got, f"out_{name}/{what}", atol=1e-5, where=where)
        for i, n in enumerate(lengths):
            golden.close(got[i, :n], f"out_{name}/single_{what}_{i}", atol=1e-5)
    # It is a difference, for one that is shorter.
    for i, n in enumerate(lengths):
        if n < frames:
            leaking = golden[f"out_{name}/feature"][i, :n]
            assert np.abs(results["feature"][i, :n] - leaking).max() > 1e-4


@plain
def test_jacobian_support(golden, name, make):
    if not golden.has("out_plain/jacobian_support"):
        pytest.skip("the folder holds no support")
    model, _ = make(reference_padding=True)
    x = golden["in/features"][0]
    (seen,) = seen_frames(
        lambda x: model.predict_frames(x)["prediction"], x, [len(x) // 2]
    )
    golden.equal(seen, "out_plain/jacobian_support")


@plain
def test_gradients(golden, name, make):
    want = golden.group(f"grad_{name}")
    if not want:
        pytest.skip("the folder holds no gradients")
    model, _ = make(reference_padding=True)
    plan = [*rules(model.encoder.backbone), *head_rules(model, [])]
    plan = [rule for rule in plan if rule.sources[0] in want]
    assert {rule.sources[0] for rule in plan} == set(want)
    loss, grads = gradients(
        lambda: model.pretext_loss(task(golden, model), None),
        [rule.variable for rule in plan],
    )
    golden.close(loss, f"out_{name}/loss", rtol=1e-5)
    for rule, got in zip(plan, grads, strict=True):
        name = rule.sources[0]
        expected = rule.convert(want[name])
        largest = np.abs(expected).max()
        golden.near(got, expected, atol=2e-4 * largest, what=name)
