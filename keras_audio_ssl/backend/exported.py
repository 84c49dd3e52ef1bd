"""Whether a graph is traced for a file of another format."""

import contextlib
import contextvars
from collections.abc import Iterator

# None, or whether the format has a Fourier transform.
_traced: contextvars.ContextVar[bool | None] = contextvars.ContextVar(
    "traced", default=None
)


@contextlib.contextmanager
def for_export(transforms: bool) -> Iterator[None]:
    """Inside, layers use operations alone that other formats have.

    No loop over parts of a batch, no recurrence with a gradient of its own,
    and no size that is compared while the graph is made.

    Args:
        transforms: Whether the format has a Fourier transform.
    """
    token = _traced.set(transforms)
    try:
        yield
    finally:
        _traced.reset(token)


def is_for_export() -> bool:
    """Whether it is inside of `for_export`."""
    return _traced.get() is not None


def has_transforms() -> bool:
    """Whether there is a Fourier transform where the graph will run."""
    return _traced.get() is not False
