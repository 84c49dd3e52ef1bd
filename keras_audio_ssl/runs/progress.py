"""How far something has come."""

import sys
import time

from keras_audio_ssl._text import write


def say(text="", **kwargs):
    """Words for a person; results go to standard output alone."""
    write(text, sys.stderr, **kwargs)


class Progress:
    """A bar on a terminal, a line every ten seconds elsewhere.

    Args:
        label: What is being done.
        total: Number of things.
        quiet: Print nothing.
        say: Called with the lines.
    """

    def __init__(self, label, total, quiet=False, say=say):
        self.label, self.total, self.done = label, total, 0
        self.quiet, self.say = quiet, say
        self.begin = self.last = time.monotonic()
        self.bar = self.task = None
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

    def __enter__(self):
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *error):
        if self.bar:
            self.bar.stop()

    def advance(self, done=1, note=""):
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
        if now - self.last >= 10:
            self.last = now
            rate = self.done / (now - self.begin)
            left = (self.total - self.done) / max(rate, 1e-9)
            self.say(
                f"{self.label}: {self.done}/{self.total}, "
                f"{duration(left)} left {note}"
            )


def duration(seconds):
    """`90` as `1:30`."""
    seconds = round(seconds)
    hours, rest = divmod(seconds, 3600)
    if hours:
        return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
    return f"{rest // 60}:{rest % 60:02d}"
