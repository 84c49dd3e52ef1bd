"""Importer of Mockingjay, Audio ALBERT and TERA checkpoints of s3prl."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.encoders import Transformer
from keras_audio_ssl.features import FrontEnd
from keras_audio_ssl.features import recipe
from keras_audio_ssl.hub.foreign.settings import number_in
from keras_audio_ssl.hub.foreign.settings import text_in
from keras_audio_ssl.hub.foreign.settings import whole_number_in
from keras_audio_ssl.hub.foreign.state_dict import MOST_LAYERS
from keras_audio_ssl.hub.foreign.state_dict import Rule
from keras_audio_ssl.hub.foreign.state_dict import StateDict
from keras_audio_ssl.hub.foreign.state_dict import note_frontend
from keras_audio_ssl.methods import method_class
from keras_audio_ssl.methods.reconstruction import MaskedReconstruction

# Recipes of s3prl's front ends, by how many frames' worth of bands a frame
# holds: itself, and deltas of the first and of the second order.
KALDI = {1: "kaldi_fbank80", 3: "kaldi_fbank240"}
ONLINE = {1: "online_logmel", 2: "online_logmel_delta"}
# What a file's settings may ask for: orders of deltas, frames of a span.
MOST_DELTAS, MOST_FRAMES = 10, 10_000


def transformer_s3prl(
    state: StateDict,
    *,
    method: str = "mockingjay",
    heads: int | None = None,
    dropout: float | None = None,
    frontend: FrontEnd | None = None,
    target: str | FrontEnd | None = None,
    whole: bool = False,
) -> Encoder | MaskedReconstruction:
    """The transformer as s3prl saves it, and the method around it.

    Args:
        state: The checkpoint.
        method: `"mockingjay"`, `"audio_albert"` or `"tera"`.
        heads: Of each layer, which no tensor tells; the file's own settings
            where it holds some, else 12.
        dropout: Rate, for training on; as `heads`, else 0.1.
        frontend: In place of the front end that the file's settings name, or
            that fits its bins: log-mel of 80 bands, with deltas for 160,
            Kaldi's with two deltas for 240.
        target: The features that the head predicts, where they are others: a
            recipe or a `FrontEnd`.
        whole: Whether to make the method and not its encoder alone.

    Returns:
        An `Encoder`, or a `Mockingjay`, `AudioALBERT` or `TERA`.
    """
    config = settings_of(state)
    network, task = config.get("transformer", {}), config.get("task", {})
    root = root_of(state)
    shared = method == "audio_albert" or bool(network.get("share_layer"))
    copies = [
        f"{root}encoder.layer.{i}."
        for i in state.numbers(
            f"{root}encoder.layer.{{}}.intermediate.dense.weight"
        )
    ]
    # Once, Audio ALBERT saved its one layer without a number.
    layers = len(copies) or whole_number_in(
        state, network, "num_hidden_layers", 6, 1, MOST_LAYERS
    )
    copies = copies or [f"{root}encoder.layer."]
    if not shared and len(copies) != layers:
        raise state.error(f"it has {layers} layers, and holds one of them")
    embedding = f"{root}input_representations.spec_transform.weight"
    units, bins = state.shape(embedding, 2)
    for copy in copies:
        for part in ("query", "key", "value"):
            name = f"{copy}attention.self.{part}.weight"
            if state.shape(name, 2) != (units, units):
                raise state.error(f"{name} is not {units} x {units}")
    inner = state.shape(f"{copies[0]}intermediate.dense.weight", 2)[0]
    heads = heads or whole_number_in(
        state, network, "num_attention_heads", 12, 1, units
    )
    if units % heads:
        raise state.error(
            f"{heads} heads do not divide its width {units}: pass `heads`"
        )
    if dropout is None:
        dropout = number_in(state, network, "hidden_dropout_prob", 0.1, 0, 1)
    frontend = frontend or front_end(state, config.get("audio", {}), bins)
    if bins % frontend.n_features:
        raise state.error(
            f"it reads {bins} bins a frame and the front end gives "
            f"{frontend.n_features}"
        )
    backbone = Transformer(
        frontend.n_features,
        units,
        layers,
        heads,
        inner,
        dropout,
        activation=text_in(state, network, "hidden_act", "gelu"),
        pre_norm=f"{root}encoder.LayerNorm.0.{weight_name(state, root)}"
        in state,
        share_layers=shared,
        stack=bins // frontend.n_features,
        name="transformer",
    )
    encoder = Encoder(frontend, backbone)
    state.load(rules(state, backbone, root, copies))
    state.report.settings.update(
        units=units, layers=layers, heads=heads, feed_forward=inner,
        stack=backbone.stack, share_layers=shared, n_features=bins,
    )  # fmt: skip
    note_frontend(state.report, frontend)
    drawn = alterations(state, method, task)
    state.report.settings.update(drawn)
    if not whole:
        state.expect(
            lambda name: name.startswith("SpecHead."),
            "of the pretext task alone; `whole=True` keeps it",
        )
        return encoder
    if target is not None:
        drawn = {**drawn, "target": target}
        drawn.pop("channel_share", None)
    model = method_class(method)(encoder, **drawn)
    state.load(head_rules(model, weight_name(state, root)))
    return model


def settings_of(state: StateDict) -> dict[str, dict[str, Any]]:
    """The settings of model, task and front end that lie in a file."""
    tree = state.tree if isinstance(state.tree, Mapping) else {}
    found = tree.get("Upstream_Config") or tree.get("Config")
    if found is None and isinstance(tree.get("Settings"), Mapping):
        found = tree["Settings"].get("Config")
    if not isinstance(found, Mapping):
        return {}
    # The first release names its model's settings after itself.
    names = {"mockingjay": "transformer", "online": "audio"}
    return {
        names.get(name, str(name)): dict(value)
        for name, value in found.items()
        if isinstance(value, Mapping)
    }


def root_of(state: StateDict) -> str:
    """What the names of the encoder's tensors begin with."""
    for root in ("Transformer.", "Mockingjay.", ""):
        if f"{root}input_representations.spec_transform.weight" in state:
            return root
    return "Transformer."


def weight_name(state: StateDict, root: str) -> str:
    """What a layer norm calls its scale: `weight`, once `gamma`."""
    names = (f"{root}encoder.layer.{i}attention.output.LayerNorm.gamma"
             for i in ("", "0."))  # fmt: skip
    return "gamma" if any(name in state for name in names) else "weight"


def front_end(
    state: StateDict, audio: Mapping[str, Any], bins: int
) -> FrontEnd:
    """The front end that a file's settings name, or that fits its bins."""
    kaldi = audio.get("kaldi")
    if isinstance(kaldi, Mapping):
        delta = kaldi.get("delta")
        delta = delta if isinstance(delta, Mapping) else {}
        order = whole_number_in(state, delta, "order", 0, 0, MOST_DELTAS)
        recipes, times = KALDI, 1 + order
    elif isinstance(audio.get("input"), Mapping):
        order = whole_number_in(
            state, audio["input"], "delta", 0, 0, MOST_DELTAS
        )
        recipes, times = ONLINE, 1 + order
    else:
        times = {160: 2, 240: 3, 480: 2}.get(bins, 1)
        recipes = KALDI if times == 3 else ONLINE
    if bins == 480:  # three frames of 160, stacked
        return recipe("online_logmel_delta")
    if times not in recipes or bins % times:
        times, recipes = 1, ONLINE
    return recipe(recipes[times], n_mels=bins // times)


def alterations(
    state: StateDict, method: str, task: Mapping[str, Any]
) -> dict[str, Any]:
    """Arguments of the method that a file's settings hold."""
    found: dict[str, Any] = {}
    span: list[int] = []
    for name in ("mask_consecutive_min", "mask_consecutive_max"):
        name = name if name in task else "mask_consecutive"
        if task.get(name) is not None:
            span.append(whole_number_in(state, task, name, 0, 0, MOST_FRAMES))
    if len(span) == 2:
        found["span"] = span[0] if span[0] == span[1] else span
    names = {"mask_proportion": "proportion"}
    if method == "tera":
        names |= {
            "mask_frequency": "channel_share",
            "noise_proportion": "noise_probability",
        }
    elif "mask_allow_overlap" in task:
        found["overlap"] = bool(task["mask_allow_overlap"])
    for theirs, ours in names.items():
        if theirs in task:
            found[ours] = number_in(state, task, theirs, 0, 0, MOST_FRAMES)
    if "loss" in task:
        found["distance"] = text_in(state, task, "loss", "l1").lower()
    return found


def rules(
    state: StateDict, backbone: Transformer, root: str, copies: list[str]
) -> list[Rule]:
    """Which tensor of the layout is which variable.

    Args:
        state: The checkpoint.
        backbone: Network.
        root: What the names begin with.
        copies: What the names of each layer's tensors begin with; shared
            layers are there once or once for each use.
    """
    scale = weight_name(state, root)
    shift = "beta" if scale == "gamma" else "bias"

    def one(names: Sequence[str], variable: Any, what: str = "weight") -> Rule:
        """A rule for what the file holds once, or in equal copies."""
        sources = tuple(f"{name}.{what}" for name in names)
        shape = tuple(variable.shape)[::-1]

        def convert(first: np.ndarray, *others: np.ndarray) -> np.ndarray:
            for name, other in zip(sources[1:], others, strict=True):
                if not np.array_equal(first, other):
                    raise state.error(
                        f"{sources[0]} and {name} differ, which should be "
                        "copies of one tensor"
                    )
            return first.T

        return Rule(sources, (shape,) * len(sources), variable, convert)

    def both(names: Sequence[str], layer: Any) -> list[Rule]:
        return [
            one(names, layer.kernel),
            one(names, layer.bias, "bias"),
        ]

    def norm(names: Sequence[str], layer: Any) -> list[Rule]:
        return [
            one(names, layer.gamma, scale),
            one(names, layer.beta, shift),
        ]

    embedding = f"{root}input_representations."
    found = both([f"{embedding}spec_transform"], backbone.embedding)
    found += norm([f"{embedding}LayerNorm"], backbone.embedding_norm)
    for i, layer in enumerate(backbone.norms):
        found += norm([f"{root}encoder.LayerNorm.{i}"], layer)
    for i, block in enumerate(backbone.layers):
        here = copies if backbone.share_layers else [copies[i]]
        attention = block.attention
        for part in ("query", "key", "value"):
            found += both(
                [f"{c}attention.self.{part}" for c in here],
                getattr(attention, part),
            )
        found += both([f"{c}attention.output.dense" for c in here],
                      attention.out)  # fmt: skip
        found += both([f"{c}intermediate.dense" for c in here], block.inner)
        found += both([f"{c}output.dense" for c in here], block.outer)
        # Normalising first, the file holds each of a layer's norms twice.
        again = ("attention.LayerNorm", "LayerNorm")
        for k, (place, layer) in enumerate(
            (
                ("attention.output.LayerNorm", block.attention_norm),
                ("output.LayerNorm", block.outer_norm),
            )
        ):
            names = [f"{c}{place}" for c in here]
            if backbone.pre_norm:
                names += [
                    f"{c}{again[k]}"
                    for c in here
                    if f"{c}{again[k]}.{scale}" in state
                ]
            found += norm(names, layer)
    return found


def head_rules(
    model: MaskedReconstruction, scale: str = "weight"
) -> list[Rule]:
    """Rules of the head that predicts.

    Args:
        model: Whole model.
        scale: What a layer norm calls its scale.
    """
    head = model.head
    shift = "beta" if scale == "gamma" else "bias"
    return [
        Rule(
            (f"SpecHead.{name}",), (tuple(v.shape)[::-1],), v, np.transpose
        )
        for name, v in (
            ("dense.weight", head.hidden.kernel),
            ("dense.bias", head.hidden.bias),
            (f"LayerNorm.{scale}", head.norm.gamma),
            (f"LayerNorm.{shift}", head.norm.beta),
            ("output.weight", head.out.kernel),
            ("output.bias", head.out.bias),
        )
    ]  # fmt: skip
