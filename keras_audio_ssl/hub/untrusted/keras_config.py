"""What the configuration of a `.keras` file may name and ask for."""

import importlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from keras_audio_ssl._files import FileError
from keras_audio_ssl._text import printable
from keras_audio_ssl.hub.untrusted.keras_file import MAX_VALUES

# Objects of a configuration, and the largest whole number in it that is no
# seed nor a count of steps; also of numbers in an input's shape.
MAX_OBJECTS, MAX_NUMBER = 10_000, 2**20
# Numbers of what front ends make of their settings alone.
MAX_CONSTANTS = 2**24
# Layers of Keras: a graph takes the square of their number.
MAX_LAYERS = 500

# Rooms of this package whose layers (of `engine`: schedules) a model may be
# made of.
ROOMS = (
    "augment",
    "blocks",
    "encoders",
    "engine",
    "evaluation",
    "features",
    "methods",
)

# Layers that compute and do nothing else: no code (Lambda), no files
# (lookups), no models of other frameworks.
LAYER_NAMES = """
    Activation ActivityRegularization AdaptiveAveragePooling1D
    AdaptiveAveragePooling2D AdaptiveMaxPooling1D AdaptiveMaxPooling2D Add
    AdditiveAttention AlphaDropout Attention Average AveragePooling1D
    AveragePooling2D AveragePooling3D BatchNormalization Bidirectional
    Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D
    Conv3DTranspose ConvLSTM1D ConvLSTM2D Cropping1D Cropping2D Cropping3D
    Dense DepthwiseConv1D DepthwiseConv2D Dot Dropout ELU EinsumDense
    Embedding Flatten GRU GRUCell GaussianDropout GaussianNoise
    GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
    GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
    GroupNormalization GroupQueryAttention Identity InputLayer LSTM LSTMCell
    LayerNormalization LeakyReLU Masking MaxPooling1D MaxPooling2D
    MaxPooling3D Maximum Minimum MultiHeadAttention Multiply
    Normalization PReLU Permute RMSNormalization RNN ReLU RepeatVector
    Rescaling Reshape Resizing STFTSpectrogram SeparableConv1D
    SeparableConv2D SimpleRNN SimpleRNNCell Softmax SpatialDropout1D
    SpatialDropout2D SpatialDropout3D SpectralNormalization StackedRNNCells
    Subtract TimeDistributed UnitNormalization UpSampling1D UpSampling2D
    UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
"""
LAYERS = frozenset(LAYER_NAMES.split())
MODELS = frozenset({"Functional", "Model", "Sequential"})
CLASSES = {
    "keras": MODELS | {"DTypePolicy", "FloatDTypePolicy"},
    "keras.dtype_policies": {"DTypePolicy", "FloatDTypePolicy"},
    "keras.layers": LAYERS,
    "keras.models": MODELS,
    "keras.random": {"SeedGenerator"},
    "keras.src.models.functional": {"Functional"},
    "keras.src.models.sequential": {"Sequential"},
}
# Modules in which every subclass of a base is pure arithmetic.
BASES = {
    "keras.constraints": "keras.constraints.Constraint",
    "keras.initializers": "keras.initializers.Initializer",
    "keras.regularizers": "keras.regularizers.Regularizer",
    "keras.src.ops.math": "keras.Operation",
    "keras.src.ops.nn": "keras.Operation",
    "keras.src.ops.numpy": "keras.Operation",
}
# What a checkpoint may have been trained with, and how its rate changes.
OPTIMIZERS = {
    "keras.optimizers": frozenset(
        """Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion
        LossScaleOptimizer Muon Nadam RMSprop SGD""".split()  # noqa: SIM905
    ),
    "keras.optimizers.schedules": frozenset(
        """CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay
        PiecewiseConstantDecay PolynomialDecay""".split()  # noqa: SIM905
    ),
}
SCHEDULES = "keras_audio_ssl.engine.schedules"
NUMBERS = frozenset(
    {"bool", "bfloat16", "float16", "float32", "float64", "int8", "int16",
     "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
)  # fmt: skip
VALUES = frozenset(
    {"__bytes__", "__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__",
     "__tensor__"}
)  # fmt: skip


def check_config(
    config: dict[str, Any],
    path: Path,
    trusted: dict[str, Any] | None = None,
    compiled: bool = False,
    limited: bool = True,
) -> dict[str, Any]:
    """Checks what the configuration of a `.keras` file names and asks for.

    Args:
        config: The configuration.
        path: The file, for errors.
        trusted: Further classes, by the name they were registered under with
            Keras or by their own; what the file calls those that are given
            by their own is added.
        compiled: Whether the file may say how its model was compiled: by an
            optimizer of Keras with plain numbers.
        limited: Whether sizes and numbers are looked at too.

    Returns:
        A copy without `compile_config` but, where it may have one, the
        model's own.

    Raises:
        FileError: It names a class or function that is not on the list, or
            is larger than an encoder's.
    """
    own = config.get("compile_config") if compiled else None
    config = _without_compiling(config)
    layers = 0
    constants: float = 0
    trusted = {} if trusted is None else trusted
    for count, entry in enumerate(_objects(config, path, limited)):
        layers += entry.get("module") == "keras.layers"
        constants += _constants(entry)
        if limited and (count > MAX_OBJECTS or layers > MAX_LAYERS):
            raise FileError(
                f"{path} names more than {MAX_OBJECTS} objects, or "
                f"{MAX_LAYERS} layers of Keras: refused."
            )
        if limited and constants > MAX_CONSTANTS:
            raise FileError(
                f"{path} asks for front ends of more than {MAX_CONSTANTS} "
                "numbers: refused."
            )
        if not _allowed(entry, trusted):
            module, name = entry.get("module"), entry["class_name"]
            raise FileError(
                f"{path} names {_word(module)}.{_word(name)}, which is neither "
                "a plain Keras layer nor one of keras_audio_ssl: refused. "
                "Classes that you trust can be given as `custom_objects`."
            )
    if own is not None:
        config["compile_config"] = _check_compiling(own, path, trusted)
    return config


def _word(name: Any) -> str:
    """A stranger's name in an error."""
    return printable(name, 100)


def _without_compiling(config: dict[str, Any]) -> dict[str, Any]:
    """A copy of a configuration in which no model says how to compile it."""
    copy: dict[str, Any] = {}
    pending: list[tuple[Any, Any, Any]] = [(copy, "", config)]
    while pending:
        target, key, node = pending.pop()
        made: Any = node
        if isinstance(node, dict):
            made = {}
            pending += [
                (made, k, v)
                for k, v in reversed(node.items())
                if k != "compile_config"
            ]
        elif isinstance(node, list):
            made = [None] * len(node)
            pending += [(made, i, v) for i, v in enumerate(node)]
        target[key] = made
    return copy[""]


def _check_compiling(
    config: Any, path: Path, trusted: dict[str, Any]
) -> dict[str, Any]:
    """How a model of this package was compiled."""
    if not isinstance(config, dict):
        raise FileError(f"{path}: its `compile_config` is no dict: refused.")
    for key, value in config.items():
        if key == "optimizer":
            _check_optimizer(value, path, trusted)
        elif not _is_setting(value):
            raise FileError(
                f"{path}: {_word(key)} of its `compile_config` is no plain "
                "setting: refused."
            )
    return config


def _check_optimizer(
    entry: Any, path: Path, trusted: dict[str, Any], depth: int = 0
) -> None:
    """An optimizer or its schedule: by name, and plain numbers."""
    allowed = False
    if isinstance(entry, dict) and isinstance(entry.get("config"), dict):
        module: Any = entry.get("module")
        name: Any = entry.get("class_name")
        registered: Any = entry.get("registered_name")
        if all(isinstance(x, str) for x in (module, name, registered or "")):
            if registered in trusted:
                return
            allowed = (
                _is_ours(module, name, registered)
                if module == SCHEDULES
                else name in OPTIMIZERS.get(module, ())
                and registered in (None, name)
                and not _is_registered(name)
            )
    if not allowed or depth > 2:
        raise FileError(
            f"{path} names an optimizer or schedule that is none of Keras: "
            "refused."
        )
    for key, value in entry["config"].items():
        if isinstance(value, dict):
            _check_optimizer(value, path, trusted, depth + 1)
        elif not (_is_setting(value) or (key == "name" and _is_name(value))):
            raise FileError(
                f"{path}: {_word(key)} of its optimizer is no plain number: "
                "refused."
            )


def _is_setting(value: Any) -> bool:
    """Whether a value is a number, a switch, or a short list of numbers."""
    if isinstance(value, list):
        return len(value) <= MAX_OBJECTS and all(
            isinstance(x, (int, float, type(None))) for x in value
        )
    return value is None or value == "auto" or isinstance(value, (int, float))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 200


def class_of(config: dict[str, Any]) -> Any:
    """The class that a checked configuration's top names, or None."""
    # Never by the module: to import it is to run it, and it may be any.
    return keras.saving.get_registered_object(config.get("registered_name"))


def _objects(
    config: dict[str, Any], path: Path, limited: bool
) -> Iterator[dict[str, Any]]:
    """All dicts that name a class, however deep; numbers are looked at."""
    pending, nodes = [("", config, False)], 0
    while pending:
        key, node, inside = pending.pop()
        nodes += 1
        if limited and nodes > MAX_VALUES:
            raise FileError(f"{path}: its configuration is too long: refused.")
        if isinstance(node, dict):
            if "class_name" in node:
                if not isinstance(node["class_name"], str):
                    raise FileError(f"{path}: a class name that is no name.")
                yield node
            for name, value in node.items():
                if name == "inbound_nodes":
                    if inside:
                        raise FileError(
                            f"{path} has a graph in a call of a layer: refused."
                        )
                    _check_nodes(value, path)
                pending.append((name, value, inside or name == "inbound_nodes"))
        elif isinstance(node, list):
            if limited and key.endswith("batch_shape"):
                sizes = [n for n in node if isinstance(n, int)]
                if math.prod(sizes) > MAX_NUMBER:
                    raise FileError(f"{path}: {key} is too large: refused.")
            pending += [(key, value, inside) for value in node]
        elif (
            limited
            and isinstance(node, int)
            and abs(node) > MAX_NUMBER
            and "seed" not in key
            and "steps" not in key
            and key != "shared_object_id"
        ):
            raise FileError(f"{path}: {_word(key)} is too large: refused.")


def _check_nodes(nodes: Any, path: Path) -> None:
    """Layers of a graph may be called on the graph's tensors alone.

    One that is called on a constant computes while it is loaded. Tensors are
    looked for where Keras finds them: among the arguments, in lists and dicts
    that are no objects themselves.
    """
    for node in nodes if isinstance(nodes, list) else (nodes,):
        good = isinstance(node, dict) and node.keys() == {"args", "kwargs"}
        if not good or not _holds_tensor(list(node.values())):
            raise FileError(
                f"{path} calls a layer on no tensor of its graph: refused."
            )


def _holds_tensor(node: Any) -> bool:
    pending = [node]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending += node
        elif isinstance(node, dict):
            if "class_name" not in node or "config" not in node:
                pending += node.values()
            elif node["class_name"] == "__keras_tensor__":
                return True
    return False


def _constants(entry: dict[str, Any]) -> float:
    """Numbers that a front end, or the settings of one, make by themselves.

    They are in no file: filters of a spectrum, and transforms of these.
    """
    config = entry.get("config")
    if not str(entry.get("module")).startswith("keras_audio_ssl."):
        return 0
    pending: list[Any] = [config]
    total: float = 0
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending += node
        elif isinstance(node, dict) and "class_name" not in node:
            pending += node.values()
            sizes: list[Any] = [
                node.get(name)
                for name in ("n_fft", "win_length", "n_mels", "n_mfcc")
            ]
            sizes = [n for n in sizes if isinstance(n, (int, float))]
            if sizes:
                bands: list[Any] = [node.get("n_mels"), node.get("n_mfcc"), 64]
                bands = [n for n in bands if isinstance(n, (int, float))]
                total += max(*sizes, 512) * max(bands)
    return total


def _allowed(entry: dict[str, Any], trusted: dict[str, Any]) -> bool:
    name, module = entry["class_name"], entry.get("module")
    registered = entry.get("registered_name")
    if not isinstance(registered, (str, type(None))):
        return False
    if registered in trusted or (not registered and name in trusted):
        return True
    if registered and name in trusted and registered.rpartition(">")[2] == name:
        found = keras.saving.get_registered_object(registered)
        # A registered class would win over the one that is given.
        if found is None or found is trusted[name]:
            trusted[registered] = trusted[name]
            return True
    if not isinstance(module, (str, type(None))):
        return False
    if module is not None and module.startswith("keras_audio_ssl."):
        return _is_ours(module, name, registered)
    if name == "function":
        return _is_activation(entry)
    # A registered name would win over the module that is checked here.
    if registered not in (None, name) or _is_registered(registered):
        return False
    if name in VALUES:
        return module in (None, "builtins") and _is_plain(entry)
    if module is not None and name in CLASSES.get(module, ()):
        return True
    return module in BASES and _is_subclass(module, name)


def _is_plain(entry: dict[str, Any]) -> bool:
    """Whether an array's type is a number: `S1000000000` is a gigabyte."""
    config = entry.get("config")
    dtype = config.get("dtype") if isinstance(config, dict) else None
    return dtype is None or (isinstance(dtype, str) and dtype in NUMBERS)


def _is_ours(module: str, name: str, registered: str | None) -> bool:
    room = module.split(".")[1]
    if room not in ROOMS or registered != f"keras_audio_ssl>{name}":
        return False
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return False
    base = keras.layers.Layer
    if room == "engine":
        base = keras.optimizers.schedules.LearningRateSchedule
    return (
        isinstance(found, type)
        and issubclass(found, base)
        and found is keras.saving.get_registered_object(registered)
    )


def _is_activation(entry: dict[str, Any]) -> bool:
    name = entry.get("config")
    return (
        isinstance(name, str)
        and entry.get("module") in ("builtins", "keras.activations")
        and entry.get("registered_name") in (None, "function", name)
        and callable(getattr(keras.activations, name, None))
        and not _is_registered(name)
    )


def _is_subclass(module: str, name: str) -> bool:
    *path, label = BASES[module].split(".")
    base = getattr(importlib.import_module(".".join(path)), label)
    found = getattr(importlib.import_module(module), name, None)
    return isinstance(found, type) and issubclass(found, base)


def _is_registered(name: str | None) -> bool:
    return name is not None and (
        keras.saving.get_registered_object(name) is not None
    )
