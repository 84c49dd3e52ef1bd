import keras
import numpy as np
import pytest

from keras_audio_ssl.blocks import LSTM
from keras_audio_ssl.blocks import BidirectionalLSTM
from keras_audio_ssl.blocks import EndsPool
from tests.blocks.gradients import close
from tests.blocks.gradients import run
from tests.blocks.test_gru import COMPILED

numpy = keras.ops.convert_to_numpy


def layer_and_data(
    batch=3, frames=7, dim=5, units=4, seed=0, x_scale=1.0, **kwargs
):
    rng = np.random.default_rng(seed)
    layer = LSTM(units, **kwargs)
    layer.build((None, None, dim))
    layer.set_weights(
        [rng.normal(0, 0.5, w.shape).astype("float32") for w in layer.weights]
    )
    x = rng.normal(0, x_scale, (batch, frames, dim)).astype("float32")
    return layer, x, rng


@pytest.mark.parametrize("compiled", COMPILED)
def test_equals_the_keras_layer_with_a_mask(compiled):
    layer, x, rng = layer_and_data(batch=4, frames=9)
    theirs = keras.layers.LSTM(4, return_sequences=True, use_cudnn=False)
    theirs.build(x.shape)
    fresh = LSTM(4)
    fresh.build(x.shape)
    for ours, want in zip(fresh.weights, theirs.weights, strict=True):
        assert ours.shape == want.shape
    # The forget gate's bias begins at 1 in both.
    np.testing.assert_array_equal(fresh.bias.numpy(), theirs.weights[2].numpy())
    theirs.set_weights(layer.get_weights())
    lengths = np.array([9, 1, 4, 6])
    mask = np.arange(9)[None] < lengths[:, None]
    # The Keras layer repeats its last output there; zeros are the contract.
    grad = rng.normal(size=(4, 9, 4)).astype("float32") * mask[..., None]
    ours = run(layer, [x], grad, compiled=compiled, mask=mask)
    want = run(theirs, [x], grad, mask=mask)
    outputs = np.where(mask[..., None], want["outputs"][0], 0)
    close(ours["outputs"], [outputs], 1e-5)
    close(ours["inputs"], want["inputs"])
    close(ours["weights"], want["weights"])
    assert not ours["outputs"][0][~mask].any()


def test_padding_changes_nothing_whatever_it_holds():
    layer, x, _ = layer_and_data(batch=2, frames=8)
    mask = np.arange(8)[None] < np.array([[8], [5]])
    padded = x.copy()
    padded[1, 5:] = 1e4
    together = numpy(layer(padded, mask=mask))
    alone = numpy(layer(x[1:, :5]))
    assert np.abs(together[1:, :5] - alone).max() < 1e-6
    assert (together[1, 5:] == 0).all()


def test_starts_from_a_state_and_reads_one_input_at_every_frame():
    layer, x, rng = layer_and_data(frames=1)
    state = list(rng.normal(size=(2, 3, 4)).astype("float32"))
    once = numpy(layer(x, initial_state=state, frames=6))
    repeated = np.repeat(x, 6, axis=1)
    many = numpy(layer(repeated, initial_state=state))
    assert once.shape == (3, 6, 4)
    np.testing.assert_allclose(once, many, atol=1e-6)
    assert np.abs(many - numpy(layer(repeated))).max() > 0.1


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_policies(policy):
    plain, x, _ = layer_and_data(x_scale=0.5)
    half, _, _ = layer_and_data(dtype=policy)
    outputs = half(x)
    assert keras.backend.standardize_dtype(outputs.dtype) == policy[6:]
    grad = np.ones((3, 7, 4), "float32")
    got, want = run(half, [x], grad), run(plain, [x], grad)
    close(got["outputs"], want["outputs"], 2e-2)
    close(got["weights"], want["weights"], 3e-2)


def test_in_a_model_that_trains_and_reloads(tmp_path):
    inputs = keras.Input((None, 5))
    masked = keras.layers.Masking()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(LSTM(4)(masked)))
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(8, 6, 5)).astype("float32")
    model.fit(x, x[..., :2], epochs=1, batch_size=4, verbose=0)
    want = model.predict(x, verbose=0)
    model.save(tmp_path / "lstm.keras")
    again = keras.saving.load_model(tmp_path / "lstm.keras")
    assert np.abs(again.predict(x, verbose=0) - want).max() < 1e-6


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"`units` .*units=0"):
        LSTM(0)
    with pytest.raises(ValueError, match=r"\(batch, frames, dim\).*\(3, 5\)"):
        LSTM(4).build((3, 5))


def test_the_ends_of_both_directions():
    keras.utils.set_random_seed(0)
    layer, pool = BidirectionalLSTM(5, 4), EndsPool()
    x = np.random.default_rng(0).normal(size=(3, 9, 5)).astype("float32")
    lengths = np.array([9, 4, 1], "int32")
    got = numpy(pool(layer(x, lengths=lengths), lengths=lengths))
    for row, wave, n in zip(got, x, lengths, strict=True):
        wave = wave[None, :n]
        ahead = numpy(layer.ahead(wave))[0, -1]
        back = numpy(layer.back(wave[:, ::-1].copy()))[0, -1]
        np.testing.assert_allclose(row, [*ahead, *back], atol=1e-6)
        alone = numpy(pool(layer(wave)))[0]
        np.testing.assert_allclose(row, alone, atol=1e-6)
