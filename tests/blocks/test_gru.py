import keras
import numpy as np
import pytest

from keras_audio_ssl.blocks import GRU
from tests.blocks.gradients import close
from tests.blocks.gradients import run

COMPILED = {
    "tensorflow": [False, True, "xla"],
    "jax": [False, True],
    "torch": [False],
}[keras.backend.backend()]


def layer_and_data(
    batch=3, frames=7, dim=5, units=4, seed=0, x_scale=1.0, **kwargs
):
    rng = np.random.default_rng(seed)
    layer = GRU(units, **kwargs)
    layer.build((None, None, dim))
    layer.set_weights(
        [rng.normal(0, 0.5, w.shape).astype("float32") for w in layer.weights]
    )
    x = rng.normal(0, x_scale, (batch, frames, dim)).astype("float32")
    return layer, x, rng


@pytest.mark.parametrize("compiled", COMPILED)
def test_equals_the_keras_layer_with_a_mask(compiled):
    layer, x, rng = layer_and_data(batch=4, frames=9)
    theirs = keras.layers.GRU(4, return_sequences=True, use_cudnn=False)
    theirs.build(x.shape)
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
    together = keras.ops.convert_to_numpy(layer(padded, mask=mask))
    alone = keras.ops.convert_to_numpy(layer(x[1:, :5]))
    assert np.abs(together[1:, :5] - alone).max() < 1e-6
    assert (together[1, 5:] == 0).all()


def test_state_is_that_of_the_last_valid_frame():
    layer, x, rng = layer_and_data(batch=3, frames=6, return_state=True)
    start = rng.normal(size=(3, 4)).astype("float32")
    mask = np.arange(6)[None] < np.array([[6], [2], [0]])
    outputs, state = (
        keras.ops.convert_to_numpy(v)
        for v in layer(x, mask=mask, initial_state=start)
    )
    assert (state[0] == outputs[0, 5]).all()
    assert (state[1] == outputs[1, 1]).all()
    assert (state[2] == start[2]).all()
    # The state gives the gradient too.
    grads = [np.zeros((3, 6, 4), "float32"), np.ones((3, 4), "float32")]
    masked = run(layer, [x], grads, mask=mask)
    assert not masked["inputs"][0][~mask].any()
    assert np.abs(masked["inputs"][0][mask]).min() > 0


def test_streaming_in_chunks_equals_one_pass():
    layer, x, _ = layer_and_data(frames=10, return_state=True)
    whole, last = layer(x)
    first, state = layer(x[:, :3])
    second, state = layer(x[:, 3:], initial_state=state)
    numpy = keras.ops.convert_to_numpy
    chunks = np.concatenate([numpy(first), numpy(second)], axis=1)
    assert np.abs(numpy(whole) - chunks).max() < 1e-6
    assert np.abs(numpy(last) - numpy(state)).max() < 1e-6


def test_is_causal():
    layer, x, _ = layer_and_data(frames=6)
    later = x.copy()
    later[:, 4:] += 1
    a = keras.ops.convert_to_numpy(layer(x))
    b = keras.ops.convert_to_numpy(layer(later))
    assert (a[:, :4] == b[:, :4]).all()
    assert np.abs(a[:, 4:] - b[:, 4:]).min() > 0


def test_lengths_may_vary_from_call_to_call():
    layer, x, _ = layer_and_data(batch=3, frames=7)
    whole = keras.ops.convert_to_numpy(layer(x))
    for batch, frames in [(3, 1), (1, 7), (2, 4)]:
        part = keras.ops.convert_to_numpy(layer(x[:batch, :frames]))
        assert np.abs(part - whole[:batch, :frames]).max() < 1e-6


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_policies(policy):
    plain, x, rng = layer_and_data(x_scale=0.5, return_state=True)
    half, _, _ = layer_and_data(dtype=policy, return_state=True)
    outputs, state = half(x)
    assert keras.backend.standardize_dtype(outputs.dtype) == policy[6:]
    assert keras.backend.standardize_dtype(state.dtype) == "float32"
    grads = [np.ones((3, 7, 4), "float32"), np.ones((3, 4), "float32")]
    got = run(half, [x], grads)
    want = run(plain, [x], grads)
    close(got["outputs"], want["outputs"], 2e-2)
    close(got["weights"], want["weights"], 3e-2)


def test_in_a_functional_model_trains_and_reloads(tmp_path):
    inputs = keras.Input((None, 5))
    masked = keras.layers.Masking()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(GRU(4)(masked)))
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(8, 6, 5)).astype("float32")
    model.fit(x, x[..., :2], epochs=1, batch_size=4, verbose=0)
    want = model.predict(x, verbose=0)
    model.save(tmp_path / "gru.keras")
    again = keras.saving.load_model(tmp_path / "gru.keras")
    assert np.abs(again.predict(x, verbose=0) - want).max() < 1e-6


def test_config_round_trip():
    layer = GRU(4, return_state=True, bias_initializer="ones", name="g")
    again = GRU.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"`units` .*units=0"):
        GRU(0)
    with pytest.raises(ValueError, match=r"\(batch, frames, dim\).*\(3, 5\)"):
        GRU(4).build((3, 5))
    layer, _, _ = layer_and_data()
    with pytest.raises(ValueError, match=r"axis -1.*value 5.*\b6\)"):
        layer(np.zeros((2, 3, 6), "float32"))
