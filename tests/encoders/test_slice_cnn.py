import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.encoders import PatchCNN
from keras_audio_ssl.encoders import SliceCNN
from tests.encoders.tiny import array
from tests.encoders.tiny import noise


def woken(net):
    rng = np.random.default_rng(0)
    for v in net.weights:
        if v.path.endswith(("bias", "beta", "moving_mean")):
            v.assign(rng.normal(0, 0.2, v.shape))
        if v.path.endswith(("gamma", "moving_variance")):
            v.assign(rng.uniform(0.5, 1.5, v.shape))
    return net


def test_the_papers_table():
    net = SliceCNN()
    assert net.count_params() == 127_520
    trained = sum(int(np.prod(v.shape)) for v in net.trainable_variables)
    assert trained == 126_528
    assert [block.count_params() for block in net.blocks] == [
        288, 1_408, 5_376, 20_992, 82_944,
    ]  # fmt: skip
    assert net.dense.count_params() == 16_512
    out = net(noise(2, 96, 64))
    assert [h.shape[1:] for h in out["hidden"]] == [
        (48, 32 * 8), (24, 16 * 16), (12, 8 * 32), (6, 4 * 64), (3, 2 * 128),
        (1, 128),
    ]  # fmt: skip
    assert out["clip"].shape == (2, 128) and float(array(out["clip"]).min()) < 0
    assert SliceCNN(32, [8, 16, 32], 64).count_params() == 9_184


@pytest.mark.parametrize("pool", ["drop", "keep"])
def test_one_vector_whatever_the_size_and_the_padding(pool):
    keras.utils.set_random_seed(0)
    net = woken(SliceCNN(13, [3, 4], 5, pool))
    x, lengths = noise(3, 37, 13), np.array([37, 18, 5])
    for row, n in zip(x, lengths, strict=True):
        row[n:] = 7.0
    out = net(x, lengths=lengths)
    for i, n in enumerate(lengths):
        alone = net(x[i : i + 1, :n])
        np.testing.assert_allclose(
            array(out["clip"])[i], array(alone["clip"])[0], atol=1e-5
        )
        for level, (got, want) in enumerate(
            zip(out["hidden"], alone["hidden"], strict=True)
        ):
            valid = int(array(net.level_lengths(lengths, level))[i])
            assert want.shape[1] == valid
            got, want = array(got)[i], array(want)[0]
            np.testing.assert_allclose(got[:valid], want, atol=1e-5)
            assert not got[valid:].any()
    tall = net(noise(1, net.min_frames, 13))
    assert tall["clip"].shape == (1, 5)


def test_patches_as_thin_as_one_bin():
    net = PatchCNN(8, "freq", 8, channels=[3, 4], dim=5)
    assert net(noise(2, 20, 8))["clip"].shape == (2, 40)
    net = PatchCNN(8, "time", 3, gap=1, channels=[3, 4], dim=5)
    assert net.min_frames == 5
    out = net(ops.convert_to_tensor(noise(2, 5, 8)))
    assert out["clip"].shape == (2, 15)
    assert [h.shape[1:] for h in out["hidden"]] == [
        (1, n) for n in net.dims
    ] == [(1, 36), (1, 24), (1, 15)]  # fmt: skip


@pytest.mark.parametrize(
    "arguments, match",
    [({"n_features": 31}, "at least 32 for 5 blocks.*31"),
     ({"channels": []}, "at least one"), ({"dim": 0}, "dim=0"),
     ({"pool": None}, "`pool`")],
)  # fmt: skip
def test_nonsense_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        SliceCNN(**arguments)
