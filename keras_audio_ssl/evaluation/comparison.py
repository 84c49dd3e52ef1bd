"""A probe beside what an encoder must beat."""

import csv
import dataclasses
import math
import os
from collections.abc import Callable
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
BETTER, WORSE, LIKE = "better", "worse", "like"


def readings(encoder: Encoder) -> dict[str, Any]:
    """An encoder and what it must beat, each where it can be read.

    Args:
        encoder: Any `Encoder`.

    Returns:
        Encoders by name: `log_mel`, `clip`, `clip_untrained`, `levels`,
        `levels_untrained` (the latter two without a `Readout`, whose levels
        are joined already).
    """
    fresh = untrained(encoder)
    rows = {
        "log_mel": LogMelStatistics(sample_rate=encoder.sample_rate),
        "clip": encoder,
        "clip_untrained": fresh,
    }
    if not isinstance(encoder, Readout):
        rows |= {
            "levels": Readout(encoder),
            "levels_untrained": Readout(fresh),
        }
    return rows


def differ(a: float, b: float, n: int) -> str:
    """How an accuracy differs from another on the same examples.

    Args:
        a: An accuracy.
        b: What it is compared with.
        n: Test examples.

    Returns:
        `"better"` or `"worse"` by more than the 95 % interval of the
        difference (which takes the two as independent), else `"like"`.
    """
    spread = (a * (1 - a) + b * (1 - b)) / n
    if abs(a - b) <= 1.96 * math.sqrt(spread):
        return LIKE
    return BETTER if a > b else WORSE


@dataclasses.dataclass
class ProbeTable:
    """The rows of `probe_beside`.

    Attributes:
        name: What the encoder is called.
        rows: `ProbeResult` by the names of `readings`.
    """

    name: str
    rows: dict[str, ProbeResult]

    def against_untrained(self, reading: str = "clip") -> str:
        """How a row does beside that of the same encoder untrained.

        Args:
            reading: `"clip"`, or `"levels"` where that is in `rows`.

        Returns:
            `"better"` or `"worse"`, by 95 %, else `"like"`.
        """
        one, other = self.rows[reading], self.rows[f"{reading}_untrained"]
        return differ(one.accuracy, other.accuracy, one.n)

    def to_dict(self) -> dict[str, Any]:
        """The encoder's own result, and all rows, as JSON can hold it."""
        rows = {k: v.to_dict(confusion=False) for k, v in self.rows.items()}
        for name in rows:
            del rows[name]["skipped"], rows[name]["classes"]
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
            low, high = row.interval
            lines.append(
                f"{titles[key]:<{width}}  {row.accuracy:.3f}     "
                f"{low:.3f}-{high:.3f}    {row.dim}"
            )
        for key, reading in READINGS.items():
            if key in self.rows:
                word = self.against_untrained(key)
                told = "no different from" if word == LIKE else f"{word} than"
                lines.append(f"{reading}: {told} untrained, by 95 %")
        lines.append(f"audio in pretraining: {own.seen or 'not said'}")
        return "\n".join(lines + own.skipped_in_words())


def probe_beside(
    encoder: Any,
    manifest: FilePath,
    label: str | None = None,
    *,
    name: str = "this encoder",
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
        progress: Called with the row, files done, files in all.
        scoring: Called with the row, parts done, parts in all of the scoring
            that follows.
        **options: The other arguments of `probe`.

    Returns:
        A `ProbeTable`; `print` it, or take `to_dict()`.

    Raises:
        ValueError: As `probe`.

    Example:
        >>> table = kas.evaluation.probe_beside(
        ...     encoder, "speech/words.csv", "label", grid=[1.0]
        ... )
        >>> list(table.rows)
        ['log_mel', 'clip', 'clip_untrained', 'levels', 'levels_untrained']
    """
    rows = {}
    for row, one in readings(encoder).items():
        told = [f and partial(f, row) for f in (progress, scoring)]
        vectors = Embeddings(one, told[0])
        rows[row] = probe(vectors, manifest, label, **options, scoring=told[1])
    return ProbeTable(name, rows)


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
