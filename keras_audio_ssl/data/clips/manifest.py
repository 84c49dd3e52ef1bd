"""Tables that name audio files, and labels."""

import csv
import os
from array import array
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_audio_ssl._text import column_list
from keras_audio_ssl._text import few
from keras_audio_ssl.data.clips.base import Skipped
from keras_audio_ssl.data.clips.files import FileClips
from keras_audio_ssl.data.clips.labels import NO_LABEL
from keras_audio_ssl.data.clips.labels import NOTHING_LABELLED
from keras_audio_ssl.data.clips.labels import class_codes
from keras_audio_ssl.data.clips.labels import sort_classes
from keras_audio_ssl.data.clips.names import Names

# Letters of a row and columns of a table: more than any has, and no harm.
ROW, COLUMNS = 1 << 20, 1 << 14
# Later times, in seconds, are none: a year has 3e7.
MOST_SECONDS = 1e9


def read_manifest(
    path: Any,
    where: Any = None,
    columns: Iterable[str] | None = None,
) -> dict[str, list[str]]:
    """Reads a CSV table that names audio files.

    Args:
        path: The CSV file; its first line names the columns.
        where: Which rows to keep: `"COLUMN=VALUE"`, a list of these, or a
            dict of column to value or values. Conditions on several columns
            must all hold; of several values of one column, any.
        columns: The columns wanted; all by default.

    Returns:
        For each column its values, as text without the blanks around it.

    Raises:
        ValueError: If the file is missing or no such table, lacks a column,
            or `where` leaves no row.

    Example:
        >>> table = read_manifest("digits/manifest.csv", where="split=train")
        >>> table["file"][0]
        '0_george.wav'
    """
    with Table(path) as table:
        names = list(table.header if columns is None else columns)
        at = [table.find(name) for name in names]
        values: list[list[str]] = [[] for _ in names]
        for row in table.rows(where):
            for k, column in zip(at, values, strict=True):
                column.append(row[k])
    return dict(zip(names, values, strict=True))


class Table:
    """An open CSV file, read row by row.

    Blanks around a value are none of it. What of a file can fill the memory
    is bounded: rows of `ROW` letters, `COLUMNS` columns.

    Args:
        path: The file.

    Raises:
        ValueError: There is no such file.
    """

    def __init__(self, path: Any) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise ValueError(f"No such manifest (a CSV file): {path}")

    def __enter__(self) -> "Table":
        try:
            self._file = open(self.path, newline="", encoding="utf-8-sig")
        except OSError as error:
            raise ValueError(f"{self.path}: {error.strerror}") from None
        try:
            try:
                first = self._file.readline(1 << 20)
            except UnicodeDecodeError as error:
                raise self._no_table(error) from None
            self._file.seek(0)
            delimiter = max(",;\t", key=first.count)
            self._reader = csv.reader(self._lines(), delimiter=delimiter)
            self.header = self._next() or []
            if not self.header:
                raise ValueError(f"{self.path} is empty, expected a CSV table")
            if len(self.header) > COLUMNS:
                raise ValueError(
                    f"{self.path} has {len(self.header):,} columns, at most "
                    f"{COLUMNS:,} are read"
                )
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *exception: Any) -> None:
        self._file.close()

    @property
    def line(self) -> int:
        """Number of the line that was read last, from 1 on."""
        return self._reader.line_num

    def find(self, column: str) -> int:
        """Place of a column.

        Raises:
            ValueError: There is none of that name.
        """
        if column not in self.header:
            raise ValueError(
                f"No column {column!r} in {self.path}. "
                f"Its columns: {column_list(self.header)}"
            )
        return self.header.index(column)

    def rows(self, where: Any = None) -> Iterator[list[str]]:
        """The rows that meet conditions, in their order.

        Args:
            where: As of `read_manifest`.

        Raises:
            ValueError: A row has too few or too many values, or none is left.
        """
        wanted = row_conditions(where)
        checks = [(self.find(name), name) for name in wanted]
        met: dict[str, set[str]] = {name: set() for name in wanted}
        kept = total = 0
        while (row := self._next()) is not None:
            if not row:
                continue
            if len(row) != len(self.header):
                raise ValueError(
                    f"{self.path}, line {self.line}: {len(row)} values, "
                    f"expected {len(self.header)} as in the first line"
                )
            total += 1
            keep = True
            for k, name in checks:
                if len(met[name]) < 1000:
                    met[name].add(row[k])
                keep = keep and row[k] in wanted[name]
            if keep:
                kept += 1
                yield row
        if not total:
            raise ValueError(f"{self.path} has no rows below its first line")
        if not kept:
            some = "; ".join(
                f"{name}: {few(sort_classes(values))}"
                for name, values in met.items()
            )
            raise ValueError(
                f"No row of {self.path} fulfils where={where!r}. "
                f"Its values: {some}"
            )

    def _lines(self) -> Iterator[str]:
        """The lines of the file, as far as a row may go."""
        while line := self._file.readline(self._room + 1):
            self._room -= len(line)
            if self._room < 0:
                raise csv.Error(
                    f"the row at line {self._reader.line_num + 1} has more "
                    f"than {ROW:,} letters"
                )
            yield line

    def _next(self) -> list[str] | None:
        self._room = ROW
        try:
            row = next(self._reader, None)
            return row and [cell.strip() for cell in row]
        except (csv.Error, UnicodeDecodeError) as error:
            raise self._no_table(error) from None

    def _no_table(self, error: Exception) -> ValueError:
        return ValueError(f"{self.path} is not a CSV table in UTF-8: {error}")


def row_conditions(where: Any) -> dict[str, set[str]]:
    """`where` as column to accepted values."""
    if where is None:
        return {}
    if isinstance(where, Mapping):
        return {
            str(name): {
                str(value).strip()
                for value in (
                    [values]
                    if isinstance(values, str)
                    or not isinstance(values, Iterable)
                    else values
                )
            }
            for name, values in where.items()
        }
    conditions: dict[str, set[str]] = {}
    for text in [where] if isinstance(where, str) else where:
        name, equals, value = str(text).partition("=")
        if not equals or not name.strip():
            raise ValueError(
                "`where` must be 'COLUMN=VALUE', a list of these or a dict. "
                f"Received: where={where!r}"
            )
        conditions.setdefault(name.strip(), set()).add(value.strip())
    return conditions


def scan_manifest(
    path: Any,
    where: Any = None,
    label: str | None = None,
    file: str = "file",
    start: str = "start",
    end: str = "end",
    classes: Sequence[str] | None = None,
    max_files: int | None = None,
    unlabelled: bool = False,
    isolate: bool = False,
) -> tuple[FileClips, Skipped]:
    """The clips of a manifest; see `from_manifest`."""
    files = _Numbers()
    # Arrays, since a list of as many numbers takes eight times the memory.
    rows, codes, spans = array("i"), array("i"), array("d")
    skipped: Skipped = []
    with Table(path) as table:
        at_file = table.find(file)
        at_label = -1 if label is None else table.find(label)
        at_span = []
        for name, usual in ((start, "start"), (end, "end")):
            if name in table.header or name != usual:
                at_span.append(table.find(name))
            else:
                at_span.append(-1)
        found: set[str] = set()
        if label is not None and classes is None:
            # All rows: parts of one manifest must agree on the classes.
            found = {row[at_label] for row in table.rows()}
    seen, code = class_codes(found, classes, unlabelled)
    with Table(path) as table:
        for row in table.rows(where):
            name = row[at_file]
            if not name:
                skipped.append((f"{path}, line {table.line}", "no file name"))
                continue
            if label is not None and not (row[at_label] or unlabelled):
                skipped.append((f"{name}, line {table.line}", NO_LABEL))
                continue
            span = (np.nan, np.nan)
            if max(at_span) >= 0:
                try:
                    times = [row[k] if k >= 0 else "" for k in at_span]
                    span = (float(times[0] or "nan"), float(times[1] or "nan"))
                except ValueError:
                    raise ValueError(
                        f"{path}, line {table.line}: times must be numbers, "
                        f"in seconds. Received: {times}"
                    ) from None
                if not _in_time(span):
                    skipped.append(
                        (
                            f"{name}, line {table.line}",
                            f"the part from {span[0]:g} to {span[1]:g} s: "
                            "no file is so long",
                        )
                    )
                    continue
                if span[0] < 0 or span[1] <= max(span[0], 0):
                    skipped.append(
                        (
                            f"{name}, line {table.line}",
                            f"the part ends at {span[1]} s, "
                            f"not after its start at {span[0]} s",
                        )
                    )
                    continue
                spans.extend(span)
            if label is not None:
                text = row[at_label]
                if text not in code:
                    raise ValueError(
                        f"{path}, line {table.line}: label {text!r} is "
                        f"not one of classes={few(seen)}"
                    )
                codes.append(code[text])
            rows.append(files.number(name))
    if not rows and any(reason == NO_LABEL for _, reason in skipped):
        raise ValueError(NOTHING_LABELLED.format(len(skipped), path))
    if max_files is not None and len(files.names) > max_files:
        keep = np.array(rows) < max_files
    else:
        keep = None
    clips = FileClips(
        os.path.dirname(os.fspath(path)),
        files.names,
        np.array(rows, "int32"),
        np.array(spans, "float64").reshape(-1, 2) if spans else None,
        np.array(codes, "int32") if label is not None else None,
        seen if label is not None else None,
        isolate,
    )
    if keep is not None:
        clips.keep(np.flatnonzero(keep))
    return clips, skipped


def _in_time(span: tuple[float, float]) -> bool:
    """Whether times, in seconds, can be those of a file; NaN is none."""
    return not any(abs(time) > MOST_SECONDS for time in span)


class _Numbers:
    """Numbers names in the order of their first coming.

    Hashes stand for the names, which lie in one buffer: a dict of a million
    names takes twice the memory, and more where they are long.
    """

    def __init__(self) -> None:
        self.names = Names()
        self._of_hash: dict[int, int] = {}
        self._of_name: dict[str, int] = {}

    def number(self, name: str) -> int:
        new = len(self.names)
        number = self._of_hash.setdefault(hash(name), new)
        if number < new and self.names[number] != name:
            # Another name with the same hash was there before.
            number = self._of_name.setdefault(name, new)
        if number == new:
            self.names.append(name)
        return number
