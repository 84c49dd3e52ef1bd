import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.engine import checked
from keras_audio_ssl.engine import frame_mask
from keras_audio_ssl.engine import steps_of


def test_a_mask_is_true_before_a_clips_end():
    got = ops.convert_to_numpy(frame_mask(np.array([0, 2, 5]), 3))
    want = [[False] * 3, [True, True, False], [True] * 3]
    assert got.tolist() == want


def test_steps_of_a_fit():
    x = np.zeros((10, 4))
    assert steps_of(x, {"batch_size": 4, "epochs": 2}) == 6
    assert steps_of(x, {"validation_split": 0.5}) == 1
    assert steps_of({"waveform": x}, {"steps_per_epoch": 7}) == 7
    assert steps_of(iter([x]), {"epochs": 3}) is None
    assert steps_of(x, {"epochs": 5, "initial_epoch": 3, "batch_size": 5}) == 4


def test_what_models_take_has_its_meaning_or_a_sentence():
    x = np.zeros((4, 800), "float32")
    assert checked(x, 16000) is x
    assert checked(x[:, :, None], 16000).shape == x.shape
    assert checked({"waveform": x[:, :, None]}, 16000)["waveform"].ndim == 2
    data = type("Data", (), {"sample_rate": 8000})()
    assert checked(data, 8000) is data and checked(data, None) is data
    for bad, words in (
        ("folder", r"from_folder\('folder'\)"),
        ([x, x], "a list of 2 arrays"),
        (x.astype("int16"), "from_arrays scales integers"),
        (np.zeros((96000, 2), "float32"), "96,000 clips of 2 samples"),
        (np.zeros((3, 96000, 2), "float32"), r"\(batch, samples\)"),
        (data, "sample_rate=16000"),
    ):
        with pytest.raises(ValueError, match=words):
            checked(bad, 16000)
