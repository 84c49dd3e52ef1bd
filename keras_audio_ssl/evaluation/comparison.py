"""A probe beside what an encoder must beat."""

import csv
import dataclasses
import math
import os
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from keras_audio_ssl._types import FilePath
from keras_audio_ssl.data import read_manifest
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.encoders import Readout
from keras_audio_ssl.evaluation.baseline import LogMelStatistics
from keras_audio_ssl.evaluation.baseline import untrained
from keras_audio_ssl.evaluation.embeddings import Embeddings
from keras_audio_ssl.evaluation.probes import probe
from keras_audio_ssl.evaluation.scoring import ProbeResult

# Where an encoder is read: its own vector, and `Readout` of all levels.
READINGS = {"clip": "clip vector", "levels": "all levels"}
ROWS = ("log_mel", "clip", "clip_untrained", "levels", "levels_untrained")
BETTER, WORSE, LIKE = "better", "worse", "like"
# Random weights differ: by as much as trained ones from them, at times.
DRAWS = 3


def reading_rows(
    encoder: Encoder, draws: int = DRAWS, levels: bool = True
) -> list[str]:
    """The rows of `readings`, in their order; arguments as there."""
    joined = isinstance(encoder, Readout)
    where = list(READINGS) if levels and not joined else ["clip"]
    return ["log_mel", *where, *[f"{one}_untrained" for one in where] * draws]


def readings(
    encoder: Encoder, draws: int = DRAWS, levels: bool = True
) -> Iterator[tuple[str, Any]]:
    """An encoder and what it must beat, each where it can be read.

    Args:
        encoder: Any `Encoder`.
        draws: Of random weights, of seeds 0, 1, and so on.
        levels: Whether all levels are read too, beside the clip vector.

    Yields:
        `(row, encoder)`: `"log_mel"`, `"clip"`, `"levels"`, then for each
        draw `"clip_untrained"` and `"levels_untrained"` (those of levels
        without a `Readout`, whose levels are joined already). All draws are
        one encoder, which is compiled once: use it before the next.
    """
    fresh: Any = None
    readout: Any = None
    seed = 0
    for row in reading_rows(encoder, draws, levels):
        if row == "log_mel":
            yield row, LogMelStatistics(sample_rate=encoder.sample_rate)
        elif row == "clip":
            yield row, encoder
        elif row == "levels":
            yield row, Readout(encoder)
        elif row == "clip_untrained":
            drawn = untrained(encoder, seed)
            fresh = fresh or drawn
            for weight, value in zip(fresh.weights, drawn.weights, strict=True):
                weight.assign(value)
            seed += 1
            yield row, fresh
        else:
            readout = readout or Readout(fresh)
            yield row, readout


def differ(a: float, draws: Sequence[float], n: int) -> str:
    """How an accuracy differs from those of random weights.

    Args:
        a: An accuracy.
        draws: Those of the draws, on the same examples.
        n: Test examples.

    Returns:
        `"better"` or `"worse"` if it lies beyond every draw, and from their
        mean by more than the 95 % interval of the difference (which takes
        the two as independent), else `"like"`.
    """
    b = sum(draws) / len(draws)
    spread = (a * (1 - a) + b * (1 - b)) / n
    if abs(a - b) <= 1.96 * math.sqrt(spread):
        return LIKE
    if a > max(draws):
        return BETTER
    return WORSE if a < min(draws) else LIKE


def in_words(word: str) -> str:
    """What `differ` has found, for a person."""
    told = "no different from" if word == LIKE else f"{word} than"
    return f"{told} untrained, by 95 %"


def draws_in_words(count: int) -> str:
    """What stands in the rows of random weights, for a person.

    Args:
        count: How many draws they are of.
    """
    if count > 1:
        return (
            f"untrained: {count} draws of random weights, their mean, least "
            "and most"
        )
    return "untrained: one draw of random weights; others lie apart"


@dataclasses.dataclass
class ProbeTable:
    """The rows of `probe_beside`.

    Attributes:
        name: What the encoder is called.
        rows: `ProbeResult` by the rows of `readings`; of random weights the
            first draw's.
        draws: Accuracies of all draws of random weights, by row.
    """

    name: str
    rows: dict[str, ProbeResult]
    draws: dict[str, list[float]]

    def against_untrained(self, reading: str = "clip") -> str:
        """How a row does beside that of the same encoder untrained.

        Args:
            reading: `"clip"`, or `"levels"` where that is in `rows`.

        Returns:
            `"better"` or `"worse"` than all draws, by 95 %, else `"like"`.
        """
        one = self.rows[reading]
        return differ(one.accuracy, self.draws[f"{reading}_untrained"], one.n)

    def to_dict(self) -> dict[str, Any]:
        """The encoder's own result, and all rows, as JSON can hold it."""
        rows = {k: v.to_dict(confusion=False) for k, v in self.rows.items()}
        for name in rows:
            del rows[name]["skipped"], rows[name]["classes"]
        for name, draws in self.draws.items():
            rows[name]["draws"] = draws
        return {**self.rows["clip"].to_dict(), "rows": rows}

    def __str__(self) -> str:
        own = self.rows["clip"]
        titles = {"log_mel": "log-mel mean and deviation"}
        for key, reading in READINGS.items():
            titles[key] = f"{self.name}, {reading}"
            titles[f"{key}_untrained"] = "  the same, untrained"
        width = max(len(titles[key]) for key in self.rows)
        lines = [
            f"{own.task}: {len(own.classes)} classes, {own.n} examples, "
            f"most frequent {own.chance:.3f}",
            f"{'':<{width}}  accuracy  95 % interval  values",
        ]
        for key, row in self.rows.items():
            accuracy, (low, high) = row.accuracy, row.interval
            draws = self.draws.get(key, ())
            if len(draws) > 1:
                accuracy = sum(draws) / len(draws)
                low, high = min(draws), max(draws)
            lines.append(
                f"{titles[key]:<{width}}  {accuracy:.3f}     "
                f"{low:.3f}-{high:.3f}    {row.dim}"
            )
        for key, reading in READINGS.items():
            if key in self.rows:
                word = self.against_untrained(key)
                lines.append(f"{reading}: {in_words(word)}")
        lines.append(draws_in_words(len(self.draws["clip_untrained"])))
        lines.append(f"audio in pretraining: {own.seen or 'not said'}")
        return "\n".join(lines + own.skipped_in_words())


def probe_beside(
    encoder: Any,
    manifest: FilePath,
    label: str | None = None,
    *,
    name: str = "this encoder",
    draws: int = DRAWS,
    progress: Callable[[str, int, int], None] | None = None,
    scoring: Callable[[str, int, int], None] | None = None,
    **options: Any,
) -> ProbeTable:
    """Probes an encoder beside itself untrained and log-mel statistics.

    Args:
        encoder: `Encoder`.
        manifest: As for `probe`.
        label: As for `probe`.
        name: What the encoder is called in the table.
        draws: Of random weights that stand for the untrained encoder: each
            is embedded and scored as the encoder is.
        progress: Called with the row, files done, files in all.
        scoring: Called with the row, parts done, parts in all of the scoring
            that follows.
        **options: The other arguments of `probe`.

    Returns:
        A `ProbeTable`; `print` it, or take `to_dict()`.

    Raises:
        ValueError: `draws` is below 1, or as `probe`.

    Example:
        >>> table = kas.evaluation.probe_beside(
        ...     encoder, "speech/words.csv", "label", draws=1, grid=[1.0]
        ... )
        >>> list(table.rows)
        ['log_mel', 'clip', 'clip_untrained', 'levels', 'levels_untrained']
    """
    if draws < 1:
        raise ValueError(f"`draws` must be at least 1. Received: {draws}")
    results: dict[str, list[ProbeResult]] = {}
    for row, one in readings(encoder, draws):
        found = results.setdefault(row, [])
        drawn = f" {len(found) + 1}" if row.endswith("_untrained") else ""
        told = [f and partial(f, row + drawn) for f in (progress, scoring)]
        vectors = Embeddings(one, told[0])
        found.append(
            probe(vectors, manifest, label, **options, scoring=told[1])
        )
    rows = [row for row in ROWS if row in results]
    return ProbeTable(
        name,
        {row: results[row][0] for row in rows},
        {
            row: [one.accuracy for one in results[row]]
            for row in rows
            if row.endswith("_untrained")
        },
    )


def was_seen(
    encoder: FilePath, manifest: FilePath, where: Any = None
) -> str | None:
    """Whether the audio of a manifest was in an encoder's pretraining.

    Args:
        encoder: The encoder's file, `X.keras`, beside which its run lies.
        manifest: CSV with a column `file`.
        where: Rows to look at.

    Returns:
        `"unseen"`, `"seen unlabelled"` if the run read any of the files, or
        None where there is no run to tell.
    """
    table = Path(encoder).with_suffix(".run") / "files.csv"
    if not Path(encoder).exists() or not table.exists():
        return None
    with open(
        table, newline="", encoding="utf-8", errors="surrogateescape"
    ) as file:
        seen = {os.path.realpath(r["file"]) for r in csv.DictReader(file)}
    folder = os.path.dirname(os.path.abspath(manifest))
    names = read_manifest(manifest, where=where)["file"]
    files = {os.path.realpath(os.path.join(folder, name)) for name in names}
    return "seen unlabelled" if files & seen else "unseen"
