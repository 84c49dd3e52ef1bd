"""Tables of intervals: which label lasts from when to when."""

import os

import numpy as np

from keras_audio_ssl._text import column_list
from keras_audio_ssl._types import FilePath
from keras_audio_ssl.data import read_manifest
from keras_audio_ssl.evaluation.folds import check_labels
from keras_audio_ssl.evaluation.rows import Table


def intervals_at(
    start: np.ndarray, end: np.ndarray, frames: int, rate: float
) -> np.ndarray:
    """The interval that holds the middle of each frame.

    Args:
        start: `(intervals,)` seconds, rising.
        end: `(intervals,)` seconds.
        frames: How many, each of `1 / rate` seconds.
        rate: Hz.

    Returns:
        `(frames,)`, index of the interval, -1 where there is none.
    """
    centre = (np.arange(frames) + 0.5) / rate
    which = np.searchsorted(start, centre, side="right") - 1
    return np.where((which >= 0) & (centre < end[which]), which, -1)


def read_intervals(
    manifest: FilePath, path: FilePath, label: str | None
) -> tuple[FilePath, Table, str]:
    """The table of intervals: `(path, table, column of the labels)`."""
    if not os.path.isfile(path):
        path = os.path.join(os.path.dirname(os.fspath(manifest)), path)
    intervals = read_manifest(path)
    others = [c for c in intervals if c not in ("file", "start", "end")]
    if label is None:
        label = others[0] if len(others) == 1 else "label"
    for name in ("file", "start", "end", label):
        if name not in intervals:
            raise ValueError(
                f"No column {name!r} in {path}. "
                f"Its columns: {column_list(list(intervals))}"
            )
    named = [name for name in intervals[label] if name]
    check_labels(named, label, path, single=True)
    return path, intervals, label
