"""How far something has come."""

import sys
import time
from collections.abc import Callable
from typing import Any
from typing import Self

from keras_audio_ssl._text import write


def say(text: str = "", **kwargs: Any) -> None:
    """Words for a person; results go to standard output alone."""
    write(text, sys.stderr, **kwargs)


# Seconds until the first line, and between lines.
SOON, EVERY = 2, 10


class Progress:
    """A bar on a terminal, elsewhere a line after two seconds, then every ten.

    The first thing done is left out of the time that is left: it may have
    taken what comes once, such as compilation.

    Args:
        label: What is being done.
        total: Number of things.
        quiet: Print nothing.
        say: Called with the lines.
    """

    def __init__(
        self,
        label: str,
        total: int,
        quiet: bool = False,
        say: Callable[[str], object] = say,
    ) -> None:
        self.label, self.total, self.done = label, total, 0
        self.quiet, self.say = quiet, say
        self.begin = time.monotonic()
        self.next = self.begin + SOON
        # Things done, and when, after the first of them.
        self.after_first: tuple[int, float] | None = None
        self.bar: Any = None
        self.task: Any = None
        if sys.stderr.isatty() and not quiet:
            from rich.console import Console
            from rich.progress import BarColumn
            from rich.progress import MofNCompleteColumn
            from rich.progress import Progress as Bar
            from rich.progress import TextColumn
            from rich.progress import TimeRemainingColumn

            self.bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self.task = self.bar.add_task(label, total=total, note="")

    def __enter__(self) -> Self:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar:
            self.bar.stop()

    def advance(self, done: int = 1, note: str = "") -> None:
        """Reports `done` more things; a note is, say, the loss."""
        self.done += done
        if self.quiet:
            return
        if self.bar:
            self.bar.update(
                self.task, advance=done, total=self.total, note=note
            )
            return
        now = time.monotonic()
        if self.after_first is None and self.done:
            self.after_first = (self.done, now)
        if now < self.next:
            return
        self.next = now + EVERY
        text = f"{self.label}: {self.done}/{self.total}"
        done, since = self.after_first or (0, now)
        if self.done > done:
            left = (now - since) / (self.done - done)
            text += f", {duration(left * (self.total - self.done))} left"
        self.say(f"{text} {note}".rstrip())


def duration(seconds: float) -> str:
    """`90` as `1:30`."""
    seconds = round(seconds)
    hours, rest = divmod(seconds, 3600)
    if hours:
        return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
    return f"{rest // 60}:{rest % 60:02d}"
