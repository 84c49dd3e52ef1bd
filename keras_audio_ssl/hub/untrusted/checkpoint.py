"""Checkpoints of PyTorch, safetensors and numpy, read without trust."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_audio_ssl._text import printable
from keras_audio_ssl.hub.untrusted import reading_child
from keras_audio_ssl.hub.untrusted.errors import CheckpointError
from keras_audio_ssl.hub.untrusted.errors import Unreadable
from keras_audio_ssl.hub.untrusted.reading_parent import Found
from keras_audio_ssl.hub.untrusted.reading_parent import told_of
from keras_audio_ssl.hub.untrusted.torch_pickle import MAX_REPEATED

MAX_NODES, MAX_DEPTH = 100_000, 100


def read_checkpoint(path: str | os.PathLike) -> Any:
    """Reads a checkpoint as data: nothing in the file is imported or run.

    Reads PyTorch's files (`.pt`, `.pth`, `.ckpt`; the zip layout and the one
    before PyTorch 1.6) without PyTorch, `.safetensors` without its package,
    and `.npz` without pickles. The layout is told by the content. A child
    process reads it, with limits of memory and time that follow its size.

    Args:
        path: File.

    Returns:
        What was saved: dicts, lists, numbers and strings; tensors are numpy
        arrays, bfloat16 ones float32. Arrays may share memory and are
        read-only.

    Raises:
        CheckpointError: The file is missing, damaged or of another kind,
            names a class or function that is not data, or takes more memory
            or time to read than a file of its size.
        OSError: No child process can be started.

    Example:
        >>> np.savez("model.npz", weight=np.ones((80, 512)))
        >>> read_checkpoint("model.npz")["weight"].shape
        (80, 512)
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"No such file: {path}")
    try:
        with told_of(reading_child.CHECKPOINT, path) as found:
            return _tree(found)
    except (CheckpointError, Unreadable) as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (MemoryError, OSError):
        # No child, or no room for what it tells: no fault of the file's.
        raise
    except Exception as error:
        # A child that does not tell what it should.
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


def _tree(found: Found) -> Any:
    """What `Told` has told, with arrays in the place of tensors."""
    told = found.told
    arrays = [_storage(found, dtype, size) for dtype, size in told["storages"]]
    values: list[Any] = []

    def value(told: Any) -> Any:
        # A row before this one: a tree, then, and no circle.
        return values[told[0]] if isinstance(told, list) else told

    for row_type, *rest in told["rows"]:
        if row_type == "bytes":
            values.append(rest[0].encode("latin-1"))
        elif row_type == "tensor":
            values.append(_tensor(arrays[rest[0]], *rest[1:]))
        elif row_type == "dict":
            values.append({value(k): value(v) for k, v in rest[0]})
        else:
            made = [value(v) for v in rest[0]]
            values.append(tuple(made) if row_type == "tuple" else made)
    return value(told["root"])


def _storage(found: Found, dtype: str, size: int) -> np.ndarray:
    """The bytes of a storage as a flat array of the machine's own order."""
    if dtype[1:] == "bfloat16":
        # The upper half of a float32.
        upper = found.array(dtype[0] + "u2", (size // 2,)).astype("uint32")
        flat = (upper << 16).view("float32")
    else:
        numpy_dtype = np.dtype(dtype)
        if numpy_dtype.kind not in "biufcUS" or not numpy_dtype.itemsize:
            raise CheckpointError(f"refused: it holds {printable(dtype)}")
        flat = found.array(dtype, (size // numpy_dtype.itemsize,))
        flat = flat.astype(numpy_dtype.newbyteorder("="), copy=False)
    flat.flags.writeable = False
    return flat


def _tensor(
    flat: np.ndarray, offset: int, shape: list[int], strides: list[int]
) -> np.ndarray:
    """A view of a storage, all of which lies in it."""
    sizes = (offset, *shape, *strides)
    last = offset + sum(
        (n - 1) * stride for n, stride in zip(shape, strides, strict=True)
    )
    entries = math.prod(shape)
    if (
        any(type(n) is not int or not 0 <= n < 2**62 for n in sizes)
        # One that repeats its entries could be of any size.
        or entries > max(len(flat), MAX_REPEATED)
        or (entries and last >= len(flat))
    ):
        raise CheckpointError("damaged file: a tensor outside of its storage")
    if not entries:
        return np.zeros(shape, flat.dtype)
    return np.lib.stride_tricks.as_strided(
        flat[offset:],
        shape,
        [n * flat.itemsize for n in strides],
        writeable=False,
    )
