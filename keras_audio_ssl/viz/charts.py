"""Charts as inline SVG: worked out here, drawn by the macros of `kit.html`."""

import math
from typing import Any

import numpy as np

from keras_audio_ssl.viz.kit import piece

BARS = 12  # values of a column that get a bar of their own
BINS = 28
WIDTH, HEIGHT = 340, 150  # of a histogram, in its own units
TALL = 210  # of the charts of heads


def histogram(
    title: str, values: Any, unit: str, text: str = "", log: bool = False
) -> Any:
    """A histogram as inline SVG, with its title and a sentence on it.

    Args:
        title: What is counted.
        values: Array of numbers.
        unit: Of the values.
        text: A sentence below the title.
        log: Whether the axis is logarithmic.

    Returns:
        HTML, a `figure`.
    """
    values = np.asarray(values, "float64")
    low, high = float(values.min()), float(values.max())
    if low == high:
        pad = abs(low) * 0.05 or 0.5
        low, high = low - pad, high + pad
    log = log and low > 0 and high > 10 * low
    edges = (
        np.geomspace(low, high, BINS + 1)
        if log
        else np.linspace(low, high, BINS + 1)
    )
    # Rounding must not leave the largest value outside.
    edges[0], edges[-1] = low, high
    counts = np.histogram(values, edges)[0]
    left, base, top = 4, HEIGHT - 22, 18
    step = (WIDTH - 2 * left) / BINS
    most = max(1, int(counts.max()))
    boxes = []
    for k, count in enumerate(counts):
        if count:
            tall = max(2.0, (base - top) * count / most)
            boxes.append(
                {
                    "x": f"{left + k * step + 0.5:.1f}",
                    "y": f"{base - tall:.1f}",
                    "width": f"{step - 1:.1f}",
                    "height": f"{tall:.1f}",
                    "about": f"{edges[k]:.3g} to {edges[k + 1]:.3g} {unit}: "
                    f"{count:,}",
                }
            )
    marks = []
    for value in ticks(low, high, log):
        part = (
            math.log(value / low) / math.log(high / low)
            if log
            else (value - low) / (high - low)
        )
        marks.append(
            {
                "x": f"{left + part * (WIDTH - 2 * left):.1f}",
                "anchor": anchor(part),
                "text": f"{value:g}",
            }
        )
    chart = {"width": WIDTH, "height": HEIGHT, "base": base, "top": top,
             "left": left, "most": f"{most:,}", "boxes": boxes,
             "marks": marks}  # fmt: skip
    return piece("histogram", title, unit, text, chart)


def columns(
    title: str,
    values: Any,
    low: float,
    high: float,
    names: Any,
    kinds: Any,
    text: str = "",
    unit: str = "",
) -> Any:
    """A column for each value, from the lowest that there can be.

    Args:
        title: What is shown.
        values: Array of numbers.
        low: Value of the bottom.
        high: Value of the top.
        names: Of each value, shown with it.
        kinds: Class of each value, for its colour.
        text: A sentence below the title.
        unit: Of the values.

    Returns:
        HTML, a `figure`; column `k` has the attribute `data-head="k"`.
    """
    values = np.asarray(values, "float64")
    left, base, top = 4, TALL - 6, 22
    step = (WIDTH - 2 * left) / len(values)
    gap = min(2.0, step / 4)
    boxes = []
    for k, value in enumerate(values):
        part = (value - low) / (high - low or 1)
        tall = max(2.0, (base - top) * min(1.0, max(0.0, part)))
        boxes.append(
            {
                "x": f"{left + k * step + gap / 2:.2f}",
                "y": f"{base - tall:.1f}",
                "width": f"{step - gap:.2f}",
                "height": f"{tall:.1f}",
                "about": f"{names[k]}: {value:.4g} {unit}".rstrip(),
                "kind": kinds[k],
            }
        )
    chart = {"width": WIDTH, "height": TALL, "base": base, "top": top,
             "left": left, "low": f"{low:.3g}", "high": f"{high:.3g}",
             "boxes": boxes}  # fmt: skip
    return piece("columns", title, unit, text, chart)


def scatter(
    title: str,
    x: Any,
    y: Any,
    x_name: str,
    y_name: str,
    names: Any,
    kinds: Any,
    text: str = "",
) -> Any:
    """A point for each pair of values.

    Args:
        title: What is shown.
        x: Array of numbers.
        y: Array of numbers.
        x_name: Of the horizontal axis.
        y_name: Of the vertical axis.
        names: Of each point, shown with it.
        kinds: Class of each point, for its colour.
        text: A sentence below the title.

    Returns:
        HTML, a `figure`; point `k` has the attribute `data-head="k"`.
    """
    left, right, top, base = 58, 10, 12, TALL - 42
    places, axes = [], []
    for values, near, far in ((x, left, WIDTH - right), (y, base, top)):
        values = np.asarray(values, "float64")
        low, high = float(values.min()), float(values.max())
        pad = 0.06 * (high - low) or abs(low) * 0.05 or 0.5
        low, high = low - pad, high + pad
        part = (values - low) / (high - low)
        places.append(near + part * (far - near))
        scale = (far - near) / (high - low)
        axes.append(
            [
                {"at": f"{near + (v - low) * scale:.1f}", "text": f"{v:g}"}
                for v in ticks(low, high, False)
            ]
        )
    points = [
        {
            "x": f"{a:.1f}",
            "y": f"{b:.1f}",
            "about": f"{name}: {x_name} {p:.4g}, {y_name} {q:.4g}",
            "kind": kind,
        }
        for a, b, name, kind, p, q in zip(
            *places, names, kinds, x, y, strict=True
        )
    ]
    chart = {"width": WIDTH, "height": TALL, "left": left, "base": base,
             "top": top, "x": axes[0], "y": axes[1],
             "points": points}  # fmt: skip
    return piece("scatter", title, x_name, y_name, text, chart)


def anchor(part: Any) -> str:
    """Where the text of a mark hangs on it, by its place from 0 to 1."""
    return "start" if part < 0.06 else "end" if part > 0.94 else "middle"


def ticks(low: float, high: float, log: bool) -> Any:
    """Round numbers in a range, three to seven of them."""
    if log:
        marks = [
            m * 10.0**e
            for e in range(math.floor(math.log10(low)), 12)
            for m in (1, 2, 5)
        ]
        marks = [m for m in marks if low <= m <= high]
        return marks[:: -(-len(marks) // 6) or 1]
    size = 10.0 ** math.floor(math.log10((high - low) / 3))
    for factor in (5, 2, 1):
        step = factor * size
        first = math.ceil(low / step - 1e-9)
        last = math.floor(high / step + 1e-9)
        if last - first >= 2:
            break
    return [round(k * step, 10) + 0.0 for k in range(first, last + 1)]


def bars(title: str, counts: Any) -> Any:
    """How often each value occurs, as a table with bars.

    Args:
        title: What is counted.
        counts: Dict of value to number.

    Returns:
        HTML, a `figure`, or nothing where nothing was counted.
    """
    if not counts:
        return ""
    items = list(counts.items())
    total, most = sum(counts.values()), max(counts.values())
    more = items[BARS:]
    rows = [
        {
            "name": str(name).strip() or "(empty)",
            "width": f"{100 * n / most:.1f}",
            "count": f"{n:,}",
        }
        for name, n in items[:BARS]
    ]
    text = f"{total:,} in all"
    if len(items) > 1:
        text = f"{len(items):,} values, {text}"
    cut = ""
    if more:
        cut = f"{len(more):,} more values with {sum(n for _, n in more):,}."
    return piece("bars", title, text, rows, cut)
