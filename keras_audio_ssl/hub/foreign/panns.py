"""Importers of PANNs' checkpoints: CNN6, CNN14 and Res1dNet31."""

from typing import Any

from keras_audio_ssl.encoders import CNN6
from keras_audio_ssl.encoders import CNN14
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.encoders import Res1dNet31
from keras_audio_ssl.features import FrontEnd
from keras_audio_ssl.features import LogMel
from keras_audio_ssl.features import Waveform
from keras_audio_ssl.hub.foreign.audio_ntt import batch_norm
from keras_audio_ssl.hub.foreign.audio_ntt import dense
from keras_audio_ssl.hub.foreign.state_dict import MOST_LAYERS
from keras_audio_ssl.hub.foreign.state_dict import Rule
from keras_audio_ssl.hub.foreign.state_dict import StateDict
from keras_audio_ssl.hub.foreign.state_dict import note_frontend
from keras_audio_ssl.hub.foreign.state_dict import numbered_batches
from keras_audio_ssl.hub.foreign.state_dict import reversed_axes
from keras_audio_ssl.hub.foreign.state_dict import time_first

NETWORKS = {"cnn6": CNN6, "cnn14": CNN14}
# The release's log-mel at 32 kHz; bands of equal area, decibels.
LOG_MEL: dict[str, Any] = {
    "sample_rate": 32000,
    "n_fft": 1024,
    "win_length": 1024,
    "hop_length": 320,
    "f_min": 50.0,
    "f_max": 14000.0,
    "mel_scale": "slaney",
    "mel_norm": "slaney",
    "log": "db",
    "log_floor": 1e-10,
}


def panns_cnn(
    state: StateDict,
    *,
    network: str = "cnn14",
    dropout: float = 0.2,
    frontend: FrontEnd | None = None,
) -> Encoder:
    """CNN6 or CNN14, without the classifier.

    Args:
        state: The checkpoint.
        network: `"cnn6"` or `"cnn14"`.
        dropout: Rate, for training on.
        frontend: In place of the release's log-mel at 32 kHz, which the file
            does not hold.

    Returns:
        An `Encoder`.
    """
    (bins,) = state.shape("bn0.weight", 1)
    filters = [
        state.shape(f"conv_block{i}.conv1.weight", 4)[0]
        for i in state.numbers("conv_block{}.conv1.weight")
    ]
    backbone = NETWORKS[network](
        bins, filters, dropout, dense="fc1.weight" in state, name=network
    )
    state.load(rules(backbone))
    leave(state)
    state.report.settings.update(n_mels=bins, filters=filters)
    frontend = frontend or LogMel(n_mels=bins, **LOG_MEL)
    note_frontend(state.report, frontend)
    return Encoder(frontend, backbone)


def panns_res1dnet31(
    state: StateDict,
    *,
    dropout: float = 0.1,
    sample_rate: int = 32000,
    frontend: FrontEnd | None = None,
) -> Encoder:
    """Res1dNet31, without the classifier.

    Args:
        state: The checkpoint.
        dropout: Rate, for training on.
        sample_rate: Hz; the file does not hold it.
        frontend: In place of the waveform as it is.

    Returns:
        An `Encoder`.
    """
    stages = state.numbers("resnet.layer{}.0.conv1.weight")
    filters = [
        state.shape(f"resnet.layer{i}.0.conv1.weight", 3)[0] for i in stages
    ]
    if not filters:
        raise state.error("it holds no residual stages")
    counts = [
        len(state.numbers(f"resnet.layer{i}.{{}}.conv1.weight")) for i in stages
    ]
    blocks = counts[0]
    if len(set(counts)) > 1 or sum(counts) > MOST_LAYERS:
        raise state.error(
            f"its stages have {counts} blocks: they must have as many each, "
            f"and at most {MOST_LAYERS} in all"
        )
    backbone = Res1dNet31(
        1, filters, blocks, dropout, "fc1.weight" in state, name="res1dnet31"
    )
    state.load(res1d_rules(backbone))
    leave(state)
    state.report.settings.update(filters=filters, blocks=blocks)
    frontend = frontend or Waveform(sample_rate=sample_rate)
    note_frontend(state.report, frontend)
    return Encoder(frontend, backbone)


def leave(state: StateDict) -> None:
    """Says why tensors are left over."""
    state.expect(numbered_batches, "counts batches, of no use in Keras")
    state.expect(
        lambda name: name.startswith("fc_audioset."),
        "of the classifier",
    )
    state.expect(
        lambda name: name.startswith(
            ("spectrogram_extractor.", "logmel_extractor.")
        ),
        "computes the log-mel, as the front end does",
    )


def rules(backbone: CNN6 | CNN14) -> list[Rule]:
    """Which tensor of the layout is which variable, of CNN6 and CNN14."""
    found = batch_norm("bn0", backbone.norm)
    for i, block in enumerate(backbone.blocks, 1):
        found += conv_rules(block, f"conv_block{i}.")
    return found + dense_rules(backbone)


def dense_rules(backbone: Any) -> list[Rule]:
    """Rules of the dense layer after the pooling, if there is one."""
    return dense("fc1", backbone.embedding) if backbone.dense else []


def conv_rules(block: Any, prefix: str = "") -> list[Rule]:
    """Rules of a block of convolutions, `PooledConvs`."""
    found = []
    for i, layer in enumerate(block.layers, 1):
        found.append(time_first(f"{prefix}conv{i}.weight", layer.conv.kernel))
        found += batch_norm(f"{prefix}bn{i}", layer.norm)
    return found


def res1d_rules(backbone: Res1dNet31) -> list[Rule]:
    """Which tensor of the layout is which variable, of Res1dNet31."""
    found = [
        reversed_axes("conv0.weight", backbone.conv.conv.kernel),
        *batch_norm("bn0", backbone.conv.normal),
    ]
    for i, stage in enumerate(backbone.stages, 1):
        found += stage_rules(stage, f"resnet.layer{i}.")
    return found + dense_rules(backbone)


def stage_rules(stage: list[Any], prefix: str = "") -> list[Rule]:
    """Rules of a stage of residual blocks, `Res1dBlock`."""
    found = []
    for i, block in enumerate(stage):
        for number, layer in ((1, block.first), (2, block.second)):
            found += conv_norm(
                f"{prefix}{i}.conv{number}", f"{prefix}{i}.bn{number}", layer
            )
        if block.short is not None:
            # Where it is pooled, that comes first.
            first = int(block.stride > 1)
            found += conv_norm(
                f"{prefix}{i}.downsample.{first}",
                f"{prefix}{i}.downsample.{first + 1}",
                block.short,
            )
    return found


def conv_norm(conv: str, norm: str, layer: Any) -> list[Rule]:
    """Rules of a convolution over time and its batch norm."""
    return [
        reversed_axes(f"{conv}.weight", layer.conv.kernel),
        *batch_norm(norm, layer.normal),
    ]
