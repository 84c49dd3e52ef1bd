"""Head, target network, pooling and quantiser."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl import blocks


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def array(x):
    return ops.convert_to_numpy(x)


def test_mlp_head_in_numpy():
    head = blocks.MLPHead(5, 8, 3)
    head.norm.gamma.assign(normal(8) + 1)
    head.norm.beta.assign(normal(8, seed=2))
    x = normal(6, 5)
    w = {"/".join(v.path.split("/")[-2:]): v.numpy().astype("float64")
         for v in head.weights}  # fmt: skip
    h = x @ w["hidden/kernel"] + w["hidden/bias"]
    h = (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5)
    h = np.maximum(h * w["norm/gamma"] + w["norm/beta"], 0)
    want = h @ w["out/kernel"] + w["out/bias"]
    np.testing.assert_allclose(array(head(x, training=True)), want, atol=1e-4)


def test_a_target_copies_and_follows_what_is_trained():
    online = blocks.MLPHead(5, 8, 3)
    target = blocks.TargetNetwork(online)
    x = normal(6, 5)
    np.testing.assert_array_equal(array(online(x)), array(target(x)))
    assert not target.trainable_variables
    old = [v.numpy() for v in target.network.weights]
    for v in online.weights:
        v.assign(v.numpy() + 1.0)
    pairs = target.toward(online, 0.75)
    assert len(pairs) == len(online.trainable_variables) == 6
    for variable, new in pairs:
        variable.assign(new)
    for before, v in zip(old, target.network.weights, strict=True):
        moved = 0.0 if "moving" in v.path else 0.25
        np.testing.assert_allclose(v.numpy(), before + moved, atol=1e-6)


def test_a_target_stays_frozen_and_keeps_batch_statistics():
    target = blocks.TargetNetwork(blocks.MLPHead(5, 8, 3))
    target.trainable = True
    assert not target.trainable_variables
    target.trainable = False
    before = target.network.norm.moving_mean.numpy()
    target(normal(6, 5), training=True)
    assert np.abs(target.network.norm.moving_mean.numpy() - before).max() > 0


def test_a_target_of_another_network_is_refused():
    target = blocks.TargetNetwork(blocks.MLPHead(5, 8, 3))
    with pytest.raises(ValueError, match="not the network"):
        target.toward(blocks.MLPHead(5, 9, 3), 0.9)


def test_pools_over_valid_frames():
    x = normal(3, 7, 4)
    lengths = np.array([7, 3, 1])
    mean, top, std = blocks.pool_frames(x, ("mean", "max", "std"), lengths)
    for i, n in enumerate(lengths):
        part = x[i, :n].astype("float64")
        np.testing.assert_allclose(array(mean)[i], part.mean(0), atol=1e-6)
        np.testing.assert_allclose(array(top)[i], part.max(0), atol=1e-6)
        np.testing.assert_allclose(array(std)[i], part.std(0), atol=2e-6)
    with pytest.raises(ValueError, match="median"):
        blocks.pool_frames(x, ("median",))
    with pytest.raises(ValueError, match="join"):
        blocks.FramePool(("mean",), join="product")


def test_frame_pool_joins():
    x = normal(2, 5, 3)
    both = x.max(1) + x.mean(1)
    got = array(blocks.FramePool(("mean", "max"))(x))
    np.testing.assert_allclose(got, both, atol=1e-6)
    wide = array(blocks.FramePool(("mean", "max"), join="concat")(x))
    want = np.concatenate([x.mean(1), x.max(1)], 1)
    np.testing.assert_allclose(wide, want, atol=1e-6)


def test_the_quantizer_takes_entries_of_its_codebooks():
    layer = blocks.GumbelQuantizer([3, 5], [4, 6])
    x = normal(2, 9, 8)
    out, codes = (array(v) for v in layer(x))
    assert out.shape == (2, 9, 8) and codes.shape == (2, 9, 2)
    for group, part in enumerate((slice(0, 3), slice(3, 8))):
        table = layer.codebooks[group].kernel.numpy()
        np.testing.assert_allclose(out[..., part], table[codes[..., group]])
        scores = x[..., part] @ layer.logits[group].kernel.numpy()
        scores = scores + layer.logits[group].bias.numpy()
        np.testing.assert_array_equal(codes[..., group], scores.argmax(-1))


def test_the_quantizer_draws_by_its_logits_in_training():
    layer = blocks.GumbelQuantizer([2], [3])
    layer.logits[0].kernel.assign(np.zeros((2, 3)))
    layer.logits[0].bias.assign(np.log([0.2, 0.3, 0.5]))
    seed = keras.random.SeedGenerator(0)
    _, codes = layer(
        np.zeros((100, 200, 2), "float32"), training=True, seed=seed
    )
    share = np.bincount(array(codes).ravel(), minlength=3) / 20_000
    np.testing.assert_allclose(share, [0.2, 0.3, 0.5], atol=0.02)


def test_perplexity():
    even = np.arange(12).reshape(2, 6) % 4
    perplexity = blocks.codebook_perplexity
    assert float(array(perplexity(even, 8))) == pytest.approx(4, rel=1e-5)
    assert float(array(perplexity(np.zeros((2, 6), int), 8))) == pytest.approx(
        1
    )
    mask = np.zeros((2, 6), bool)
    mask[0, :2] = True
    assert float(array(perplexity(even, 8, mask))) == pytest.approx(2, rel=1e-5)


def test_quantizer_arguments():
    with pytest.raises(ValueError, match="one entry a group"):
        blocks.GumbelQuantizer([3], [4, 5])
