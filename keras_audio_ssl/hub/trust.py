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
from numbers import Integral
from pathlib import Path
from typing import Any

import h5py
import keras

MEMBERS = {"config.json", "metadata.json", "model.weights.h5"}
MAX_CONFIG = 2 * 2**20
# Keras stores its members uncompressed.
MAX_EXPANSION = 2
# Objects and values of a configuration, and the largest whole number in it
# that is no seed nor a count of steps; also of numbers in an input's shape.
MAX_OBJECTS, MAX_VALUES, MAX_NUMBER = 10_000, 300_000, 2**20
# Layers of Keras: a graph takes the square of their number.
MAX_LAYERS = 500
# What Keras may make beside the weights: metrics, generators, counters.
SPARE_NUMBERS, SPARE_VARIABLES = 1_000_000, 1_000
# Groups and datasets of the weights, and how deep they may lie.
MAX_NODES, MAX_DEPTH = 10_000, 64
_LOCK = threading.RLock()

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
NUMBERS = frozenset(
    {"bool", "bfloat16", "float16", "float32", "float64", "int8", "int16",
     "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
)  # fmt: skip
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
    layers = 0
    for count, entry in enumerate(_objects(config, path)):
        layers += entry.get("module") == "keras.layers"
        if count > MAX_OBJECTS or layers > MAX_LAYERS:
            raise ValueError(
                f"{path} names more than {MAX_OBJECTS} objects, or "
                f"{MAX_LAYERS} layers of Keras: refused."
            )
        if not _allowed(entry, trusted):
            module, name = entry.get("module"), entry["class_name"]
            raise ValueError(
                f"{path} names {module}.{name}, which is neither a plain "
                "Keras layer nor one of keras_audio_ssl: refused. Classes "
                "that you trust can be given as `custom_objects`."
            )
    return config


def check_weights(path: Path) -> tuple[int, int]:
    """Looks through the weights of a `.keras` file before Keras does.

    Args:
        path: File, whose configuration was checked.

    Returns:
        How many numbers they are, and how many arrays.

    Raises:
        ValueError: They are damaged, or are more than numbers that lie in
            the file itself: links to other files, compressed or claimed
            data, references.
    """
    with _opened(path) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
        size = content.getbuffer().nbytes
    if content.read(8) != b"\x89HDF\r\n\x1a\n":
        raise ValueError(f"{path}: its weights are not HDF5: refused.")
    try:
        with h5py.File(content, "r") as file:
            return _count_numbers(file, path, size)
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged weights: {error}") from error


def _count_numbers(file, path, size):
    total, arrays, held, seen = 0, 0, 0, set()
    pending = [(file, 0)]
    while pending:
        group, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"{path}: its weights nest too deep: refused.")
        if len(seen) + len(group) > MAX_NODES:
            raise ValueError(
                f"{path}: its weights are more than {MAX_NODES} arrays and "
                "groups: refused."
            )
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(
                    f"{path}: its weights link to {name!r} elsewhere: refused."
                )
            node = group[name]
            place = h5py.h5o.get_info(node.id).addr
            if place in seen:
                raise ValueError(
                    f"{path}: its weights name one place twice: refused."
                )
            seen.add(place)
            if isinstance(node, h5py.Group):
                pending.append((node, depth + 1))
            else:
                total += _numbers_in(node, path)
                arrays += 1
                held += node.nbytes
                if held > size:
                    raise ValueError(
                        f"{path}: its weights share their place: refused."
                    )
    return total, arrays


def _numbers_in(node, path):
    """Numbers of a dataset, all of which must lie in the file."""
    plain = (
        isinstance(node, h5py.Dataset)
        and node.shape is not None
        and (node.dtype.kind in "biuf" or node.dtype == "V2")
        and not node.is_virtual
        and not node.external
        and not node.id.get_create_plist().get_nfilters()
        and node.nbytes <= node.id.get_storage_size()
        and all(_is_short(node, name) for name in node.attrs)
        # As Keras writes what HDF5 has no type for.
        and (node.dtype != "V2" or node.attrs.get("dtype") == "bfloat16")
    )
    if not plain:
        raise ValueError(
            f"{path}: {node.name} of its weights is no plain array: refused."
        )
    return node.size


def _is_short(node, name):
    """Whether an attribute is one word, in the file itself."""
    attribute = node.attrs.get_id(name)
    return attribute.shape == () and attribute.get_storage_size() <= 64


@contextlib.contextmanager
def limited_variables(numbers: int, arrays: int, path: Path) -> Iterator[None]:
    """Lets Keras make variables of so many numbers, and some for itself.

    A configuration may ask for more than any memory holds; the file's
    weights tell how much is honest. Counted are shapes, before there is
    memory for them.

    Args:
        numbers: How many the weights are.
        arrays: In how many arrays they are.
        path: The file, for the error.

    Raises:
        ValueError: More are asked for.
    """
    left = [2 * numbers + SPARE_NUMBERS, 2 * arrays + SPARE_VARIABLES]
    cls, owner = keras.Variable, threading.get_ident()

    def counted(self, initializer, shape=None, *args, **kwargs):
        if threading.get_ident() != owner:
            make(self, initializer, shape, *args, **kwargs)
            return
        given = shape
        if shape is None:
            shape = getattr(initializer, "shape", ())
        # Not whole, or negative: left would grow, or be no number for good.
        whole = all(isinstance(n, Integral) and n >= 0 for n in shape)
        left[0] = left[0] - math.prod(map(int, shape)) if whole else -1
        left[1] -= 1
        if min(left) < 0:
            raise ValueError(
                f"{path} asks for variables of shapes like {tuple(shape)}, "
                f"and holds {numbers} numbers in {arrays} arrays: refused."
            )
        make(self, initializer, given, *args, **kwargs)

    with _LOCK:
        # Not before the lock: another load's count would be taken for it.
        own, make = "__init__" in cls.__dict__, cls.__init__
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
        ValueError,
        struct.error,
    ) as error:
        if isinstance(error, ValueError) and str(path) in str(error):
            raise
        raise ValueError(
            f"{path} is not a `.keras` file, or a damaged one: {error}"
        ) from error


def class_of(config: dict[str, Any]) -> Any:
    """The class that a checked configuration's top names, or None."""
    # Never by the module: to import it is to run it, and it may be any.
    return keras.saving.get_registered_object(config.get("registered_name"))


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
    pending, nodes = [("", config)], 0
    while pending:
        key, node = pending.pop()
        nodes += 1
        if nodes > MAX_VALUES:
            raise ValueError(f"{path}: its configuration is too long: refused.")
        if isinstance(node, dict):
            if "class_name" in node:
                if not isinstance(node["class_name"], str):
                    raise ValueError(f"{path}: a class name that is no name.")
                yield node
            _check_nodes(node.get("inbound_nodes"), path)
            pending += node.items()
        elif isinstance(node, list):
            if key.endswith("batch_shape"):
                sizes = [n for n in node if isinstance(n, int)]
                if math.prod(sizes) > MAX_NUMBER:
                    raise ValueError(f"{path}: {key} is too large: refused.")
            pending += [(key, value) for value in node]
        elif (
            isinstance(node, int)
            and abs(node) > MAX_NUMBER
            and "seed" not in key
            and "steps" not in key
            and key != "shared_object_id"
        ):
            raise ValueError(f"{path}: {key} is too large: refused.")


def _check_nodes(nodes, path):
    """Layers of a graph may be called on the graph's tensors alone.

    One that is called on a constant computes while it is loaded.
    """
    for node in nodes if isinstance(nodes, list) else ():
        if "__keras_tensor__" not in json.dumps(node):
            raise ValueError(
                f"{path} calls a layer on no tensor of its graph: refused."
            )


def _allowed(entry, trusted):
    name, module = entry["class_name"], entry.get("module")
    registered = entry.get("registered_name")
    if not isinstance(registered, (str, type(None))):
        return False
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
        return module in (None, "builtins") and _is_plain(entry)
    if name in CLASSES.get(module, ()):
        return True
    return module in KINDS and _is_kind(module, name)


def _is_plain(entry):
    """Whether an array's type is a number: `S1000000000` is a gigabyte."""
    config = entry.get("config")
    dtype = config.get("dtype") if isinstance(config, dict) else None
    return dtype is None or (isinstance(dtype, str) and dtype in NUMBERS)


def _is_ours(module, name, registered):
    room = module.split(".")[1]
    if room not in ROOMS or registered != f"keras_audio_ssl>{name}":
        return False
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return False
    kind = keras.layers.Layer
    if room == "engine":
        kind = keras.optimizers.schedules.LearningRateSchedule
    return (
        isinstance(found, type)
        and issubclass(found, kind)
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
