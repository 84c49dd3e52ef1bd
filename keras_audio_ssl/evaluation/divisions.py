"""How the examples of a table are divided, and whether they can be."""

from typing import Any

import numpy as np

from keras_audio_ssl._text import column_list
from keras_audio_ssl.data.clips.labels import sort_classes
from keras_audio_ssl.evaluation.scoring import Fold
from keras_audio_ssl.evaluation.scoring import divide

Table = dict[str, list[str]]

VALIDATION = ("validation", "valid", "val", "dev")


def divisions(table, labels, division, seed):
    """Folds and groups of examples: `(folds, groups or None)`."""
    outer, split, groups = division
    n = len(labels)
    codes = np.unique(labels, return_inverse=True)[1]
    grouping = np.array(table[groups]) if groups else None
    if split is not None:
        return [split_fold(table, split, n)], grouping
    if outer is None:
        parts = divide(codes, grouping, 5, seed)
        names = [str(k) for k in range(parts.max() + 1)]
        parts = parts.astype(str)
    else:
        parts = np.array(table[outer])
        names = sort_classes(set(table[outer]))
    if len(names) < 2:
        raise ValueError(
            f"Column {outer!r} holds the one value {names[0]!r}, "
            "2 or more are needed to train and to test."
        )
    folds = [
        Fold(name, np.flatnonzero(parts != name), np.flatnonzero(parts == name))
        for name in names
    ]
    return folds, grouping


def split_fold(table, split, n):
    """The one fold of a column with `train` and `test`."""
    if isinstance(split, str):
        split = {
            split: {
                "train": ["train"],
                "test": ["test"],
                "validation": VALIDATION,
            }
        }
    if len(split) != 1:
        raise ValueError(
            "`split` must name one column. "
            f"Received: {column_list(list(split)) or 'none'}"
        )
    [(column, sides)] = split.items()
    values = np.array(table[column])
    sets = {
        side: np.flatnonzero(np.isin(values, [str(v) for v in wanted]))
        for side, wanted in sides.items()
    }
    for side in ("train", "test"):
        if not len(sets.get(side, ())):
            raise ValueError(
                f"Column {column!r} has no row to {side} on. Its values: "
                f"{column_list(sort_classes(set(table[column])), 12)}"
            )
    validation = sets.get("validation", ())
    inner = (sets["train"], validation) if len(validation) else None
    return Fold("test", sets["train"], sets["test"], inner)


def check_labels(labels, column, path, single):
    """Raises unless each class can be both learnt and tested."""
    names, counts = np.unique(labels, return_counts=True)
    if len(names) < 2:
        value = f" {str(names[0])!r}" if len(names) else ""
        raise ValueError(
            f"Column {column!r} of {path} holds the one value{value}, "
            "a probe needs at least 2 classes."
        )
    alone = names[counts == 1]
    if len(alone) and not single:
        some = ", ".join(repr(str(name)) for name in alone[:5])
        more = f" and {len(alone) - 5} more" if len(alone) > 5 else ""
        raise ValueError(
            f"A class needs 2 examples, to learn and to test. In column "
            f"{column!r} of {path} a single one have: {some}{more}. "
            "Leave them out with `where`."
        )


def numbers(table: Table, column: str, path: Any) -> np.ndarray:
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
    return {k: [v[i] for i in rows] for k, v in table.items()}
