import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl import augment


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def tensor(x):
    return ops.convert_to_tensor(x)


def array(x):
    return ops.convert_to_numpy(x)


def generator(seed=0):
    return keras.random.SeedGenerator(seed)


def test_crop_takes_what_it_says():
    x = np.arange(20, dtype="float32").reshape(2, 10) + 1
    got = array(augment.crop(x, np.array([3, -2]), 5))
    np.testing.assert_array_equal(got, [[4, 5, 6, 7, 8], [0, 0, 11, 12, 13]])
    got = array(augment.crop(x, np.array([8, 0]), 4))
    np.testing.assert_array_equal(got, [[9, 10, 0, 0], [11, 12, 13, 14]])


def test_crop_takes_several_of_each_clip():
    x = np.arange(20, dtype="float32").reshape(2, 10) + 1
    got = array(augment.crop(x, np.array([[3, -1, 0], [8, 0, 0]]), 3))
    np.testing.assert_array_equal(
        got,
        [
            [[4, 5, 6], [0, 1, 2], [1, 2, 3]],
            [[19, 20, 0], [11, 12, 13], [11, 12, 13]],
        ],
    )


def test_crop_of_features():
    x = normal(2, 10, 3)
    got = array(augment.crop(tensor(x), np.array([3, -1]), 4))
    np.testing.assert_array_equal(got[0], x[0, 3:7])
    np.testing.assert_array_equal(got[1, 1:], x[1, :3])
    assert not got[1, 0].any()


def test_random_crop_is_uniform_over_the_valid_part():
    layer = augment.RandomCrop(4)
    x = np.zeros((20_000, 12), "float32")
    lengths = np.full(20_000, 9)
    starts = array(layer.draw(x, lengths, generator()))
    counts = np.bincount(starts, minlength=6)
    assert len(counts) == 6
    # Five standard deviations of a binomial count.
    assert np.abs(counts - 20_000 / 6).max() < 5 * np.sqrt(20_000 * 5 / 36)


@pytest.mark.parametrize(
    "pad, want", [("both", [0, 0, 1, 2, 3, 0, 0, 0]), ("right", [1, 2, 3]),
                  ("repeat", [1, 2, 3, 1, 2, 3, 1, 2])],
)  # fmt: skip
def test_short_clips_stand_whole(pad, want):
    layer = augment.RandomCrop(8, pad=pad)
    x = np.array([[1, 2, 3, 0, 0, 0, 0, 0, 0]], "float32")
    got = array(layer(x, lengths=np.array([3]), seed=generator()))[0]
    np.testing.assert_array_equal(got, (want + [0] * 8)[:8])
    got = array(layer(x[:, :3], seed=generator()))[0]
    np.testing.assert_array_equal(got, (want + [0] * 8)[:8])


def test_random_crop_refuses_nonsense():
    with pytest.raises(ValueError, match="length"):
        augment.RandomCrop(0)
    with pytest.raises(ValueError, match="pad"):
        augment.RandomCrop(3, pad="left")


def cubic(t, a=-0.75):
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def test_resize_matrix_against_loops():
    size, offset = 9, 3
    for first, length in ((0, 15), (4, 6), (12, 1), (2, 9), (14, 1)):
        canvas = np.zeros((15, size))
        canvas[offset : offset + size] = np.eye(size)
        crop = canvas[first : first + length]
        want = np.zeros((size, size))
        for o in range(size):
            s = o * (length - 1) / (size - 1)
            for k in range(int(np.floor(s)) - 1, int(np.floor(s)) + 3):
                want[o] += cubic(s - k) * crop[min(max(k, 0), length - 1)]
        got = augment.resize_matrix(
            tensor(np.array([first], "int32")),
            tensor(np.array([length], "int32")),
            size,
            offset,
        )
        np.testing.assert_allclose(array(got)[0], want, atol=1e-5)


def test_the_whole_map_as_a_crop_is_the_map():
    x = normal(2, 12, 8)
    boxes = tensor(np.array([[0, 3, 8, 12]] * 2, "int32"))
    got = array(augment.crop_and_resize(tensor(x), boxes, (8, 18)))
    np.testing.assert_allclose(got, x, atol=1e-5)


def test_log_mixup_in_float64():
    x, z = normal(3, 4, 5), normal(3, 4, 5, seed=1)
    share = np.array([0.0, 0.1, 0.4], "float32")
    s = share.astype("float64")[:, None, None]
    want = np.log((1 - s) * np.exp(x) + s * np.exp(z) + 1.1920929e-07)
    got = array(augment.log_mixup(tensor(x), tensor(z), tensor(share)))
    np.testing.assert_allclose(got, want, atol=1e-6)
    np.testing.assert_allclose(got[0], x[0], atol=1e-6)


def test_the_memory_is_first_in_first_out():
    layer = augment.MixupMemory(0.4, 5, 2, 3)
    x = normal(8, 2, 3)
    np.testing.assert_array_equal(array(layer(x[:2], seed=generator())), x[:2])
    for part in (x[:2], x[2:5], x[5:7], x[7:]):
        layer.push(tensor(part))
    share = ops.ones((5,))
    got = layer.apply(tensor(x[:5]), share=share, pick=np.arange(5))
    want = np.log(np.exp(x[3:]) + 1.1920929e-07)
    np.testing.assert_allclose(array(got), want, atol=1e-6)


def test_a_batch_larger_than_the_memory():
    layer = augment.MixupMemory(0.4, 3, 1, 1)
    layer.push(tensor(normal(7, 1, 1)))
    want = normal(7, 1, 1)[-3:]
    assert sorted(layer.memory.numpy().ravel()) == sorted(want.ravel())


def test_the_counter_does_not_run_away():
    layer = augment.MixupMemory(0.4, 3, 1, 1)
    for i in range(20):
        layer.push(ops.full((2, 1, 1), float(i)))
    assert int(layer.pushed) < 6
    draw = {"share": ops.ones((3,)), "pick": np.arange(3)}
    got = layer.apply(ops.zeros((3, 1, 1)), **draw)
    np.testing.assert_allclose(array(got).ravel(), [18, 19, 19], rtol=1e-6)


def test_mixup_draws_uniform_shares_and_picks():
    layer = augment.MixupMemory(0.4, 4, 1, 1)
    layer.push(ops.reshape(ops.arange(4, dtype="float32") * 20, (4, 1, 1)))
    x = np.full((20_000, 1, 1), -50.0, "float32")
    y = array(layer(x, seed=generator())).ravel()
    # With a silent clip the mixture is ln(share) + the picked value.
    pick = np.ceil((y - np.log(0.4)) / 20 - 1e-4)
    share = np.exp(y - pick * 20)
    strong = pick > 0  # ln(share) + 0 meets the epsilon of the logarithm
    assert share[strong].max() <= 0.4 + 1e-4
    assert share[strong].mean() == pytest.approx(0.2, abs=0.01)
    counts = np.bincount(pick.clip(0, 3).astype(int), minlength=4)
    assert counts.min() > 20_000 / 4 * 0.9


def test_linear_fade():
    x = np.zeros((2, 5, 3), "float32")
    ends = [tensor(np.array(e, "float32")) for e in ([0.0, 1.0], [1.0, -1.0])]
    got = array(augment.linear_fade(tensor(x), *ends))
    np.testing.assert_allclose(got[0, :, 1], [0, 0.25, 0.5, 0.75, 1], atol=1e-6)
    np.testing.assert_allclose(got[1, :, 0], [1, 0.5, 0, -0.5, -1], atol=1e-6)
    fader = augment.RandomLinearFader(0.5)
    for drawn in fader.draw((5000, 5, 3), seed=generator()).values():
        assert np.abs(array(drawn)).max() <= 0.5
        assert abs(array(drawn).mean()) < 0.02


def test_running_norm_in_batches_is_clip_by_clip():
    x = normal(10, 4, 3) * 3 + 5
    one, many = augment.RunningNorm(6), augment.RunningNorm(6)
    single = [array(one(x[i : i + 1], training=True)) for i in range(10)]
    batches = [array(many(x[:4], training=True)),
               array(many(x[4:], training=True))]  # fmt: skip
    np.testing.assert_allclose(
        np.concatenate(single), np.concatenate(batches), atol=1e-5
    )
    np.testing.assert_allclose(float(one.mean), float(many.mean), rtol=1e-6)
    frozen = array(many(x, training=False))
    mean, std = float(many.mean), float(array(many.std))
    np.testing.assert_allclose(frozen, (x - mean) / std, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        augment.RandomCrop(7, "right"),
        augment.MixupMemory(0.3, 4, 5, 6),
        augment.RandomResizeCrop((1.0, 1.2), (0.7, 1.1)),
        augment.RandomLinearFader(0.3),
        augment.RunningNorm(9),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_config_round_trip(layer):
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == layer.get_config()
    x = normal(3, 20) if hasattr(layer, "pad") else normal(3, 5, 6)
    kwargs = {} if isinstance(layer, augment.RunningNorm) else {
        "seed": generator()
    }  # fmt: skip
    first = array(layer(x, **kwargs))
    if kwargs:
        kwargs = {"seed": generator()}
    np.testing.assert_array_equal(first, array(again(x, **kwargs)))
