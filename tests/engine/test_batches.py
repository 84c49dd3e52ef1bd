import numpy as np
from keras import ops

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
