"""Rows of a manifest, a dict of columns."""

from typing import Any

import numpy as np

from keras_audio_ssl._types import FilePath

Table = dict[str, list[str]]


def seconds_of(table: Table, column: str, path: FilePath) -> np.ndarray:
    """A column of seconds, `(rows,)`; NaN where a cell is empty."""
    values = table.get(column, [""] * len(table["file"]))
    try:
        return np.array([float(v) if v.strip() else np.nan for v in values])
    except ValueError as error:
        raise ValueError(
            f"Column {column!r} of {path} must hold seconds: {error}"
        ) from None


def with_values(
    table: Table, columns: list[str | None]
) -> tuple[Table, list[tuple[str, str]]]:
    """The rows that have a value in all of some columns.

    Returns:
        Their table, and `(file, reason)` of the others.
    """
    kept, skipped = [], []
    for row, file in enumerate(table["file"]):
        lacks = [c for c in columns if c is not None and not table[c][row]]
        if lacks:
            skipped.append((file, f"no {lacks[0]}"))
        else:
            kept.append(row)
    return take(table, kept), skipped


def take(table: Table, rows: Any) -> Table:
    """Some of the rows, by their numbers."""
    return {k: [v[i] for i in rows] for k, v in table.items()}
