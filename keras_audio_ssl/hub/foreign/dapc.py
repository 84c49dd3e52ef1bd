"""Importer of DAPC checkpoints."""

from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.encoders import LatentStack
from keras_audio_ssl.features import FrontEnd
from keras_audio_ssl.features import recipe
from keras_audio_ssl.hub.foreign.apc import gru
from keras_audio_ssl.hub.foreign.state_dict import Rule
from keras_audio_ssl.hub.foreign.state_dict import StateDict
from keras_audio_ssl.hub.foreign.state_dict import note_frontend
from keras_audio_ssl.hub.foreign.state_dict import reversed_axes
from keras_audio_ssl.methods.dapc import DAPC


def dapc_official(
    state: StateDict,
    *,
    window: int = 4,
    frontend: FrontEnd | None = None,
    whole: bool = False,
) -> Encoder | DAPC:
    """DAPC with a recurrent encoder, as its authors' code saves it.

    Args:
        state: The checkpoint.
        window: Frames of past and future, which the file does not hold.
        frontend: In place of the method's.
        whole: Whether to make the `DAPC` model and not its encoder alone.

    Returns:
        An `Encoder`, or a `DAPC`.
    """
    name = "encoder.nbrnn.weight_ih_l"
    layers = len(state.numbers(name + "{}"))
    units = state.shape("encoder.nbrnn.weight_hh_l0", 2)[1]
    bins = state.shape("encoder.nbrnn.weight_ih_l0", 2)[1]
    dim = state.shape("encoder.l_last.weight", 2)[0]
    frontend = frontend or recipe("dapc", n_mels=bins)
    backbone = LatentStack(bins, "gru", units, layers, dim, name="latent_stack")
    encoder = Encoder(frontend, backbone)
    state.load(rules(backbone))
    state.report.settings.update(
        n_mels=bins, units=units, layers=layers, dim=dim
    )
    note_frontend(state.report, frontend)
    state.expect(
        lambda name: name.startswith(("pseudo_inputs", "vae_")),
        "of the variational variant",
    )
    if not whole:
        state.expect(
            lambda name: name.startswith("decoder."),
            "of the pretext task alone; `whole=True` keeps it",
        )
        return encoder
    hidden = state.numbers("decoder.hidden.{}.weight")
    width = state.shape("decoder.fc_out.weight", 2)[1]
    model = DAPC(
        encoder, window=window, decoder_layers=len(hidden), decoder_units=width
    )
    state.load(decoder_rules(model))
    state.expect(
        lambda name: name.startswith("decoder.hidden.0."),
        "the same as decoder.fc_in",
    )
    return model


def rules(backbone: LatentStack) -> list[Rule]:
    """Which tensor of the released layout is which variable."""
    found = []
    for i, layer in enumerate(backbone.layers):
        for direction, suffix in (
            (layer.ahead, f"l{i}"),
            (layer.back, f"l{i}_reverse"),
        ):
            found += gru("encoder.nbrnn", direction, suffix)
    last = backbone.projection
    return [
        *found,
        reversed_axes("encoder.l_last.weight", last.kernel),
        reversed_axes("encoder.l_last.bias", last.bias),
    ]


def decoder_rules(model: DAPC) -> list[Rule]:
    """Rules of the decoder, whose first layer the file holds twice."""
    names = ["decoder.fc_in"]
    names += [
        f"decoder.hidden.{i}" for i in range(1, len(model.decoder.hidden))
    ]
    layers = [*model.decoder.hidden, model.decoder.out]
    return [
        reversed_axes(f"{name}.{part}", variable)
        for name, layer in zip([*names, "decoder.fc_out"], layers, strict=True)
        for part, variable in (("weight", layer.kernel), ("bias", layer.bias))
    ]
