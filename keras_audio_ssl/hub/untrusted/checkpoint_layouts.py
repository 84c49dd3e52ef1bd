"""Layouts of checkpoints of PyTorch, safetensors and numpy, read as data.

Where tensors lie is told, and the rest as a tree of plain values; nothing in
a file is imported or run. The files are strangers', so this runs in a child
process (`reading_child.py`).
"""

import io
import itertools
import json
import math
import struct
import zipfile
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from functools import partial
from typing import IO
from typing import Any
from typing import BinaryIO
from typing import Literal
from typing import NamedTuple

import numpy as np

from keras_audio_ssl.hub.untrusted.errors import CheckpointError
from keras_audio_ssl.hub.untrusted.keras_file import PIECE
from keras_audio_ssl.hub.untrusted.keras_file import Part
from keras_audio_ssl.hub.untrusted.torch_pickle import Name
from keras_audio_ssl.hub.untrusted.torch_pickle import Storage
from keras_audio_ssl.hub.untrusted.torch_pickle import Tensor
from keras_audio_ssl.hub.untrusted.torch_pickle import read_pickle

MAX_PICKLE = 32 * 2**20
MAX_HEADER = 16 * 2**20
# Tensors of a file.
MAX_TENSORS = 100_000
# Bytes of a storage that is kept from its check until it is sent.
SMALL = 1 << 16
# A compressed archive may unfold to this much, and so many times its size.
FREE_EXPANSION, MAX_EXPANSION = 64 * 2**20, 4

# Of the bytes of a number.
Order = Literal["<", ">"]

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


class Content(NamedTuple):
    """The bytes of a storage.

    Attributes:
        dtype: Of its entries, as numpy names it with its byte order, or
            `"<bfloat16"`.
        size: Bytes.
        pieces: Makes an iterator over them.
    """

    dtype: str
    size: int
    pieces: Callable[[], Iterable[bytes]]


def read_layout(stream: Any, size: int) -> tuple[Any, Callable]:
    """Reads a checkpoint; the layout is told by its first bytes.

    Args:
        stream: The file, open for reading.
        size: Its bytes.

    Returns:
        A tree of plain values with `Tensor`s and `Storage`s, and a function
        that gives the `Content` of a storage.

    Raises:
        CheckpointError: It is damaged or of another kind, or holds more than
            data.
    """
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


def _read_zip(
    stream: BinaryIO, size: int
) -> tuple[Any, Callable[[Storage], Content]]:
    archive = zipfile.ZipFile(stream)
    infos = archive.infolist()
    names = [info.filename for info in infos]
    total = sum(info.file_size for info in infos)
    if total > FREE_EXPANSION + MAX_EXPANSION * size:
        raise CheckpointError(f"refused: {size} bytes that unfold to {total}")
    if len(names) != len(set(names)):
        raise CheckpointError("refused: two members of one name")
    pickles = [name for name in names if name.endswith("/data.pkl")]
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(
            "a TorchScript program, not a checkpoint: save its "
            "`state_dict()` instead"
        )
    if len(pickles) == 1:
        return _read_torch(archive, pickles[0], size)
    if names and all(name.endswith(".npy") for name in names):
        return _read_npz(archive)
    raise CheckpointError("a zip archive of neither PyTorch nor numpy")


def _pieces(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """A member, no more of it than it says; at its end its checksum."""
    left = info.file_size
    with archive.open(info) as stream:
        while left and (piece := stream.read(min(PIECE, left))):
            left -= len(piece)
            yield piece
        # Beyond the size that was announced `zipfile` gives nothing; where
        # there is less it has nothing to say.
        if left or stream.read(1):
            raise CheckpointError(
                f"damaged file: {info.filename} is not as long as it says"
            )


def _check(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Reads a member once, so that damage shows before anything is told."""
    for _ in _pieces(archive, info):
        pass


def _read_torch(
    archive: zipfile.ZipFile, name: str, size: int
) -> tuple[Any, Callable[[Storage], Content]]:
    root = name.removesuffix("data.pkl")
    infos = {info.filename: info for info in archive.infolist()}
    # PyTorch stores its members as they are, one after the other.
    if any(
        info.compress_type != zipfile.ZIP_STORED
        or info.compress_size != info.file_size
        for info in infos.values()
    ) or size < sum(info.file_size for info in infos.values()):
        raise CheckpointError("refused: a PyTorch archive that is compressed")
    if infos[name].file_size > MAX_PICKLE:
        raise CheckpointError("refused: a pickle of more than 32 MiB")
    order: Order = "<"
    if root + "byteorder" in infos:
        with archive.open(infos[root + "byteorder"]) as stream:
            order = "<" if stream.read(7) == b"little" else ">"
    tree = read_pickle(io.BytesIO(b"".join(_pieces(archive, infos[name]))))

    def content(storage: Storage) -> Content:
        info = infos.get(f"{root}data/{storage.key}")
        if info is None:
            raise CheckpointError(f"damaged file: no storage {storage.key}")
        pieces = partial(_pieces, archive, info)
        if info.file_size <= SMALL:
            # Read once: it is what the opening of a member costs.
            kept = list(pieces())
            pieces = partial(iter, kept)
        else:
            _check(archive, info)
        return Content(_dtype(storage.dtype, order), info.file_size, pieces)

    return tree, content


def _read_npz(
    archive: zipfile.ZipFile,
) -> tuple[Any, Callable[[Storage], Content]]:
    tree, contents = {}, {}
    for info in archive.infolist():
        if info.compress_type not in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        ):
            raise CheckpointError(
                f"refused: {info.filename} is compressed as numpy never does"
            )
        _check(archive, info)
        with archive.open(info) as stream:
            shape, fortran, dtype = _npy_head(stream, info.filename)
            start = stream.tell()
        size, entries = info.file_size - start, math.prod(shape)
        if size != entries * dtype.itemsize:
            raise CheckpointError(
                f"damaged file: {info.filename} has {size} bytes and not "
                f"{shape} {dtype}"
            )
        storage = Storage(info.filename, dtype.str, entries)
        steps = shape if fortran else shape[::-1]
        strides = [math.prod(steps[:i]) for i in range(len(steps))]
        strides = strides if fortran else strides[::-1]
        tree[info.filename.removesuffix(".npy")] = Tensor(
            storage, 0, shape, tuple(strides)
        )
        contents[storage] = Content(
            dtype.str, size, partial(_after, archive, info, start)
        )
    return tree, contents.__getitem__


def _npy_head(
    stream: IO[bytes], name: str
) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise CheckpointError(f"{name}: numpy format {version}")
    shape, fortran, dtype = read_header(stream)
    if dtype.kind not in "biufcUS" or not dtype.itemsize:
        raise CheckpointError(f"refused: {name} holds {dtype}, no numbers")
    if len(shape) > 32 or any(n < 0 for n in shape):
        raise CheckpointError(f"damaged file: the shape of {name}")
    return shape, fortran, dtype


def _after(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, skipped: int
) -> Iterator[bytes]:
    """A member without its first bytes."""
    for piece in _pieces(archive, info):
        yield piece[skipped:]
        skipped = max(0, skipped - len(piece))


def _read_legacy(
    stream: BinaryIO, size: int
) -> tuple[Any, Callable[[Storage], Content]]:
    if read_pickle(stream) != LEGACY_MAGIC:
        raise CheckpointError("a pickle, but none that PyTorch saved")
    read_pickle(stream)  # version of the protocol
    system = read_pickle(stream)
    order: Order = "<" if system.get("little_endian", True) else ">"
    tree = read_pickle(stream)
    if stream.tell() > MAX_PICKLE:
        raise CheckpointError("refused: a pickle of more than 32 MiB")
    keys = read_pickle(stream)
    if not isinstance(keys, list) or any(type(k) is not str for k in keys):
        raise CheckpointError("damaged file: storages without names")
    by_key = {storage.key: storage for storage in _storages(tree)}
    if sorted(keys) != sorted(by_key):
        raise CheckpointError("damaged file: storages that nothing names")
    contents = {}
    for key in keys:
        (count,) = struct.unpack("<q", stream.read(8))
        storage = by_key[key]
        length, start = count * width(storage.dtype), stream.tell()
        if count != storage.size or length > size - start:
            raise CheckpointError(f"damaged file: storage {key} is cut short")
        part = Part(stream, start, length)
        contents[key] = Content(
            _dtype(storage.dtype, order), length, part.pieces
        )
        stream.seek(start + length)
    return tree, lambda storage: contents[storage.key]


def _storages(tree: Any) -> set[Storage]:
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


def width(dtype: str) -> int:
    """Bytes of an entry."""
    if dtype.endswith("bfloat16"):
        return 2
    return np.dtype(dtype).itemsize


def _dtype(name: str, order: Order) -> str:
    if name == "bfloat16":
        return order + name
    return np.dtype(name).newbyteorder(order).str


def _read_safetensors(
    stream: BinaryIO, size: int
) -> tuple[Any, Callable[[Storage], Content]]:
    stream.seek(0)
    (length,) = struct.unpack("<Q", stream.read(8))
    if length > min(MAX_HEADER, size - 8):
        raise CheckpointError("damaged file: its header is cut short")
    header = json.loads(stream.read(length))
    data_start, rest = 8 + length, size - 8 - length
    header.pop("__metadata__", None)
    if len(header) > MAX_TENSORS:
        raise CheckpointError(f"more than {MAX_TENSORS} tensors: refused")
    tree, contents, places = {}, {}, []
    for name, entry in header.items():
        dtype, shape = SAFETENSORS.get(entry["dtype"]), entry["shape"]
        start, end = entry["data_offsets"]
        if dtype is None:
            raise CheckpointError(f"{name}: unknown type {entry['dtype']!r}")
        if (
            len(shape) > 32
            or any(type(n) is not int or n < 0 for n in (start, end, *shape))
            or not start <= end <= rest
            or end - start != math.prod(shape) * width(dtype)
        ):
            raise CheckpointError(f"damaged file: the sizes of {name}")
        if end > start:
            places.append((start, end, name))
        storage = Storage(name, dtype, math.prod(shape))
        strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
        tree[name] = Tensor(storage, 0, tuple(shape), tuple(strides))
        contents[name] = Content(
            _dtype(dtype, "<"),
            end - start,
            Part(stream, data_start + start, end - start).pieces,
        )
    places.sort()
    for (_, end, one), (start, _, other) in itertools.pairwise(places):
        if start < end:
            raise CheckpointError(
                f"refused: {one} and {other} share their place"
            )
    return tree, lambda storage: contents[storage.key]


# The tree as it goes through a channel: JSON, each container once.


class Budget:
    """So much that may be told of a tree, in letters of JSON.

    Args:
        letters: How many there are to spend.
    """

    def __init__(self, letters: int) -> None:
        self.left = letters

    def spend(self, letters: int) -> None:
        """Takes letters away.

        Raises:
            CheckpointError: There are none left.
        """
        self.left -= letters
        if self.left < 0:
            raise CheckpointError(
                "refused: more names and settings than a checkpoint's"
            )


MAX_TOLD, MAX_DEPTH = 8 * 2**20, 100


class Told:
    """A tree as a list of rows, each of which refers to rows before it.

    Args:
        tree: Of `read_layout`.
        content: Gives the content of a storage.

    Attributes:
        rows: `[type, ...]`, see `_row`.
        root: The tree itself, as a value in a row.
        storages: `Content`s by their number.
    """

    def __init__(self, tree: Any, content: Callable) -> None:
        self._content, self._budget = content, Budget(MAX_TOLD)
        self._done: dict[int, int] = {}
        self._numbers: dict[Storage, int] = {}
        self.rows: list[list] = []
        self.storages: list[Content] = []
        self.root = self._value(tree, 0)

    def _value(self, node: Any, depth: int) -> Any:
        """JSON of a value: itself, or `[number of its row]`."""
        if node is None or isinstance(node, (bool, int, float, str)):
            self._budget.spend(len(node) if isinstance(node, str) else 8)
            return node
        if isinstance(node, Name):
            return node.value
        if depth > MAX_DEPTH:
            raise CheckpointError("The file nests more than a checkpoint does.")
        if id(node) not in self._done:
            row = self._row(node, depth)
            self.rows.append(row)
            self._done[id(node)] = len(self.rows) - 1
        self._budget.spend(8)
        return [self._done[id(node)]]

    def _row(self, node: Any, depth: int) -> list:
        self._budget.spend(16)
        if isinstance(node, bytes):
            self._budget.spend(len(node))
            return ["bytes", node.decode("latin-1")]
        if isinstance(node, Tensor):
            place = self._storage(node.storage)
            shape, strides = list(node.shape), list(node.strides)
            return ["tensor", place, node.offset, shape, strides]
        if isinstance(node, Storage):
            return ["tensor", self._storage(node), 0, [node.size], [1]]
        if isinstance(node, dict):
            pairs = [
                [self._value(key, depth + 1), self._value(value, depth + 1)]
                for key, value in node.items()
            ]
            return ["dict", pairs]
        if isinstance(node, (list, tuple)):
            row_type = "list" if isinstance(node, list) else "tuple"
            return [row_type, [self._value(value, depth + 1) for value in node]]
        raise CheckpointError(f"refused: the pickle holds {type(node)}")

    def _storage(self, storage: Storage) -> int:
        if storage not in self._numbers:
            content = self._content(storage)
            if content.size != storage.size * width(content.dtype):
                raise CheckpointError(
                    f"damaged file: storage {storage.key} has {content.size} "
                    f"bytes and not {storage.size} {storage.dtype}"
                )
            self._numbers[storage] = len(self.storages)
            self.storages.append(content)
        return self._numbers[storage]
