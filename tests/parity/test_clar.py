"""CLAR against the authors' code.

Tolerances: losses and gradients 1e-5, heads 2e-5, encoders 1e-5 of the
largest entry, decibels 5e-3 above -60 and 0.1 below, phases 1e-3 where the
magnitude exceeds 1e-2, augmentations 1e-6.
"""

import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.augment import TimeShift
from keras_audio_ssl.augment import add_noise
from keras_audio_ssl.augment import fade
from keras_audio_ssl.augment import mask_time
from keras_audio_ssl.blocks import DeepHead
from keras_audio_ssl.encoders import VGG
from keras_audio_ssl.features import recipe
from keras_audio_ssl.hub import import_checkpoint
from keras_audio_ssl.hub.foreign import audio_ntt
from keras_audio_ssl.hub.foreign.state_dict import reversed_axes
from keras_audio_ssl.losses import labelled_cross_entropy
from keras_audio_ssl.losses import nt_xent
from keras_audio_ssl.methods.clar import CLAR
from tests.gradients import gradients
from tests.gradients import numpy
from tests.parity.golden import recipe_weights

GOLDEN = "clar"


def tensor(x, dtype="float32"):
    return ops.convert_to_tensor(np.asarray(x, dtype))


def fill(rules, weights):
    for rule in rules:
        values = [weights[source] for source in rule.sources]
        rule.variable.assign(rule.convert(*values))


def temperature(golden):
    value = float(golden["loss/temperature"])
    golden.near(value, golden.config.get("tau", value))
    return value


def test_nt_xent_and_its_gradient(golden):
    if not golden.has("loss/z1", "loss/z2", "loss/temperature"):
        pytest.skip("no loss")
    z1 = keras.Variable(golden["loss/z1"])
    z2 = tensor(golden["loss/z2"])
    tau = temperature(golden)
    loss, grads = gradients(lambda: nt_xent(z1.value, z2, tau)[0], [z1])
    golden.close(loss, "loss/nt_xent", atol=1e-5)
    golden.close(grads[0], "loss/grad_z1", atol=1e-5)


def semi_rules(model):
    head, branch = model.projector, model.classifier
    return [
        *audio_ntt.dense("model.1", head.hidden),
        *audio_ntt.batch_norm("model.2", head.norm),
        *audio_ntt.dense("model.4", head.out),
        *audio_ntt.batch_norm("class_out.0", branch.norm),
        reversed_axes("class_out.2.weight", branch.out.kernel),
    ]


def test_both_losses(golden):
    weights = golden.group("semi_head")
    if not weights or not golden.has("semi/h1", "semi/h2", "semi/labels"):
        pytest.skip("no combined head")
    hidden, dim = weights["model.1.weight"].shape
    classes, out = weights["class_out.2.weight"].shape
    model = CLAR(
        VGG(48, conv_channels=4, repeats=(1,), dim=dim),
        temperature=temperature(golden),
        classes=classes,
        head=(hidden, out),
    )
    fill(semi_rules(model), weights)
    outputs = {}
    for i, name in enumerate(("first", "second"), 1):
        h = tensor(golden[f"semi/h{i}"])
        outputs.update(model.project(h, name, training=True))
        golden.close(numpy(outputs[name]), f"semi/z{i}", atol=2e-5)
        logits = numpy(outputs[f"{name}_logits"])
        golden.close(logits, f"semi/logits{i}", atol=2e-5)
    labels = tensor(golden["semi/labels"], "int32")
    apart = [
        labelled_cross_entropy(outputs[f"{name}_logits"], labels)
        for name in ("first", "second")
    ]
    golden.close(numpy(sum(apart)), "semi/ce_sum_of_views", atol=1e-5)
    outputs["embedding"] = outputs["first"]
    total = model.pretext_loss(outputs, None, labels)
    golden.close(numpy(total), "semi/total", atol=1e-5)
    alone = model.pretext_loss(outputs, None)
    golden.close(numpy(alone), "semi/nt_xent", atol=1e-5)


def test_contrastive_head(golden):
    if not golden.has("unsup_head/seed", "unsup_head/in"):
        pytest.skip("no contrastive head")
    weights = recipe_weights(golden, "unsup_head")
    hidden, dim = weights["model.1.weight"].shape
    head = DeepHead(dim, hidden, len(weights["model.7.weight"]))
    (first, second), norms = head.hidden, head.norms
    fill(
        [
            *audio_ntt.dense("model.1", first),
            *audio_ntt.batch_norm("model.2", norms[0]),
            *audio_ntt.dense("model.4", second),
            *audio_ntt.batch_norm("model.5", norms[1]),
            reversed_axes("model.7.weight", head.out.kernel),
        ],
        weights,
    )
    out = numpy(head(tensor(golden["unsup_head/in"])))
    if golden.has("unsup_head/out_eval"):
        # Whether scaled to unit length, or not yet.
        length = np.linalg.norm(golden["unsup_head/out_eval"], axis=1)
        if np.allclose(length, 1, atol=1e-4):
            out = out / np.linalg.norm(out, axis=1, keepdims=True)
    golden.close(out, "unsup_head/out_eval", atol=2e-5)


def test_features(golden):
    waves = [k for k in golden.keys if k.startswith("feat/wav_")]
    if not waves or not golden.has("feat/mel_dB"):
        pytest.skip("no features")
    bands, frames = golden["feat/mel_dB"].shape
    wave = tensor(golden[waves[0]][None])
    frontend = recipe("clar", n_mels=bands)
    golden.close(
        frontend.transform_frequencies, "feat/stft_bin_freqs_hz", rtol=1e-9
    )
    x = numpy(frontend(wave))[0].T
    assert x.shape == (3 * bands, frames)
    decibels, phase, mel = np.split(x, 3)
    # Where next to nothing is, the reference shows the rounding of its
    # float32 product, and ours would add as much again.
    exact = recipe("clar", n_mels=bands, precision="float64")
    quiet = np.split(numpy(exact(wave))[0].T, 3)
    for place, key in ((0, "feat/magnitude_dB"), (2, "feat/mel_dB")):
        if golden.has(key):
            loud = golden[key] > -60
            got = (decibels, phase, mel)[place]
            golden.close(got, key, atol=5e-3, where=loud)
            if not loud.all():
                golden.close(quiet[place], key, atol=0.1, where=~loud)
    if not golden.has("feat/magnitude_lin"):
        return
    size = golden["feat/magnitude_lin"]
    step = -(-frames // size.shape[1])
    loud = size > 1e-2
    linear = 10 ** ((decibels[:, ::step] + 20) / 20)
    # Of the largest, as decibels are: the 5e-3 allowed are 6e-4 of a number.
    golden.close(linear, "feat/magnitude_lin", rtol=6e-4, where=loud)
    if golden.has("feat/phase"):
        off = phase[:, ::step] - golden["feat/phase"]
        off = np.abs((off + np.pi) % (2 * np.pi) - np.pi)
        golden.near(off, np.zeros_like(off), 1e-3, where=loud, what="phase")


@pytest.mark.parametrize("name", ["resnet1d", "resnet2d"])
def test_encoders(golden, name, tmp_path):
    if not golden.has(f"{name}/seed", f"{name}/input"):
        pytest.skip(f"no {name}")
    weights = recipe_weights(golden, name)
    path = tmp_path / "weights.npz"
    np.savez(path, **weights)
    x = golden[f"{name}/input"]
    settings = {}
    if x.ndim == 4:
        # (batch, channels, bins, time): all bins of a channel, then the next.
        settings["frontend"] = recipe("clar", n_mels=x.shape[2])
        x = x.reshape(len(x), -1, x.shape[3])
    x = np.ascontiguousarray(x.transpose(0, 2, 1))
    encoder, report = import_checkpoint("clar_official", path, **settings)
    classes = [n for n in weights if n.startswith("fc.")]
    assert len(report.mapped) == len(weights) - len(classes)
    assert not report.unexplained
    backbone = encoder.backbone
    sizes = [np.prod(v.shape) for v in backbone.trainable_variables]
    golden.close(sum(sizes), f"{name}/n_params_without_fc")
    outputs = backbone(tensor(x))
    # Before the mean over bins, where there are some.
    bins = 1
    if golden[f"{name}/map_shape"].size == 4:
        bins = backbone.dims[-2] // backbone.dims[-1]
    batch, frames, dim = outputs["frames"].shape
    shape = (batch, dim, bins, frames) if bins > 1 else (batch, dim, frames)
    golden.equal(shape, f"{name}/map_shape")
    if golden.has(f"{name}/embedding"):
        largest = np.abs(golden[f"{name}/embedding"]).max()
        clip = numpy(outputs["clip"])
        golden.close(clip, f"{name}/embedding", atol=1e-5 * largest)


def test_fades(golden):
    key = "aug/fade_out_by_shape"
    if not golden.has("aug/x", "aug/fade_in_len", "aug/fade_out_len", key):
        pytest.skip("no fades")
    shapes = len(golden[key])
    x = np.repeat(golden["aug/x"][None], shapes, axis=0)
    lengths = [
        tensor(np.full(shapes, golden[f"aug/fade_{name}_len"]), "int32")
        for name in ("in", "out")
    ]
    out = fade(tensor(x), tensor(np.arange(shapes), "int32"), *lengths)
    golden.close(numpy(out), key, atol=1e-6)


def test_noise(golden):
    if not golden.has("aug/x", "aug/white_noise_unit"):
        pytest.skip("no noise")
    x, noise = (
        tensor(golden[key][None]) for key in ("aug/x", "aug/white_noise_unit")
    )
    if golden.has("aug/white_noise_snr_db"):
        snr = tensor([golden["aug/white_noise_snr_db"]])
        out = add_noise(x, noise, snr)
        golden.close(numpy(out)[0], "aug/white_noise_out", atol=1e-6)
    if golden.has("aug/time_mask_start", "aug/time_mask_out"):
        start = tensor([golden["aug/time_mask_start"]], "int32")
        width = x.shape[1] // 8
        out = mask_time(
            x, start, tensor([width], "int32"), 0.01 * noise[:, :width]
        )
        golden.close(numpy(out)[0], "aug/time_mask_out", atol=1e-6)


def test_shifts(golden):
    if not golden.has("aug/x", "aug/time_shift"):
        pytest.skip("no shifts")
    shift = tensor([golden["aug/time_shift"]], "int32")
    out = TimeShift().apply(tensor(golden["aug/x"][None]), shift=shift)
    golden.close(numpy(out)[0], "aug/time_shift_out", atol=1e-6)
