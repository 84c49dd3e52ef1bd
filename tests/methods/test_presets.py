"""A preset's encoder beside what the user asks for."""

import pytest

import keras_audio_ssl as kas
from keras_audio_ssl.encoders import meaningful
from keras_audio_ssl.methods import make_method


@pytest.mark.parametrize(
    "name,backbone", [("cola", "recurrent"), ("fonseca", "cnn")]
)
def test_another_backbone_leaves_out_what_it_does_not_know(name, backbone):
    settings = {"backbone": backbone, "dim": 24}
    if backbone == "recurrent":
        settings = {"backbone": backbone, "units": 24}
    model = make_method(name, preset="tiny", encoder=settings)
    # What stays is the front end's, and what was given.
    assert model.encoder.frontend.n_features == 32
    assert model.encoder.dim == 24


def test_a_name_that_is_none_is_refused_as_such():
    with pytest.raises(ValueError, match="has no backbone 'npc'"):
        kas.TERA(preset="tiny", encoder={"backbone": "npc"})


def test_the_same_backbone_keeps_all_of_a_preset():
    preset = kas.TERA.PRESETS["tiny"]["encoder"]
    given = {"backbone": "transformer", "layers": 1}
    assert meaningful(preset, given) == preset
    model = kas.TERA(preset="tiny", encoder=given)
    assert model.encoder.dim == preset["units"]
    assert len(model.encoder.backbone.dims) == len(
        kas.TERA(preset="tiny").encoder.backbone.dims
    ) - (preset["layers"] - 1)


def test_another_front_end_leaves_out_bands():
    preset = {"n_mels": 32, "dim": 64}
    assert meaningful(preset, {"frontend": "waveform"}) == {"dim": 64}
    assert meaningful(preset, {"frontend": "apc"}) == preset


def test_what_the_user_gives_is_never_left_out():
    with pytest.raises(ValueError, match="no setting 'conv_channels'"):
        kas.COLA(
            preset="tiny", encoder={"backbone": "recurrent", "conv_channels": 8}
        )
