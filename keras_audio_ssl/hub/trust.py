"""What a `.keras` file from a stranger may hold, checked before Keras."""

import importlib
import json
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import keras

MEMBERS = {"config.json", "metadata.json", "model.weights.h5"}
MAX_CONFIG = 16 * 2**20
# Keras stores its members uncompressed.
MAX_EXPANSION = 2

# Rooms of this package whose layers an encoder may be made of.
ROOMS = (
    "augment",
    "blocks",
    "encoders",
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
    MaxPooling3D Maximum MelSpectrogram Minimum MultiHeadAttention Multiply
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
# Modules of which every class of this kind is pure arithmetic.
KINDS = {
    "keras.constraints": "keras.constraints.Constraint",
    "keras.initializers": "keras.initializers.Initializer",
    "keras.losses": "keras.losses.Loss",
    "keras.metrics": "keras.metrics.Metric",
    "keras.optimizers": "keras.optimizers.Optimizer",
    "keras.optimizers.schedules": (
        "keras.optimizers.schedules.LearningRateSchedule"
    ),
    "keras.regularizers": "keras.regularizers.Regularizer",
    "keras.src.ops.math": "keras.Operation",
    "keras.src.ops.nn": "keras.Operation",
    "keras.src.ops.numpy": "keras.Operation",
}
VALUES = frozenset(
    {"__bytes__", "__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__",
     "__tensor__"}
)  # fmt: skip


def check_keras_file(
    path: Path, trusted: Collection[str] = ()
) -> dict[str, Any]:
    """Reads the configuration of a `.keras` file and checks what it names.

    Args:
        path: File.
        trusted: Names of further classes, as registered with Keras.

    Returns:
        The configuration.

    Raises:
        ValueError: The file is no `.keras` archive, holds more than Keras
            writes, or its configuration names a class or function that is
            not on the list.
    """
    with path.open("rb") as stream:
        if stream.read(8) == b"\x89HDF\r\n\x1a\n":
            raise ValueError(
                f"{path} is an HDF5 file (.h5): refused, its models may hold "
                "code. Save it as `.keras`."
            )
    try:
        with zipfile.ZipFile(path) as archive:
            config = _read_config(archive, path)
    except (
        zipfile.BadZipFile,
        EOFError,
        NotImplementedError,
        RecursionError,
        RuntimeError,
        UnicodeDecodeError,
        json.JSONDecodeError,
    ) as error:
        raise ValueError(
            f"{path} is not a `.keras` file, or a damaged one: {error}"
        ) from error
    for entry in _objects(config, path):
        if not _allowed(entry, trusted):
            module, name = entry.get("module"), entry["class_name"]
            raise ValueError(
                f"{path} names {module}.{name}, which is neither a plain "
                "Keras layer nor one of keras_audio_ssl: refused. Classes "
                "that you trust can be given as `custom_objects`."
            )
    return config


def class_of(config: dict[str, Any]) -> Any:
    """The class that a checked configuration's top names, or None."""
    if not config.get("module"):
        return None
    module = importlib.import_module(config["module"])
    return getattr(module, config["class_name"], None)


def _read_config(archive, path):
    names = archive.namelist()
    if "config.json" not in names or len(names) != len(set(names)):
        raise ValueError(f"{path} is not a `.keras` file of Keras 3.")
    if not set(names) <= MEMBERS:
        extra = sorted(set(names) - MEMBERS)
        raise ValueError(
            f"{path} holds {extra[0]!r}, which no encoder needs: refused."
        )
    total = sum(info.file_size for info in archive.infolist())
    if total > MAX_CONFIG + MAX_EXPANSION * path.stat().st_size:
        raise ValueError(f"{path} unfolds to {total} bytes: refused.")
    if archive.getinfo("config.json").file_size > MAX_CONFIG:
        raise ValueError(f"{path}: its configuration is too long: refused.")
    config = json.loads(archive.read("config.json"))
    if not isinstance(config, dict) or "class_name" not in config:
        raise ValueError(f"{path}: its configuration names no model.")
    return config


def _objects(config, path):
    """All dicts that name a class, however deep."""
    pending = [config]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if "class_name" in node:
                if not isinstance(node["class_name"], str):
                    raise ValueError(f"{path}: a class name that is no name.")
                yield node
            pending += node.values()
        elif isinstance(node, list):
            pending += node


def _allowed(entry, trusted):
    name, module = entry["class_name"], entry.get("module")
    registered = entry.get("registered_name")
    if registered in trusted or (not registered and name in trusted):
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
        return True
    if name in CLASSES.get(module, ()):
        return True
    return module in KINDS and _is_kind(module, name)


def _is_ours(module, name, registered):
    room = module.split(".")[1]
    if room not in ROOMS or registered != f"keras_audio_ssl>{name}":
        return False
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return False
    return (
        isinstance(found, type)
        and issubclass(found, keras.layers.Layer)
        and found is keras.saving.get_registered_object(registered)
    )


def _is_activation(entry):
    name = entry.get("config")
    return (
        isinstance(name, str)
        and entry.get("module") in ("builtins", "keras.activations")
        and entry.get("registered_name") in (None, "function", name)
        and callable(getattr(keras.activations, name, None))
        and not _is_registered(name)
    )


def _is_kind(module, name):
    *path, label = KINDS[module].split(".")
    kind = getattr(importlib.import_module(".".join(path)), label)
    found = getattr(importlib.import_module(module), name, None)
    return isinstance(found, type) and issubclass(found, kind)


def _is_registered(name):
    return name is not None and (
        keras.saving.get_registered_object(name) is not None
    )
