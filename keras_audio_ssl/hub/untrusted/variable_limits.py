"""How many variables Keras may make of what a stranger's file asks for."""

import contextlib
import functools
import inspect
import math
import os
import threading
from collections.abc import Callable
from collections.abc import Iterator
from numbers import Integral
from typing import Any

import keras
import numpy as np

from keras_audio_ssl._files import FileError

# What Keras may make beside the weights: metrics, generators, counters.
SPARE_BYTES, SPARE_VARIABLES, SPARE_LAYERS = 4_000_000, 200, 300
_LOCK = threading.RLock()


@contextlib.contextmanager
def limited(held: int, arrays: int, path: str | os.PathLike) -> Iterator[None]:
    """Lets Keras make variables of so many bytes, and some for itself.

    A configuration, or the shape of one tensor, may ask for more than any
    memory holds; the file's numbers tell how much is honest. Shapes are
    counted, before there is memory for them, and layers.

    Args:
        held: Bytes of the file's arrays.
        arrays: How many they are.
        path: The file, for the error.

    Raises:
        FileError: More is asked for.
    """
    left = {
        "bytes": 2 * held + SPARE_BYTES,
        "variables": 2 * arrays + SPARE_VARIABLES,
        "layers": 4 * arrays + SPARE_LAYERS,
    }
    owner = threading.get_ident()

    def spend(resource: str, count: int, words: str) -> None:
        # Not whole, or negative: left would grow, or be no number for good.
        whole = isinstance(count, int) and count >= 0
        left[resource] = left[resource] - count if whole else -1
        if left[resource] < 0:
            raise FileError(
                f"{path} asks for {words}, and holds {held} bytes in {arrays} "
                "arrays: refused."
            )

    def variable(make: Callable[..., None]) -> Callable[..., None]:
        def counted(
            self: Any,
            initializer: Any,
            shape: Any = None,
            dtype: Any = None,
            *args: Any,
            **kwargs: Any,
        ) -> None:
            if threading.get_ident() == owner:
                sizes: Any = shape
                if shape is None:
                    sizes = getattr(initializer, "shape", ())
                whole = all(
                    isinstance(n, Integral) and int(n) >= 0 for n in sizes
                )
                width = _width(dtype or getattr(initializer, "dtype", None))
                size = width * math.prod(map(int, sizes)) if whole else -1
                words = f"variables of shapes like {tuple(sizes)}"
                spend("variables", 1, words)
                spend("bytes", size, words)
            make(self, initializer, shape, dtype, *args, **kwargs)

        return counted

    def layer(make: Callable[..., None]) -> Callable[..., None]:
        def counted(self: Any, *args: Any, **kwargs: Any) -> None:
            if threading.get_ident() == owner:
                spend("layers", 1, f"more layers than {type(self).__name__}")
            make(self, *args, **kwargs)

        return counted

    with (
        # Not before the lock: another load's count would be taken for it.
        _LOCK,
        _constructor(keras.Variable, variable),
        _constructor(keras.layers.Layer, layer),
    ):
        yield


def _width(dtype: Any) -> int:
    """Bytes of a number."""
    try:
        name = keras.backend.standardize_dtype(dtype)
        return 2 if name == "bfloat16" else np.dtype(name).itemsize
    except (TypeError, ValueError):
        return 8


@contextlib.contextmanager
def _constructor(
    cls: Any, wrap: Callable[[Callable[..., None]], Callable[..., None]]
) -> Iterator[None]:
    """Puts another one in the place of a class's constructor."""
    own, make = "__init__" in cls.__dict__, cls.__init__
    counted: Any = functools.wraps(make)(wrap(make))
    # Keras looks at the names of arguments, and not through wrappers.
    counted.__signature__ = inspect.signature(make)
    cls.__init__ = counted
    try:
        yield
    finally:
        if own:
            cls.__init__ = make
        else:
            del cls.__init__
