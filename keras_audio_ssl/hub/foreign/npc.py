"""Importer of NPC checkpoints, the authors' and s3prl's."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.encoders import MaskedConvStack
from keras_audio_ssl.features import FrontEnd
from keras_audio_ssl.features import recipe
from keras_audio_ssl.hub.foreign.apc import quantizer_rules
from keras_audio_ssl.hub.foreign.audio_ntt import batch_norm
from keras_audio_ssl.hub.foreign.audio_ntt import dense
from keras_audio_ssl.hub.foreign.settings import number_in
from keras_audio_ssl.hub.foreign.settings import text_in
from keras_audio_ssl.hub.foreign.settings import whole_number_in
from keras_audio_ssl.hub.foreign.state_dict import Rule
from keras_audio_ssl.hub.foreign.state_dict import StateDict
from keras_audio_ssl.hub.foreign.state_dict import note_frontend
from keras_audio_ssl.hub.foreign.state_dict import numbered_batches
from keras_audio_ssl.hub.foreign.state_dict import reversed_axes
from keras_audio_ssl.methods.npc import NPC


def npc(
    state: StateDict,
    *,
    input_mask: int | None = None,
    dropout: float | None = None,
    normalize: str = "utterance",
    output: str = "unmasked",
    reference_padding: bool = False,
    frontend: FrontEnd | None = None,
    whole: bool = False,
) -> Encoder | NPC:
    """NPC; the authors and s3prl save the same network.

    Args:
        state: The checkpoint.
        input_mask: Input frames that the feature does not see; None for what
            the file's masks say, else its settings, else the paper's 5.
        dropout: Rate, for training on; as `input_mask`, else 0.1.
        normalize: Of the filterbank.
        output: `"unmasked"` or `"masked"`, see `MaskedConvStack`.
        reference_padding: Let padding leak as in the released code.
        frontend: In place of the paper's front end.
        whole: Whether to make the `NPC` model and not its encoder alone.

    Returns:
        An `Encoder`, or an `NPC`.
    """
    settings = settings_of(state)
    count = len(state.numbers("blocks.{}.conv.weight"))
    units, bins, _ = state.shape("blocks.0.conv.weight", 3)
    numbers = state.numbers("masked_convs.{}.conv.weight")
    if numbers not in (list(range(count)), [count - 1]):
        raise state.error(
            f"it has {count} blocks and masked convolutions after "
            f"{numbers}: supported is after all, or after the last"
        )
    kernel_size = state.shape(f"masked_convs.{numbers[0]}.conv.weight", 3)[2]
    masked = masked_taps(state, numbers)
    if input_mask is None:
        input_mask = whole_number_in(
            state, settings, "mask_size", 5, 1, kernel_size
        )
        if masked:
            number, taps = next(iter(masked.items()))
            input_mask = taps - 2 * (number + 1)
    for number, taps in masked.items():
        if taps != input_mask + 2 * (number + 1):
            raise state.error(
                f"masked_convs.{number}.conv_mask masks {taps} taps, with "
                f"input_mask={input_mask} it would be "
                f"{input_mask + 2 * (number + 1)}"
            )
    if dropout is None:
        dropout = number_in(state, settings, "dropout", 0.1, 0, 1)
    bottleneck = None
    if "ae_bottleneck.weight" in state:
        bottleneck = state.shape("ae_bottleneck.weight", 2)[0]
    backbone = MaskedConvStack(
        bins, units, count, kernel_size, input_mask, dropout,
        activation=text_in(state, settings, "activate", "relu"),
        batch_norm="blocks.0.bn1.weight" in state,
        residual=bool(settings.get("residual", True)),
        cross_layer=len(numbers) == count,
        bottleneck=bottleneck,
        output=output,
        reference_padding=reference_padding,
        name="masked_conv_stack",
    )  # fmt: skip
    if frontend is None:
        frontend = recipe("npc", n_mels=bins, normalize=normalize)
    encoder = Encoder(frontend, backbone)
    state.load(rules(backbone))
    state.expect(numbered_batches, "counts batches, of no use in Keras")
    state.expect(
        lambda name: name.endswith(".conv_mask"),
        "says which taps are masked, as the network does",
    )
    groups = state.numbers("vq_layers.{}.vq_logits.weight")
    sizes = [
        state.shape(f"vq_layers.{i}.codebook_CxE.weight", 2) for i in groups
    ]
    state.report.settings.update(
        n_mels=bins, units=units, blocks=count, kernel_size=kernel_size,
        input_mask=input_mask, cross_layer=backbone.cross_layer,
        batch_norm=backbone.batch_norm, bottleneck=bottleneck,
        codebooks=[codes for _, codes in sizes],
        codebook_dims=[dim for dim, _ in sizes],
    )  # fmt: skip
    note_frontend(state.report, frontend)
    if not whole:
        state.expect(
            lambda name: name.startswith(("postnet.", "vq_layers.")),
            "of the pretext task alone; `whole=True` keeps it",
        )
        return encoder
    if sizes and sum(dim for dim, _ in sizes) != units:
        raise state.error(
            f"its codebooks are {[dim for dim, _ in sizes]} wide and its "
            f"layers {units}"
        )
    quantized = settings.get("vq")
    quantized = quantized if isinstance(quantized, Mapping) else {}
    model = NPC(
        encoder,
        codebooks=[codes for _, codes in sizes] or None,
        codebook_dims=[dim for dim, _ in sizes] or None,
        temperature=number_in(
            state, quantized, "gumbel_temperature", 1.0, 1e-6, 1e6
        ),
    )
    state.load(head_rules(model, groups))
    return model


def settings_of(state: StateDict) -> Mapping[str, Any]:
    """The network's settings that lie in a file of s3prl."""
    found = state.tree
    for key in ("config", "model", "paras"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def masked_taps(state: StateDict, numbers: list[int]) -> dict[int, int]:
    """How many taps each mask of the file hides, by the block's number.

    Raises:
        CheckpointError: A mask is not that of the middle.
    """
    found = {}
    for number in numbers:
        name = f"masked_convs.{number}.conv_mask"
        if name not in state:
            continue
        mask = state.arrays[name]
        size = state.shape(name, 3)[2]
        hidden = int((mask[0, 0] == 0).sum())
        first = (size - hidden) // 2
        taps = np.ones(size)
        taps[first : first + hidden] = 0
        if not np.array_equal(mask, np.broadcast_to(taps, mask.shape)):
            raise state.error(f"{name} does not mask the kernel's middle")
        found[number] = hidden
    return found


def rules(backbone: MaskedConvStack) -> list[Rule]:
    """Which tensor of the layout is which variable of the encoder."""
    found = []
    for i, block in enumerate(backbone.blocks):
        name = f"blocks.{i}"
        found += [
            *dense(f"{name}.conv", block.conv),
            pointwise(f"{name}.linear.weight", block.dense.kernel),
            reversed_axes(f"{name}.linear.bias", block.dense.bias),
        ]
        for k, norm in enumerate(block.norms):
            found += batch_norm(f"{name}.bn{k + 1}", norm)
    first = len(backbone.blocks) - len(backbone.masked)
    for i, conv in enumerate(backbone.masked, first):
        found += dense(f"masked_convs.{i}.conv", conv)
    if backbone.narrow is not None:
        found.append(
            reversed_axes("ae_bottleneck.weight", backbone.narrow.kernel)
        )
    return found


def pointwise(source: str, variable: Any) -> Rule:
    """A rule for a dense layer that is saved as a convolution of width 1."""
    shape = (*tuple(variable.shape)[::-1], 1)
    return Rule((source,), (shape,), variable, lambda w: w[..., 0].T)


def head_rules(model: NPC, groups: list[int]) -> list[Rule]:
    """Rules of the output layer and of the quantiser.

    Args:
        model: Whole model.
        groups: Numbers of the quantiser's groups in the file.
    """
    return [
        *dense("postnet", model.postnet),
        *quantizer_rules(model.quantizer, groups),
    ]
