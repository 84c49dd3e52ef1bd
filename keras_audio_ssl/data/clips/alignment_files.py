"""Forced alignments in files: who said what when, as others wrote it down."""

import math
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from keras_audio_ssl._text import column_list
from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.clips.base import Skipped
from keras_audio_ssl.data.clips.manifest import Table

# Labels of silence and of the speaker's noises: no words.
SILENCES = frozenset(
    ("", "sil", "sp", "spn", "<eps>", "<sil>", "<silence>", "<s>", "</s>")
)
ENDINGS = (".textgrid", ".ctm", ".alignment.txt")
TABLES = (".csv", ".tsv")
FORMATS = (
    "Praat TextGrid files, CTM, LibriSpeech's .alignment.txt, or a CSV table "
    "(file,start,end,label)"
)


class Entry(NamedTuple):
    """A line of an alignment.

    Attributes:
        start: Seconds from the beginning of the audio; NaN where there is no
            time.
        end: Likewise.
        label: The word.
        where: File and place of the line, for errors.
    """

    start: float
    end: float
    label: str
    where: str


Utterance = tuple[str, list[Entry]]


def alignment_files(path: str) -> list[str]:
    """The files of alignments at a path, sorted: itself, or those below it.

    Tables are not looked for, as most tables beside audio are none.
    """
    if not os.path.isdir(path):
        return [path]
    found = []
    for folder, folders, names in os.walk(path, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        found += [
            os.path.join(folder, name)
            for name in names
            if name.lower().endswith(ENDINGS) and not name.startswith(".")
        ]
    return sorted(found)


def read_alignments(
    path: str, below: str, label: str | None, tier: str | None, skipped: Skipped
) -> Iterator[Utterance]:
    """The utterances of a file, each with its entries as they stand there.

    Args:
        path: The file.
        below: The folder that names of TextGrids count from.
        label: Column of a table.
        tier: Of a TextGrid.
        skipped: Takes what cannot be read, as `(where, reason)`.

    Yields:
        Name of the utterance's audio, with or without ending, and entries.

    Raises:
        ValueError: If a table lacks columns, or the file is none of these.
    """
    name = path.lower()
    if name.endswith(TABLES):
        yield from _table(path, label)
        return
    try:
        text = _text(path)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    if name.endswith(".textgrid") or "ooTextFile" in text[:100]:
        stem = os.path.relpath(os.path.splitext(path)[0], below)
        try:
            yield from _textgrid(path, stem, text, tier)
        except AudioError as error:
            skipped.append((error.file, error.reason))
        return
    lines = [line for line in text.splitlines() if line.strip()]
    if name.endswith(".alignment.txt") or (lines and _LIBRI.match(lines[0])):
        yield from _librispeech(path, text, skipped)
    elif name.endswith(".ctm") or (lines and _CTM.match(lines[0])):
        yield from _ctm(path, text, skipped)
    elif lines and "," in lines[0]:
        yield from _table(path, label)
    else:
        raise ValueError(f"{path} is no alignment. Known are {FORMATS}.")


def _text(path: str) -> str:
    """A text file in UTF-8, UTF-16 or else Latin-1."""
    with open(path, "rb") as file:
        data = file.read()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _number(text: str) -> float:
    """A number, NaN for anything else."""
    try:
        return float(text)
    except ValueError:
        return math.nan


# Tables.


def _table(path: str, label: str | None) -> Iterator[Utterance]:
    """Rows `file,start,end,label`; an utterance is a file."""
    found: dict[str, list[Entry]] = {}
    with Table(path) as table:
        at = [table.find(column) for column in ("file", "start", "end")]
        at.append(table.find(label or _label_column(table)))
        for row in table.rows():
            name, start, end, word = (row[k].strip() for k in at)
            where = f"{path}, line {table.line}"
            entry = Entry(_number(start), _number(end), word, where)
            found.setdefault(name, []).append(entry)
    yield from found.items()


def _label_column(table: Table) -> str:
    names = [n for n in table.header if n not in ("file", "start", "end")]
    for name in ("label", "word"):
        if name in names:
            return name
    if len(names) == 1:
        return names[0]
    raise ValueError(
        f"{table.path} has no column 'label' or 'word': say which one it is "
        f"with `label`. Its columns: {column_list(table.header)}"
    )


# CTM: recording, channel, start, duration, word, and at times a confidence.

_CTM = re.compile(r"\S+\s+\S+\s+[\d.]+\s+[\d.]+\s+\S+")


def _ctm(path: str, text: str, skipped: Skipped) -> Iterator[Utterance]:
    found: dict[tuple[str, str], list[Entry]] = {}
    for n, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields or line.startswith(";;"):
            continue
        where = f"{path}, line {n}"
        if len(fields) < 4:
            skipped.append((where, f"{len(fields)} values, 5 expected"))
            continue
        start, duration = _number(fields[2]), _number(fields[3])
        word = fields[4] if len(fields) > 4 else ""
        entry = Entry(start, start + duration, word, where)
        found.setdefault((fields[0], fields[1]), []).append(entry)
    for (name, _), entries in found.items():
        yield name, entries


# LibriSpeech's: `id ",GO,,ON," "0.490,0.890,1.270,1.380,1.6"`, end times.

_LIBRI = re.compile(r'(\S+)\s+"(.*)"\s+"(.*)"\s*$')


def _librispeech(path: str, text: str, skipped: Skipped) -> Iterator[Utterance]:
    for n, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}, line {n}"
        match = _LIBRI.match(line)
        if match is None:
            skipped.append((where, 'expected: id "words" "end times"'))
            continue
        name, words, times = match[1], match[2].split(","), match[3].split(",")
        if len(words) != len(times):
            skipped.append(
                (where, f"{len(words)} words and {len(times)} end times")
            )
            continue
        entries, start = [], 0.0
        for k, (word, time) in enumerate(zip(words, times, strict=True), 1):
            end = _number(time)
            entries.append(Entry(start, end, word, f"{where}, item {k}"))
            # After an end that is none, nothing is known of the next start.
            start = end
        yield name, entries


# TextGrid, long and short: free-standing strings, numbers and flags count.

_TOKEN = re.compile(
    r'(?:^|(?<=\s))(?:![^\n]*|("(?:[^"]|"")*"|<\w+>|'
    r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?=\s|$))"
)

Tier = tuple[str, list[tuple[float, float, str]]]


def _textgrid(
    path: str, stem: str, text: str, tier: str | None
) -> Iterator[Utterance]:
    tiers = _tiers(path, text)
    names = [name for name, _ in tiers]
    if tier is not None:
        wanted = [name for name in names if name == tier]
    else:
        # The Montreal Forced Aligner's: `words`, or one for each speaker.
        wanted = [n for n in names if re.search(r"(?:^|\W)words?$", n.lower())]
        if not wanted and len(names) == 1:
            wanted = names
    if not wanted:
        known = ", ".join(map(repr, names)) or "none"
        raise AudioError(
            path,
            f"no interval tier {tier or 'words'!r}: say which one it is with "
            f"`tier`. Its tiers: {known}",
        )
    for name, intervals in tiers:
        if name in wanted:
            yield (
                stem,
                [
                    Entry(start, end, word, f"{path}, {name} {k}")
                    for k, (start, end, word) in enumerate(intervals, 1)
                ],
            )


def _tiers(path: str, text: str) -> list[Tier]:
    """The interval tiers of a TextGrid."""
    tokens = (match[1] for match in _TOKEN.finditer(text) if match[1])

    def word() -> str:
        token = next(tokens)
        if token[0] != '"':
            raise ValueError(token)
        return token[1:-1].replace('""', '"')

    def number() -> float:
        return float(next(tokens))

    found: list[Tier] = []
    try:
        if word() != "ooTextFile" or word() != "TextGrid":
            raise ValueError("no TextGrid")
        number(), number()
        if next(tokens) == "<exists>":
            for _ in range(int(number())):
                tier, name = word(), word()
                number(), number()
                count = int(number())
                if tier == "IntervalTier":
                    rows = [(number(), number(), word()) for _ in range(count)]
                    found.append((name, rows))
                else:
                    for _ in range(count):
                        number(), word()
    except (StopIteration, ValueError):
        raise AudioError(path, "no TextGrid in text form, or cut off") from None
    return found
