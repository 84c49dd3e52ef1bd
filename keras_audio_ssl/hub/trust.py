"""What a `.keras` file from a stranger may hold, checked before Keras."""

import contextlib
import importlib
import io
import json
import math
import struct
import threading
import zipfile
import zlib
from collections.abc import Collection
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras

MEMBERS = {"config.json", "metadata.json", "model.weights.h5"}
MAX_CONFIG = 16 * 2**20
# Keras stores its members uncompressed.
MAX_EXPANSION = 2
# Objects that a configuration may name, and the largest whole number in it
# that is no seed.
MAX_OBJECTS, MAX_NUMBER = 10_000, 2**31
# What Keras may make beside the weights: metrics, generators, counters.
SPARE_NUMBERS = 1_000_000
# Groups and datasets of the weights, and how deep they may lie.
MAX_NODES, MAX_DEPTH = 100_000, 64

_LOCK = threading.Lock()

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
    with _opened(path) as archive:
        config = _read_config(archive, path)
    for count, entry in enumerate(_objects(config, path)):
        if count > MAX_OBJECTS:
            raise ValueError(
                f"{path} names more than {MAX_OBJECTS} objects: refused."
            )
        if not _allowed(entry, trusted):
            module, name = entry.get("module"), entry["class_name"]
            raise ValueError(
                f"{path} names {module}.{name}, which is neither a plain "
                "Keras layer nor one of keras_audio_ssl: refused. Classes "
                "that you trust can be given as `custom_objects`."
            )
    return config


def check_weights(path: Path) -> int:
    """Looks through the weights of a `.keras` file before Keras does.

    Args:
        path: File, whose configuration was checked.

    Returns:
        How many numbers they are.

    Raises:
        ValueError: They are damaged, or are more than numbers that lie in
            the file itself: links to other files, compressed or claimed
            data, references.
    """
    with _opened(path) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    if content.read(8) != b"\x89HDF\r\n\x1a\n":
        raise ValueError(f"{path}: its weights are not HDF5: refused.")
    try:
        with h5py.File(content, "r") as file:
            return _count_numbers(file, path)
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged weights: {error}") from error


def _count_numbers(file, path):
    total, seen = 0, set()
    pending = [(file, 0)]
    while pending:
        group, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"{path}: its weights nest too deep: refused.")
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(
                    f"{path}: its weights link to {name!r} elsewhere: refused."
                )
            node = group[name]
            place = h5py.h5o.get_info(node.id).addr
            if place in seen or len(seen) > MAX_NODES:
                raise ValueError(
                    f"{path}: its weights name one place twice, or more "
                    f"than {MAX_NODES}: refused."
                )
            seen.add(place)
            if isinstance(node, h5py.Group):
                pending.append((node, depth + 1))
            else:
                total += _numbers_in(node, path)
    return total


def _numbers_in(node, path):
    """Numbers of a dataset, all of which must lie in the file."""
    plain = (
        isinstance(node, h5py.Dataset)
        and node.shape is not None
        and node.dtype.kind in "biuf"
        and not node.is_virtual
        and not node.external
        and not node.id.get_create_plist().get_nfilters()
        and node.nbytes <= node.id.get_storage_size()
    )
    if not plain:
        raise ValueError(
            f"{path}: {node.name} of its weights is no plain array: refused."
        )
    return node.size


@contextlib.contextmanager
def limited_variables(numbers: int, path: Path) -> Iterator[None]:
    """Lets Keras make variables of so many numbers, and some for itself.

    A configuration may ask for more than any memory holds; the file's
    weights tell how much is honest. Counted are shapes, before there is
    memory for them.

    Args:
        numbers: How many the weights are.
        path: The file, for the error.

    Raises:
        ValueError: More are asked for.
    """
    left = [2 * numbers + SPARE_NUMBERS]
    cls, own = keras.Variable, "__init__" in keras.Variable.__dict__
    make = cls.__init__

    def counted(self, initializer, shape=None, *args, **kwargs):
        if shape is None:
            shape = getattr(initializer, "shape", ())
        left[0] -= math.prod(shape)
        if left[0] < 0:
            raise ValueError(
                f"{path} asks for variables of shapes like {tuple(shape)}, "
                f"and holds {numbers} numbers: refused."
            )
        make(self, initializer, shape, *args, **kwargs)

    with _LOCK:
        cls.__init__ = counted
        try:
            yield
        finally:
            if own:
                cls.__init__ = make
            else:
                del cls.__init__


@contextlib.contextmanager
def _opened(path):
    """The archive; whatever a damaged one trips over is a `ValueError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        KeyError,
        NotImplementedError,
        OSError,
        OverflowError,
        RecursionError,
        RuntimeError,
        UnicodeDecodeError,
        json.JSONDecodeError,
        struct.error,
    ) as error:
        raise ValueError(
            f"{path} is not a `.keras` file, or a damaged one: {error}"
        ) from error


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
    if extra := sorted(set(names) - MEMBERS):
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
    if missing := sorted(MEMBERS - set(names)):
        raise ValueError(f"{path} lacks {missing[0]}: refused.")
    return config


def _objects(config, path):
    """All dicts that name a class, however deep; numbers are looked at."""
    pending = [("", config)]
    while pending:
        key, node = pending.pop()
        if isinstance(node, dict):
            if "class_name" in node:
                if not isinstance(node["class_name"], str):
                    raise ValueError(f"{path}: a class name that is no name.")
                yield node
            pending += node.items()
        elif isinstance(node, list):
            pending += [(key, value) for value in node]
        elif (
            isinstance(node, int)
            and abs(node) > MAX_NUMBER
            and "seed" not in key
            and key != "shared_object_id"
        ):
            raise ValueError(f"{path}: {key} is too large: refused.")


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
