import keras
import numpy as np
import pytest

import keras_audio_ssl as kas
from tests.contract import waves

pytest.importorskip("matplotlib")


@pytest.mark.parametrize("axis, edges", [("freq", 7), ("time_freq", 4)])
def test_original_shuffled_and_restored(axis, edges):
    keras.utils.set_random_seed(0)
    model = kas.Permutations(preset="tiny", axis=axis)
    figure = kas.viz.permutation(model, waves(1)[0])
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles[:2] == ["original", "shuffled"]
    assert f"of {model.cutter.number} in their place" in titles[2]
    original, shuffled, restored = (
        np.asarray(ax.images[0].get_array()) for ax in figure.axes
    )
    assert original.shape == shuffled.shape == restored.shape
    # The same patches, in three orders.
    for other in (shuffled, restored):
        np.testing.assert_array_equal(
            np.sort(other, axis=None), np.sort(original, axis=None)
        )
    assert (original != shuffled).any()
    assert all(len(ax.lines) == edges for ax in figure.axes)
    assert figure.axes[0].get_xlim() == pytest.approx((0, 0.96), abs=0.01)


def test_what_shuffles_nothing_is_refused():
    model = kas.Permutations(preset="tiny")
    with pytest.raises(ValueError, match="samples"):
        kas.viz.permutation(model, waves(2))
    with pytest.raises(ValueError, match="COLA shuffles no patches"):
        kas.viz.permutation(kas.COLA(preset="tiny"), waves(1)[0])
