import keras
import numpy as np
import pytest

import keras_audio_ssl as kas
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.encoders import RecurrentStack
from keras_audio_ssl.features import LogMel
from tests.encoders.tiny import Attends
from tests.encoders.tiny import RoundsUp
from tests.encoders.tiny import array
from tests.encoders.tiny import noise


def encoder(backbone):
    return Encoder(LogMel(n_mels=5), backbone)


def twins(**kwargs):
    """Two of the same weights, one read at another level."""
    keras.utils.set_random_seed(0)
    last = RoundsUp()
    other = RoundsUp(**kwargs)
    other.set_weights(last.get_weights())
    return last, other


@pytest.mark.parametrize("level", [0, -2])
def test_the_output_is_the_level_that_is_chosen(level, tmp_path):
    last, first = (encoder(b) for b in twins(output_level=level))
    assert (last.frame_rate, first.frame_rate) == (25, 50)
    waves = [noise(1, n) for n in (16000, 9001)]
    for wave in waves:
        hidden = last(wave, return_hidden=True)["hidden"]
        out = first(wave, return_hidden=True)
        assert len(out["hidden"]) == 2
        np.testing.assert_array_equal(array(out["frames"]), array(hidden[0]))
        np.testing.assert_allclose(
            array(out["clip"]), array(hidden[0]).mean(1), atol=1e-6
        )
    both = first.embed_frames([w[0] for w in waves])
    for wave, frames in zip(waves, both, strict=True):
        want = array(first(wave)["frames"])[0]
        np.testing.assert_allclose(frames, want, atol=1e-5)
    first.save(tmp_path / "first.keras")
    again = keras.saving.load_model(tmp_path / "first.keras")
    assert again.frame_rate == 50
    # Called, not embedded: graphs that TensorFlow traced differ in the last
    # digit.
    np.testing.assert_array_equal(
        array(again(waves[0])["clip"]), array(first(waves[0])["clip"])
    )


def test_a_class_may_choose_its_level():
    class First(RecurrentStack):
        output_level = 0

    net, x = First(5, 3, 2), noise(2, 7, 5)
    out = net(x)
    np.testing.assert_array_equal(array(out["frames"]), array(out["hidden"][0]))
    assert np.abs(array(out["frames"]) - array(out["hidden"][1])).max() > 1e-3


def test_a_level_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="`output_level`.*2 levels.*: 2"):
        encoder(RoundsUp(output_level=2))


def test_a_readout_follows_the_coarsest_level():
    inner = encoder(twins(output_level=0)[1])
    wave = noise(1, 15520)
    hidden = [array(h) for h in inner(wave, return_hidden=True)["hidden"]]
    fine = kas.Readout(inner, levels=[0])
    assert fine.frame_rate == 50
    np.testing.assert_array_equal(array(fine(wave)["frames"]), hidden[0])
    both = kas.Readout(inner)
    assert both.frame_rate == 25
    frames = array(both(wave)["frames"])
    assert frames.shape == (1, hidden[1].shape[1], 8)
    np.testing.assert_array_equal(frames[..., 4:], hidden[1])
    assert len(both.embed_frames(wave[0])) == frames.shape[1]


@pytest.mark.parametrize("wrap", [lambda e: e, kas.Readout])
def test_attention_maps_come_when_asked_for(wrap):
    keras.utils.set_random_seed(0)
    net = Attends()
    whole = wrap(encoder(net))
    waves = np.concatenate([noise(1, 4000), 0.1 * noise(1, 4000, seed=1)])
    lengths = np.array([4000, 1600], "int32")
    plain = whole(waves, lengths=lengths)
    assert set(plain) == {"frames", "clip"} and net.asked == [False]
    out = whole(waves, lengths=lengths, return_attention=True)
    assert set(out) == {"frames", "clip", "attention"}
    assert net.asked == [False, True]
    for key in ("frames", "clip"):
        np.testing.assert_array_equal(array(out[key]), array(plain[key]))
    assert len(out["attention"]) == 2
    for maps in map(array, out["attention"]):
        assert maps.shape == (2, 2, 26, 26) and maps.dtype == "float32"
        np.testing.assert_allclose(maps.sum(-1), 1.0, atol=1e-5)
        # Nothing of a short clip looks at its padding.
        assert not maps[1, :, :11, 11:].any()
    whole.embed(waves)
    assert net.asked[2:] == [False]


@pytest.mark.parametrize("wrap", [lambda e: e, kas.Readout])
def test_maps_of_a_backbone_without_any_are_refused(wrap):
    whole = wrap(encoder(RoundsUp()))
    with pytest.raises(ValueError, match="RoundsUp has no attention maps"):
        whole(noise(1, 4000), return_attention=True)
    assert not whole.backbone.has_attention
