"""Runs that end before their time."""

import contextlib
import signal
import threading
from collections.abc import Callable
from collections.abc import Iterator
from types import FrameType

# The last comes when a terminal is closed; Windows has none.
SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)
]


class Failure(ValueError):
    """Arguments were right and the work failed all the same."""


class Interrupted(Failure):
    """A run was asked to stop; what it has done is saved."""


@contextlib.contextmanager
def stop_when_asked(say: Callable[[str], object]) -> Iterator[list[int]]:
    """Ctrl-C, SIGTERM and SIGHUP are noted, to be obeyed without a loss.

    A second one interrupts at once. Outside of the main thread, where Python
    has no say about signals, nothing is changed.

    Args:
        say: Called with words when the first one comes.

    Yields:
        A list, empty until a signal comes.
    """
    signals: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        if len(signals) > 1:
            raise KeyboardInterrupt
        say("stopping after this step; once more stops at once")

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            # `nohup` ignores SIGHUP, background jobs Ctrl-C: so it stays.
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, note)
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
