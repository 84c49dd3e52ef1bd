"""A diagnosis in numbers, and what to do next."""

import math
import shlex
from collections import Counter
from typing import Any

import numpy as np

from keras_audio_ssl.doctor.findings import KINDS
from keras_audio_ssl.doctor.findings import Diagnosis
from keras_audio_ssl.doctor.findings import words_hz

# Encoders hear up to half of this, by default.
SAMPLE_RATE = 16000
SHORT_SECONDS = 1.0  # about what methods cut from a clip
TINY_SECONDS = 0.1  # about what encoders hear at least
LONG_SECONDS = 60.0
QUANTILES = {
    "min": 0.0,
    "p02": 0.02,
    "p25": 0.25,
    "median": 0.5,
    "p75": 0.75,
    "p98": 0.98,
    "max": 1.0,
}


def summarize(diagnosis: Diagnosis, where: list[str] | None = None) -> dict:
    """What a diagnosis found, as plain values.

    Args:
        diagnosis: The findings.
        where: Conditions on the manifest's rows, for the next command.

    Returns:
        A dict that JSON can hold. Quantiles of lengths are in seconds, of
        levels in dBFS, of the bandwidth in Hz.
    """
    listing, facts = diagnosis.listing, diagnosis.survey.facts
    readable = facts[diagnosis.readable]
    known = diagnosis.seconds[np.isfinite(diagnosis.seconds)]
    usable = diagnosis.seconds[diagnosis.clip_usable]
    seconds = diagnosis.file_seconds[diagnosis.readable]
    silent = float(readable["silent"] @ seconds) / max(seconds.sum(), 1e-9)
    result: dict[str, Any] = {
        "source": listing.source,
        "files": len(facts),
        "clips": len(listing.rows),
        "unreadable": len(facts) - len(readable),
        "usable_clips": int(diagnosis.clip_usable.sum()),
        "hours": round(float(known.sum()) / 3600, 9),
        "usable_hours": round(float(usable.sum()) / 3600, 9),
        "silent_share": round(silent, 4),
        "seconds": quantiles(known),
        "level_db": quantiles(decibels(diagnosis)),
        "bandwidth": quantiles(readable["bandwidth"]),
        "rates": count(readable["rate"]),
        "channels": count(readable["channels"]),
        "formats": count(f.decode("ascii") for f in readable["format"]),
        "classes": diagnosis.classes(),
        "folds": diagnosis.fold_sizes(),
        "findings": [
            {
                "kind": finding.kind,
                "level": KINDS[finding.kind].severity,
                "title": finding.title,
                "advice": KINDS[finding.kind].advice,
                "files": [
                    {"file": listing.names[file], "detail": detail}
                    for file, detail in finding.files
                ],
            }
            for finding in diagnosis.findings
        ],
    }
    result["advice"] = advice(result, usable, where or [])
    return result


def decibels(diagnosis: Diagnosis) -> np.ndarray:
    """DBFS of each readable file that is not digital silence."""
    rms = diagnosis.survey.facts["rms"][diagnosis.readable]
    return 20 * np.log10(rms[rms > 0])


def quantiles(values: np.ndarray) -> dict[str, float]:
    """`QUANTILES` of values `(n,)`, to six digits; none of no values."""
    if not len(values):
        return {}
    found = np.quantile(values, list(QUANTILES.values()))
    return {
        name: float(f"{value:.6g}")
        for name, value in zip(QUANTILES, found, strict=True)
    }


def count(values: Any) -> dict[str, int]:
    """Values as text, the most frequent first."""
    return {str(v): n for v, n in Counter(values).most_common()}


def advice(summary: dict, usable: np.ndarray, where: list[str]) -> list[dict]:
    """What to do next: `text`, and perhaps a `command`."""
    if not len(usable):
        return [{"text": "Nothing here can be trained on."}]
    entries = []
    least = round_down(float(np.quantile(usable, 0.02)))
    options = [f"--where {shlex.quote(text)}" for text in where]
    median = float(np.median(usable))
    text = f"98 % of the usable clips last {least:g} s or longer"
    if least < TINY_SECONDS:
        text += ": too short for a method to cut segments from them. "
        text += "Train on longer clips, or on the whole files."
    elif least < SHORT_SECONDS:
        text += f", half of them {median:.2g} s: segments of {least:g} s "
        text += f"need next to no padding (--seconds {least:g})."
    else:
        text += ": the segments of about a second that methods cut by "
        text += "default fit."
    entries.append({"text": text})
    if median > LONG_SECONDS:
        entries.append(
            {
                "text": "Clips are long, and an epoch takes one segment of "
                "each: count in --steps rather than --epochs."
            }
        )
    band = summary["bandwidth"]["median"]
    if band < 0.6 * SAMPLE_RATE / 2:
        entries.append(
            {
                "text": f"Half of the files hold nothing above "
                f"{words_hz(band)}; encoders listen up to "
                f"{words_hz(SAMPLE_RATE / 2)} unless told otherwise, and "
                "will see that part empty."
            }
        )
    if not where and "train" in summary["folds"].get("split", {}):
        options.insert(0, "--where split=train")
        entries.append(
            {
                "text": "A score on clips that the pretraining heard, even "
                "without labels, is not one on unseen sound: leave the test "
                "part out (--where split=train)."
            }
        )
    data = shlex.quote(summary["source"])
    if summary["usable_clips"] < summary["clips"] or any(
        finding["level"] == "check" for finding in summary["findings"]
    ):
        again = [f"--where {shlex.quote(text)}" for text in where]
        words = ["keras-audio-ssl doctor", data, *again, "--csv files.csv"]
        entries.append(
            {
                "text": "A table of all files with their numbers; it is a "
                "manifest too, of which --where usable=yes takes the good "
                "ones:",
                "command": " ".join(words),
            }
        )
    words = ["--data", data, *options]

    def train(method: str, *more: str) -> str:
        line = ["keras-audio-ssl pretrain", method, *words, *more]
        return " ".join([*line, f"--output {method}.keras"])

    # It repeats what is short, and needs two crops of what is not.
    entries.append({"text": "Train:", "command": train("joint")})
    if TINY_SECONDS <= least < SHORT_SECONDS:
        entries.append(
            {
                "text": "or with a method of one segment:",
                "command": train("byol_a", f"--seconds {least:g}"),
            }
        )
    return entries


def round_down(value: float) -> float:
    """To two significant digits, towards zero."""
    size = 10.0 ** (math.floor(math.log10(value)) - 1)
    return round(math.floor(value / size + 1e-9) * size, 10)
