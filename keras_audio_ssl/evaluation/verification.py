"""Verification: are two clips of one speaker? Scored without training."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_audio_ssl._text import column_list
from keras_audio_ssl._text import some_skipped
from keras_audio_ssl._types import FilePath
from keras_audio_ssl.data import read_manifest
from keras_audio_ssl.evaluation.embeddings import WHOLE
from keras_audio_ssl.evaluation.embeddings import as_embeddings
from keras_audio_ssl.evaluation.probes import spans
from keras_audio_ssl.evaluation.rows import with_values
from keras_audio_ssl.evaluation.scoring import check_seen
from keras_audio_ssl.evaluation.vectors import unit_rows


@dataclasses.dataclass
class VerificationResult:
    """How well the cosine of two clips tells whether they are of one class.

    Attributes:
        task: What was verified.
        equal_error_rate: Share of errors of both kinds at the threshold where
            they are equal: 0 is perfect, 0.5 is chance.
        threshold: Cosine at which that is.
        same: Pairs of clips of one class.
        different: Pairs of clips of two classes.
        classes: How many there are.
        dim: Values of an embedding.
        seen: `"unseen"`, `"seen unlabelled"` (the audio was part of the
            pretraining) or None where it was not said.
        skipped: `(file, reason)` of what could not be used.
    """

    task: str
    equal_error_rate: float
    threshold: float
    same: int
    different: int
    classes: int
    dim: int
    seen: str | None = None
    skipped: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON can hold it."""
        out = dataclasses.asdict(self)
        out["skipped"] = [list(item) for item in self.skipped]
        return out

    def __str__(self) -> str:
        lines = [
            f"{self.task}: equal error rate {self.equal_error_rate:.3f}",
            f"  {self.same} pairs of one of {self.classes} classes, "
            f"{self.different} of two; cosine of {self.dim} values, "
            f"threshold {self.threshold:.3f}",
            f"  audio in pretraining: {self.seen or 'not said'}",
        ]
        if self.skipped:
            lines.append(
                f"  skipped {len(self.skipped)}: {some_skipped(self.skipped)}"
            )
        return "\n".join(lines)


def equal_error_rate(scores: Any, same: Any) -> tuple[float, float]:
    """The rate at which as many pairs are wrongly accepted as refused.

    Pairs are accepted from a threshold on. Between two thresholds both rates
    are taken to be straight lines.

    Args:
        scores: `(pairs,)`, higher for pairs that belong together.
        same: `(pairs,)`, whether they do.

    Returns:
        `(rate, threshold)`.

    Raises:
        ValueError: The scores are not finite, or not of both kinds of pairs.

    Example:
        >>> same = [True, True, False, False]
        >>> equal_error_rate([0.9, 0.8, 0.1, 0.2], same)[0]
        0.0
    """
    scores = np.asarray(scores, "float64")
    same = np.asarray(same, "bool")
    if scores.ndim != 1 or scores.shape != same.shape:
        raise ValueError(
            "`scores` and `same` must be (pairs,). "
            f"Received: {scores.shape} and {same.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError("`scores` must be finite.")
    if same.all() or not same.any():
        raise ValueError(
            "There must be pairs of one class and of two. Received: "
            f"{int(same.sum())} of one and {int((~same).sum())} of two"
        )
    # `sklearn.metrics.det_curve` leaves out the end where nothing is accepted.
    thresholds = np.unique(scores)
    # Each threshold, and one above all: nothing is accepted there.
    above = np.append(thresholds, np.nextafter(thresholds[-1], np.inf))
    refused = np.searchsorted(np.sort(scores[same]), above) / same.sum()
    accepted = 1 - np.searchsorted(np.sort(scores[~same]), above) / (
        (~same).sum()
    )
    # From -1 to 1, rising: where it crosses 0.
    gap = refused - accepted
    after = int(np.argmax(gap >= 0))
    if gap[after] == 0 or after == 0:
        return float(refused[after]), float(above[after])
    part = -gap[after - 1] / (gap[after] - gap[after - 1])
    rate = refused[after - 1] + part * (refused[after] - refused[after - 1])
    step = above[after] - above[after - 1]
    return float(rate), float(above[after - 1] + part * step)


def verify(
    encoder: Any,
    manifest: FilePath,
    label: str,
    *,
    where: Any = None,
    centre: bool = False,
    seen: str | None = None,
    task: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VerificationResult:
    """Equal error rate of the cosine between the clips of a manifest.

    Every pair of clips is a trial: no classifier is trained.

    Args:
        encoder: As for `probe`.
        manifest: As for `probe`.
        label: Column that tells which clips belong together, e.g. the
            speaker; rows without it are skipped.
        where: Rows to use, as for `probe`.
        centre: Whether the mean vector is taken away first; it uses all clips
            that are tested, but no label.
        seen: As for `probe`.
        task: Title of the result.
        progress: Called with (files done, files in all).

    Returns:
        A `VerificationResult`; `print` it, or take `to_dict()`.

    Raises:
        ValueError: The column is missing, no file can be read, or there are
            not pairs of both kinds.

    Example:
        >>> result = kas.evaluation.verify(encoder, "speech/words.csv", "label")
        >>> result.same, result.different
        (84, 192)
    """
    check_seen(seen)
    embeddings = as_embeddings(encoder, progress)
    table = read_manifest(manifest, where=where)
    if label not in table:
        raise ValueError(
            f"No column {label!r} in {manifest}. "
            f"Its columns: {column_list(list(table))}"
        )
    table, skipped = with_values(table, [label])
    folder = os.path.dirname(os.fspath(manifest))
    files = [os.path.join(folder, file) for file in table["file"]]
    vectors, kept = embeddings.clips(files, spans(table, manifest), (WHOLE,))
    x, names = vectors[:, 0], np.array(table[label])[kept]
    if centre:
        x = x - x.mean(axis=0)
    unit = unit_rows(x)
    pairs = np.triu_indices(len(unit), 1)
    same = names[pairs[0]] == names[pairs[1]]
    rate, threshold = equal_error_rate((unit @ unit.T)[pairs], same)
    used = set(files)
    return VerificationResult(
        task=task or f"{label} verification",
        equal_error_rate=rate,
        threshold=threshold,
        same=int(same.sum()),
        different=int((~same).sum()),
        classes=len(np.unique(names)),
        dim=x.shape[1],
        seen=seen,
        skipped=skipped + [s for s in embeddings.skipped if s[0] in used],
    )
