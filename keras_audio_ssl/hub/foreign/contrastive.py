"""Importers of Fonseca et al.'s published files, and of CLAR's."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_audio_ssl.encoders import CRNN
from keras_audio_ssl.encoders import VGG
from keras_audio_ssl.encoders import Backbone
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.encoders import ResNet18
from keras_audio_ssl.encoders import WaveformResNet18
from keras_audio_ssl.encoders.resnet import STAGES
from keras_audio_ssl.features import FrontEnd
from keras_audio_ssl.features import recipe
from keras_audio_ssl.hub.foreign.apc import gru
from keras_audio_ssl.hub.foreign.audio_ntt import batch_norm
from keras_audio_ssl.hub.foreign.audio_ntt import dense
from keras_audio_ssl.hub.foreign.state_dict import Rule
from keras_audio_ssl.hub.foreign.state_dict import StateDict
from keras_audio_ssl.hub.foreign.state_dict import note_frontend
from keras_audio_ssl.hub.foreign.state_dict import numbered_batches
from keras_audio_ssl.hub.foreign.state_dict import reversed_axes
from keras_audio_ssl.hub.foreign.state_dict import time_first

CLASSES = "gives classes, which are no part of the encoder"


def fonseca(
    state: StateDict,
    *,
    input_scale: float = 36_000.0,
    mean: float | None = None,
    std: float | None = None,
    n_mels: int = 96,
    crnn_backward: str = "last_index",
    frontend: FrontEnd | None = None,
) -> Encoder:
    """Fonseca et al.'s ResNet-18, VGG or CRNN, told apart by their names.

    Args:
        state: The checkpoint.
        input_scale: Factor on the normalised features. The published
            networks were trained on features divided by a deviation that was
            too small by the root of the number of values, about 36 000: the
            default.
        mean: Of the training data's log-mels, which the file does not hold.
        std: Their standard deviation.
        n_mels: Mel bands, which no shape tells.
        crnn_backward: See `CRNN`; the default is what it was trained with.
        frontend: In place of the paper's front end.

    Returns:
        An `Encoder`.
    """
    if "rnn1.weight_ih_l0" in state:
        units = state.shape("rnn1.weight_hh_l0", 2)[1]
        channels = state.shape("conv1.conv.weight", 4)[0]
        backbone: Any = CRNN(
            n_mels, channels, units, crnn_backward, input_scale, name="crnn"
        )
        rules, classes = crnn_rules(backbone), ("dense.",)
    elif "conv0.conv.weight" in state:
        backbone = vgg_of(state, n_mels, input_scale)
        rules, classes = vgg_rules(backbone), ("dense_out.",)
    else:
        width = state.shape("conv1.weight", 4)[0]
        state.require(resnet_shapes(width, 1, (7, 7), (3, 3)))
        backbone = ResNet18(
            n_mels, 1, width, input_scale=input_scale, name="resnet18"
        )
        rules, classes = resnet_rules(backbone, time_first), ("fc.",)
    if frontend is None:
        frontend = recipe("fonseca", n_mels=n_mels, mean=mean, std=std)
    settings = {"n_mels": n_mels, "input_scale": input_scale}
    return finished(state, frontend, backbone, rules, classes, settings)


def clar(state: StateDict, *, frontend: FrontEnd | None = None) -> Encoder:
    """CLAR's ResNet-18 of three channels, or of waveforms.

    Args:
        state: The checkpoint.
        frontend: In place of the paper's front end.

    Returns:
        An `Encoder`.
    """
    first = state.arrays.get("conv1.weight")
    backbone: Any
    if first is not None and first.ndim == 3:
        width, channels, _ = state.shape("conv1.weight", 3)
        state.require(resnet_shapes(width, channels, (7,), (9,)))
        backbone = WaveformResNet18(channels, width, name="resnet18_1d")
        rules, name = resnet_rules(backbone, one_axis), "waveform"
    else:
        width, channels = state.shape("conv1.weight", 4)[:2]
        state.require(resnet_shapes(width, channels, (7, 7), (3, 3)))
        frontend = recipe("clar") if frontend is None else frontend
        backbone = ResNet18(
            frontend.n_features, channels, width, name="resnet18"
        )
        rules, name = resnet_rules(backbone, reversed_axes), "clar"
    frontend = recipe(name) if frontend is None else frontend
    settings = {"width": width, "channels": channels}
    return finished(state, frontend, backbone, rules, ("fc.",), settings)


def finished(
    state: StateDict,
    frontend: FrontEnd,
    backbone: Backbone,
    rules: list[Rule],
    classes: tuple[str, ...],
    settings: dict[str, Any],
) -> Encoder:
    """The encoder, its weights loaded and the report written."""
    state.load(rules)
    state.expect(numbered_batches, "counts batches, of no use in Keras")
    state.expect(lambda name: name.startswith(classes), CLASSES)
    state.report.settings.update(settings)
    note_frontend(state.report, frontend)
    return Encoder(frontend, backbone)


def vgg_of(state: StateDict, n_mels: int, input_scale: float) -> VGG:
    """The network whose groups the widths of a file's convolutions tell."""
    numbers = state.numbers("conv{}.conv.weight")
    widths = [state.shape(f"conv{i}.conv.weight", 4)[0] for i in numbers]
    groups = [(w, len(list(g))) for w, g in itertools.groupby(widths)]
    first = widths[0]
    if [w for w, _ in groups] != [first * 2**i for i in range(len(groups))]:
        raise state.error(
            f"its convolutions have {widths} channels: each group must have "
            "twice as many as the one before"
        )
    dim = state.shape("dense1.weight", 2)[0]
    repeats = tuple(count for _, count in groups)
    return VGG(n_mels, 1, first, repeats, dim, input_scale, name="vgg")


def vgg_rules(backbone: VGG) -> list[Rule]:
    """Which tensor of the released layout is which variable."""
    convs = itertools.chain(*backbone.groups)
    found = []
    for i, conv in enumerate(convs):
        found += conv_norm(f"conv{i}.conv", f"conv{i}.bn", conv, time_first)
    return [*found, *dense("dense1", backbone.pooling.dense)]


def crnn_rules(backbone: CRNN) -> list[Rule]:
    """Which tensor of the released layout is which variable."""
    found = []
    for i, conv in enumerate(backbone.convs, 1):
        found += conv_norm(f"conv{i}.conv", f"conv{i}.bn", conv, time_first)
    found += gru("rnn1", backbone.gru.ahead, "l0")
    return [*found, *gru("rnn1", backbone.gru.back, "l0_reverse")]


def resnet_shapes(
    width: int, channels: int, first: Sequence[int], others: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """Shapes of what a ResNet-18 needs, in torchvision's layout.

    Args:
        width: Filters of the first stage.
        channels: In.
        first: The first kernel.
        others: Those of the blocks.
    """
    found: dict[str, tuple[int, ...]] = {}

    def convolution(
        conv: str, norm: str, filters: int, before: int, kernel: Sequence[int]
    ) -> None:
        found[f"{conv}.weight"] = (filters, before, *kernel)
        for part in ("weight", "bias", "running_mean", "running_var"):
            found[f"{norm}.{part}"] = (filters,)

    convolution("conv1", "bn1", width, channels, first)
    before = width
    for i, blocks in enumerate(STAGES):
        filters = width * 2**i
        for k in range(blocks):
            name = f"layer{i + 1}.{k}"
            for number, size in ((1, before), (2, filters)):
                convolution(
                    f"{name}.conv{number}", f"{name}.bn{number}", filters,
                    size, others,
                )  # fmt: skip
            if i and not k:
                convolution(
                    f"{name}.downsample.0", f"{name}.downsample.1", filters,
                    before, [1] * len(others),
                )  # fmt: skip
            before = filters
    return found


def resnet_rules(backbone: Any, kernel: Any) -> list[Rule]:
    """Which tensor of torchvision's layout is which variable.

    Args:
        backbone: `ResNet18` or `WaveformResNet18`.
        kernel: Makes the rule of a kernel of its name and variable.
    """
    found = conv_norm("conv1", "bn1", backbone.stem, kernel)
    for i, stage in enumerate(backbone.stages, 1):
        for k, block in enumerate(stage):
            name = f"layer{i}.{k}"
            for number, conv in enumerate((block.first, block.second), 1):
                found += conv_norm(
                    f"{name}.conv{number}", f"{name}.bn{number}", conv, kernel
                )
            if block.shortcut is not None:
                found += conv_norm(
                    f"{name}.downsample.0",
                    f"{name}.downsample.1",
                    block.shortcut,
                    kernel,
                )
    return found


def conv_norm(conv: str, norm: str, layer: Any, kernel: Any) -> list[Rule]:
    """Rules of a convolution without bias and its batch norm."""
    return [
        kernel(f"{conv}.weight", layer.conv.kernel),
        *batch_norm(norm, layer.norm),
    ]


def one_axis(source: str, variable: Any) -> Rule:
    """A rule of a kernel `(out, in, time)`."""
    height, _, channels, filters = variable.shape
    return Rule(
        (source,),
        ((filters, channels, height),),
        variable,
        lambda w: np.transpose(w, (2, 1, 0))[:, None],
    )
