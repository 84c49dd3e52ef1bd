"""What the commands share: data, progress, results, the run folder."""

import contextlib
import json
import math
import signal
import sys
import threading
import time
from pathlib import Path

from keras_audio_ssl._files import written_whole


class Failure(ValueError):
    """Arguments were right and the work failed all the same: exit code 1."""


def say(text="", **kwargs):
    """Words for a person; results go to standard output alone."""
    print(text, file=sys.stderr, flush=True, **kwargs)


def finish(args, result, text):
    """Prints a command's result, as JSON or in words."""
    if args.json:
        print(json.dumps(result, indent=2, default=str))
    else:
        print(text)


def add_data(parser, required=True, synthetic=True):
    """Adds `--data`, `--where` and `--isolate`."""
    kinds = "folder or manifest (CSV)" + (
        ", or 'synthetic'" if synthetic else ""
    )
    parser.add_argument("--data", required=required, help=kinds)
    parser.add_argument(
        "--where",
        action="append",
        metavar="COLUMN=VALUE",
        help="rows of the manifest to take; repeat for more conditions",
    )
    add_isolate(parser)


def add_isolate(parser):
    """Adds `--isolate`."""
    parser.add_argument(
        "--isolate",
        action="store_true",
        help="decode in child processes: a file that crashes the decoder is "
        "skipped",
    )


def open_data(args, **kwargs):
    """The data set that `--data` and `--where` name.

    Raises:
        ValueError: It does not exist, or `--where` without a manifest.
    """
    from keras_audio_ssl import data

    if args.data == "synthetic":
        if args.where:
            raise ValueError("--where needs a manifest as --data.")
        return data.synthetic(**kwargs)
    path = Path(args.data)
    kwargs["isolate"] = args.isolate
    if path.is_dir():
        if args.where:
            raise ValueError(
                f"--where needs a manifest as --data. Received: {path}, a "
                "folder."
            )
        return data.from_folder(path, **kwargs)
    if not path.exists():
        raise ValueError(
            f"--data {args.data}: there is no such file or folder."
        )
    return data.from_manifest(path, where=args.where, **kwargs)


def parse_settings(pairs):
    """`key=value` pairs as keyword arguments; values are JSON or text.

    Raises:
        ValueError: A pair without `=`.
    """
    settings = {}
    for pair in pairs or []:
        key, sign, value = pair.partition("=")
        if not sign or not key.isidentifier():
            raise ValueError(f"--set takes key=value. Received: {pair!r}")
        try:
            settings[key] = json.loads(value)
        except ValueError:
            settings[key] = value
    return settings


def parse_levels(text):
    """`all`, or `0,2,-1` as a list.

    Raises:
        ValueError: Something else.
    """
    if text == "all":
        return text
    try:
        return [int(i) for i in text.split(",")]
    except ValueError:
        raise ValueError(
            f"--levels takes all, or numbers like 0,2,-1. Received: {text}"
        ) from None


def check_settings(function, settings):
    """Refuses settings that the function does not take.

    Raises:
        ValueError: Names the unknown key and what there is.
    """
    import inspect

    known = [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        and p.name not in ("self", "preset", "seed")
        # Some methods have encoders with names, others take objects only.
        and (p.name != "encoder" or isinstance(p.default, str))
    ]
    for key in settings:
        if key not in known:
            raise ValueError(
                f"--set {key}: there is no such setting. Known: "
                f"{', '.join(known)}"
            )


def write_whole(path, text):
    """Writes a text file whole or not at all."""
    with written_whole(path) as draft:
        draft.write_text(text, encoding="utf-8")


def as_json(value):
    """JSON text; what JSON has no number for becomes null."""

    def plain(x):
        if isinstance(x, dict):
            return {str(k): plain(v) for k, v in x.items()}
        if isinstance(x, (list, tuple)):
            return [plain(v) for v in x]
        if hasattr(x, "item") and getattr(x, "ndim", 1) == 0:
            x = x.item()
        if isinstance(x, float) and not math.isfinite(x):
            return None
        return x

    return json.dumps(plain(value), indent=2, default=str) + "\n"


class Progress:
    """A bar on a terminal, a line every ten seconds elsewhere.

    Args:
        label: What is being done.
        total: Number of things.
        quiet: Print nothing.
    """

    def __init__(self, label, total, quiet=False):
        self.label, self.total, self.done = label, total, 0
        self.quiet = quiet
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
            say(
                f"{self.label}: {self.done}/{self.total}, "
                f"{duration(left)} left {note}"
            )


@contextlib.contextmanager
def stop_when_asked():
    """Ctrl-C and SIGTERM are noted, to be obeyed where nothing is lost.

    A second one interrupts at once.

    Yields:
        A list, empty until a signal comes.
    """
    asked: list[int] = []

    def note(number, frame):
        asked.append(number)
        if len(asked) > 1:
            raise KeyboardInterrupt
        say("stopping after this step; once more stops at once")

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            # `nohup` and background jobs ignore Ctrl-C: so it stays.
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, note)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def duration(seconds):
    """`90` as `1:30`."""
    seconds = round(seconds)
    hours, rest = divmod(seconds, 3600)
    if hours:
        return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
    return f"{rest // 60}:{rest % 60:02d}"
