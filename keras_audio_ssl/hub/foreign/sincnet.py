"""Importer of SincNet's checkpoints."""

from typing import Any

import numpy as np

from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.encoders import SincNet
from keras_audio_ssl.features import FrontEnd
from keras_audio_ssl.features import recipe
from keras_audio_ssl.hub.foreign.audio_ntt import batch_norm
from keras_audio_ssl.hub.foreign.audio_ntt import dense
from keras_audio_ssl.hub.foreign.state_dict import Rule
from keras_audio_ssl.hub.foreign.state_dict import StateDict
from keras_audio_ssl.hub.foreign.state_dict import note_frontend
from keras_audio_ssl.hub.foreign.state_dict import numbered_batches
from keras_audio_ssl.hub.foreign.state_dict import reversed_axes


def sincnet(
    state: StateDict,
    *,
    sample_rate: int = 16000,
    kernel_size: int = 251,
    pools: int | list[int] = 3,
    slope: float = 0.2,
    hop: int = 160,
    gate: float = 0.1,
    cnn: str = "CNN_model_par",
    dnn: str = "DNN1_model_par",
    frontend: FrontEnd | None = None,
) -> Encoder:
    """SincNet with layer norms, as the authors save it.

    Args:
        state: The checkpoint.
        sample_rate: Hz; the file does not hold it.
        kernel_size: Taps of the sinc filters, which the file does not hold
            either.
        pools: Of the max pooling, one for all layers or one for each; nor
            does it hold these. With the taps they must give the sizes of the
            norms.
        slope: Of the leaky ReLU.
        hop: Samples between chunks, of the encoder.
        gate: Chunks of less than this share of the mean energy of a clip's
            chunks do not count.
        cnn: The name in the file under which the convolutions lie.
        dnn: That under which the dense layers lie.
        frontend: In place of the paper's front end.

    Returns:
        An `Encoder`.
    """
    filters = state.shape(f"{cnn}.conv.0.low_hz_", 2)[0]
    (chunk,) = state.shape(f"{cnn}.ln0.gamma", 1)
    numbers = state.numbers(f"{cnn}.conv.{{}}.weight")
    conv = []
    for i in numbers:
        width, _, size = state.shape(f"{cnn}.conv.{i}.weight", 3)
        conv.append((width, size))
    units = [
        state.shape(f"{dnn}.wx.{i}.weight", 2)[0]
        for i in state.numbers(f"{dnn}.wx.{{}}.weight")
    ]
    backbone = SincNet(
        1, sample_rate, chunk, hop, (filters, kernel_size), 1, conv, pools,
        units, "sincnet", slope, gate, name="sincnet",
    )  # fmt: skip
    state.load(rules(backbone, f"{cnn}.", f"{dnn}."))
    state.expect(numbered_batches, "counts batches, of no use in Keras")
    state.expect(
        lambda name: name.startswith((f"{cnn}.bn", f"{dnn}.bn0", f"{dnn}.ln.")),
        "a normalisation that this network does not use",
    )
    state.expect(
        lambda name: name.startswith("DNN2_model_par."),
        "the speakers of its supervised training",
    )
    state.report.settings.update(
        sample_rate=sample_rate, chunk=chunk, sinc=[filters, kernel_size],
        conv=[list(pair) for pair in conv], pools=backbone.backbone.pools,
        dense=units,
    )  # fmt: skip
    frontend = frontend or recipe("lim", sample_rate=sample_rate)
    note_frontend(state.report, frontend)
    return Encoder(frontend, backbone)


def rules(backbone: SincNet, cnn: str = "", dnn: str = "") -> list[Rule]:
    """Which tensor of the layout is which variable of the encoder.

    Args:
        backbone: With `norm="sincnet"`.
        cnn: Before the names of the convolutions' tensors.
        dnn: Before those of the dense layers.
    """
    net = backbone.backbone
    found = [
        single(f"{cnn}conv.0.low_hz_", net.sinc.low_hz),
        single(f"{cnn}conv.0.band_hz_", net.sinc.band_hz),
        *one_channel(f"{cnn}ln0", net.norm_in),
        *one_channel(f"{dnn}ln0", net.norm_flat),
    ]
    for i, layer in enumerate(net.convs, 1):
        found += dense(f"{cnn}conv.{i}", layer)
    for i, norm in enumerate(net.norms):
        found += [
            reversed_axes(f"{cnn}ln.{i}.{name}", getattr(norm, name))
            for name in ("gamma", "beta")
        ]
    for i, (layer, norm) in enumerate(
        zip(net.dense_layers, net.dense_norms, strict=True)
    ):
        found += dense(f"{dnn}wx.{i}", layer)
        found += batch_norm(f"{dnn}bn.{i}", norm)
    return found


def single(source: str, variable: Any) -> Rule:
    """A rule for a column `(n, 1)` that is a vector here."""
    shape = (*variable.shape, 1)
    return Rule((source,), (shape,), variable, lambda w: w[:, 0])


def one_channel(source: str, norm: Any) -> list[Rule]:
    """Rules of a norm over a vector, which here has a channel."""
    return [
        Rule(
            (f"{source}.{name}",),
            ((variable.shape[0],),),
            variable,
            lambda w: np.reshape(w, (-1, 1)),
        )
        for name, variable in (("gamma", norm.gamma), ("beta", norm.beta))
    ]
