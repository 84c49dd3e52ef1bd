import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.encoders import RecurrentStack


def stack(**kwargs):
    keras.utils.set_random_seed(0)
    return RecurrentStack(6, 8, 3, **kwargs)


def features(frames=20, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((2, frames, 6)).astype("float32")


@pytest.mark.parametrize("prenet", [0, 2])
def test_a_frame_depends_on_its_past_alone(prenet):
    net, x = stack(prenet_layers=prenet), features()
    before = net(x)["hidden"]
    changed = x.copy()
    changed[:, 11:] += 5.0
    after = net(changed)["hidden"]
    for a, b in zip(before, after, strict=True):
        a, b = ops.convert_to_numpy(a), ops.convert_to_numpy(b)
        np.testing.assert_array_equal(a[:, :11], b[:, :11])
        assert np.abs(a[:, 11:] - b[:, 11:]).max() > 1e-3


@pytest.mark.parametrize("prenet", [0, 2])
def test_a_stream_in_chunks_is_one_pass(prenet):
    net, x = stack(prenet_layers=prenet), features()
    whole = ops.convert_to_numpy(net(x)["frames"])
    parts, state = [], None
    for start, end in ((0, 1), (1, 8), (8, 20)):
        part, state = net.stream(x[:, start:end], state)
        parts.append(ops.convert_to_numpy(part))
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-6)


def test_the_residual_is_the_layers_input():
    net, x = stack(residual_first=False), features()
    hidden = [ops.convert_to_numpy(h) for h in net(x)["hidden"]]
    plain, _ = net.layers[1](ops.convert_to_tensor(hidden[0]))
    want = ops.convert_to_numpy(plain) + hidden[0]
    np.testing.assert_allclose(hidden[1], want, atol=1e-6)


def test_past_the_end_are_exact_zeros():
    net, x = stack(prenet_layers=1), features()
    for level in net(x, lengths=np.array([20, 7]))["hidden"]:
        assert not ops.convert_to_numpy(level)[1, 7:].any()
    with pytest.raises(ValueError, match="layers"):
        RecurrentStack(6, 8, 0)
