import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl.backend import portable
from keras_audio_ssl.blocks import BatchNorm
from keras_audio_ssl.blocks import ConvBlock
from keras_audio_ssl.blocks import ConvNorm
from keras_audio_ssl.blocks import conv_across
from keras_audio_ssl.blocks import frame_mask
from keras_audio_ssl.blocks import mask_frames
from keras_audio_ssl.blocks.conv import ACTIVATIONS
from tests.backend.kernels import COMPILED
from tests.backend.kernels import Kernel
from tests.backend.kernels import array
from tests.blocks.gradients import close
from tests.blocks.gradients import run

numpy = keras.ops.convert_to_numpy


def block_and_plain(kernel_size=3, pool=2, channels=3, filters=5, dtype=None):
    """The block, and the Keras layers it stands for, with equal weights."""
    rng = np.random.default_rng(0)
    block = ConvBlock(filters, kernel_size, pool, dtype=dtype)
    plain = keras.Sequential(
        [
            keras.layers.Conv2D(
                filters, kernel_size, padding="same", dtype=dtype
            ),
            keras.layers.BatchNormalization(
                momentum=0.9, epsilon=1e-5, dtype=dtype
            ),
            keras.layers.ReLU(dtype=dtype),
            keras.layers.MaxPooling2D(pool, dtype=dtype),
        ]
    )
    for layer in (block, plain):
        layer.build((None, None, 9, channels))
    values = [rng.normal(0, 0.5, w.shape) for w in block.weights]
    values[-1] = np.abs(values[-1]) + 0.5  # the moving variance
    values = [v.astype("float32") for v in values]
    block.set_weights(values)
    plain.set_weights(values)
    return block, plain


@pytest.mark.parametrize("compiled", COMPILED)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "kernel_size,pool,channels",
    [(3, 2, 3), ((3, 1), (1, 3), 1), (3, 2, 1), (3, 1, 4)],
)
def test_equals_the_plain_layers(
    kernel_size, pool, channels, training, compiled
):
    block, plain = block_and_plain(kernel_size, pool, channels)
    rng = np.random.default_rng(1)
    x = rng.normal(2, 1, (4, 7, 9, channels)).astype("float32")
    shape = block.compute_output_shape(x.shape)
    grad = rng.normal(size=shape).astype("float32")
    got = run(block, [x], grad, compiled=compiled, training=training)
    want = run(plain, [x], grad, training=training)
    close(got["outputs"], want["outputs"])
    close(got["inputs"], want["inputs"])
    # The bias before a normalisation has a gradient of zero, up to rounding.
    scale = max(np.abs(g).max() for g in want["weights"])
    for g, w in zip(got["weights"], want["weights"]):
        assert np.abs(g - w).max() <= 1e-5 * max(np.abs(w).max(), scale)
    close(got["state"], want["state"])


def test_any_memory_layout():
    block, _ = block_and_plain()
    x = np.random.default_rng(1).normal(size=(3, 3, 6, 8)).astype("float32")
    want = numpy(block(x.transpose(0, 2, 3, 1).copy(), training=True))
    turned = keras.ops.transpose(keras.ops.convert_to_tensor(x), (0, 2, 3, 1))
    close([numpy(block(turned, training=True))], [want])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize(
    "training,channels", [(True, 3), (True, 1), (False, 3)]
)
def test_half_precision_policies(policy, training, channels):
    block, _ = block_and_plain(dtype=policy, channels=channels)
    full, _ = block_and_plain(channels=channels)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4, 6, 8, channels)).astype("float32")
    y = block(x, training=training)
    assert keras.backend.standardize_dtype(y.dtype) == policy[6:]
    grad = rng.normal(size=y.shape).astype("float32")
    got = run(block, [x], grad, training=training)
    want = run(full, [x], grad, training=training)
    close(got["outputs"], want["outputs"], 3e-2)
    for v in block.norm.weights:
        assert v.dtype == "float32"
    assert all(np.isfinite(g).all() for g in got["weights"])
    close(got["weights"][:1], want["weights"][:1], 1e-1)


@pytest.mark.parametrize("training", [True, False])
def test_a_frozen_block_keeps_its_statistics(training):
    block, plain = block_and_plain()
    block.trainable = plain.trainable = False
    x = np.random.default_rng(0).normal(size=(2, 6, 8, 3)).astype("float32")
    before = block.get_weights()
    close(
        [numpy(block(x, training=training))],
        [numpy(plain(x, training=training))],
    )
    assert all((a == b).all() for a, b in zip(before, block.get_weights()))


@pytest.mark.parametrize("compiled", COMPILED)
def test_with_lengths_each_clip_is_alone(compiled):
    block, _ = block_and_plain()
    rng = np.random.default_rng(2)
    lengths = np.array([8, 5, 2, 0])
    x = rng.normal(size=(4, 8, 6, 3)).astype("float32")
    x[1, 5:] = 1e3
    x[2, 2:] = np.nan
    grad = rng.normal(size=(4, 4, 3, 5)).astype("float32")
    got = run(block, [x], grad, compiled=compiled, lengths=lengths)
    together = got["outputs"][0]
    weights = [np.zeros_like(w) for w in got["weights"]]
    for i, length in enumerate(lengths):
        valid = int(block.output_lengths(length))
        assert (together[i, valid:] == 0).all()
        assert (got["inputs"][0][i, length:] == 0).all()
        if length == 0:
            continue
        alone = run(block, [x[i : i + 1, :length]], grad[i : i + 1, :valid])
        close([together[i : i + 1, :valid]], alone["outputs"])
        close([got["inputs"][0][i : i + 1, :length]], alone["inputs"])
        weights = [w + a for w, a in zip(weights, alone["weights"])]
    close(got["weights"], weights)


@pytest.mark.parametrize("compiled", COMPILED)
def test_statistics_are_those_of_valid_frames(compiled):
    block, _ = block_and_plain(kernel_size=1, pool=1)
    rng = np.random.default_rng(3)
    lengths = np.array([6, 3, 1])
    x = rng.normal(1, 2, (3, 6, 4, 3)).astype("float32")
    grad = rng.normal(size=(3, 6, 4, 5)).astype("float32")
    valid = np.arange(6)[None] < lengths[:, None]
    before = block.get_weights()
    got = run(
        block, [x], grad, compiled=compiled, lengths=lengths, training=True
    )
    # With a kernel of one, the valid frames can be strung together.
    joined = x[valid][None]
    block.set_weights(before)
    want = run(block, [joined], grad[valid][None], training=True)
    close([got["outputs"][0][valid]], [want["outputs"][0][0]])
    close([got["inputs"][0][valid]], [want["inputs"][0][0]])
    close(got["state"], want["state"])
    assert (got["outputs"][0][~valid] == 0).all()


def test_a_batch_without_valid_frames_is_finite():
    block, _ = block_and_plain()
    x = np.ones((2, 4, 6, 3), "float32")
    y = block(x, lengths=np.array([0, 0]), training=True)
    assert not numpy(y).any()
    assert all(np.isfinite(w).all() for w in block.get_weights())


@pytest.mark.parametrize("compiled", COMPILED)
@pytest.mark.parametrize("shape", [(6, 5), (3, 4, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_equals_keras(shape, training, compiled):
    rng = np.random.default_rng(4)
    x = rng.normal(3, 2, shape).astype("float32")
    grad = rng.normal(size=shape).astype("float32")
    ours, theirs = BatchNorm(), keras.layers.BatchNormalization()
    for layer in (ours, theirs):
        layer.build(shape)
    values = [rng.uniform(0.5, 2, 5).astype("float32") for _ in range(4)]
    ours.set_weights(values)
    theirs.set_weights(values)
    got = run(ours, [x], grad, compiled=compiled, training=training)
    want = run(theirs, [x], grad, training=training)
    for key in ("outputs", "inputs", "weights", "state"):
        close(got[key], want[key], 2e-5)


@pytest.mark.parametrize("options", [{"scale": False}, {"center": False}])
def test_batch_norm_without_a_weight(options):
    x = np.random.default_rng(5).normal(size=(4, 3, 3, 2)).astype("float32")
    ours = BatchNorm(**options)
    theirs = keras.layers.BatchNormalization(**options)
    close([numpy(ours(x, training=True))], [numpy(theirs(x, training=True))])
    assert len(ours.weights) == 3


def unit_and_plain(stride=1, depthwise=False, activation="silu", pad=None):
    """A `ConvNorm`, and the Keras layers it stands for, of equal weights."""
    rng = np.random.default_rng(0)
    filters = 3 if depthwise else 5
    unit = ConvNorm(
        filters,
        (5, 3),
        stride,
        pad=pad,
        depthwise=depthwise,
        activation=activation,
    )
    kind = {"strides": stride, "padding": "valid", "use_bias": False}
    plain = keras.Sequential(
        [
            keras.layers.ZeroPadding2D(pad or ((2, 2), (1, 1))),
            keras.layers.DepthwiseConv2D((5, 3), **kind)
            if depthwise
            else keras.layers.Conv2D(filters, (5, 3), **kind),
            keras.layers.BatchNormalization(epsilon=1e-3),
            keras.layers.Activation(activation),
        ]
    )
    for layer in (unit, plain):
        layer.build((None, 11, 8, 3))
    values = [rng.normal(0, 0.5, w.shape) for w in unit.weights]
    values[-1] = np.abs(values[-1]) + 0.5
    values = [v.astype("float32") for v in values]
    unit.set_weights(values)
    plain.set_weights(values)
    return unit, plain


@pytest.mark.parametrize("compiled", COMPILED)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "pad": ((1, 2), (0, 1))},
        {"depthwise": True},
        {"depthwise": True, "stride": 2},
        {"depthwise": True, "stride": 2, "pad": ((1, 2), (0, 1))},
        {"activation": None, "stride": 2},
        {"activation": "relu", "stride": (2, 1)},
        {"activation": "relu6", "stride": (1, 3), "pad": ((1, 2), (0, 1))},
    ],
)
def test_conv_norm_equals_the_plain_layers(options, training, compiled):
    unit, plain = unit_and_plain(**options)
    rng = np.random.default_rng(1)
    x = rng.normal(2, 1, (4, 11, 8, 3)).astype("float32")
    grad = rng.normal(size=unit.compute_output_shape(x.shape))
    grad = grad.astype("float32")
    got = run(unit, [x], grad, compiled=compiled, training=training)
    want = run(plain, [x], grad, training=training)
    for key in ("outputs", "inputs", "weights", "state"):
        close(got[key], want[key], 2e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", ["silu", "relu", "relu6", None])
def test_conv_norm_adds_before_the_activation(activation, training):
    unit, _ = unit_and_plain(activation=activation)
    bare, _ = unit_and_plain(activation=None)
    rng = np.random.default_rng(1)
    x = rng.normal(2, 1, (4, 11, 8, 3)).astype("float32")
    around = rng.normal(0, 3, (4, 11, 8, 5)).astype("float32")
    around = ops.convert_to_tensor(around)
    lengths = np.array([11, 6, 3, 1], "int32")
    for options in ({}, {"lengths": lengths}):
        got = unit(x, around=around, training=training, **options)
        want = bare(x, training=training, **options) + around
        want = np.array(numpy(ACTIVATIONS[activation](want)))
        for row, n in zip(want, options.get("lengths", ()), strict=False):
            row[n:] = 0
        np.testing.assert_allclose(numpy(got), want, atol=1e-5)


@pytest.mark.parametrize("compiled", COMPILED)
@pytest.mark.parametrize(("bins", "taps"), [(1, 3), (2, 3), (3, 3), (4, 5)])
def test_a_convolution_over_few_bins(bins, taps, compiled):
    arrays = [array(0, 4, 7, bins, 3), array(1, 1, taps, 3, 5)]
    grad = array(9, 4, 7, bins, 5)
    want = run(Kernel(portable.conv), arrays, grad)
    got = run(Kernel(conv_across), arrays, grad, compiled=compiled)
    for key in ("outputs", "inputs"):
        close(got[key], want[key], 2e-5)
    # Where it is taken.
    unit = ConvNorm(5, (1, taps), activation=None)
    unit.build((None, None, None, 3))
    unit.conv.kernel.assign(arrays[1])
    close(
        [numpy(unit.convolved(ops.convert_to_tensor(arrays[0]), arrays[1]))],
        want["outputs"],
        2e-5,
    )


def test_an_even_kernel_over_few_bins_makes_one_more():
    unit = ConvNorm(5, (1, 4))
    unit.build((None, None, None, 3))
    assert unit(array(0, 4, 7, 2, 3), training=True).shape == (4, 7, 3, 5)


@pytest.mark.parametrize("depthwise", [True, False])
def test_conv_norm_with_lengths_each_clip_is_alone(depthwise):
    unit, _ = unit_and_plain(2, depthwise)
    rng = np.random.default_rng(2)
    lengths = np.array([11, 6, 3])
    x = rng.normal(size=(3, 11, 8, 3)).astype("float32")
    x = numpy(mask_frames(x, lengths))
    after = (lengths + 1) // 2
    together = numpy(unit(x, lengths=after))
    for i, (length, valid) in enumerate(zip(lengths, after)):
        alone = numpy(unit(x[i : i + 1, :length]))
        close([together[i : i + 1, :valid]], [alone])
        assert not together[i, valid:].any()
    # The statistics are those of valid frames.
    unit.set_weights([np.ones(w.shape, "float32") for w in unit.weights])
    unit(x, lengths=after, training=True)
    inside = np.arange(6)[None] < after[:, None]
    maps = numpy(backend.depthwise_conv(x, np.ones((5, 3, 3, 1)), 2))
    if not depthwise:
        maps = np.repeat(maps.sum(-1, keepdims=True), 5, axis=-1)
    mean = maps[inside].mean((0, 1))
    moving = numpy(unit.norm.moving_mean)
    assert np.abs(moving - (0.99 + 0.01 * mean)).max() < 1e-5


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("depthwise", [True, False])
def test_conv_norm_half_precision(policy, training, depthwise):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4, 6, 8, 3)).astype("float32")
    full = ConvNorm(3, 3, depthwise=depthwise)
    full.build(x.shape)
    half = ConvNorm(3, 3, depthwise=depthwise, dtype=policy)
    half.build(x.shape)
    half.set_weights(full.get_weights())
    grad = rng.normal(size=(4, 6, 8, 3)).astype("float32")
    got = run(half, [x], grad, training=training)
    want = run(full, [x], grad, training=training)
    close(got["outputs"], want["outputs"], 3e-2)
    close(got["weights"][:1], want["weights"][:1], 1e-1)
    assert all(v.dtype == "float32" for v in half.weights)


def test_masking_helpers():
    lengths = np.array([0, 2, 3])
    want = np.arange(3)[None] < lengths[:, None]
    assert (numpy(frame_mask(lengths, 3)) == want).all()
    x = np.full((3, 3, 2, 2), np.nan, "float32")
    x[want] = 1
    masked = numpy(mask_frames(x, lengths))
    assert (masked == want[:, :, None, None]).all()
    assert numpy(mask_frames(np.ones((3, 3)), lengths)).sum() == 5


def test_trains_and_reloads(tmp_path):
    inputs = keras.Input((None, 8, 1))
    x = ConvBlock(4)(inputs)
    model = keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(x))
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(8, 6, 8, 1)).astype("float32")
    model.fit(x, np.zeros((8, 4)), epochs=1, batch_size=4, verbose=0)
    want = model.predict(x, verbose=0)
    model.save(tmp_path / "conv.keras")
    again = keras.saving.load_model(tmp_path / "conv.keras")
    assert np.abs(again.predict(x, verbose=0) - want).max() < 1e-6


def test_config_round_trip():
    block = ConvBlock(4, (5, 3), (2, 1), momentum=0.5, epsilon=1e-3, name="b")
    again = ConvBlock.from_config(block.get_config())
    assert again.get_config() == block.get_config()
    unit = ConvNorm(4, 3, 2, ((0, 1), (1, 1)), depthwise=True, name="u")
    assert ConvNorm.from_config(unit.get_config()).get_config() == (
        unit.get_config()
    )
    assert again.norm.momentum == 0.5 and again.norm.epsilon == 1e-3


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"filters": 0}, r"`filters` .*filters=0"),
        ({"kernel_size": 2}, r"`kernel_size` must be odd.*=2"),
        ({"kernel_size": (3, 3, 3)}, r"`kernel_size` .*\(3, 3, 3\)"),
        ({"pool": 0}, r"`pool` .*pool=0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ConvBlock(**{"filters": 4, **arguments})
    with pytest.raises(ValueError, match=r"`activation` .*'relu'"):
        ConvNorm(4, activation="tanh")
    with pytest.raises(ValueError, match="keeps its channels.*filters=4"):
        ConvNorm(4, depthwise=True).build((None, 8, 8, 3))


def test_wrong_inputs_are_named():
    for layer in (block_and_plain()[0], unit_and_plain()[0]):
        with pytest.raises(ValueError, match=r"axis -1.*value 3.*\b2\)"):
            layer(np.zeros((1, 6, 8, 2), "float32"))
        with pytest.raises(ValueError, match="ndim=4, found ndim=3"):
            layer(np.zeros((1, 6, 8), "float32"))
