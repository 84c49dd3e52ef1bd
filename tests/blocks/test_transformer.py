"""The transformer's parts against numpy in float64."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.blocks import SelfAttention
from keras_audio_ssl.blocks import TransformerBlock
from keras_audio_ssl.blocks import normal_dense
from keras_audio_ssl.blocks import pad_frames
from keras_audio_ssl.blocks import sinusoids
from keras_audio_ssl.blocks import stack_frames
from keras_audio_ssl.blocks import unstack_frames


def array(x):
    return np.asarray(ops.convert_to_numpy(x))


def affine(x, layer):
    return x @ array(layer.kernel).astype("f8") + array(layer.bias)


def norm(x, layer):
    mean = x.mean(-1, keepdims=True)
    scaled = (x - mean) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    return scaled * array(layer.gamma) + array(layer.beta)


def attention(x, layer, lengths=None):
    """`(context, probabilities)`, head by head, query by query."""
    parts = [affine(x, p) for p in (layer.query, layer.key, layer.value)]
    size = layer.dim // layer.heads
    context, maps = np.zeros_like(parts[0]), []
    for clip in range(len(x)):
        n = x.shape[1] if lengths is None else lengths[clip]
        for head in range(layer.heads):
            q, k, v = (
                p[clip, :, head * size : (head + 1) * size] for p in parts
            )
            scores = q @ k[:n].T / math.sqrt(size)
            weights = np.exp(scores - scores.max(1, keepdims=True))
            weights /= weights.sum(1, keepdims=True)
            context[clip, :, head * size : (head + 1) * size] = weights @ v[:n]
            maps.append(np.pad(weights, ((0, 0), (0, x.shape[1] - n))))
    maps = np.stack(maps).reshape(len(x), layer.heads, x.shape[1], -1)
    return affine(context, layer.out), maps


def random(layer):
    """Weights that are far from their small initial ones."""
    rng = np.random.default_rng(0)
    for w in layer.weights:
        if "seed" not in w.path:
            w.assign(rng.normal(size=w.shape) * 0.4)
    return layer


def features(clips=3, frames=11, dim=12, seed=0):
    x = np.random.default_rng(seed).normal(size=(clips, frames, dim))
    return x.astype("float32")


@pytest.mark.parametrize("lengths", [None, [11, 4, 1]])
def test_attention_equals_numpy(lengths):
    layer, x, valid = random(SelfAttention(12, 3)), features(), None
    if lengths is not None:
        valid = np.arange(11) < np.array(lengths)[:, None]
    got, maps = layer(x, valid=valid, return_attention=True)
    want, probabilities = attention(x.astype("f8"), layer, lengths)
    np.testing.assert_allclose(array(got), want, atol=2e-5)
    np.testing.assert_allclose(array(maps), probabilities, atol=1e-5)
    alone = layer(x, valid=valid)
    np.testing.assert_allclose(array(alone), array(got), atol=2e-6)


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def test_a_block_equals_numpy():
    x = features()
    for pre in (False, True):
        block = random(TransformerBlock(12, 3, 20, pre_norm=pre))
        got, y = array(block(x)), x.astype("f8")
        for f, scale in (
            (lambda z, b=block: attention(z, b.attention)[0],
             block.attention_norm),
            (lambda z, b=block: affine(gelu(affine(z, b.inner)), b.outer),
             block.outer_norm),
        ):  # fmt: skip
            y = y + f(norm(y, scale)) if pre else norm(y + f(y), scale)
        np.testing.assert_allclose(got, y, atol=2e-5)


def test_other_activations_and_weights():
    x, rates = features(), {}
    for activation, function in (
        ("gelu_tanh", lambda z: 0.5 * z * (1 + np.tanh(
            math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))),
        ("relu", lambda z: np.maximum(z, 0)),
    ):  # fmt: skip
        dense = random(normal_dense(7, 12, "dense", activation))
        plain = affine(x.astype("f8"), dense)
        np.testing.assert_allclose(array(dense(x)), function(plain), atol=1e-5)
    for truncated in (False, True):
        keras.utils.set_random_seed(0)
        block = TransformerBlock(64, 4, 64, truncated=truncated)
        kernels = [array(w) for w in block.weights if "kernel" in w.path]
        assert len(kernels) == 6
        rates[truncated] = max(np.abs(k).max() for k in kernels)
    assert rates[True] <= 0.04 < rates[False]


def test_a_masked_head_is_a_removed_head():
    """Its rows of the projections and columns of the output taken out."""
    layer, x = random(SelfAttention(12, 3)), features()
    got = array(layer(x, head_mask=ops.convert_to_tensor([1.0, 0.0, 1.0])))
    smaller = SelfAttention(12, 3)
    for ours, theirs in zip(smaller.weights, layer.weights, strict=True):
        ours.assign(theirs)
    kernel = array(layer.out.kernel).copy()
    kernel[4:8] = 0
    smaller.out.kernel.assign(kernel)
    np.testing.assert_allclose(got, array(smaller(x)), atol=1e-5)
    assert np.abs(got - array(layer(x))).max() > 1e-2


def test_dropout_draws_anew_and_only_in_training():
    keras.utils.set_random_seed(0)
    block, x = TransformerBlock(12, 3, 20, dropout=0.5), features()
    plain = [array(block(x)) for _ in range(2)]
    np.testing.assert_array_equal(*plain)
    drawn = [array(block(x, training=True)) for _ in range(2)]
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-2
    # The mean of what is drawn is what is not.
    layer = random(SelfAttention(12, 3, dropout=0.3))
    many = array(layer(np.repeat(features(1), 3000, axis=0), training=True))
    want = array(layer(features(1)))[0]
    np.testing.assert_allclose(many.mean(0), want, atol=0.12)


def test_positions():
    table = array(sinusoids(50, 8))
    t, i = np.arange(50)[:, None], np.arange(4)
    angle = t / 10000 ** (2 * i / 8)
    np.testing.assert_allclose(table[:, 0::2], np.sin(angle), atol=1e-5)
    np.testing.assert_allclose(table[:, 1::2], np.cos(angle), atol=1e-5)


def test_stacked_frames_come_back():
    x = features(2, 11, 3)
    stacked = array(stack_frames(x, 3))
    assert stacked.shape == (2, 3, 9)
    np.testing.assert_array_equal(stacked[0, 1], x[0, 3:6].reshape(-1))
    np.testing.assert_array_equal(array(unstack_frames(stacked, 3)), x[:, :9])
    assert stack_frames(x, 1) is x


def test_frames_are_padded_to_a_multiple():
    for frames, want in ((1, 4), (4, 4), (5, 8), (11, 12)):
        x = features(2, frames, 3)
        padded = array(pad_frames(x, 4))
        assert padded.shape == (2, want, 3)
        np.testing.assert_array_equal(padded[:, :frames], x)
        assert not padded[:, frames:].any()
    assert pad_frames(x, 11) is x


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="heads"):
        SelfAttention(12, 5)
    with pytest.raises(ValueError, match="activation"):
        TransformerBlock(12, 3, 20, activation="tanh")
