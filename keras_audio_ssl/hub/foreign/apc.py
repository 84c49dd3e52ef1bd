"""Importers of APC and VQ-APC checkpoints."""

from typing import Any

import numpy as np

from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.encoders import RecurrentStack
from keras_audio_ssl.features import FrontEnd
from keras_audio_ssl.features import recipe
from keras_audio_ssl.hub.foreign.state_dict import Rule
from keras_audio_ssl.hub.foreign.state_dict import StateDict
from keras_audio_ssl.hub.foreign.state_dict import note_frontend
from keras_audio_ssl.hub.foreign.state_dict import reversed_axes
from keras_audio_ssl.methods.apc import APC


def apc_official(
    state: StateDict,
    *,
    n_future: int = 3,
    normalize: str = "utterance_mean",
    dropout: float = 0.0,
    frontend: FrontEnd | None = None,
    whole: bool = False,
) -> Encoder | APC:
    """APC and VQ-APC as their authors released them.

    Args:
        state: The checkpoint.
        n_future: Frames ahead, which the file does not hold; 3 is in the
            name of the file that was best for phones.
        normalize: Of the filterbank. The authors removed each speaker's mean;
            the default removes each utterance's.
        dropout: Rate, for training on.
        frontend: In place of the paper's front end.
        whole: Whether to make the `APC` model and not its encoder alone.

    Returns:
        An `Encoder`, or an `APC`.
    """
    vector_quantized = bool(state.numbers("rnn_layers.{}.weight_ih_l0"))
    codebooks = state.numbers("vq_layers.{}.vq_logits.weight")
    stack = "rnn_layers" if vector_quantized else "rnns"
    layers = len(state.numbers(stack + ".{}.weight_ih_l0"))
    if frontend is None and normalize == "utterance_mean":
        state.report.notes.append(
            "the authors removed each speaker's mean of the features; the "
            "front end removes each utterance's"
        )
    if codebooks and codebooks != [layers - 1]:
        raise state.error(
            f"it quantises after layers {codebooks} of {layers}; supported "
            "is the last one alone (of the group layout: apc_s3prl)"
        )
    return _apc(
        state,
        stack,
        codebooks,
        # APC adds the first layer's input where it fits, VQ-APC never does.
        {"residual_first": not vector_quantized, "dropout": dropout},
        "postnet" if vector_quantized else "postnet.layer",
        n_future,
        normalize,
        frontend,
        whole,
    )


def apc_s3prl(
    state: StateDict,
    *,
    n_future: int = 5,
    normalize: str = "utterance",
    dropout: float = 0.1,
    frontend: FrontEnd | None = None,
    whole: bool = False,
) -> Encoder | APC:
    """APC and VQ-APC of s3prl and of the NPC repository.

    Arguments as `apc_official`; several codebooks share the last layer.
    """
    tree = state.tree if isinstance(state.tree, dict) else {}
    config = tree.get("config")
    for key in ("model", "paras"):
        config = config.get(key) if isinstance(config, dict) else None
    if isinstance(config, dict) and not config.get("residual", True):
        raise state.error("it has no residual connections")
    return _apc(
        state,
        "rnn_layers",
        state.numbers("vq_layers.{}.vq_logits.weight"),
        {"residual_first": False, "dropout_last": True, "dropout": dropout},
        "postnet",
        n_future,
        normalize,
        frontend,
        whole,
    )


def rules(backbone: RecurrentStack, stack: str = "rnns") -> list[Rule]:
    """Which tensor of a released layout is which variable.

    Args:
        backbone: Network.
        stack: Name of the list of GRUs: `"rnns"` or `"rnn_layers"`.
    """
    found = []
    for i, layer in enumerate(backbone.prenet):
        name = f"prenet.layers.{i}"
        found += [
            reversed_axes(f"{name}.weight", layer.kernel),
            reversed_axes(f"{name}.bias", layer.bias),
        ]
    for i, layer in enumerate(backbone.layers):
        found += gru(f"{stack}.{i}", layer)
    return found


def gru(name: str, layer: Any, suffix: str = "l0") -> list[Rule]:
    """Rules of a GRU: PyTorch's gates are reset, update, candidate.

    Args:
        name: Of the module.
        layer: `GRU`.
        suffix: What its tensors' names end with.
    """
    width, units = layer.kernel.shape[0], layer.units

    def matrix(weight: np.ndarray) -> np.ndarray:
        return reorder(weight).T

    def biases(inner: np.ndarray, outer: np.ndarray) -> np.ndarray:
        return np.stack([reorder(inner), reorder(outer)])

    return [
        Rule(
            (f"{name}.weight_ih_{suffix}",),
            ((3 * units, width),),
            layer.kernel,
            matrix,
        ),
        Rule(
            (f"{name}.weight_hh_{suffix}",),
            ((3 * units, units),),
            layer.recurrent_kernel,
            matrix,
        ),
        Rule(
            (f"{name}.bias_ih_{suffix}", f"{name}.bias_hh_{suffix}"),
            ((3 * units,),) * 2,
            layer.bias,
            biases,
        ),
    ]


def reorder(gates: np.ndarray) -> np.ndarray:
    """Gates reset, update, candidate in Keras' order: update, reset, ..."""
    reset, update, candidate = np.split(gates, 3)
    return np.concatenate([update, reset, candidate])


def head_rules(model: APC, postnet: str, codebooks: list[int]) -> list[Rule]:
    """Rules of the output layer and of the quantiser.

    Args:
        model: Whole model.
        postnet: Name of the output layer.
        codebooks: Numbers of the quantiser's groups in the file.
    """
    kernel, bias = model.postnet.kernel, model.postnet.bias
    found = [reversed_axes(f"{postnet}.bias", bias)]
    if postnet == "postnet.layer":  # a convolution of width 1
        shape = (*tuple(kernel.shape)[::-1], 1)
        found.append(
            Rule(
                (f"{postnet}.weight",),
                (shape,),
                kernel,
                lambda weight: weight[..., 0].T,
            )
        )
    else:
        found.append(reversed_axes(f"{postnet}.weight", kernel))
    return found + quantizer_rules(model.quantizer, codebooks)


def quantizer_rules(quantizer: Any, numbers: list[int]) -> list[Rule]:
    """Rules of a quantiser.

    Args:
        quantizer: `GumbelQuantizer`, or None where `numbers` is empty.
        numbers: Of its groups in the file.
    """
    found = []
    for group, number in enumerate(numbers):
        name = f"vq_layers.{number}"
        logits = quantizer.logits[group]
        codebook = quantizer.codebooks[group]
        found += [
            reversed_axes(f"{name}.vq_logits.weight", logits.kernel),
            reversed_axes(f"{name}.vq_logits.bias", logits.bias),
            reversed_axes(f"{name}.codebook_CxE.weight", codebook.kernel),
        ]
    return found


def _apc(
    state: StateDict,
    stack: str,
    codebooks: list[int],
    options: dict[str, Any],
    postnet: str,
    n_future: int,
    normalize: str,
    frontend: Any,
    whole: bool,
) -> Any:
    layers = len(state.numbers(stack + ".{}.weight_ih_l0"))
    units = state.shape(f"{stack}.0.weight_hh_l0", 2)[1]
    bins = state.shape(f"{stack}.0.weight_ih_l0", 2)[1]
    prenet = len(state.numbers("prenet.layers.{}.weight"))
    if prenet:
        bins = state.shape("prenet.layers.0.weight", 2)[1]
    backbone = RecurrentStack(
        bins, units, layers, prenet, **options, name="recurrent_stack"
    )
    if frontend is None:
        frontend = recipe("apc", n_mels=bins, normalize=normalize)
    encoder = Encoder(frontend, backbone)
    state.load(rules(backbone, stack))
    state.report.settings.update(
        n_mels=bins, units=units, layers=layers, prenet_layers=prenet
    )
    note_frontend(state.report, frontend)
    sizes = [
        state.shape(f"vq_layers.{i}.codebook_CxE.weight", 2) for i in codebooks
    ]
    if sizes:
        state.report.settings.update(
            codebooks=[codes for _, codes in sizes],
            codebook_dims=[dim for dim, _ in sizes],
        )
    if not whole:
        state.expect(
            lambda name: name.startswith(("postnet.", "vq_layers.")),
            "of the pretext task alone; `whole=True` keeps it",
        )
        return encoder
    if state.numbers("vq_layers.{}.vq_hiddens.weight"):
        raise state.error(
            "its quantiser has a hidden layer: import the encoder alone"
        )
    if sizes and sum(dim for dim, _ in sizes) != units:
        raise state.error(
            f"its codebooks are {[dim for dim, _ in sizes]} wide and its "
            f"layers {units}"
        )
    model = APC(
        n_future,
        encoder,
        codebooks=[codes for _, codes in sizes] or None,
        codebook_dims=[dim for dim, _ in sizes] or None,
    )
    state.load(head_rules(model, postnet, codebooks))
    state.report.settings["n_future"] = n_future
    return model
