"""Checkpoints of PyTorch, safetensors and numpy, read without trust."""

import json
import math
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from keras_audio_ssl.hub.unpickle import CheckpointError
from keras_audio_ssl.hub.unpickle import Name
from keras_audio_ssl.hub.unpickle import Storage
from keras_audio_ssl.hub.unpickle import Tensor
from keras_audio_ssl.hub.unpickle import read_pickle

MAX_PICKLE = 32 * 2**20
MAX_HEADER = 16 * 2**20
# A compressed archive may unfold to this much, and so many times its size.
FREE_EXPANSION, MAX_EXPANSION = 64 * 2**20, 4
MAX_NODES, MAX_DEPTH = 100_000, 100

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
SAFETENSORS = {
    "BF16": "bfloat16",
    "BOOL": "bool",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "I8": "int8",
    "U8": "uint8",
}


def read_checkpoint(path: str | os.PathLike) -> Any:
    """Reads a checkpoint as data: nothing in the file is imported or run.

    Reads PyTorch's files (`.pt`, `.pth`, `.ckpt`; the zip layout and the one
    before PyTorch 1.6) without PyTorch, `.safetensors` without its package,
    and `.npz` without pickles. The layout is told by the content.

    Args:
        path: File.

    Returns:
        What was saved: dicts, lists, numbers and strings; tensors are numpy
        arrays, bfloat16 ones float32. Arrays may share memory and are
        read-only.

    Raises:
        CheckpointError: The file is missing, damaged or of another kind, or
            names a class or function that is not data.

    Example:

    >>> read_checkpoint("model.pth")["model"]["postnet.weight"].shape
    (80, 512)
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"No such file: {path}")
    try:
        with path.open("rb") as stream:
            return _read(stream, path.stat().st_size)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:
        # Whatever a damaged file trips over on the way.
        raise CheckpointError(f"{path}: damaged file: {error}") from error


def tensors_of(tree: Any) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint by their path, joined by dots.

    Args:
        tree: What `read_checkpoint` returned.

    Returns:
        Name to array, e.g. `"model.postnet.weight"`.

    Raises:
        CheckpointError: The nesting is deeper, or has more entries, than a
            checkpoint's.
    """
    found: dict[str, np.ndarray] = {}
    nodes = 0
    pending: list[tuple[str, Any, int]] = [("", tree, 0)]
    while pending:
        name, node, depth = pending.pop()
        nodes += 1
        if nodes > MAX_NODES or depth > MAX_DEPTH:
            raise CheckpointError("The file nests more than a checkpoint does.")
        if isinstance(node, np.ndarray):
            found[name] = node
        elif isinstance(node, (dict, list, tuple)):
            items = node.items() if isinstance(node, dict) else enumerate(node)
            start = name + "." if name else ""
            inner = [
                (f"{start}{key}", value, depth + 1)
                for key, value in items
                if isinstance(value, (np.ndarray, dict, list, tuple))
            ]
            # Reversed: what comes first is popped first.
            pending += inner[::-1]
    return found


def _read(stream, size):
    start = stream.read(8)
    stream.seek(0)
    if start[:2] == b"PK":
        return _read_zip(stream, size)
    if start[:1] == b"\x80":
        return _read_legacy(stream, size)
    if start[:4] == b"\x89HDF":
        raise CheckpointError("an HDF5 file, which is not read")
    if len(start) == 8 and stream.read(9)[8:] == b"{":
        return _read_safetensors(stream, size)
    raise CheckpointError(
        "neither a PyTorch file (.pt, .pth, .ckpt), .safetensors nor .npz"
    )


def _read_zip(stream, size):
    with zipfile.ZipFile(stream) as archive:
        names = archive.namelist()
        total = sum(info.file_size for info in archive.infolist())
        if total > FREE_EXPANSION + MAX_EXPANSION * size:
            raise CheckpointError(
                f"refused: {size} bytes that unfold to {total}"
            )
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if any(name.endswith("/constants.pkl") for name in names):
            raise CheckpointError(
                "a TorchScript program, not a checkpoint: save its "
                "`state_dict()` instead"
            )
        if len(pickles) == 1:
            return _read_torch(archive, pickles[0], size)
        if names and all(name.endswith(".npy") for name in names):
            return {
                name.removesuffix(".npy"): _read_npy(archive, name)
                for name in names
            }
    raise CheckpointError("a zip archive of neither PyTorch nor numpy")


def _read_torch(archive, name, size):
    root = name.removesuffix("data.pkl")
    infos = archive.infolist()
    # PyTorch stores its members as they are, one after the other.
    if (
        any(info.compress_type != zipfile.ZIP_STORED for info in infos)
        or sum(info.file_size for info in infos) > size
    ):
        raise CheckpointError("refused: a PyTorch archive that is compressed")
    if archive.getinfo(name).file_size > MAX_PICKLE:
        raise CheckpointError("refused: a pickle of more than 32 MiB")
    order = "<"
    if root + "byteorder" in archive.namelist():
        order = "<" if archive.read(root + "byteorder") == b"little" else ">"
    with archive.open(name) as stream:
        tree = read_pickle(stream)

    def load(storage):
        return archive.read(f"{root}data/{storage.key}")

    return _Resolver(load, order).resolve(tree)


def _read_legacy(stream, size):
    if read_pickle(stream) != LEGACY_MAGIC:
        raise CheckpointError("a pickle, but none that PyTorch saved")
    read_pickle(stream)  # version of the protocol
    system = read_pickle(stream)
    order = "<" if system.get("little_endian", True) else ">"
    tree = read_pickle(stream)
    if stream.tell() > MAX_PICKLE:
        raise CheckpointError("refused: a pickle of more than 32 MiB")
    keys = read_pickle(stream)
    if not isinstance(keys, list) or any(type(k) is not str for k in keys):
        raise CheckpointError("damaged file: storages without names")
    wanted = _storages(tree)
    if sorted(keys) != sorted({s.key for s in wanted}):
        raise CheckpointError("damaged file: storages that nothing names")
    content = {}
    by_key = {storage.key: storage for storage in wanted}
    for key in keys:
        (count,) = struct.unpack("<q", stream.read(8))
        expected = by_key[key]
        length = count * _width(expected.dtype)
        if count != expected.size or length > size - stream.tell():
            raise CheckpointError(f"damaged file: storage {key} is cut short")
        content[key] = stream.read(length)
    return _Resolver(lambda storage: content[storage.key], order).resolve(tree)


def _storages(tree):
    """All storages of a tree, each once."""
    found, seen, pending = set(), set(), [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, Tensor):
            found.add(node.storage)
        elif isinstance(node, Storage):
            found.add(node)
        elif isinstance(node, (dict, list, tuple)) and id(node) not in seen:
            seen.add(id(node))
            pending += node.values() if isinstance(node, dict) else node
    return found


def _width(dtype):
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _decode(content, dtype, order="<"):
    """Bytes as a flat array; bfloat16 is the upper half of a float32."""
    if dtype == "bfloat16":
        upper = np.frombuffer(content, order + "u2").astype("uint32")
        return (upper << 16).view("float32")
    flat = np.frombuffer(content, np.dtype(dtype).newbyteorder(order))
    return flat.astype(dtype, copy=False)


class _Resolver:
    """Puts arrays in the place of a tree's tensors."""

    def __init__(self, load: Any, order: str) -> None:
        self.load, self.order = load, order
        self.arrays: dict[Storage, np.ndarray] = {}
        self.done: dict[int, Any] = {}

    def resolve(self, node, depth=0):
        if depth > MAX_DEPTH:
            raise CheckpointError("The file nests more than a checkpoint does.")
        if isinstance(node, Tensor):
            return self.tensor(node)
        if isinstance(node, Storage):
            return self.storage(node)
        if isinstance(node, Name):
            return node.value
        if not isinstance(node, (dict, list, tuple)):
            return node
        # Shared nodes stay shared; one inside itself ends at the depth above.
        if id(node) not in self.done:
            if isinstance(node, dict):
                new = {
                    key: self.resolve(value, depth + 1)
                    for key, value in node.items()
                }
            else:
                new = [self.resolve(value, depth + 1) for value in node]
                new = tuple(new) if isinstance(node, tuple) else new
            self.done[id(node)] = new
        return self.done[id(node)]

    def storage(self, storage):
        if storage not in self.arrays:
            content = self.load(storage)
            if len(content) != storage.size * _width(storage.dtype):
                raise CheckpointError(
                    f"damaged file: storage {storage.key} has {len(content)} "
                    f"bytes and not {storage.size} {storage.dtype}"
                )
            flat = _decode(content, storage.dtype, self.order)
            flat.flags.writeable = False
            self.arrays[storage] = flat
        return self.arrays[storage]

    def tensor(self, tensor):
        flat = self.storage(tensor.storage)
        if not math.prod(tensor.shape):
            return np.zeros(tensor.shape, flat.dtype)
        width = flat.itemsize
        return np.lib.stride_tricks.as_strided(
            flat[tensor.offset :],
            tensor.shape,
            [n * width for n in tensor.strides],
            writeable=False,
        )


def _read_npy(archive, name):
    with archive.open(name) as stream:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise CheckpointError(f"{name}: numpy format {version}")
        shape, fortran, dtype = read_header(stream)
        if dtype.kind not in "biufcUS":
            raise CheckpointError(f"refused: {name} holds {dtype}, no numbers")
        content = stream.read()
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise CheckpointError(
            f"damaged file: {name} has {len(content)} bytes and not "
            f"{shape} {dtype}"
        )
    array = np.frombuffer(content, dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def _read_safetensors(stream, size):
    stream.seek(0)
    (length,) = struct.unpack("<Q", stream.read(8))
    if length > min(MAX_HEADER, size - 8):
        raise CheckpointError("damaged file: its header is cut short")
    header = json.loads(stream.read(length))
    content = memoryview(stream.read())
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, shape = SAFETENSORS.get(entry["dtype"]), entry["shape"]
        start, end = entry["data_offsets"]
        if dtype is None:
            raise CheckpointError(f"{name}: unknown type {entry['dtype']!r}")
        if (
            any(type(n) is not int or n < 0 for n in (start, end, *shape))
            or not start <= end <= len(content)
            or end - start != math.prod(shape) * _width(dtype)
        ):
            raise CheckpointError(f"damaged file: the sizes of {name}")
        flat = _decode(content[start:end], dtype)
        flat.flags.writeable = False
        arrays[name] = flat.reshape(shape)
    return arrays
