import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.blocks import FactorizedBlock
from keras_audio_ssl.blocks import Patches
from tests.gradients import numpy


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def make(width=3, filters=4, **kwargs):
    """A block that is not fresh, and a function of plain Keras layers."""
    keras.utils.set_random_seed(0)
    block = FactorizedBlock(width, filters, **kwargs)
    rng = np.random.default_rng(0)
    for v in block.weights:
        if v.path.endswith(("beta", "moving_mean")):
            v.assign(rng.normal(0, 0.2, v.shape))
        if v.path.endswith(("gamma", "moving_variance")):
            v.assign(rng.uniform(0.5, 1.5, v.shape))

    def plain(x, training):
        if block.enlarge:
            x = keras.layers.UpSampling2D(2, data_format="channels_last")(x)
        y = x
        for unit in (block.first, block.second):
            y = ops.conv(y, unit.conv.kernel, 1, "same", "channels_last")
            norm = keras.layers.BatchNormalization(epsilon=1e-5)
            norm.build(y.shape)
            norm.set_weights(unit.norm.get_weights())
            y = norm(y, training=training)
            y = ops.relu(y) if unit is block.first else y
        y = ops.relu(y + ops.matmul(x, block.shortcut.kernel))
        if block.pool is None:
            return y
        padding = {"drop": "valid", "keep": "same"}[block.pool]
        return ops.max_pool(y, 2, 2, padding, "channels_last")

    return block, plain


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"pool": "drop"}, {"pool": "keep"}, {"enlarge": True}]
)
def test_a_block_is_its_plain_layers(options, training):
    block, plain = make(**options)
    x = noise(2, 7, 5, 3)
    want = numpy(plain(x, training))
    np.testing.assert_allclose(
        numpy(block(x, training=training)), want, atol=1e-5
    )


def test_the_weights_of_the_paper():
    counts = [
        FactorizedBlock(width, filters).count_params()
        for width, filters in ((1, 8), (8, 16), (16, 32), (32, 64), (64, 128))
    ]
    assert counts == [288, 1_408, 5_376, 20_992, 82_944]
    kernels = [FactorizedBlock(3, 4, enlarge=e) for e in (False, True)]
    shapes = [tuple(b.first.conv.kernel.shape[:2]) for b in kernels]
    assert shapes == [(3, 1), (1, 3)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("pool", [None, "drop", "keep"])
def test_padding_changes_nothing(pool, training):
    block, _ = make(pool=pool)
    x, lengths = noise(3, 9, 5, 3), np.array([9, 5, 4])
    for row, n in zip(x, lengths, strict=True):
        row[n:] = 0.0
    got = numpy(block(x, lengths=lengths, training=training))
    wide = np.pad(x, ((0, 0), (0, 4), (0, 0), (0, 0)))
    more = numpy(block(wide, lengths=lengths, training=training))
    for i, n in enumerate(lengths):
        valid = int(numpy(block.output_lengths(lengths))[i])
        np.testing.assert_allclose(got[i, :valid], more[i, :valid], atol=1e-5)
        assert not got[i, valid:].any() and not more[i, valid:].any()
        if not training:
            alone = numpy(block(x[i : i + 1, :n]))[0]
            np.testing.assert_allclose(alone, got[i, : len(alone)], atol=1e-5)


def test_unknown_pools_are_refused():
    with pytest.raises(ValueError, match="'drop' or 'keep'.*'mean'"):
        FactorizedBlock(1, 2, pool="mean")


@pytest.mark.parametrize(
    "axis, patches, gap, counts, size",
    [("freq", None, None, (1, 8), (96, 8)),
     ("time", None, None, (8, 1), (10, 64)),
     ("time_freq", None, None, (3, 3), (32, 21)),
     ("time_freq", (2, 3), 5, (2, 3), (45, 18)),
     ("freq", 3, 4, (1, 3), (96, 18))],
)  # fmt: skip
def test_patches_against_slices(axis, patches, gap, counts, size):
    cutter = Patches(axis, patches, gap)
    assert cutter.counts == counts
    assert cutter.sizes(96, 64) == size
    x = noise(2, 96, 64)
    got = numpy(cutter(x))
    steps = [n + g for n, g in zip(size, cutter.gaps, strict=True)]
    want = [
        x[:, i * steps[0] : i * steps[0] + size[0],
          j * steps[1] : j * steps[1] + size[1]]
        for i in range(counts[0]) for j in range(counts[1])
    ]  # fmt: skip
    np.testing.assert_array_equal(got, np.stack(want, axis=1))
    joined = numpy(cutter.join(got))
    rows = [np.concatenate(want[i * counts[1] : (i + 1) * counts[1]], axis=2)
            for i in range(counts[0])]  # fmt: skip
    np.testing.assert_array_equal(joined, np.concatenate(rows, axis=1))


def test_standardised_patches():
    got = numpy(Patches("freq", 4, norm=True)(noise(2, 10, 12) * 3 + 5))
    np.testing.assert_allclose(got.mean((2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(got.std((2, 3)), 1, atol=1e-4)
    flat = np.ones((1, 4, 4), "float32")
    assert not numpy(Patches("freq", 4, norm=True)(flat)).any()


@pytest.mark.parametrize(
    "arguments, match",
    [({"axis": "bins"}, "`axis` must be.*'bins'"),
     ({"patches": 1}, "at least two `patches`.*1"),
     ({"patches": (2, 2)}, "must be a number"),
     ({"axis": "time_freq", "patches": 4}, "along frequency.*4"),
     ({"gap": -1}, "`gap`.*-1")],
)  # fmt: skip
def test_nonsense_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        Patches(**arguments)


def test_too_little_to_cut_is_refused():
    with pytest.raises(ValueError, match="8 patches need.*22 frames.*21 of 4"):
        Patches("time").sizes(21, 4)
