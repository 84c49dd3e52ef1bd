"""Pickles of PyTorch read as data, by an interpreter that calls nothing.

`pickle.Unpickler` imports what a file names. This one walks the opcodes
(`pickletools` decodes them) and knows a closed list of names, each of which
stands for a number type, a container or a tensor; any other name is an error.
"""

import pickletools
from collections.abc import Iterable
from typing import IO
from typing import Any
from typing import NamedTuple

from keras_audio_ssl.hub.untrusted.errors import CheckpointError

# Far above what a checkpoint of thousands of tensors needs.
MAX_STEPS = 400_000
# Entries of containers, each time that they are copied; bits of a number.
MAX_COPIES, MAX_BITS = 2_000_000, 128
# Of a container that is copied by a call, and of a device's name.
MAX_REPEATED, MAX_WORD = 1 << 20, 40

# PyTorch's storage classes; bfloat16 has no numpy type and is widened.
STORAGES = {
    "BFloat16Storage": "bfloat16",
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ShortStorage": "int16",
}
DTYPES = (
    "bfloat16 bool complex128 complex64 double float float16 float32 float64 "
    "half int int16 int32 int64 int8 long short uint8"
)


class Storage(NamedTuple):
    """The memory of tensors.

    Attributes:
        key: Its name in the file.
        dtype: Of its entries, as numpy names it.
        size: How many they are.
    """

    key: str
    dtype: str
    size: int


class Tensor(NamedTuple):
    """A strided view of a storage.

    Attributes:
        storage: What it is a view of.
        offset: Of its first entry, in entries, not bytes.
        shape: Its shape.
        strides: From entry to entry along each axis, in entries.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Name(NamedTuple):
    """What stands for a class or function that a pickle may name.

    Attributes:
        role: What a call of it makes.
        value: The version of it, or the type of the numbers in a storage.
    """

    role: str
    value: str


class Attributes(dict):
    """What stands for an `argparse.Namespace`."""


class Ordered(dict):
    """What stands for an `OrderedDict`."""


NAMES = {
    ("collections", "OrderedDict"): Name("ordered", "OrderedDict"),
    ("argparse", "Namespace"): Name("attributes", "Namespace"),
    ("torch", "Size"): Name("size", "Size"),
    ("torch", "device"): Name("device", "device"),
    ("torch._utils", "_rebuild_tensor"): Name("tensor", "1"),
    ("torch._utils", "_rebuild_tensor_v2"): Name("tensor", "2"),
    ("torch._utils", "_rebuild_parameter"): Name("parameter", "1"),
    ("torch._utils", "_rebuild_parameter_with_state"): Name("parameter", "2"),
    **{("torch", k): Name("storage", v) for k, v in STORAGES.items()},
    **{("torch", k): Name("dtype", k) for k in DTYPES.split()},
}

PUSHED = frozenset(
    """INT LONG LONG1 LONG4 BININT BININT1 BININT2 FLOAT BINFLOAT STRING
    BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE
    BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8""".split()  # noqa: SIM905
)
CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
MARK = object()


def read_pickle(stream: IO[bytes]) -> Any:
    """Reads one pickle, up to its end and no further.

    Args:
        stream: Binary file at the pickle's first byte.

    Returns:
        Dicts, lists, tuples, numbers, strings and `Tensor`s.

    Raises:
        CheckpointError: The pickle names what is not data, or is damaged.
    """
    try:
        return _Reader().run(stream)
    except CheckpointError:
        raise
    except (
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        OverflowError,
        MemoryError,
    ) as error:
        raise CheckpointError(f"damaged pickle: {error}") from error


class _Reader:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[Any, Any] = {}
        self.copied = 0

    def run(self, stream: IO[bytes]) -> Any:
        steps = enumerate(pickletools.genops(stream))
        for step, (opcode, argument, _) in steps:
            if step > MAX_STEPS:
                raise CheckpointError(
                    f"a pickle of more than {MAX_STEPS} steps"
                )
            if opcode.name == "STOP":
                return self.stack.pop()
            self.step(opcode.name, argument)
        raise CheckpointError("damaged pickle: no end")

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in PUSHED:
            # To hash or print one takes a time that follows its length.
            if type(argument) is int and argument.bit_length() > MAX_BITS:
                raise CheckpointError(
                    f"refused: a number of more than {MAX_BITS} bits"
                )
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name in ("PROTO", "FRAME"):
            pass
        elif name == "MARK":
            stack.append(MARK)
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self.since_mark()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "TUPLE":
            stack.append(tuple(self.since_mark()))
        elif name in TUPLES:
            stack[-TUPLES[name] :] = [tuple(self.last(TUPLES[name]))]
        elif name == "LIST":
            stack.append(self.since_mark())
        elif name == "DICT":
            items = self.since_mark()
            stack.append({})
            self.set_items(items)
        elif name == "APPEND":
            self.extend([stack.pop()])
        elif name == "APPENDS":
            self.extend(self.since_mark())
        elif name == "SETITEM":
            items = self.last(2)
            del stack[-2:]
            self.set_items(items)
        elif name == "SETITEMS":
            self.set_items(self.since_mark())
        elif name == "GLOBAL":
            stack.append(self.name(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            module, label = self.last(2)
            stack[-2:] = [self.name(module, label)]
        elif name in ("REDUCE", "NEWOBJ"):
            function, arguments = self.last(2)
            stack[-2:] = [self.reduce(function, arguments)]
        elif name == "BUILD":
            self.build(stack.pop())
        elif name in ("BINPERSID", "PERSID"):
            if name == "BINPERSID":
                argument = stack.pop()
            stack.append(self.storage(argument))
        else:
            raise CheckpointError(f"refused: the pickle's opcode {name}")

    def last(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise CheckpointError("damaged pickle: its stack is empty")
        return self.stack[-count:]

    def since_mark(self) -> list[Any]:
        items = []
        while (item := self.stack.pop()) is not MARK:
            items.append(item)
        self.copies(items)
        return items[::-1]

    def copies(self, items: Any) -> Any:
        """Counts entries: what is remembered may be copied at each step."""
        self.copied += len(items)
        if self.copied > MAX_COPIES:
            raise CheckpointError(
                f"refused: a pickle that makes more than {MAX_COPIES} entries"
            )
        return items

    def extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise CheckpointError("damaged pickle: appends to no list")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise CheckpointError("damaged pickle: sets items of no dict")
        self.check_keys(items[::2])
        target.update(zip(items[::2], items[1::2], strict=True))

    def check_keys(self, keys: Iterable[Any]) -> None:
        # To hash, print or compare a tuple of itself twice over takes 2**n.
        for key in keys:
            if not isinstance(key, (str, bytes, int, float, type(None))):
                raise CheckpointError(
                    f"refused: a key that is a {type(key).__name__}"
                )

    def name(self, module: Any, label: Any) -> Name:
        self.check_keys((module, label))
        if (module, label) not in NAMES:
            raise CheckpointError(
                f"refused: the file names `{module}.{label}`, and a "
                "checkpoint may hold tensors, numbers, strings and plain "
                "containers alone. Save its tensors by themselves, e.g. "
                "`torch.save(model.state_dict(), path)`"
            )
        return NAMES[module, label]

    def reduce(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise CheckpointError("refused: the pickle calls a value")
        if function.role == "ordered":
            pairs = self.entries(arguments[:1])
            for pair in pairs:
                if len(self.entries((pair,))) != 2:
                    raise CheckpointError("damaged pickle: no pairs")
            self.check_keys(key for key, _ in pairs)
            return Ordered(pairs)
        if function.role == "attributes" and not arguments:
            return Attributes()
        if function.role == "size":
            return tuple(self.entries(arguments))
        if function.role == "device":
            if len(arguments) > 2 or any(
                type(part) not in (str, int)
                or (type(part) is str and len(part) > MAX_WORD)
                for part in arguments
            ):
                raise CheckpointError("refused: a device that is no name")
            return ":".join(map(str, arguments))
        if function.role == "parameter":
            if not isinstance(arguments[0], Tensor):
                raise CheckpointError(
                    "damaged pickle: a parameter of no tensor"
                )
            return arguments[0]
        if function.role == "tensor":
            return self.tensor(*arguments[:4], *arguments[6:])
        raise CheckpointError(f"refused: the pickle calls {function.value}")

    def entries(self, arguments: tuple) -> Any:
        """Those of a list or tuple that a call copies."""
        if not arguments:
            return []
        if len(arguments) > 1 or type(arguments[0]) not in (list, tuple):
            raise CheckpointError("damaged pickle: a call with other values")
        return self.copies(arguments[0])

    def tensor(
        self,
        storage: Any,
        offset: Any,
        shape: Any,
        strides: Any,
        metadata: Any = None,
    ) -> Tensor:
        if metadata:
            raise CheckpointError("refused: a tensor with metadata")
        if any(
            type(part) not in (tuple, list) or len(part) > 32
            for part in (shape, strides)
        ):
            raise CheckpointError("damaged pickle: not the axes of a tensor")
        sizes = (offset, *shape, *strides)
        if (
            not isinstance(storage, Storage)
            or len(shape) != len(strides)
            or any(type(n) is not int or not 0 <= n < 2**62 for n in sizes)
        ):
            raise CheckpointError("damaged pickle: not the sizes of a tensor")
        entries, last = 1, offset
        for n, stride in zip(shape, strides, strict=True):
            entries *= n
            last += (n - 1) * stride
        # One that repeats its entries could be of any size.
        if entries > max(storage.size, MAX_REPEATED) or (
            entries and last >= storage.size
        ):
            raise CheckpointError(
                f"damaged pickle: a tensor {tuple(shape)} in a storage of "
                f"{storage.size} entries"
            )
        return Tensor(storage, offset, tuple(shape), tuple(strides))

    def build(self, state: Any) -> None:
        target = self.stack[-1]
        if type(target) is Attributes and type(state) is dict:
            target.update(self.copies(state))
        elif type(target) is not Ordered:
            # A state dict's `_metadata` are versions of its modules.
            raise CheckpointError(
                f"refused: the pickle sets the state of {type(target).__name__}"
            )

    def storage(self, identity: Any) -> Storage:
        tag, dtype, key, _, size = identity[:5]
        if (
            tag != "storage"
            or not isinstance(dtype, Name)
            or dtype.role != "storage"
            or not isinstance(key, str)
            or not key.isascii()
            or not key.isdigit()
            or type(size) is not int
            or not 0 <= size < 2**62
            or any(part is not None for part in identity[5:])
        ):
            raise CheckpointError(
                "refused: a persistent object that is no storage"
            )
        return Storage(key, dtype.value, size)
