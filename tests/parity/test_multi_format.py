"""Multi-format: losses and augmentations, and the blocks of PANNs.

Tolerances: losses, gradients and augmentations 1e-6, blocks 1e-5 relative,
log-mel 1e-3.
"""

import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.augment import WaveformMix
from keras_audio_ssl.augment import shift_bins
from keras_audio_ssl.encoders import Res1dNet31
from keras_audio_ssl.encoders.panns import PooledConvs
from keras_audio_ssl.encoders.panns import Res1dBlock
from keras_audio_ssl.features import recipe
from keras_audio_ssl.hub.foreign.panns import conv_rules
from keras_audio_ssl.hub.foreign.panns import stage_rules
from keras_audio_ssl.methods.multi_format import MultiFormat
from tests.gradients import gradients
from tests.gradients import numpy

GOLDEN = "multi_format"

LOSSES = {"all": "all_negatives", "cross_format": "cross_format"}


@pytest.mark.parametrize("negatives", sorted(LOSSES))
def test_losses_and_their_gradients(golden, negatives):
    if not golden.has("loss/z_wave", "loss/z_spec", "loss/temperature"):
        pytest.skip("the folder holds no vectors")
    temperature = float(golden["loss/temperature"])
    golden.near(temperature, golden.config.get("tau", temperature))
    model = MultiFormat(
        preset="tiny", negatives=negatives, temperature=temperature
    )
    z = [keras.Variable(golden[f"loss/z_{n}"]) for n in ("wave", "spec")]
    golden.near(z[0].shape[1], golden.config.get("dim", z[0].shape[1]))

    def loss(first=z[0], second=z[1]):
        outputs = {"first": first.value, "second": second.value}
        outputs |= {f"{k}_embedding": v for k, v in outputs.items()}
        return model.pretext_loss(outputs, None)

    key = f"loss/{LOSSES[negatives]}"
    value, grads = gradients(loss, z)
    golden.close(value, key, atol=1e-6)
    for name, grad in zip(("wave", "spec"), grads, strict=True):
        golden.close(grad, f"{key}_grad_{name}", atol=1e-6)
    # Which format comes first makes no difference.
    swapped = float(numpy(loss(*z[::-1])))
    golden.close(swapped, key, atol=1e-6)


def test_mixing(golden):
    keys = ("aug/wave", "aug/wave_other", "aug/mix_alpha", "aug/wave_mixed")
    if not golden.has(*keys):
        pytest.skip("the folder holds no mixture")
    x = np.stack([golden[key] for key in keys[:2]])
    share = np.full(2, golden["aug/mix_alpha"], "float32")
    mixed = WaveformMix().apply(
        ops.convert_to_tensor(x),
        share=ops.convert_to_tensor(share),
        source=ops.convert_to_tensor(np.array([1, 0], "int32")),
    )
    golden.close(numpy(mixed)[0], "aug/wave_mixed", atol=1e-6)


def test_frequency_shifts(golden):
    keys = [k for k in golden.keys if k.startswith("aug/logmel_shift_")]
    if not keys or not golden.has("aug/logmel"):
        pytest.skip("the folder holds no shifts")
    x = ops.convert_to_tensor(golden["aug/logmel"].T[None])
    for key in keys:
        # As in "logmel_shift_up7_fill_min".
        way = key.split("_")[2]
        bins = int(way.lstrip("updown")) * (1 if "up" in way else -1)
        shift = ops.convert_to_tensor(np.array([bins], "int32"))
        got = numpy(shift_bins(x, shift, fill="min"))[0].T
        golden.close(got, key, atol=1e-6)


def weights_of(golden, group):
    """The weights of a recipe by name; see the folder's description."""
    rng = np.random.RandomState(int(golden[f"{group}/seed"]))
    weights = {}
    for name, kind, text in zip(
        *(golden[f"{group}/{k}"] for k in ("keys", "kinds", "shapes")),
        strict=True,
    ):
        shape = tuple(int(n) for n in str(text).split(","))
        if kind == "matrix":
            width = np.prod(shape[1:])
            value = rng.standard_normal(shape) * np.sqrt(2 / width)
        elif kind == "bn_var":
            value = 0.5 + rng.random_sample(shape)
        else:
            scale = 0.05 if kind == "bias" else 0.1
            value = scale * rng.standard_normal(shape)
            value += kind == "bn_gamma"
        weights[str(name)] = value.astype("float32")
    if golden.has(f"{group}/abs_sum"):
        sums = [np.abs(w.astype("float64")).sum() for w in weights.values()]
        golden.close(sums, f"{group}/abs_sum", rtol=1e-9)
    return weights


def load(rules, weights):
    """Fills variables; every weight has one."""
    assert {rule.sources[0] for rule in rules} == set(weights)
    for rule in rules:
        value = weights[rule.sources[0]]
        assert value.shape == rule.shapes[0], rule.sources[0]
        rule.variable.assign(rule.convert(value))


@pytest.mark.parametrize(
    "group", ["panns_conv_block_avg2x2", "panns_conv_block5x5_avg2x2"]
)
def test_blocks_of_cnn14_and_cnn6(golden, group):
    if not golden.has(f"{group}/in", f"{group}/out", f"{group}/keys"):
        pytest.skip("the folder holds no such block")
    weights = weights_of(golden, group)
    filters, width, size, _ = weights["conv1.weight"].shape
    convs = sum(name.startswith("conv") for name in weights)
    x, want = golden[f"{group}/in"], golden[f"{group}/out"]
    block = PooledConvs(
        filters, width, size, convs, x.shape[2] // want.shape[2]
    )
    load(conv_rules(block), weights)
    y = numpy(block(x.transpose(0, 2, 3, 1))).transpose(0, 3, 1, 2)
    golden.close(y, f"{group}/out", atol=1e-5 * np.abs(want).max())


def test_stage_of_res1dnet31(golden):
    group = "panns_res1d_stage_stride4"
    if not golden.has(f"{group}/in", f"{group}/out", f"{group}/keys"):
        pytest.skip("the folder holds no stage")
    weights = weights_of(golden, group)
    x, want = golden[f"{group}/in"], golden[f"{group}/out"]
    stage, width = [], x.shape[1]
    stride = x.shape[2] // want.shape[2]
    for i in range(1 + max(int(k.split(".")[0]) for k in weights)):
        filters = weights[f"{i}.conv1.weight"].shape[0]
        stage.append(Res1dBlock(filters, width, 1 if i else stride))
        width = filters
    load(stage_rules(stage), weights)
    y = ops.convert_to_tensor(x.transpose(0, 2, 1))
    for block in stage:
        y = block(y)
    y = numpy(y).transpose(0, 2, 1)
    golden.close(y, f"{group}/out", atol=1e-5 * np.abs(want).max())


def test_parameters_of_res1dnet31(golden):
    if not golden.has("res1dnet31/n_params_without_classifier"):
        pytest.skip("the folder holds no count")
    net = Res1dNet31()
    count = sum(int(np.prod(v.shape)) for v in net.trainable_variables)
    golden.close(count, "res1dnet31/n_params_without_classifier")


def test_log_mel(golden):
    waves = [k for k in golden.keys if k.startswith("logmel/wav_")]
    if not waves or not golden.has("logmel/log_mel"):
        pytest.skip("the folder holds no log-mel")
    want = golden["logmel/log_mel"]
    wave = ops.convert_to_tensor(golden[waves[0]][None])
    # Beside its tones the clip is so quiet that float32 rounds more, at the
    # floor of ln 1e-6.
    for precision, where in (("float64", None), ("auto", want > -12)):
        frontend = recipe("multi_format", n_mels=len(want), precision=precision)
        got = numpy(frontend.unnormalized(wave))[0].T
        golden.close(got, "logmel/log_mel", atol=1e-3, where=where)
