"""Probes: how much a simple classifier reads off frozen embeddings."""

import os
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_audio_ssl.data import read_manifest
from keras_audio_ssl.data.manifest import sort_classes
from keras_audio_ssl.evaluation.embeddings import WHOLE
from keras_audio_ssl.evaluation.embeddings import Embeddings
from keras_audio_ssl.evaluation.embeddings import as_embeddings
from keras_audio_ssl.evaluation.scoring import Fold
from keras_audio_ssl.evaluation.scoring import ProbeResult
from keras_audio_ssl.evaluation.scoring import check_classifier
from keras_audio_ssl.evaluation.scoring import check_seen
from keras_audio_ssl.evaluation.scoring import divide
from keras_audio_ssl.evaluation.scoring import score

Table = dict[str, list[str]]
Split = str | Mapping[str, Mapping[str, Sequence[str]]]

# First and second half, and for the choice of C the halves of the first.
HALVES = ((0.0, 0.5), (0.5, 1.0), (0.0, 0.25), (0.25, 0.5))
VALIDATION = ("validation", "valid", "val", "dev")
# All frames of an hour are too many to learn from in reasonable time.
TRAIN_FRAMES = 20_000


def probe(
    encoder: Any,
    manifest: Any,
    label: str | None = None,
    *,
    fold: str | None = None,
    split: Split | None = None,
    leave_one_out: str | None = None,
    groups: str | None = None,
    where: Any = None,
    frames: Any = None,
    halves: bool = False,
    classifier: str = "logistic",
    grid: Sequence[float] | None = None,
    seen: str | None = None,
    task: str | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ProbeResult:
    """Scores frozen embeddings on the labels of a manifest.

    Clip vectors are standardised and classified by multinomial logistic
    regression, of which C is chosen from 0.01, 0.1, 1 and 10 by
    cross-validation inside the training examples. Files that cannot be read
    are skipped and named in the result.

    How the examples are divided is told by one of `fold`, `split`,
    `leave_one_out` and `halves`; without any it is a cross-validation in
    five parts, each with its share of every class.

    Args:
        encoder: `Encoder`, anything with `embed` and `sample_rate`, or the
            `Embeddings` of one, which keep what was computed before.
        manifest: CSV with a column `file`, relative to its folder, a column
            of labels, and optionally `start` and `end` in seconds.
        label: Column of the labels; of `frames` where that is given, default
            there the column beside `file`, `start` and `end`.
        fold: Column; each of its values is tested once, and the rest trains.
        split: Column with `train` and `test` (and `validation`, on which C
            is then chosen), or `{column: {"train": values, "test":
            values}}`.
        leave_one_out: Column, as `fold`: leave one speaker out.
        groups: Column whose values stay together when C is chosen; by
            default the one given as `fold` or `leave_one_out`.
        where: Rows to use: `"COLUMN=VALUE"`, a list of these, or a dict.
        frames: CSV with `file`, `start`, `end` (seconds) and a label, its
            path as it is or beside the manifest. The frame at the middle of
            each interval is classified; then all labelled frames are, by a
            classifier trained on at most 20,000 of them.
        halves: Train on the first half of each clip, test on the second; C
            is chosen with the two halves of the first half.
        classifier: `"logistic"`, or `"knn"` for nearest neighbours.
        grid: Values of C (or k) to choose from; one value is not chosen.
        seen: `"unseen"` or `"seen unlabelled"`: whether this audio was in
            the pretraining. Goes into the result.
        task: Title of the result.
        seed: Of the divisions that no column tells.
        progress: Called with (files done, files in all).

    Returns:
        A `ProbeResult`; `print` it, or take `to_dict()`.

    Raises:
        ValueError: A column is missing or holds one value only, a class has
            a single example, or no file can be read.

    Example:

    >>> result = kas.evaluation.probe(
    ...     encoder, "esc10/manifest.csv", "label", fold="fold"
    ... )
    >>> print(result)
    """
    check_classifier(classifier, grid)
    check_seen(seen)
    ways = {
        "fold": fold,
        "split": split,
        "leave_one_out": leave_one_out,
        "halves": halves or None,
    }
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise ValueError(
            "Give one of `fold`, `split`, `leave_one_out` and `halves`. "
            f"Received: {', '.join(given)}"
        )
    if frames is not None and halves:
        raise ValueError("`halves` is for clips, `frames` needs whole ones.")
    embeddings = as_embeddings(encoder, progress)
    table = read_manifest(manifest, where=where)
    names = [fold, leave_one_out, groups, "file"]
    if frames is None:
        if label is None:
            raise ValueError(
                "`label` must name the column of the labels. The columns of "
                f"{manifest}: {', '.join(table)}"
            )
        names.append(label)
    names += [split] if isinstance(split, str) else list(split or {})
    for name in names:
        if name is not None and name not in table:
            raise ValueError(
                f"No column {name!r} in {manifest}. "
                f"Its columns: {', '.join(table)}"
            )
    outer = fold or leave_one_out
    options = {"classifier": classifier, "grid": grid, "seed": seed}
    division = (outer, split, groups or outer)
    before = embeddings.seconds
    if frames is not None:
        result, skipped = frame_probe(
            embeddings, manifest, table, frames, label, division, options
        )
    else:
        result, skipped = clip_probe(
            embeddings, manifest, table, label, halves, division, options
        )
    result.task = task or title(result.task, outer, halves)
    result.seen = seen
    result.embedding_seconds = embeddings.seconds - before
    folder = os.path.dirname(os.fspath(manifest))
    files = {os.path.join(folder, file) for file in table["file"]}
    result.skipped = skipped + [
        item for item in embeddings.skipped if item[0] in files
    ]
    return result


def clip_probe(embeddings, manifest, table, label, halves, division, options):
    """Scores clip vectors: `(result, what was skipped)`."""
    labelled = [i for i, name in enumerate(table[label]) if name.strip()]
    skipped = [
        (table["file"][i], f"no {label}")
        for i in sorted(set(range(len(table[label]))) - set(labelled))
    ]
    table = take(table, labelled)
    check_labels(table[label], label, manifest, single=halves)
    folder = os.path.dirname(os.fspath(manifest))
    vectors, kept = embeddings.clips(
        [os.path.join(folder, file) for file in table["file"]],
        spans(table, manifest),
        HALVES if halves else (WHOLE,),
    )
    table = take(table, kept)
    labels = table[label]
    if len(kept) < len(labelled):
        check_labels(labels, label, f"{manifest} (readable)", single=halves)
    if halves:
        n = len(labels)
        parts = np.arange(4 * n).reshape(4, n)
        result = score(
            vectors.transpose(1, 0, 2).reshape(4 * n, -1),
            labels * 4,
            [Fold("second half", parts[0], parts[1], (parts[2], parts[3]))],
            task=label,
            **options,
        )
        return result, skipped
    folds, groups = divisions(table, labels, division, options["seed"])
    result = score(
        vectors[:, 0], labels, folds, groups, task=label, **options
    )
    return result, skipped


def frame_probe(
    embeddings: Embeddings, manifest, table, path, label, division, options
):
    """Scores frame vectors: `(result, what was skipped)`."""
    if not os.path.isfile(path):
        path = os.path.join(os.path.dirname(os.fspath(manifest)), path)
    intervals = read_manifest(path)
    others = [c for c in intervals if c not in ("file", "start", "end")]
    if label is None and len(others) == 1:
        label = others[0]
    for name in ("file", "start", "end", label or "label"):
        if name not in intervals:
            raise ValueError(
                f"No column {name!r} in {path}. "
                f"Its columns: {', '.join(intervals)}"
            )
    assert label is not None
    check_labels(intervals[label], label, path, single=True)
    times = {name: numbers(intervals, name, path) for name in ("start", "end")}
    rows_of: dict[str, list[int]] = {}
    for row, file in enumerate(intervals["file"]):
        rows_of.setdefault(file, []).append(row)
    clips = [i for i, file in enumerate(table["file"]) if file in rows_of]
    skipped = [
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
    middles: dict[str, list] = {"x": [], "label": [], "clip": []}
    spread: dict[str, list] = {"x": [], "label": [], "clip": []}
    for place, vectors in embeddings.frames(files):
        clip = clips[place]
        rows = np.array(rows_of[table["file"][clip]])
        rows = rows[np.argsort(times["start"][rows], kind="stable")]
        start, end = times["start"][rows], times["end"][rows]
        # A frame lasts 1 / frame_rate seconds.
        at = ((start + end) / 2 * rate).astype(int)
        inside = at < len(vectors)
        add(middles, vectors[at[inside]], rows[inside], clip)
        centre = (np.arange(len(vectors)) + 0.5) / rate
        which = np.searchsorted(start, centre, side="right") - 1
        inside = (which >= 0) & (centre < end[which])
        add(spread, vectors[inside], rows[which[inside]], clip)
    if not middles["label"]:
        raise ValueError(
            f"The intervals of {path} lie past the ends of their files."
        )
    x, labels, where = joined(middles, intervals[label])
    folds, groups = divisions(take(table, where), labels, division, 0)
    result = score(x, labels, folds, groups, task=label, **options)
    every = joined(spread, intervals[label])
    folds, _ = divisions(take(table, every[2]), every[1], division, 0)
    rng = np.random.default_rng(options["seed"])
    accuracy = []
    for part in folds:
        if len(part.train) > TRAIN_FRAMES:
            drawn = rng.choice(part.train, TRAIN_FRAMES, replace=False)
            part.train = np.sort(drawn)
        best = result.chosen[part.name]
        once = score(
            *every[:2], [part], **{**options, "grid": [best]}, task=label
        )
        result.seconds += once.seconds
        accuracy.append(once.accuracy)
    result.frame_accuracy = float(np.mean(accuracy))
    result.frames = len(every[1])
    return result, skipped


def add(store, vectors, rows, clip):
    store["x"].append(vectors)
    store["label"].extend(rows)
    store["clip"].extend([clip] * len(rows))


def joined(store, names):
    labels = [names[row] for row in store["label"]]
    return np.concatenate(store["x"]), labels, store["clip"]


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
            f"Received: {', '.join(split) or 'none'}"
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
                f"{', '.join(sort_classes(set(table[column]))[:12])}"
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


def spans(table: Table, path: Any) -> list | None:
    """Start and end of each row in seconds, None without such columns."""
    if "start" not in table and "end" not in table:
        return None
    start = numbers(table, "start", path)
    end = numbers(table, "end", path)
    start[np.isnan(start)] = 0.0
    return [
        (float(a), None if np.isnan(b) else float(b))
        for a, b in zip(start, end, strict=True)
    ]


def numbers(table: Table, column: str, path: Any) -> np.ndarray:
    values = table.get(column, [""] * len(table["file"]))
    try:
        return np.array([float(v) if v.strip() else np.nan for v in values])
    except ValueError as error:
        raise ValueError(
            f"Column {column!r} of {path} must hold seconds: {error}"
        ) from None


def take(table: Table, rows: Any) -> Table:
    return {k: [v[i] for i in rows] for k, v in table.items()}


def title(label: str, outer: str | None, halves: bool) -> str:
    if halves:
        return f"{label}, first half to second"
    return label if outer is None else f"{label}, unseen {outer}"
