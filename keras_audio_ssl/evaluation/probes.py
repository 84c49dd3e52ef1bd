"""Probes: how much a simple classifier reads off frozen embeddings."""

import os
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_audio_ssl._text import column_list
from keras_audio_ssl._types import FilePath
from keras_audio_ssl.data import read_manifest
from keras_audio_ssl.evaluation.embeddings import WHOLE
from keras_audio_ssl.evaluation.embeddings import Embeddings
from keras_audio_ssl.evaluation.embeddings import Span
from keras_audio_ssl.evaluation.embeddings import as_embeddings
from keras_audio_ssl.evaluation.folds import Division
from keras_audio_ssl.evaluation.folds import Fold
from keras_audio_ssl.evaluation.folds import Split
from keras_audio_ssl.evaluation.folds import check_labels
from keras_audio_ssl.evaluation.folds import make_folds
from keras_audio_ssl.evaluation.frame_probes import frame_probe
from keras_audio_ssl.evaluation.rows import Table
from keras_audio_ssl.evaluation.rows import seconds_of
from keras_audio_ssl.evaluation.rows import take
from keras_audio_ssl.evaluation.rows import with_values
from keras_audio_ssl.evaluation.scoring import ProbeResult
from keras_audio_ssl.evaluation.scoring import check_classifier
from keras_audio_ssl.evaluation.scoring import check_seen
from keras_audio_ssl.evaluation.scoring import score

# First and second half, and for the choice of C the halves of the first.
HALVES = ((0.0, 0.5), (0.5, 1.0), (0.0, 0.25), (0.25, 0.5))


def probe(
    encoder: Any,
    manifest: FilePath,
    label: str | None = None,
    *,
    fold: str | None = None,
    split: Split | None = None,
    leave_one_out: str | None = None,
    groups: str | None = None,
    where: Any = None,
    frames: FilePath | None = None,
    every_frame: bool = True,
    halves: bool = False,
    classifier: str = "logistic",
    grid: Sequence[float] | None = None,
    seen: str | None = None,
    task: str | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    scoring: Callable[[int, int], None] | None = None,
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
        every_frame: `False` leaves out the part about all labelled frames,
            which takes most of the time.
        halves: Train on the first half of each clip, test on the second; C
            is chosen with the two halves of the first half.
        classifier: `"logistic"`, or `"knn"` for nearest neighbours.
        grid: Values of C (or k) to choose from; one value is not chosen.
        seen: `"unseen"` or `"seen unlabelled"`: whether this audio was in
            the pretraining. Goes into the result.
        task: Title of the result.
        seed: Of the divisions that no column tells.
        progress: Called with (files done, files in all).
        scoring: Called with (parts done, parts in all) of what comes after.

    Returns:
        A `ProbeResult`; `print` it, or take `to_dict()`.

    Raises:
        ValueError: A column is missing or holds one value only, a class has
            a single example, or no file can be read.

    Example:
        >>> result = kas.evaluation.probe(
        ...     encoder, "speech/words.csv", "label", grid=[1.0]
        ... )
        >>> result.n, result.classes
        (24, ['word0', 'word1', 'word2'])
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
                f"{manifest}: {column_list(list(table))}"
            )
        names.append(label)
    names += [split] if isinstance(split, str) else list(split or {})
    for name in names:
        if name is not None and name not in table:
            raise ValueError(
                f"No column {name!r} in {manifest}. "
                f"Its columns: {column_list(list(table))}"
            )
    outer = fold or leave_one_out
    options = {
        "classifier": classifier, "grid": grid, "seed": seed,
        "progress": scoring,
    }  # fmt: skip
    division = Division(outer, split, groups or outer)
    before = embeddings.seconds
    if frames is not None:
        result, skipped = frame_probe(
            embeddings,
            manifest,
            table,
            frames,
            label,
            division,
            options,
            every_frame,
        )
    else:
        assert label is not None  # Refused above.
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


def clip_probe(
    embeddings: Embeddings,
    manifest: FilePath,
    table: Table,
    label: str,
    halves: bool,
    division: Division,
    options: dict[str, Any],
) -> tuple[ProbeResult, list[tuple[str, str]]]:
    """Scores clip vectors: `(result, what was skipped)`."""
    table, skipped = with_values(table, [label, division.fold])
    labelled = len(table["file"])
    check_labels(table[label], label, manifest, single=halves)
    folder = os.path.dirname(os.fspath(manifest))
    vectors, kept = embeddings.clips(
        [os.path.join(folder, file) for file in table["file"]],
        spans(table, manifest),
        HALVES if halves else (WHOLE,),
    )
    table = take(table, kept)
    labels = table[label]
    if len(kept) < labelled:
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
    folds, groups = make_folds(table, labels, division, options["seed"])
    result = score(vectors[:, 0], labels, folds, groups, task=label, **options)
    return result, skipped


def title(label: str, outer: str | None, halves: bool) -> str:
    """A probe's title: the label, and what it was tested on."""
    if halves:
        return f"{label}, first half to second"
    return label if outer is None else f"{label}, unseen {outer}"


def spans(table: dict[str, list[str]], path: FilePath) -> list[Span] | None:
    """Start and end of each row in seconds, None without such columns."""
    if "start" not in table and "end" not in table:
        return None
    start = seconds_of(table, "start", path)
    end = seconds_of(table, "end", path)
    start[np.isnan(start)] = 0.0
    return [
        (float(a), None if np.isnan(b) else float(b))
        for a, b in zip(start, end, strict=True)
    ]
