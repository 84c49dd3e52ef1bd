"""The methods. One is a file, its test and an entry of this table."""

import importlib
from typing import Any

# Registry name: file (or a module's full name), class, and arguments that
# make it this method.
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
    module = file if "." in file else f"{__name__}.{file}"
    return getattr(importlib.import_module(module), cls)


def import_all() -> None:
    """Imports every method, so that `keras.saving` can open its files."""
    for name in METHODS:
        method_class(name)


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
    for key, (_, cls, _) in METHODS.items():
        if cls == name:
            return method_class(key)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
