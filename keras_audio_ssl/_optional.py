"""Packages that only some of what there is needs."""

import importlib.util


def need(module: str, what: str, package: str | None = None) -> None:
    """Refuses, before any work is done, what takes a package that is missing.

    Args:
        module: Name to import.
        what: What needs it, the sentence's subject.
        package: Name to install, where it differs.

    Raises:
        ImportError: It is not installed; says how to install it.
    """
    if importlib.util.find_spec(module) is None:
        package = package or module
        raise ImportError(f"{what} needs {package}: pip install {package}")
