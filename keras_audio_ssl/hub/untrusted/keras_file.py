"""What a `.keras` file holds, as plain values: no Keras, nothing is run.

Where the file is a stranger's, this runs in a child process
(`reading_child.py`).
"""

import contextlib
import io
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any
from typing import BinaryIO
from typing import NamedTuple

from keras_audio_ssl.hub.untrusted.errors import Refused

MEMBERS = {"config.json", "metadata.json", "model.weights.h5"}
MAX_CONFIG = 2 * 2**20
# Values of a configuration, and how deep they may lie.
MAX_VALUES, MAX_DEEP = 300_000, 200
# Groups and datasets of the weights, and how deep they may lie.
MAX_NODES, MAX_DEPTH = 10_000, 64
HDF5 = b"\x89HDF\r\n\x1a\n"
PIECE = 1 << 20
# What a damaged file trips zip, zlib, JSON and HDF5 over.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ArithmeticError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Part(io.RawIOBase):
    """Bytes of a file that lie side by side, as a file of their own.

    Args:
        stream: The file.
        start: Its first byte that counts.
        size: How many do.
    """

    def __init__(self, stream: BinaryIO, start: int, size: int) -> None:
        self.stream, self.start, self.size, self.place = stream, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.place

    def seek(self, offset: int, whence: int = 0) -> int:
        self.place = offset + (0, self.place, self.size)[whence]
        return self.place

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self.size - self.place))
        self.stream.seek(self.start + self.place)
        content = self.stream.read(count)
        view[: len(content)] = content
        self.place += len(content)
        return len(content)

    def pieces(self) -> Iterator[bytes]:
        """All of it, a piece at a time."""
        self.seek(0)
        while piece := self.read(PIECE):
            yield piece


class Array(NamedTuple):
    """A dataset of the weights, whose values are not read yet.

    Attributes:
        name: Its path in the file of weights.
        dtype: Of its entries, as numpy names it.
        shape: Its shape.
        node: What h5py reads it by.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    node: Any


def members_of(stream: BinaryIO, size: int) -> dict[str, Part]:
    """The members of a `.keras` file, their checksums verified.

    Args:
        stream: The file, open for reading.
        size: Its bytes.

    Raises:
        Refused: It is no such archive, or holds more than Keras writes.
    """
    if stream.read(8) == HDF5:
        raise Refused(
            "an HDF5 file (.h5): refused, its models may hold code. Save it "
            "as `.keras`."
        )
    try:
        with zipfile.ZipFile(stream) as archive:
            return {
                info.filename: _stored(stream, info, size)
                for info in _infos(archive)
            }
    except Refused:
        raise
    except DAMAGE as error:
        raise Refused(
            f"not a `.keras` file, or a damaged one: {error}"
        ) from error


def _infos(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    infos = archive.infolist()
    names = [info.filename for info in infos]
    if "config.json" not in names or len(names) != len(set(names)):
        raise Refused("not a `.keras` file of Keras 3.")
    if extra := sorted(set(names) - MEMBERS):
        raise Refused(f"holds {extra[0]!r}, which no encoder needs: refused.")
    if archive.getinfo("config.json").file_size > MAX_CONFIG:
        raise Refused("its configuration is too long: refused.")
    if missing := sorted(MEMBERS - set(names)):
        raise Refused(f"lacks {missing[0]}: refused.")
    return infos


def _stored(stream: BinaryIO, info: zipfile.ZipInfo, size: int) -> Part:
    """A member, which must lie in the file as it is."""
    if (
        info.compress_type != zipfile.ZIP_STORED
        or info.compress_size != info.file_size
        or info.flag_bits & 1
    ):
        raise Refused(
            f"{info.filename} in it is compressed or encrypted, and Keras "
            "stores it as it is: refused."
        )
    stream.seek(info.header_offset)
    head = struct.unpack("<4s22x2H", stream.read(30))
    start = info.header_offset + 30 + head[1] + head[2]
    if head[0] != b"PK\x03\x04" or start + info.file_size > size:
        raise Refused("not a `.keras` file, or a damaged one: it is cut short.")
    part, checksum = Part(stream, start, info.file_size), 0
    for piece in part.pieces():
        checksum = zlib.crc32(piece, checksum)
    if checksum != info.CRC:
        raise Refused(
            "not a `.keras` file, or a damaged one: the checksum of "
            f"{info.filename} is wrong."
        )
    return part


def config_of(members: dict[str, Part]) -> dict[str, Any]:
    """The configuration of a `.keras` file; classes are names as yet.

    Raises:
        Refused: It is no JSON, too large, or names no model.
    """
    part = members["config.json"]
    part.seek(0)
    try:
        config = json.loads(part.read())
    except DAMAGE as error:
        raise Refused(f"damaged configuration: {error}") from error
    if not isinstance(config, dict) or not isinstance(
        config.get("class_name"), str
    ):
        raise Refused("its configuration names no model.")
    pending, count = [(config, 0)], 0
    while pending:
        node, depth = pending.pop()
        count += 1
        if count > MAX_VALUES or depth > MAX_DEEP:
            raise Refused("its configuration is too long: refused.")
        if isinstance(node, dict):
            pending += [(value, depth + 1) for value in node.values()]
        elif isinstance(node, list):
            pending += [(value, depth + 1) for value in node]
    return config


@contextlib.contextmanager
def weights_of(members: dict[str, Part]) -> Iterator[list[Array]]:
    """Looks through the weights of a `.keras` file.

    Yields:
        Its arrays; they can be read as long as the context lasts.

    Raises:
        Refused: They are damaged, or are more than numbers that lie in the
            file itself: links to other files, compressed or claimed data,
            references.
    """
    import h5py

    content = members["model.weights.h5"]
    content.seek(0)
    if content.read(8) != HDF5:
        raise Refused("its weights are not HDF5: refused.")
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(h5py.File(content, "r"))
            arrays = _arrays(h5py, file, content.size)
        except Refused:
            raise
        except DAMAGE as error:
            raise Refused(f"damaged weights: {error}") from error
        yield arrays


def _arrays(h5py: ModuleType, file: Any, size: int) -> list[Array]:
    # By the low-level interface, which takes a fifth of the time.
    seen: set[int] = set()
    found, held = [], 0
    pending = [("", h5py.h5g.open(file.id, b"/"), 0)]
    while pending:
        path, group, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise Refused("its weights nest too deep: refused.")
        if len(seen) + group.get_num_objs() > MAX_NODES:
            raise Refused(
                f"its weights are more than {MAX_NODES} arrays and groups: "
                "refused."
            )
        for key in group:
            name = key.decode("utf-8", "replace")
            if group.links.get_info(key).type != h5py.h5l.TYPE_HARD:
                raise Refused(
                    f"its weights link to {name!r} elsewhere: refused."
                )
            node = h5py.h5o.open(group, key)
            place = h5py.h5o.get_info(node).addr
            if place in seen:
                raise Refused("its weights name one place twice: refused.")
            seen.add(place)
            full = f"{path}/{name}" if path else name
            if isinstance(node, h5py.h5g.GroupID):
                pending.append((full, node, depth + 1))
            else:
                found.append(_plain(h5py, node, full))
                held += found[-1].node.nbytes
                if held > size:
                    raise Refused("its weights share their place: refused.")
    return found


def _plain(h5py: ModuleType, node: Any, name: str) -> Array:
    """A dataset, all of which must lie in the file."""
    dtype = None
    if isinstance(node, h5py.h5d.DatasetID):
        layout = node.get_create_plist()
        plain = (
            node.get_space().get_simple_extent_type() != h5py.h5s.NULL
            and layout.get_layout() != h5py.h5d.VIRTUAL
            and not layout.get_external_count()
            and not layout.get_nfilters()
            and math.prod(node.shape) * node.dtype.itemsize
            <= node.get_storage_size()
        )
        if plain:
            dtype = _dtype(h5py, node)
    if dtype is None:
        raise Refused(f"{name} of its weights is no plain array: refused.")
    return Array(name, dtype, node.shape, h5py.Dataset(node))


def _dtype(h5py: ModuleType, node: Any) -> str | None:
    """The name of a dataset's type, or None for what holds no numbers."""
    dtype = node.dtype
    if dtype.kind in "biuf" and dtype.itemsize in (1, 2, 4, 8):
        return dtype.name
    if dtype != "V2" or h5py.h5a.get_num_attrs(node) != 1:
        return None
    # As Keras writes what HDF5 has no type for: one word, in the file itself.
    attribute = h5py.h5a.open(node, index=0)
    if attribute.shape != () or attribute.get_storage_size() > 64:
        return None
    text = h5py.Dataset(node).attrs.get("dtype")
    return text if text == "bfloat16" else None
