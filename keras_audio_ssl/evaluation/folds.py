"""Folds: which examples train and which test, and whether they can."""

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_audio_ssl._text import column_list
from keras_audio_ssl._types import FilePath
from keras_audio_ssl.data.clips.labels import sort_classes
from keras_audio_ssl.evaluation.rows import Table

Split = str | Mapping[str, Mapping[str, Sequence[str]]]

VALIDATION = ("validation", "valid", "val", "dev")


class Division(NamedTuple):
    """The columns that say how examples are divided; `probe` tells of each.

    Attributes:
        fold: Column of which each value is tested once.
        split: Column with `train` and `test`, or which of its values are.
        groups: Column whose values stay together when C is chosen.
    """

    fold: str | None
    split: Split | None
    groups: str | None


@dataclasses.dataclass
class Fold:
    """One division of the examples.

    Attributes:
        name: What is tested, e.g. the fold's number or the speaker.
        train: Indices of the training examples.
        test: Indices of the test examples.
        inner: `(train, validation)` indices for the choice of C; None to
            divide the training examples.
    """

    name: str
    train: np.ndarray
    test: np.ndarray
    inner: tuple[np.ndarray, np.ndarray] | None = None


def make_folds(
    table: Table, labels: Sequence[str], division: Division, seed: int
) -> tuple[list[Fold], np.ndarray | None]:
    """Folds of examples, and what of them stays together.

    Args:
        table: The manifest, a row for each example.
        labels: A name for each example.
        division: The columns that say how; five parts at random without.
        seed: Of the order of the examples.

    Returns:
        `(folds, groups)`: `groups` `(examples,)`, values of the column of
        that name, or None.
    """
    from sklearn.model_selection import PredefinedSplit

    codes = np.unique(labels, return_inverse=True)[1]
    grouping = np.array(table[division.groups]) if division.groups else None
    if division.split is not None:
        return [split_fold(table, division.split)], grouping
    if division.fold is None:
        parts = divide(codes, grouping, 5, seed)
        names = [str(k) for k in range(parts.max() + 1)]
    else:
        names = sort_classes(set(table[division.fold]))
        number_of = {name: k for k, name in enumerate(names)}
        parts = np.array([number_of[v] for v in table[division.fold]])
    if len(names) < 2:
        raise ValueError(
            f"Column {division.fold!r} holds the one value {names[0]!r}, "
            "2 or more are needed to train and to test."
        )
    folds = [
        Fold(name, train, test)
        for name, (train, test) in zip(
            names, PredefinedSplit(parts).split(), strict=True
        )
    ]
    return folds, grouping


def split_fold(table: Table, split: Split) -> Fold:
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
    validation = sets.get("validation", np.array([], int))
    inner = (sets["train"], validation) if len(validation) else None
    return Fold("test", sets["train"], sets["test"], inner)


def divide(
    y: np.ndarray, groups: np.ndarray | None, parts: int, seed: int
) -> np.ndarray:
    """Divides examples for cross-validation.

    Args:
        y: `(examples,)`, classes; each is spread over the parts.
        groups: `(examples,)`, kept together instead, if there are two or
            more; the largest ones are dealt out first.
        parts: At most so many.
        seed: Of the order of the examples.

    Returns:
        `(examples,)`, number of the part of each, all of them used.
    """
    # Not scikit-learn's: `GroupKFold` deals out groups of equal sizes in an
    # order that depends on the machine's sort, and `StratifiedKFold` refuses
    # classes with fewer examples than parts. Both give other parts, and with
    # them other scores than those published.
    if groups is not None:
        names, codes = np.unique(groups, return_inverse=True)
        if len(names) > 1:
            sizes = np.bincount(codes)
            part_of, filled = np.zeros(len(names), int), np.zeros(parts)
            for group in np.argsort(-sizes, kind="stable"):
                part_of[group] = filled.argmin()
                filled[part_of[group]] += sizes[group]
            return part_of[codes]
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    out = np.zeros(len(y), int)
    # Neighbours in this order share a class: it is spread evenly.
    out[order] = np.arange(len(y)) % min(parts, len(y))
    return out


def check_labels(
    labels: Sequence[str], column: str | None, path: FilePath, single: bool
) -> None:
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
