"""Labels as numbers, for all clips or for some."""

import hashlib
import os
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_audio_ssl._text import few
from keras_audio_ssl.data.clips.base import Clips

# What says that a clip has no label, as text.
UNLABELLED = ("", "-1")
FLOAT = (float, np.floating)
# Why a clip is left out.
NO_LABEL = "no label"
NOTHING_LABELLED = (
    "None of the {} clips of {} has a label: leave the labels out"
)


def sort_classes(names: Iterable[str]) -> list[str]:
    """Sorted by value where all are whole numbers, else by name."""
    names = list(names)
    try:
        return sorted(names, key=int)
    except ValueError:
        return sorted(names)


def is_missing(label: Any) -> bool:
    """Whether a label is none: `None`, NaN, an empty cell.

    The missing values of pandas are unequal to themselves too, or cannot
    tell.
    """
    if isinstance(label, str):
        return not label.strip()
    if label is None:
        return True
    try:
        return bool(label != label)
    except (TypeError, ValueError):
        return type(label).__name__ == "NAType"


def class_codes(
    found: Iterable[str],
    classes: Sequence[str] | None = None,
    unlabelled: bool = False,
) -> tuple[list[str], dict[str, int]]:
    """The names of the classes, and the label of each text.

    Args:
        found: All labels, as text without blanks around it; looked at
            without `classes` only.
        classes: Names of the classes in their order; `None` (default) takes
            the labels found, sorted, but for what says that there is none.
        unlabelled: Whether `"-1"` is no label, but stands for none;
            `False` by default. `""` always does.

    Returns:
        Names, and a dict of text to label, -1 for what is none.
    """
    none = UNLABELLED if unlabelled else UNLABELLED[:1]
    if classes is None:
        known = sort_classes(set(found).difference(none))
    else:
        known = [str(name).strip() for name in classes]
    codes = {name: k for k, name in enumerate(known)}
    if codes.keys() & set(none):
        raise ValueError(
            "`classes` must not hold '', nor '-1' with unlabelled=True, which "
            f"stand for no label. Received: classes={few(known)}"
        )
    codes |= dict.fromkeys(none, -1)
    return known, codes


def missing_hint(unknown: Iterable[str]) -> str:
    """What an error may add if labels are missing."""
    if not set(unknown) & set(UNLABELLED):
        return ""
    return ". If clips may be without label, pass unlabelled=True"


def encode_labels(
    labels: Any,
    size: int,
    classes: Sequence[str] | None = None,
    unlabelled: bool = False,
) -> tuple[np.ndarray, list[str]]:
    """Labels, integers or names, as int32 `(clips,)` and their names.

    Args:
        labels: `(clips,)`; names count without the blanks around them.
            `None`, NaN and `""` stand for no label, with `unlabelled` -1 and
            `"-1"` too.
        size: Number of clips.
        classes: Names of the classes in their order; `None` (default) takes
            those found.
        unlabelled: Whether clips may be without label; `False` by default.

    Returns:
        Labels, -1 where there is none, and the names of the classes.
    """
    values = np.asarray(labels)
    if values.shape != (size,):
        raise ValueError(
            f"Labels must have the shape ({size},), one a clip. "
            f"Received: {values.shape}"
        )
    dtype = values.dtype
    if dtype.kind in "UO" and isinstance(labels, (list, tuple)):
        # As they are: numpy makes text of NaN among names.
        values = np.empty(size, object)
        values[:] = labels
    missing = np.array([is_missing(label) for label in values], bool)
    given = values[~missing].tolist()
    if not given:
        return np.full(size, -1, "int32"), list(classes or ())
    if all(_is_whole(label) for label in given):
        numbers = np.full(size, -1, "int64")
        numbers[~missing] = [int(label) for label in given]
        top = int(numbers.max(initial=-1)) + 1
        least = int(numbers[~missing].min(initial=0))
        known = [str(k) for k in range(top)] if classes is None else classes
        if least < (-1 if unlabelled else 0) or top > len(known):
            raise ValueError(
                f"Labels must lie in 0 to {len(known) - 1}"
                + (", or be -1" if unlabelled else "")
                + f". Received: {least} to {top - 1}"
            )
        return numbers.astype("int32"), list(known)
    if dtype.kind == "O" and any(isinstance(label, FLOAT) for label in given):
        dtype = np.dtype(float)
    if dtype.kind not in "UO":
        raise ValueError(f"Labels must be integers or names. Received: {dtype}")
    words = [
        "" if is_missing(value) else str(value).strip() for value in values
    ]
    known, codes = class_codes(words, classes, unlabelled)
    unknown = sorted(set(words).difference(codes))
    if unknown:
        raise ValueError(
            f"Labels {few(unknown)} are not among classes={few(known)}"
            + missing_hint(unknown)
        )
    return np.array([codes[word] for word in words], "int32"), known


def _is_whole(label: Any) -> bool:
    """Whether a label is a whole number, also as `2.0`.

    pandas makes such of integers some of which are missing.
    """
    if isinstance(label, FLOAT):
        return float(label).is_integer()
    return isinstance(label, (int, np.integer)) and not isinstance(label, bool)


def keep_share(clips: Clips, share: float, seed: int) -> np.ndarray:
    """Labels of which a share is kept, the others become -1.

    Each class keeps that share of its labels, to the nearest number and at
    least one. Which ones depends on the seed and the clips' keys alone, not
    on their order; a larger share keeps what a smaller one does.

    Args:
        clips: Clips with labels.
        share: Above 0, at most 1.
        seed: A whole number, zero or more, less than 2**64.

    Returns:
        int32 `(clips,)`.
    """
    labels = clips.labels
    if labels is None:
        raise ValueError(
            "`label_fraction` must be 1.0 for clips without labels. "
            f"Received: label_fraction={share}"
        )
    salt = seed.to_bytes(8, "little")
    have = np.flatnonzero(labels >= 0)
    marks = np.fromiter(
        (_mark(clips.key(int(clip)), salt) for clip in have),
        "uint64",
        len(have),
    )
    order = have[np.lexsort((marks, labels[have]))]
    sizes = np.bincount(labels[have])
    quota = np.maximum(1, np.rint(share * sizes).astype("int64"))
    rank = np.arange(len(have)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = order[rank < np.repeat(quota, sizes)]
    kept = np.full(len(labels), -1, "int32")
    kept[chosen] = labels[chosen]
    return kept


def _mark(key: str, salt: bytes) -> int:
    """A number of 64 bits, as good as random."""
    digest = hashlib.blake2b(os.fsencode(key), digest_size=8, key=salt)
    return int.from_bytes(digest.digest(), "little")
