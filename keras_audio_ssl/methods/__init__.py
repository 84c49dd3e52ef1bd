"""The methods. One is a file, its test and an entry of this table."""

import importlib
from typing import Any

# Registry name: file, class, and arguments that make it this method.
METHODS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "apc": ("apc", "APC", {}),
    "byol_a": ("byol_a", "BYOLA", {}),
    "cola": ("cola", "COLA", {}),
}


def method_class(name: str) -> Any:
    """The class of a registry name.

    Raises:
        ValueError: No method has this name.
    """
    if name not in METHODS:
        raise ValueError(
            f"Unknown method {name!r}. Known: {', '.join(sorted(METHODS))}"
        )
    file, cls, _ = METHODS[name]
    return getattr(importlib.import_module(f"{__name__}.{file}"), cls)


def make_method(name: str, **kwargs) -> Any:
    """Makes a method by its registry name.

    Args:
        name: A key of `METHODS`.
        **kwargs: Arguments of its class, e.g. `preset="tiny"`.

    Example:

    >>> model = kas.methods.make_method("cola", preset="tiny")
    """
    return method_class(name)(**{**METHODS[name][2], **kwargs})


def __getattr__(name: str) -> Any:
    if name == "PretextModel":
        return importlib.import_module(f"{__name__}.pretext").PretextModel
    for file, cls, _ in METHODS.values():
        if cls == name:
            return getattr(importlib.import_module(f"{__name__}.{file}"), cls)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
