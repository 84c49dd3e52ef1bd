"""`keras-audio-ssl doctor DIR|CSV`."""

import argparse
import os
import sys
from collections.abc import Callable
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from keras_audio_ssl._files import as_json
from keras_audio_ssl._files import write_table
from keras_audio_ssl._files import write_text
from keras_audio_ssl._text import in_encoding
from keras_audio_ssl._text import printable
from keras_audio_ssl._text import some_skipped
from keras_audio_ssl._text import write
from keras_audio_ssl.runs.progress import Progress
from keras_audio_ssl.runs.progress import say
from keras_audio_ssl.runs.stopping import Failure

# What the page lets one listen to.
TYPICAL, EXAMPLES, PLAYERS = 4, 2, 16
SECONDS = 4.0
PLAY_RATE, MOST_RATE = 16000, 384000
# A file's number, what was found in it, and words on it.
Clip = tuple[int, dict[str, str], str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `keras-audio-ssl doctor`."""
    parser.add_argument(
        "source", metavar="DIR|CSV", help="folder, manifest or audio file"
    )
    parser.add_argument(
        "--output", metavar="X.html", help="write a page to look and listen"
    )
    parser.add_argument(
        "--csv", metavar="X.csv",
        help="write a table of all files, which is a manifest too",
    )  # fmt: skip
    parser.add_argument(
        "--where", action="append", metavar="COLUMN=VALUE",
        help="rows of the manifest to take; repeat for more conditions",
    )  # fmt: skip
    parser.add_argument(
        "--fold", action="append", metavar="COLUMN",
        help="folds that must not share a sound; fold and split by default",
    )  # fmt: skip
    parser.add_argument(
        "--group", action="append", metavar="COLUMN",
        help="recordings that must lie in one fold; source and recording by "
        "default, where the manifest has them",
    )  # fmt: skip
    parser.add_argument(
        "--label", metavar="COLUMN", help="classes; label by default"
    )
    parser.add_argument(
        "--min-seconds", type=float, metavar="S",
        help="shorter clips are too short; 0.1 by default, 0 for parts of "
        "files",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=int, default=2, help="files read at a time"
    )
    parser.add_argument(
        "--no-isolate", action="store_true",
        help="decode in this process: faster, but a hostile file may end it",
    )  # fmt: skip
    parser.add_argument(
        "--no-cache", action="store_true",
        help="read all files again, also those that did not change",
    )  # fmt: skip
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what is written"
    )
    parser.epilog = (
        "Exit code: 0 when the files were looked at, whatever was found; 1 "
        "when none of them can be read; 2 for wrong arguments."
    )


def run(args: argparse.Namespace) -> None:
    """Reads all files, then prints what is odd and what to do about it.

    Raises:
        ValueError: As `check_arguments`, or the source or one of its columns is
            not there.
        Failure: None of the files can be read.
    """
    check_arguments(args)
    from keras_audio_ssl.doctor.cache import FactsCache
    from keras_audio_ssl.doctor.cache import cache_file
    from keras_audio_ssl.doctor.files import list_audio
    from keras_audio_ssl.doctor.files import survey
    from keras_audio_ssl.doctor.findings import Diagnosis
    from keras_audio_ssl.doctor.findings import Settings
    from keras_audio_ssl.doctor.summary import summarize

    listing = list_audio(args.source, args.where)
    settings = Settings(
        args.min_seconds,
        tuple(args.fold) if args.fold else None,
        tuple(args.group) if args.group else None,
        args.label,
    )
    # Wrong columns are told before an hour of reading, not after.
    settings.fill(listing.columns)
    path = None if args.no_cache else cache_file()
    cache = FactsCache(path) if path else None
    total = len(listing.names)
    try:
        with Progress("reading", total, args.json) as progress:

            def report(done: int, left: int) -> None:
                progress.total = left
                progress.advance(done - progress.done)

            found = survey(
                listing,
                cache,
                isolate=not args.no_isolate,
                workers=args.workers,
                progress=report,
            )
    finally:
        if cache is not None:
            cache.close()
    if cache is not None and cache.trouble:
        say(f"nothing is kept for the next time: {cache.trouble}")
    if found.cached:
        say(f"{found.cached:,} of {total:,} files did not change since the "
            "last look")  # fmt: skip
    diagnosis = Diagnosis(found, settings)
    if not diagnosis.readable.any():
        first = some_skipped(
            (listing.names[k], why)
            for k, why in list(found.reasons.items())[:3]
        )
        raise Failure(
            f"none of the {total:,} files of {args.source} can be read. "
            f"First: {first}"
        )
    summary = summarize(diagnosis, args.where)
    summary["cached"] = found.cached
    if args.csv:
        write_clips(args.csv, diagnosis)
        say(f"wrote {args.csv}")
    if args.output:
        write_page(args.output, diagnosis, summary, not args.no_isolate)
        say(f"wrote {args.output}")
    if args.json:
        write(as_json(summary), end="")
    else:
        print_lines(text_lines(summary, args))


def check_arguments(args: argparse.Namespace) -> None:
    """Refuses what cannot be done, before anything is read."""
    if args.workers < 1:
        raise ValueError(f"--workers must be positive. Received {args.workers}")
    if args.min_seconds is not None and not args.min_seconds >= 0:
        raise ValueError(
            f"--min-seconds must not be negative. Received {args.min_seconds}"
        )
    for name, ending in (("output", ".html"), ("csv", ".csv")):
        path = getattr(args, name)
        if path is None:
            continue
        if Path(path).suffix.lower() != ending:
            raise ValueError(f"--{name} must end in {ending}. Received: {path}")
        if Path(path).is_dir():
            raise ValueError(f"--{name} {path} is a folder.")
        if Path(path).exists():
            if os.path.exists(args.source) and os.path.samefile(
                path, args.source
            ):
                raise ValueError(f"--{name} {path} is what is to be read.")
            if not args.overwrite:
                raise ValueError(f"{path} exists; replace it with --overwrite.")


def spread(values: dict[str, float], unit: str = "", scale: float = 1.0) -> str:
    """Quantiles in words."""
    low, middle, high = (
        f"{values[key] / scale:.3g}" for key in ("min", "median", "max")
    )
    if low == high:
        return f"{low}{unit}"
    return f"{low} to {high}{unit}, half below {middle}{unit}"


def shares(
    counts: dict[str, int], words: Callable[[str], str] = str, limit: int = 4
) -> str:
    """The most frequent values, in words."""
    total = sum(counts.values())
    if len(counts) == 1:
        return f"{words(next(iter(counts)))}, all"
    parts = []
    for name, number in list(counts.items())[:limit]:
        parts.append(f"{words(name)} {share(number / total)}")
    if len(counts) > limit:
        parts.append(f"{len(counts) - limit} more")
    return ", ".join(parts)


def share(part: float) -> str:
    """A part of one in per cent; what is there is never 0 %, nor all 100 %."""
    if 0 < part < 0.01:
        return "< 1 %"
    # Not all, if some are missing.
    return f"{min(99, round(100 * part)) if part < 1 else 100} %"


def channels(number: str) -> str:
    """A number of channels, as text, in words."""
    return {"1": "mono", "2": "stereo"}.get(number, f"{number} channels")


def hertz(number: float | str) -> str:
    """A rate in words, of a number or of its text."""
    from keras_audio_ssl.doctor.findings import words_hz

    return words_hz(float(number))


def hours(value: float) -> str:
    """A length in hours, or in minutes or seconds where it is short."""
    if value >= 1:
        return f"{value:,.1f} h"
    if value >= 1 / 60:
        return f"{60 * value:.1f} min"
    return f"{3600 * value:.1f} s"


def text_lines(
    summary: dict[str, Any], args: argparse.Namespace
) -> list[tuple[str, str]]:
    """The summary as `(style, text)` lines, some 25 of them."""
    clips = ""
    if summary["clips"] != summary["files"]:
        clips = f", {summary['clips']:,} clips"
    lines = [
        (
            "bold",
            f"{summary['source']}: {summary['files']:,} files{clips}, "
            f"{hours(summary['hours'])}, {hours(summary['usable_hours'])} "
            "usable",
        )
    ]
    table = [
        ("length", spread(summary["seconds"], " s")),
        ("bandwidth", spread(summary["bandwidth"], " kHz", 1000)),
        ("silence", f"{share(summary['silent_share'])} of the time"),
        ("rate", shares(summary["rates"], hertz)),
        ("channels", shares(summary["channels"], channels)),
        ("format", shares(summary["formats"])),
    ]
    if summary["level_db"]:
        table.insert(1, ("level", spread(summary["level_db"], " dBFS")))
    if summary["classes"]:
        few, many = (f(summary["classes"].values()) for f in (min, max))
        size = f"{few:,}" if few == many else f"{few:,} to {many:,}"
        table.append(
            ("classes", f"{len(summary['classes']):,}, {size} clips each")
        )
    lines += [("", f"  {name:<11}{text}") for name, text in table]
    for severity, head, style in (
        ("skipped", "Training would skip", "red"),
        ("check", "Look at these", "yellow"),
        ("note", "Good to know", "cyan"),
    ):
        found = [f for f in summary["findings"] if f["level"] == severity]
        if found:
            lines.append((f"bold {style}", head))
        for finding in found:
            first = finding["files"][0]
            lines.append(
                (
                    "",
                    f"  {len(finding['files']):>6,}  {finding['title']}: "
                    f"{first['file']}, {first['detail']}",
                )
            )
    if not summary["findings"]:
        lines.append(("bold green", "Nothing to remark"))
    lines.append(("bold", "Next"))
    for entry in summary["advice"]:
        if entry.get("command"):
            lines.append(("", f"  {entry['text'].split('; ')[0]}"))
            lines.append(("bold", f"    {entry['command']}"))
        else:
            lines.append(("", f"  {entry['text'].split(': ')[0]}"))
    if not args.output:
        lines.append(
            ("", "  --output report.html writes a page to look and listen")
        )
    return lines


def print_lines(lines: list[tuple[str, str]]) -> None:
    """Prints lines, each in one row, with colours on a terminal only."""
    if not sys.stdout.isatty():
        write("\n".join(printable(text) for _, text in lines))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for style, text in lines:
        # A command must be whole, to be copied.
        whole = text.lstrip().startswith("keras-audio-ssl")
        console.print(
            Text(in_encoding(printable(text), sys.stdout), style=style),
            no_wrap=not whole,
            overflow="ellipsis",
            soft_wrap=whole,
        )


def write_clips(path: str, diagnosis: Any) -> None:
    """A row for each clip: the manifest's columns, then what was found."""
    listing, facts = diagnosis.listing, diagnosis.survey.facts
    problems = diagnosis.problems()
    folder = os.path.dirname(os.path.abspath(path))
    given = ["file"]
    if listing.spans is not None:
        given += ["start", "end"]
    given += list(listing.columns)
    ours = ["seconds", "sample_rate", "channels", "format", "peak_db",
            "level_db", "silent", "clipped", "dc", "bandwidth", "problems",
            "usable"]  # fmt: skip
    names = [f"found_{n}" if n in given else n for n in ours]
    usable = diagnosis.clip_usable

    def rows() -> Iterator[tuple[Any, ...]]:
        for clip, number in enumerate(listing.rows):
            row = [relative(os.path.abspath(listing.path(number)), folder)]
            if listing.spans is not None:
                row += [number_text(t) for t in listing.spans[clip]]
            row += [values[clip] for values in listing.columns.values()]
            row += numbers(diagnosis.seconds[clip], facts[number])
            row += [" ".join(problems[number]), "yes" if usable[clip] else "no"]
            yield tuple(row)

    write_table(path, (*given, *names), rows(), "surrogateescape")


def relative(path: str, folder: str) -> str:
    """A path as a manifest in `folder` names it."""
    try:
        return os.path.relpath(path, folder)
    except ValueError:  # another drive of Windows
        return path


def number_text(value: float, digits: int = 6) -> str:
    """A number with some digits; nothing for NaN."""
    return "" if value != value else f"{value:.{digits}g}"


def numbers(seconds: float, fact: Any) -> list[Any]:
    """The columns of a file in the table; empty if it cannot be read."""
    from keras_audio_ssl.doctor.facts import decibels

    if not fact["rate"]:
        return [""] * 10
    return [
        number_text(seconds, 9),
        fact["rate"],
        fact["channels"],
        fact["format"].decode("ascii"),
        f"{decibels(fact['peak']):.2f}",
        f"{decibels(fact['rms']):.2f}",
        number_text(fact["silent"], 4),
        fact["clipped"],
        number_text(fact["dc"], 4),
        number_text(fact["bandwidth"]),
    ]


def write_page(
    path: str, diagnosis: Any, summary: dict[str, Any], isolate: bool
) -> None:
    """The page: numbers, distributions, and a few clips to listen to."""
    from keras_audio_ssl.doctor.summary import decibels
    from keras_audio_ssl.viz.doctor_page import doctor_page

    facts = diagnosis.survey.facts[diagnosis.readable]
    seconds = diagnosis.seconds[diagnosis.seconds > 0]
    headline = {"Files": f"{summary['files']:,}"}
    if summary["clips"] != summary["files"]:
        headline["Clips"] = f"{summary['clips']:,}"
    headline["Length"] = hours(summary["hours"])
    headline["Usable"] = hours(summary["usable_hours"])
    headline["Silence"] = share(summary["silent_share"])
    name = "Rate" if len(summary["rates"]) == 1 else "Main rate"
    headline[name] = hertz(next(iter(summary["rates"])))
    headline["Unreadable"] = f"{summary['unreadable']:,}"
    histograms = [
        {
            "title": "Length of clips",
            "values": seconds,
            "unit": "s",
            "text": spread(summary["seconds"], " s"),
            "log": True,
        },
        {
            "title": "Level",
            "values": decibels(diagnosis),
            "unit": "dBFS",
            "text": spread(summary["level_db"], " dB")
            if summary["level_db"]
            else "",
        },
        {
            "title": "Bandwidth",
            "values": facts["bandwidth"] / 1000,
            "unit": "kHz",
            "text": spread(summary["bandwidth"], " kHz", 1000),
        },
        {
            "title": "Silent part",
            "values": 100 * facts["silent"],
            "unit": "%",
            "text": f"{share(summary['silent_share'])} of all the time is "
            "below -60 dBFS",
        },
    ]
    clips = []
    for file, finding, text in choose_clips(diagnosis):
        clip = read_clip(diagnosis, file, isolate)
        if clip:
            clips.append({**clip, **finding, "text": text})
    when = datetime.now().astimezone().strftime("%d %B %Y, %H:%M")
    shown = {
        **summary,
        "headline": headline,
        "rates": {hertz(k): n for k, n in summary["rates"].items()},
        "channels": {channels(k): n for k, n in summary["channels"].items()},
    }
    page = doctor_page(shown, histograms, clips, when)
    write_text(path, page)


def choose_clips(diagnosis: Any) -> list[Clip]:
    """Files to listen to: examples of what was found, then some at random."""
    import numpy as np

    from keras_audio_ssl.doctor.findings import KINDS

    found: list[tuple[int, int, Clip]] = []
    seen: set[int] = set()
    # One of each kind before a second one of any.
    for turn in range(EXAMPLES):
        for rank, finding in enumerate(diagnosis.findings):
            left = [
                (file, detail)
                for file, detail in finding.files[: EXAMPLES * PLAYERS]
                if diagnosis.readable[file] and file not in seen
            ]
            if not left or len(found) == PLAYERS - TYPICAL:
                continue
            file, detail = left[0]
            severity = KINDS[finding.kind].severity
            about = {"level": severity, "title": finding.title}
            words = f"{detail}; {file_words(diagnosis, file)}"
            found.append((rank, turn, (file, about, words)))
            seen.add(file)
    chosen = [entry for _, _, entry in sorted(found, key=lambda c: c[:2])]
    problems = diagnosis.problems()
    good = [k for k in np.flatnonzero(diagnosis.usable) if not problems[k]]
    rng = np.random.default_rng(0)
    typical = rng.permutation(good)[:TYPICAL]
    plain = {"level": "note", "title": "at random"}
    return [
        *((int(k), plain, file_words(diagnosis, int(k))) for k in typical),
        *chosen,
    ]


def file_words(diagnosis: Any, file: int) -> str:
    """Length, rate, channels and level of a file, in words."""
    from keras_audio_ssl.doctor.findings import words_db

    fact = diagnosis.survey.of(file)
    return (
        f"{fact.seconds:.3g} s, {hertz(fact.rate)}, "
        f"{channels(str(fact.channels))}, {words_db(fact.rms)}"
    )


def read_clip(
    diagnosis: Any, file: int, isolate: bool
) -> dict[str, Any] | None:
    """Samples around a file's loudest one, to be drawn and to be heard."""
    from keras_audio_ssl.data.audio import AudioError
    from keras_audio_ssl.data.audio import resample
    from keras_audio_ssl.data.isolation import open_audio

    listing, fact = diagnosis.listing, diagnosis.survey.of(file)
    try:
        with open_audio(listing.path(file), isolate=isolate) as audio:
            # A header may claim any rate, and too few samples to hear.
            length = max(1, round(SECONDS * min(audio.rate, MOST_RATE)))
            length = min(audio.frames, length)
            start = round(fact.peak_at * audio.rate) - length // 2
            start = min(max(0, start), audio.frames - length)
            wave = audio.read(start, length)
            rate = audio.rate
        sound = resample(wave, rate, PLAY_RATE)
    except (AudioError, RuntimeError):
        # NaN in it, or changed since: there is nothing to listen to.
        return None
    return {
        "name": listing.names[file],
        "wave": wave,
        "rate": rate,
        "sound": sound,
        "sound_rate": PLAY_RATE,
    }
