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


@pytest.mark.parametrize("name", ["audio2vec_cbow", "temporal_gap"])
def test_slices_are_as_long_as_the_windows_of_an_encoder(name):
    other = make_method(name, preset="tiny", frames=40)
    model = make_method(name, preset="tiny", encoder=other.encoder)
    assert model.frames == model.encoder.backbone.frames == 40
    # What the user gives goes before, where the network can read it.
    model = make_method(name, preset="tiny", encoder=other.encoder, frames=32)
    assert model.frames == 32
    least = other.network.min_frames
    with pytest.raises(ValueError, match=f"at least {least}.*Received: 1"):
        make_method(name, preset="tiny", encoder=other.encoder, frames=1)


def test_chunks_are_as_long_as_those_of_an_encoder():
    other = kas.LIM(preset="tiny", seconds=0.25)
    model = kas.LIM(preset="tiny", encoder=other.encoder)
    assert model.seconds == 0.25 and model.crop.length == other.crop.length
    with pytest.raises(ValueError, match=r"must be 0\.25.*seconds=0\.2$"):
        kas.LIM(preset="tiny", encoder=other.encoder, seconds=0.2)
