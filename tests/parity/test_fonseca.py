"""Fonseca et al. against the authors' code.

Tolerances: loss 1e-5, head 2e-5, mix-back 2e-6, log-mel 1e-4, crops 5e-5,
encoders 1e-5 of the largest entry (CRNN 2e-5), published networks 1e-3 of it.
"""

import os
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.augment import RandomResizedCrop
from keras_audio_ssl.augment import cut_and_resize
from keras_audio_ssl.augment import fill_bands
from keras_audio_ssl.augment import mix_back
from keras_audio_ssl.encoders import VGG
from keras_audio_ssl.features import recipe
from keras_audio_ssl.hub import import_checkpoint
from keras_audio_ssl.hub.foreign import audio_ntt
from keras_audio_ssl.losses import nt_xent
from keras_audio_ssl.losses import unit
from keras_audio_ssl.methods.fonseca import Fonseca
from tests.gradients import numpy
from tests.parity.golden import recipe_weights

GOLDEN = "fonseca"

# A folder with the authors' `VGG_best.pth` and `CRNN_best.pth`.
PUBLISHED = "KERAS_AUDIO_SSL_FONSECA"


def tensor(x, dtype="float32"):
    return ops.convert_to_tensor(np.asarray(x, dtype))


def head_rules(head, prefix=""):
    return [
        *audio_ntt.dense(f"{prefix}net1.0", head.hidden),
        *audio_ntt.batch_norm(f"{prefix}net1.1", head.norm),
        *audio_ntt.dense(f"{prefix}net1.3", head.out),
    ]


@pytest.fixture
def model(golden):
    """The method with the golden head, on a small network."""
    weights = golden.group("head")
    if not weights or not golden.has("loss/h1", "loss/temperature"):
        pytest.skip("no head")
    hidden, dim = weights["net1.0.weight"].shape
    out = weights["net1.3.weight"].shape[0]
    temperature = float(golden["loss/temperature"])
    golden.near(temperature, golden.config.get("tau", temperature))
    model = Fonseca(
        VGG(32, conv_channels=4, repeats=(1, 1), dim=dim),
        temperature,
        frames=16,
        head=(hidden, out),
    )
    for rule in head_rules(model.projector):
        values = [weights[source] for source in rule.sources]
        rule.variable.assign(rule.convert(*values))
    return model


def test_head_and_loss(golden, model):
    z = [
        model.project(tensor(golden[key]), training=True)
        for key in ("loss/h1", "loss/h2")
    ]
    golden.close(numpy(z[0]), "loss/z1", atol=2e-5)
    golden.close(numpy(z[1]), "loss/z2", atol=2e-5)
    outputs = {"first": z[0], "second": z[1], "embedding": z[0]}
    golden.close(
        numpy(model.pretext_loss(outputs, None)), "loss/value", atol=1e-5
    )
    if golden.has("loss/z1", "loss/z2"):
        z = [unit(tensor(golden[key])) for key in ("loss/z1", "loss/z2")]
        loss, _ = nt_xent(*z, model.temperature)
        golden.close(numpy(loss), "loss/value", atol=1e-5)


def test_mix_back(golden):
    if not golden.has("mixback/fore", "mixback/back", "mixback/alpha"):
        pytest.skip("no mix-back")
    fore, back = golden["mixback/fore"], golden["mixback/back"]
    alpha = float(golden["mixback/alpha"])
    most = golden.config.get("max_mix_back_alpha", alpha)
    assert alpha <= most

    def mixed(fore, back):
        share = tensor(np.full(len(fore), alpha))
        return numpy(mix_back(tensor(fore), tensor(back), share))

    out = mixed(fore, back)
    golden.close(out, "mixback/out_log10", atol=2e-6)
    energy, kept = (10.0 ** x.astype("float64") for x in (fore, out))
    golden.near(
        kept.sum((1, 2)) / energy.sum((1, 2)), np.ones(len(fore)), atol=1e-6
    )
    silent = np.full_like(fore[:1], np.log10(1.1e-8))
    golden.close(
        mixed(fore[:1], silent)[0], "mixback/out_silent_back", atol=2e-6
    )
    golden.close(
        mixed(silent, back[:1])[0], "mixback/out_silent_fore", atol=2e-6
    )


def test_log_mel(golden):
    waves = [k for k in golden.keys if k.startswith("logmel/wav_")]
    if not waves or not golden.has("logmel/log10_mel"):
        pytest.skip("no log-mel")
    want = golden["logmel/log10_mel"]
    wave = tensor(golden[waves[0]][None])
    # In the emptiest bands beside a loud one, PyTorch's float32 transform
    # rounds coarsely, and the reference's was another.
    loud = want > want.min() + 1
    for precision, where in (("auto", loud), ("float64", None)):
        frontend = recipe("fonseca", n_mels=want.shape[1], precision=precision)
        got = numpy(frontend.unnormalized(wave))[0]
        golden.close(got, "logmel/log10_mel", atol=1e-4, where=where)


def test_resized_crops(golden):
    if not golden.has("rrc/x", "rrc/ijhw_rows_are_time", "rrc/out"):
        pytest.skip("no crops")
    boxes = golden["rrc/ijhw_rows_are_time"]
    x = np.repeat(golden["rrc/x"][None], len(boxes), axis=0)
    out = cut_and_resize(tensor(x), tensor(boxes, "int32"))
    golden.close(numpy(out), "rrc/out", atol=5e-5)


def test_draws_of_crops(golden):
    key, draws, theirs = "rrc/param_mean_std_min_max", 20_000, 5000
    if not golden.has(key, "rrc/x"):
        pytest.skip("no statistics of crops")
    mean, std, least, largest = golden[key]
    layer, shape = RandomResizedCrop(), golden["rrc/x"].shape
    drawn = layer.draw((draws, *shape), seed=keras.random.SeedGenerator(0))
    boxes = numpy(drawn["boxes"])
    # Both sides are samples: five deviations of their difference.
    error = 5 * np.sqrt(1 / draws + 1 / theirs)
    moment = ((boxes - boxes.mean(0)) ** 4).mean(0) / boxes.std(0) ** 4
    good = {
        "mean": np.abs(boxes.mean(0) - mean) <= error * std,
        "deviation": np.abs(boxes.std(0) / std - 1)
        <= error / 2 * np.sqrt(moment),
        # Rare extremes may be missed by a little.
        "least": np.abs(boxes.min(0) - least) <= 2,
        "largest": np.abs(boxes.max(0) - largest) <= 3,
    }
    for name, entries in good.items():
        golden.near(entries, np.ones(4), what=f"{key}: {name}")


def test_masks(golden):
    pattern = r"mask/freq_bw(\d+)_f(\d+)_min_then_time_dt(\d+)_t(\d+)_min"
    found = [m for k in golden.keys if (m := re.fullmatch(pattern, k))]
    if not found or not golden.has("rrc/x"):
        pytest.skip("no masks")
    x = golden["rrc/x"][None]
    for match in found:
        width, bin_, length, start = (int(n) for n in match.groups())
        frames, bins = (np.zeros((1, n), bool) for n in x.shape[1:])
        frames[0, start : start + length] = True
        bins[0, bin_ : bin_ + width] = True
        out = fill_bands(tensor(x), frames, bins)
        golden.close(numpy(out)[0], match.group(), atol=1e-6)


@pytest.mark.parametrize("name", ["resnet18", "vgg", "crnn"])
def test_encoders(golden, name, tmp_path):
    if not golden.has(f"{name}/seed", "enc/input_time_by_mel"):
        pytest.skip(f"no {name}")
    weights = recipe_weights(golden, name)
    path = tmp_path / "weights.npz"
    np.savez(path, **weights)
    x = golden["enc/input_time_by_mel"][:, 0]
    encoder, report = import_checkpoint(
        "fonseca_official", path, input_scale=1.0, n_mels=x.shape[2]
    )
    kernel, bias = [n for n in weights if n.startswith(("fc", "dense"))][-2:]
    assert len(report.mapped) == len(weights) - 2 and not report.unexplained
    # The reference counts its class layer too.
    sizes = [np.prod(v.shape) for v in encoder.trainable_variables]
    sizes += [weights[kernel].size, weights[bias].size]
    golden.close(sum(sizes), f"{name}/n_params")
    clip = numpy(encoder.backbone(tensor(x))["clip"])
    for key, got in (
        ("embedding", clip),
        ("logits", clip @ weights[kernel].T + weights[bias]),
    ):
        if golden.has(f"{name}/{key}"):
            largest = np.abs(golden[f"{name}/{key}"]).max()
            atol = 2e-5 if name == "crnn" else 1e-5 * largest
            golden.close(got, f"{name}/{key}", atol=atol)


@pytest.mark.parametrize("name", ["vgg", "crnn"])
def test_published_networks(golden, name):
    folder = os.environ.get(PUBLISHED)
    if not folder:
        pytest.skip(f"needs the authors' files: {PUBLISHED} names their folder")
    if not golden.has("official/input", f"official_{name}/embedding"):
        pytest.skip("no published network")
    # The golden input has the scale in it.
    encoder, _ = import_checkpoint(
        "fonseca_official",
        Path(folder) / f"{name.upper()}_best.pth",
        input_scale=1.0,
    )
    clip = numpy(
        encoder.backbone(tensor(golden["official/input"][:, 0]))["clip"]
    )
    largest = np.abs(golden[f"official_{name}/embedding"]).max()
    golden.close(clip, f"official_{name}/embedding", atol=1e-3 * largest)
