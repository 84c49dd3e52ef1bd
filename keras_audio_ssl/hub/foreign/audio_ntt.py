"""Importers of AudioNTT checkpoints: BYOL-A (v1, v2) and BYOL-S."""

from typing import Any

from keras_audio_ssl.encoders import AudioNTT
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.features import FrontEnd
from keras_audio_ssl.features import recipe
from keras_audio_ssl.hub.foreign.state_dict import Rule
from keras_audio_ssl.hub.foreign.state_dict import StateDict
from keras_audio_ssl.hub.foreign.state_dict import note_frontend
from keras_audio_ssl.hub.foreign.state_dict import numbered_batches
from keras_audio_ssl.hub.foreign.state_dict import reversed_axes


def audio_ntt(
    state: StateDict,
    *,
    version: str = "v1",
    mean: float | None = None,
    std: float | None = None,
    mel_scale: str = "slaney",
    win_length: int = 1024,
    n_mels: int | None = None,
    dropout: float = 0.3,
    frontend: FrontEnd | None = None,
) -> Encoder:
    """Makes an encoder of the weights of `AudioNTT2020` or its successor.

    Args:
        state: The checkpoint.
        version: `"v1"`: three convolution blocks; `"v2"`: two.
        mean: Of the training data's log-mels, which the file does not hold.
        std: Their standard deviation.
        mel_scale: `"slaney"` with triangles of equal area, as BYOL-A was
            trained, or `"htk"` without, as in the example of v1's README and
            in BYOL-S.
        win_length: Samples of the window: 1024, BYOL-S 400.
        n_mels: Mel bands; None for what the shapes tell, a multiple of 8
            (v1) or 4 (v2).
        dropout: Rate, for training on.
        frontend: In place of the paper's front end.

    Returns:
        An `Encoder`.

    Raises:
        CheckpointError: Tensors from which sizes are read are missing.
        ValueError: A setting out of range.
    """
    if mel_scale not in ("slaney", "htk"):
        raise ValueError(
            f"`mel_scale` must be 'slaney' or 'htk'. Received: {mel_scale!r}"
        )
    if frontend is not None and (mean is not None or std is not None):
        raise ValueError("`mean` and `std` are those of the default front end.")
    if version == "v2" and "features.8.weight" in state:
        raise state.error("it has three convolution blocks: audio_ntt2020")
    channels = state.shape("features.0.weight", 4)[0]
    hidden, flat = state.shape("fc.0.weight", 2)
    dim = state.shape("fc.3.weight", 2)[0]
    stride = 8 if version == "v1" else 4
    if n_mels is None:
        n_mels = max(flat // channels, 1) * stride
    if version == "v2":
        dim += channels * (n_mels // stride)
    backbone = AudioNTT(
        n_mels, version, dim, hidden, channels, dropout, name="audio_ntt"
    )
    if frontend is None:
        frontend = recipe(
            "byol_a",
            n_mels=n_mels,
            mel_scale=mel_scale,
            mel_norm="slaney" if mel_scale == "slaney" else None,
            win_length=win_length,
            mean=mean,
            std=std,
        )
    state.load(rules(backbone))
    state.expect(numbered_batches, "counts batches, of no use in Keras")
    state.report.settings.update(
        version=version,
        n_mels=n_mels,
        dim=dim,
        hidden_dim=hidden,
        conv_channels=channels,
    )
    note_frontend(state.report, frontend)
    return Encoder(frontend, backbone)


def rules(backbone: AudioNTT, prefix: str = "") -> list[Rule]:
    """Which tensor of the released layout is which variable.

    Args:
        backbone: Either version.
        prefix: Before each tensor's name.
    """
    found = []
    for i, block in enumerate(backbone.blocks):
        conv, norm = (
            f"{prefix}features.{4 * i}",
            f"{prefix}features.{4 * i + 1}",
        )
        found += [
            reversed_axes(f"{conv}.weight", block.conv.kernel),
            reversed_axes(f"{conv}.bias", block.conv.bias),
            *batch_norm(norm, block.norm),
        ]
    return [
        *found,
        *dense(f"{prefix}fc.0", backbone.fc1),
        *dense(f"{prefix}fc.3", backbone.fc2),
    ]


def batch_norm(name: str, layer: Any) -> list[Rule]:
    """Rules of a batch norm."""
    return [
        reversed_axes(f"{name}.weight", layer.gamma),
        reversed_axes(f"{name}.bias", layer.beta),
        reversed_axes(f"{name}.running_mean", layer.moving_mean),
        reversed_axes(f"{name}.running_var", layer.moving_variance),
    ]


def dense(name: str, layer: Any) -> list[Rule]:
    """Rules of a dense layer."""
    return [
        reversed_axes(f"{name}.weight", layer.kernel),
        reversed_axes(f"{name}.bias", layer.bias),
    ]
