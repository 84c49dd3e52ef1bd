"""The probe of frames: phones and other labels with a start and an end."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_audio_ssl._types import FilePath
from keras_audio_ssl.evaluation.embeddings import Embeddings
from keras_audio_ssl.evaluation.folds import Division
from keras_audio_ssl.evaluation.folds import make_folds
from keras_audio_ssl.evaluation.intervals import intervals_at
from keras_audio_ssl.evaluation.intervals import read_intervals
from keras_audio_ssl.evaluation.rows import Table
from keras_audio_ssl.evaluation.rows import seconds_of
from keras_audio_ssl.evaluation.rows import take
from keras_audio_ssl.evaluation.rows import with_values
from keras_audio_ssl.evaluation.scoring import ProbeResult
from keras_audio_ssl.evaluation.scoring import score

# All frames of an hour are too many to learn from in reasonable time.
TRAIN_FRAMES = 20_000


def frame_probe(
    embeddings: Embeddings,
    manifest: FilePath,
    table: Table,
    path: FilePath,
    label: str | None,
    division: Division,
    options: dict[str, Any],
    every_frame: bool,
) -> tuple[ProbeResult, list[tuple[str, str]]]:
    """Scores frame vectors; arguments as `probe` has prepared them.

    Returns:
        `(result, what was skipped)`.
    """
    path, intervals, label = read_intervals(manifest, path, label)
    intervals, unnamed = with_values(intervals, [label])
    table, skipped = with_values(table, [division.fold])
    if unnamed:
        skipped.append((str(path), f"{len(unnamed)} intervals have no {label}"))
    start, end = (seconds_of(intervals, k, path) for k in ("start", "end"))
    if np.isnan(start).any() or np.isnan(end).any():
        raise ValueError(f"Each row of {path} needs a start and an end.")
    rows_of: dict[str, list[int]] = {}
    for row in np.argsort(start, kind="stable"):
        rows_of.setdefault(intervals["file"][row], []).append(int(row))
    clips = [i for i, file in enumerate(table["file"]) if file in rows_of]
    skipped += [
        (file, f"no interval in {os.path.basename(path)}")
        for file in table["file"]
        if file not in rows_of
    ]
    if not clips:
        raise ValueError(
            f"{path} names none of the files of {manifest}. "
            f"Its first: {intervals['file'][0]!r}"
        )
    folder = os.path.dirname(os.fspath(manifest))
    files = [os.path.join(folder, table["file"][i]) for i in clips]
    rate = embeddings.encoder.frame_rate
    middles, spread = Examples(), Examples()
    for place, vectors in embeddings.frames(files):
        rows = np.array(rows_of[table["file"][clips[place]]])
        # A frame lasts 1 / frame_rate seconds.
        at = ((start[rows] + end[rows]) / 2 * rate).astype(int)
        inside = (at >= 0) & (at < len(vectors))
        middles.add(vectors[at[inside]], rows[inside], clips[place])
        which = intervals_at(start[rows], end[rows], len(vectors), rate)
        inside = which >= 0
        spread.add(vectors[inside], rows[which[inside]], clips[place])
    if not middles.rows:
        raise ValueError(
            f"The intervals of {path} lie past the ends of their files."
        )
    seed = options["seed"]
    x, labels, where = middles.joined(intervals[label])
    folds, groups = make_folds(take(table, where), labels, division, seed)
    result = score(x, labels, folds, groups, task=label, **options)
    if not every_frame:
        return result, skipped
    x, labels, where = spread.joined(intervals[label])
    folds, _ = make_folds(take(table, where), labels, division, seed)
    rng = np.random.default_rng(seed)
    accuracy = []
    progress = options["progress"]
    for number, fold in enumerate(folds):
        if progress is not None:
            progress(number, len(folds))
        if len(fold.train) > TRAIN_FRAMES:
            drawn = rng.choice(fold.train, TRAIN_FRAMES, replace=False)
            fold.train = np.sort(drawn)
        settings = {
            **options, "grid": [result.chosen[fold.name]], "progress": None,
        }  # fmt: skip
        once = score(x, labels, [fold], **settings)
        result.seconds += once.seconds
        accuracy.append(once.accuracy)
    result.frame_accuracy = float(np.mean(accuracy))
    result.frames = len(labels)
    return result, skipped


class Examples:
    """Frames collected clip by clip, with their interval and clip."""

    def __init__(self) -> None:
        self.vectors: list[np.ndarray] = []
        self.rows: list[int] = []
        self.clips: list[int] = []

    def add(self, vectors: np.ndarray, rows: np.ndarray, clip: int) -> None:
        """Adds frames of one clip.

        Args:
            vectors: `(frames, dim)`.
            rows: `(frames,)`, the interval of each.
            clip: Number of the clip.
        """
        self.vectors.append(vectors)
        self.rows.extend(rows)
        self.clips.extend([clip] * len(rows))

    def joined(
        self, names: Sequence[str]
    ) -> tuple[np.ndarray, list[str], list[int]]:
        """`(vectors (frames, dim), labels, clips)`."""
        labels = [names[row] for row in self.rows]
        return np.concatenate(self.vectors), labels, self.clips
