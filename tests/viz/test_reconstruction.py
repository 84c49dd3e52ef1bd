import keras
import numpy as np
import pytest

import keras_audio_ssl as kas
from keras_audio_ssl.callbacks import ReconstructionPictures
from keras_audio_ssl.features import recipe
from tests.contract import batch
from tests.contract import waves
from tests.contract import weights_of

pytest.importorskip("matplotlib")


def tera(**kwargs):
    keras.utils.set_random_seed(0)
    return kas.TERA(preset="tiny", **kwargs)


def titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes if
            ax.get_title(loc="left")]  # fmt: skip


def test_four_panels_in_seconds_and_hz():
    figure = kas.viz.reconstruction(tera(), waves(1)[0])
    assert titles(figure)[:3] == ["input", "altered input", "prediction"]
    assert "where hidden" in titles(figure)[3]
    axes = figure.axes[:4]
    assert axes[-1].get_xlabel() == "s"
    assert axes[0].get_xlim() == pytest.approx((0, 1.21), abs=0.02)
    hz = [label.get_text() for label in axes[0].get_yticklabels()]
    assert hz == ["250", "500", "1000", "2000", "4000"]
    places = axes[0].get_yticks()
    # 80 bands of mel up to 8 kHz: 1 kHz lies near the middle of 0 to 2840.
    assert places[2] == pytest.approx(80 * 1000 / 2840, abs=1)


def test_another_target_and_stacked_frames():
    model = kas.Mockingjay(
        preset="tiny", target="online_linear", span=1, encoder={"stack": 3}
    )
    figure = kas.viz.reconstruction(model, waves(1)[0])
    assert titles(figure)[:2] == ["target", "altered input"]
    assert figure.axes[0].get_ylim() == (0, 201)
    assert figure.axes[1].get_ylim() == (0, 80)


def test_what_rebuilds_nothing_is_refused():
    with pytest.raises(ValueError, match="rebuilds no features"):
        kas.viz.reconstruction(kas.COLA(preset="tiny"), waves(1)[0])
    with pytest.raises(ValueError, match="samples"):
        kas.viz.reconstruction(tera(), waves(2))


def test_pictures_of_a_run_do_not_change_it(tmp_path):
    runs = {}
    for name in ("plain", "drawn"):
        model = tera()
        model.compile()
        watch = ReconstructionPictures(waves(1)[0], tmp_path, every=2)
        model.fit(
            batch(16), batch_size=4, epochs=1, shuffle=False, verbose=0,
            callbacks=[watch] if name == "drawn" else [],
        )  # fmt: skip
        runs[name] = weights_of(model)
    for a, b in zip(*runs.values(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"reconstruction_{step:06}.png" for step in (0, 2, 4)
    ]


def test_the_hz_of_bins():
    mel = recipe("tera").frequencies
    assert len(mel) == 80 and (np.diff(mel) > 0).all() and mel[-1] < 8000
    np.testing.assert_allclose(recipe("online_linear").frequencies[[0, -1]],
                               [0, 8000])  # fmt: skip
    assert recipe("speech2vec").frequencies is None
    assert recipe("lim").frequencies is None
