"""The page of `keras-audio-ssl augmentations`."""

from typing import Any

import numpy as np

from keras_audio_ssl.viz.kit import render
from keras_audio_ssl.viz.pictures import png_uri
from keras_audio_ssl.viz.pictures import spectrogram_png
from keras_audio_ssl.viz.pictures import wav_uri


def study_page(setting: Any, rows: Any, sounds: Any, when: str = "") -> str:
    """Draws a study of augmentations as one HTML file.

    Args:
        setting: Dict of what was the same for all: `method`, `label`,
            `steps`, `seeds`, `augmentations` (names).
        rows: Names joined by `+`, or `"none"`, to mean accuracy and half of
            its interval, or NaN.
        sounds: List of dicts: `name`, `text`, and either `wave` `(samples,)`
            with `rate`, or `features` `(time, bins)`.
        when: Date and time, in words.

    Returns:
        The page's text.
    """
    means = [mean for mean, _ in rows.values()]
    low, spread = min(means), max(max(means) - min(means), 1e-9)

    def cell(name: str) -> dict[str, Any]:
        if name not in rows:
            return {"text": "", "shade": 0.0}
        mean, _ = rows[name]
        shade = round(0.75 * (mean - low) / spread, 3)
        return {"text": f"{100 * mean:.1f}", "shade": shade}

    names = setting["augmentations"]
    grid = [
        {
            "name": one,
            "cells": [
                cell(one if i == k else "+".join(names[j] for j in pair))
                for k, _ in enumerate(names[: i + 1])
                for pair in [sorted((i, k))]
            ],
        }
        for i, one in enumerate(names)
    ]
    best = max(rows, key=lambda name: rows[name][0])
    plain = rows.get("none", (float("nan"), 0.0))[0]
    maps = [sound["features"] for sound in sounds if "features" in sound]
    # Of the first for all: else a change of level or contrast is not seen.
    levels = np.percentile(maps[0], [2, 99.8]) if maps else None
    return render(
        "study.html",
        generator="keras-audio-ssl augmentations",
        title=f"{setting['method']}: augmentations",
        lead=f"Best of {len(rows)}: {spaced(best)}. "
        f"After {setting['steps']} steps a probe tells the {setting['label']} "
        f"of {100 * rows[best][0]:.1f} % of the clips{without(plain)}.",
        setting=setting,
        names=names,
        # Without pairs a map would be a diagonal.
        grid=grid if any("+" in name for name in rows) else [],
        table=[
            (
                spaced(name),
                f"{100 * mean:.1f} %",
                told(half),
                beside(mean, plain),
            )
            for name, (mean, half) in sorted(
                rows.items(), key=lambda item: -item[1][0]
            )
        ],
        sounds=[drawn(sound, levels) for sound in sounds],
        words={
            "Accuracy": "of a linear probe on the frozen encoder, which was "
            f"trained without labels on the same clips, {setting['data']}.",
            "Interval": "95 % of the mean over seeds, with a deviation that "
            "all rows share. It does not know of the choice of clips, nor that "
            "the best row of many is best by chance in part.",
            "None": "without augmentations; what the method does besides, such "
            "as random crops, stays.",
        },
        when=when,
    )


def spaced(name: str) -> str:
    """A pair's name that a narrow column can break."""
    return name.replace("+", " + ")


def without(plain: float) -> str:
    """What is known without augmentations, in words; nothing if unknown."""
    return "" if np.isnan(plain) else f", without any {100 * plain:.1f} %"


def beside(mean: float, plain: float) -> str:
    """Points above what is known without augmentations."""
    return "" if np.isnan(plain) else f"{100 * (mean - plain):+.1f}"


def told(half: Any) -> str:
    """Half of an interval in words."""
    return "one seed" if np.isnan(half) else f"± {100 * half:.1f}"


def drawn(sound: Any, levels: Any = None) -> dict[str, Any]:
    """A sound's picture and, of waveforms, its player.

    Args:
        sound: See `study_page`.
        levels: Features that are black, and that are brightest.
    """
    player = ""
    if "wave" in sound:
        picture = spectrogram_png(sound["wave"], sound["rate"])
        player = wav_uri(sound["wave"], sound["rate"])
    else:
        x = np.asarray(sound["features"], "float64").T[::-1]
        low, high = levels
        shade = np.clip((x - low) / max(high - low, 1e-9), 0, 1)
        picture = png_uri(np.rint(255 * shade).astype("uint8"))
    return {
        "name": sound["name"],
        "text": sound["text"],
        "picture": picture,
        "player": player,
    }
