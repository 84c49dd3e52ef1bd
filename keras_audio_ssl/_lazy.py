"""Names of a room that are loaded on first use."""

import importlib
from collections.abc import Callable
from typing import Any


def lazily(
    room: str, files: dict[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a room which imports no Keras itself.

    The command line answers `--help`, and lists what there is, without Keras.

    Args:
        room: The package's `__name__`.
        files: Name to the module of the room that has it.

    Example:
        >>> __getattr__, __dir__ = lazily(__name__, {"Run": "report"})
    """

    def load(name: str) -> Any:
        if name not in files:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        module = importlib.import_module(f"{room}.{files[name]}")
        return getattr(module, name)

    return load, lambda: sorted(files)
