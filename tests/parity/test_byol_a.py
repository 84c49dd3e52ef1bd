"""BYOL-A against the released networks, step and augmentations.

Tolerances: inference 2e-5, training mode 5e-5, losses 1e-5, gradients 2e-4
of the largest entry, the state after a step 1e-5, moving averages 1e-6,
mixup, norm and fader 1e-6, crops 3e-5, log-mels 1e-3 above -10 and 5e-3
below, full sizes 1e-5 of the largest entry.
"""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.augment import MixupMemory
from keras_audio_ssl.augment import RandomResizeCrop
from keras_audio_ssl.augment import RunningNorm
from keras_audio_ssl.augment import crop_and_resize
from keras_audio_ssl.augment import linear_fade
from keras_audio_ssl.augment import standardize_batch
from keras_audio_ssl.encoders import AudioNTT
from keras_audio_ssl.features import recipe
from keras_audio_ssl.hub import import_checkpoint
from keras_audio_ssl.hub.foreign import audio_ntt
from keras_audio_ssl.losses import unit_distance
from keras_audio_ssl.methods import byol_a
from tests.gradients import gradients
from tests.gradients import numpy
from tests.parity.golden import recipe_weights

GOLDEN = "byol_a"

# Gradients of biases that a batch norm takes away again are rounding noise;
# the projection's goes to the predictor's, by a matrix.
NOISE = re.compile(r"net\.(features\.\d+|0)\.bias$|projector\.net\.3\.bias$")


class ReadyViews(byol_a.BYOLA):
    """BYOL-A on views that are given: the real step, but no augmentation."""

    def call(self, x, training=False):
        return self.compare(x["view1"], x["view2"], training=training)


def features(x):
    """Golden maps `(batch, 1, bins, time)` as ours `(batch, time, bins)`."""
    return np.ascontiguousarray(x[:, 0].transpose(0, 2, 1))


def released(x):
    """Ours, in the layout of the golden maps."""
    return numpy(x).transpose(0, 2, 1)[:, None]


def tensor(x, dtype="float32"):
    return ops.convert_to_tensor(np.asarray(x, dtype))


def fill(rules, arrays):
    for rule in rules:
        values = [arrays[source] for source in rule.sources]
        rule.variable.assign(rule.convert(*values))


def head_rules(head, prefix):
    return [
        *audio_ntt.dense(f"{prefix}net.0", head.hidden),
        *audio_ntt.batch_norm(f"{prefix}net.1", head.norm),
        *audio_ntt.dense(f"{prefix}net.3", head.out),
    ]


def network_rules(network):
    return [
        *audio_ntt.rules(network.backbone, "net."),
        *head_rules(network.projector, "projector."),
    ]


@pytest.fixture
def model(golden):
    """The golden step's model, dropout off."""
    needed = ("view1", "view2", "tau", "predictor/net.0.weight")
    online, target = golden.group("online"), golden.group("target")
    if not golden.has(*needed) or not online or not target:
        pytest.skip("the folder holds no step")
    bins, frames = golden["view1"].shape[2:]
    hidden, dim = online["projector.net.0.weight"].shape
    frontend = recipe("byol_a", n_mels=bins)
    samples = (frames - 1) * frontend.hop_length
    backbone = AudioNTT(
        bins,
        "v1",
        dim,
        hidden_dim=online["net.fc.0.weight"].shape[0],
        conv_channels=online["net.features.0.weight"].shape[0],
        dropout=0.0,
    )
    model = ReadyViews(
        encoder=backbone,
        hidden_dim=hidden,
        projection_dim=online["projector.net.3.weight"].shape[0],
        seconds=samples / frontend.sample_rate,
        momentum=float(golden["tau"]),
        memory=1,
    )
    fill(network_rules(model.online), online)
    fill(network_rules(model.target.network), target)
    fill(head_rules(model.predictor, ""), golden.group("predictor"))
    return model


def views(golden):
    return [features(golden[key]) for key in ("view1", "view2")]


def test_inference(golden, model):
    outputs = model.online.backbone(views(golden)[0])
    flat = numpy(outputs["hidden"][-3])
    golden.close(
        flat[0, 0], "eval/reshaped_first_frame", atol=2e-5
    )  # frequency major, channel minor
    if golden.has("eval/features_view1"):
        clips, channels, bins, frames = golden["eval/features_view1"].shape
        maps = flat[:clips].reshape(clips, frames, bins, channels)
        golden.close(
            maps.transpose(0, 3, 2, 1), "eval/features_view1", atol=2e-5
        )
    golden.close(numpy(outputs["frames"]), "eval/frames_view1", atol=2e-5)
    golden.close(numpy(outputs["clip"]), "eval/embedding_view1", atol=2e-5)


def test_training_mode(golden, model):
    for i, view in enumerate(views(golden), 1):
        clip, projection = model.online(view, training=True)
        _, target = model.target(view, training=True)
        prediction = model.predictor(projection, training=True)
        for name, got in (
            ("online_embedding", clip),
            ("online_proj", projection),
            ("online_pred", prediction),
            ("target_proj", target),
        ):
            golden.close(numpy(got), f"train/{name}_view{i}", atol=5e-5)


def test_loss(golden, model):
    outputs = model.compare(*views(golden), training=True)
    loss = model.pretext_loss(outputs, None)
    golden.close(numpy(loss), "train/loss", atol=1e-5)
    # Through the network a clip's terms are outputs of training mode ...
    golden.close(loss_terms(outputs), "train/loss_terms", atol=5e-5)
    names = {
        "prediction_1": "train/online_pred_view1",
        "prediction_2": "train/online_pred_view2",
        "target_1": "train/target_proj_view1",
        "target_2": "train/target_proj_view2",
    }
    if golden.has(*names.values()):
        # ... and of the golden vectors, losses.
        vectors = {k: tensor(golden[key]) for k, key in names.items()}
        golden.close(loss_terms(vectors), "train/loss_terms", atol=1e-5)
        vectors["embedding"] = outputs["embedding"]
        loss = model.pretext_loss(vectors, None)
        golden.close(numpy(loss), "train/loss", atol=1e-5)


def loss_terms(outputs):
    """The two terms of each clip, `(2, batch)`."""
    terms = [
        unit_distance(outputs["prediction_1"], outputs["target_2"]),
        unit_distance(outputs["prediction_2"], outputs["target_1"]),
    ]
    return numpy(ops.stack(terms))


def test_gradients(golden, model):
    plan = [
        (f"grad/online/{rule.sources[0]}", rule)
        for rule in network_rules(model.online)
    ] + [
        (f"grad/predictor/{rule.sources[0]}", rule)
        for rule in head_rules(model.predictor, "")
    ]
    plan = [(key, rule) for key, rule in plan if golden.has(key)]
    first, second = views(golden)

    def loss():
        outputs = model.compare(first, second, training=True)
        return model.pretext_loss(outputs, None)

    value, got = gradients(loss, [rule.variable for _, rule in plan])
    golden.close(value, "train/loss", atol=1e-5)
    # Where the true gradient is 0, noise is what the largest has of it.
    largest = max(np.abs(g).max() for g in got)
    for (key, rule), gradient in zip(plan, got, strict=True):
        want = rule.convert(golden[key])
        scale = np.abs(want).max()
        if NOISE.search(key):
            scale = largest
        golden.near(gradient, want, atol=2e-4 * scale, what=key)


def test_step(golden, model):
    after = golden.group("after_step")
    if not after or not golden.has("adam_lr"):
        pytest.skip("the folder holds no state after a step")
    rate = float(golden["adam_lr"])
    before = {
        "online": golden.group("online"),
        "target": golden.group("target"),
    }
    # PyTorch adds epsilon after the correction of the bias: for the first
    # step Keras' is worth this much.
    epsilon = 1e-8 * np.sqrt(1 - 0.999)
    model.compile(keras.optimizers.Adam(rate, epsilon=epsilon))
    first, second = views(golden)
    model.train_on_batch({"view1": first, "view2": second})
    assert int(numpy(model.updates)) == 1
    entries = {
        side: counts_of(network, first.shape)
        for side, network in (
            ("online", model.online),
            ("target", model.target.network),
        )
    }
    state = {}
    for side, plan in entries.items():
        for rule, count, momentum in plan:
            key = f"{side}/{rule.sources[0]}"
            state[key] = got = numpy(rule.variable)
            if key not in after:
                continue
            want, atol = rule.convert(after[key]), 1e-5
            if key.endswith("running_var"):
                # Keras averages the biased variance, PyTorch the unbiased
                # one; both views share the old value's weight.
                kept = momentum**2 * before[side][rule.sources[0]]
                got = kept + (got - kept) * count / (count - 1)
            if NOISE.search(key):
                # Adam makes a full step of what is rounding noise.
                share = 1 if side == "online" else 1 - model.momentum
                atol += 2 * rate * share
            golden.near(got, want, atol=atol, what=key)
    for rule, _, _ in entries["target"]:
        name = rule.sources[0]
        if "running" in name:
            continue
        tau = model.momentum
        old = rule.convert(before["target"][name])
        average = tau * old + (1 - tau) * state[f"online/{name}"]
        golden.near(state[f"target/{name}"], average, 1e-6, what=name)


def counts_of(network, shape):
    """Rules, and entries and momentum of the batch norm each belongs to."""
    batch, frames, bins = shape
    found = {}
    for i, block in enumerate(network.backbone.blocks):
        count = batch * (frames // 2**i) * (bins // 2**i)
        found[id(block.norm.moving_variance)] = count, block.norm.momentum
    norm = network.projector.norm
    found[id(norm.moving_variance)] = batch, norm.momentum
    return [
        (rule, *found.get(id(rule.variable), (0, 0)))
        for rule in network_rules(network)
    ]


def import_weights(weights, version, tmp_path):
    # Random numbers: no licence is on them.
    path = tmp_path / "weights.npz"
    np.savez(path, **weights)
    name = {"v1": "audio_ntt2020", "v2": "audio_ntt2022"}[version]
    encoder, report = import_checkpoint(name, path, accept_licence=True)
    assert len(report.mapped) == len(weights)
    return encoder


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_full_size(golden, version, tmp_path):
    groups = {
        re.match(rf"full/{version}_[^/]+", key).group()
        for key in golden.keys
        if key.startswith(f"full/{version}_")
    }
    if not groups or not golden.has("full/input"):
        pytest.skip(f"no full size of {version}")
    for group in sorted(groups):
        weights = recipe_weights(golden, group)
        encoder = import_weights(weights, version, tmp_path)
        sizes = [np.prod(v.shape) for v in encoder.trainable_variables]
        golden.close(sum(sizes), f"{group}/n_params")
        clip = encoder.backbone(features(golden["full/input"]))["clip"]
        largest = np.abs(golden[f"{group}/embedding"]).max()
        golden.close(numpy(clip), f"{group}/embedding", atol=1e-5 * largest)


def test_small_v2(golden, tmp_path):
    if not golden.has("v2_small/seed", "view1"):
        pytest.skip("no small version 2")
    weights = recipe_weights(golden, "v2_small")
    encoder = import_weights(weights, "v2", tmp_path)
    outputs = encoder.backbone(features(golden["view1"]))
    frames = numpy(outputs["frames"])
    if golden.has("v2_small/frames_view1"):
        frames = frames[: len(golden["v2_small/frames_view1"])]
        golden.close(frames, "v2_small/frames_view1", atol=2e-5)
    clip = numpy(outputs["clip"])
    golden.close(clip, "v2_small/embedding_view1", atol=2e-5)


def test_mixup(golden):
    if not golden.has("aug/x", "aug/mixup_u", "aug/mixup_pick"):
        pytest.skip("no mixup")
    x, kept = features(golden["aug/x"]), golden["aug/mixup_bank_after"]
    for key in sorted(golden.keys):
        found = re.fullmatch(r"aug/mixup_v\d_ratio([\d.]+)", key)
        if not found:
            continue
        layer = MixupMemory(float(found[1]), len(kept), *x.shape[1:])
        out = []
        draws = zip(golden["aug/mixup_u"], golden["aug/mixup_pick"])
        for clip, (u, pick) in zip(x, draws, strict=True):
            share = tensor([layer.ratio * u])
            pick = tensor([max(pick, 0)], "int32")
            mixed = layer.apply(tensor(clip[None]), share=share, pick=pick)
            out.append(numpy(mixed))
            layer.push(tensor(clip[None]))
        golden.close(released(np.concatenate(out)), key, atol=1e-6)
        # The memory, oldest first, as slots are counted.
        memory, pushed = numpy(layer.memory), int(numpy(layer.pushed))
        rows = (pushed + np.arange(len(kept))) % len(kept)
        golden.near(memory[rows], x[kept], what="memory")


def test_crop_and_resize(golden):
    if not golden.has("aug/x", "aug/rrc_ijhw", "aug/rrc_virtual"):
        pytest.skip("no crops")
    boxes, canvas = golden["aug/rrc_ijhw"], golden["aug/rrc_virtual"]
    x = features(golden["aug/x"])
    layer = RandomResizeCrop()
    assert layer.canvas_size(*x.shape[1:]) == tuple(canvas)
    first = np.repeat(x[:1], len(boxes), axis=0)
    out = crop_and_resize(
        tensor(first), tensor(boxes, "int32"), tuple(int(n) for n in canvas)
    )
    golden.close(released(out), "aug/rrc_out", atol=3e-5)


def test_crop_draws(golden):
    found = [k for k in golden.keys if k.startswith("aug/rrc_param_stats_")]
    if not found:
        pytest.skip("no statistics of crops")
    key, draws = found[0], 20_000
    bins, frames = (int(n) for n in key.rsplit("_", 1)[1].split("x"))
    mean, std, least, largest, shares = golden[key]
    seed = keras.random.SeedGenerator(0)
    drawn = RandomResizeCrop().draw((draws, frames, bins), seed=seed)
    boxes = numpy(drawn["boxes"])
    # Both sides are samples: five deviations of their difference.
    error = 5 * np.sqrt(2 / draws)
    where = [np.abs(boxes.mean(0) - mean) <= error * std]
    # The variance of a deviation, for tails no heavier than a uniform's
    # or a mostly-zero one's: its kurtosis.
    moment = ((boxes - boxes.mean(0)) ** 4).mean(0) / boxes.std(0) ** 4
    where.append(np.abs(boxes.std(0) / std - 1) <= error / 2 * moment**0.5)
    # Rare extremes may be missed by a little.
    where.append(np.abs(boxes.min(0) - least) <= 3)
    where.append(np.abs(boxes.max(0) - largest) <= 3)
    got = np.array(
        [
            (boxes[:, 2] == bins).mean(),
            (boxes[:, 3] == largest[3]).mean(),
            (boxes[:, 0] == 0).mean(),
            (boxes[:, 1] == 0).mean(),
        ]
    )
    spread = np.sqrt(shares * (1 - shares))
    where.append(np.abs(got - shares) <= error * spread + 1 / draws)
    names = ("mean", "deviation", "least", "largest", "shares")
    for name, good in zip(names, where, strict=True):
        golden.near(good, np.ones(4), what=f"{key}: {name}")


def test_fader(golden):
    if not golden.has("aug/x", "aug/fader_head_tail"):
        pytest.skip("no fader")
    ends = golden["aug/fader_head_tail"]
    x = np.repeat(features(golden["aug/x"])[:1], len(ends), axis=0)
    out = linear_fade(tensor(x), tensor(ends[:, 0]), tensor(ends[:, 1]))
    golden.close(released(out), "aug/fader_out", atol=1e-6)


def test_post_norm(golden):
    if not golden.has("aug/normalize_batch_in"):
        pytest.skip("no post-norm")
    out = standardize_batch(tensor(golden["aug/normalize_batch_in"]))
    golden.close(numpy(out), "aug/normalize_batch_out", atol=1e-6)


@pytest.mark.parametrize("together", [False, True])
def test_running_norm(golden, together):
    if not golden.has("aug/running_norm_in", "aug/running_norm_final_mean_std"):
        pytest.skip("no running norm")
    x = features(golden["aug/running_norm_in"])
    final = golden["aug/running_norm_final_mean_std"]
    # After how many clips the statistics stopped is told by their value.
    means = np.cumsum(x.mean((1, 2))) / np.arange(1, len(x) + 1)
    layer = RunningNorm(1 + int(np.argmin(np.abs(means - final[0]))))
    parts = [x] if together else np.split(x, len(x))
    out = [numpy(layer(tensor(part), training=True)) for part in parts]
    out = released(np.concatenate(out))
    golden.close(out, "aug/running_norm_out", atol=1e-6)
    got = [numpy(layer.mean), numpy(layer.std)]
    golden.close(got, "aug/running_norm_final_mean_std", atol=1e-6)


LOGMELS = {
    "torchaudio": {"mel_scale": "htk", "mel_norm": None},
    "librosa_reflect": {},
    "nnaudio": {},
}


@pytest.mark.parametrize("name", LOGMELS)
def test_log_mel(golden, name):
    key = f"logmel/{name}"
    waves = [k for k in golden.keys if k.startswith("logmel/wav_")]
    if not waves or not golden.has(key):
        pytest.skip(f"no log-mel of {name}")
    want = golden[key]
    frontend = recipe("byol_a", n_mels=len(want), **LOGMELS[name])
    wave, loud = tensor(golden[waves[0]][None]), want > -10
    got = numpy(frontend.unnormalized(wave))[0].T
    golden.near(got, want, 1e-3, where=loud, what=key)
    if not loud.all():
        # Below, the reference shows the noise of its float32 transform, and
        # ours would add as much again.
        frontend = type(frontend)(
            **{**frontend.get_config(), "precision": "float64"}
        )
        got = numpy(frontend.unnormalized(wave))[0].T
        golden.near(got, want, 5e-3, where=~loud, what=key)
