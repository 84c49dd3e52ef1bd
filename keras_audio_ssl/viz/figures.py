"""Figures of features and embeddings; matplotlib is the extra `viz`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keras_audio_ssl._text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def log_mels(
    features: Any,
    titles: Sequence[str] | None = None,
    frame_rate: float | None = None,
    columns: int = 4,
) -> "Figure":
    """Draws spectrograms in a grid, with one colour scale.

    Args:
        features: List of `(frames, bins)`.
        titles: One for each.
        frame_rate: Hz; the time axis is in frames without it.
        columns: Of the grid.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: There is nothing to draw.
    """
    if not len(features):
        raise ValueError("`features` must hold at least one array.")
    from matplotlib.figure import Figure

    features = [np.asarray(f) for f in features]
    columns = min(columns, len(features))
    rows = -(-len(features) // columns)
    figure = Figure((2.6 * columns, 1.9 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    low = np.percentile(np.concatenate([f.ravel() for f in features]), 2)
    high = max(f.max() for f in features)
    for i, axes in enumerate(grid.flat):
        if i >= len(features):
            axes.set_axis_off()
            continue
        end = len(features[i]) / (frame_rate or 1)
        axes.imshow(
            features[i].T,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=low,
            vmax=high,
            extent=(0, end, 0, features[i].shape[1]),
        )
        axes.set_yticks([])
        axes.tick_params(labelsize=7)
        if titles is not None:
            axes.set_title(titles[i], fontsize=9)
        if i // columns == rows - 1:
            axes.set_xlabel("s" if frame_rate else "frame", fontsize=8)
    return figure


def embedding_map(
    embeddings: Any,
    labels: Any,
    titles: Sequence[str] | None = None,
    seed: int = 0,
) -> "Figure":
    """Draws embeddings on a plane (t-SNE), a colour for each class.

    Args:
        embeddings: `(clips, dim)`, or a list of such, drawn side by side.
        labels: `(clips,)`, class of each clip.
        titles: One for each map.
        seed: Of the projection.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: `labels` has another length.
    """
    if isinstance(embeddings, np.ndarray):
        embeddings = [embeddings]
    labels = np.asarray(labels)
    for e in embeddings:
        if len(e) != len(labels):
            raise ValueError(
                "Each clip needs a label. Received: "
                f"{len(e)} embeddings and {len(labels)} labels"
            )
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler

    figure = Figure((4.2 * len(embeddings) + 1.6, 4.2), layout="constrained")
    grid = figure.subplots(1, len(embeddings), squeeze=False)[0]
    names = np.unique(labels)
    colours = colormaps["tab20"](np.arange(len(names)) % 20)
    for i, (axes, e) in enumerate(zip(grid, embeddings, strict=True)):
        x = StandardScaler().fit_transform(np.asarray(e, "float64"))
        near = min(20, max(2, len(x) // 4))
        plane = TSNE(
            perplexity=near, random_state=seed, init="pca"
        ).fit_transform(x)
        for name, colour in zip(names, colours, strict=True):
            part = plane[labels == name]
            axes.scatter(
                part[:, 0], part[:, 1], s=9, color=colour, label=str(name)
            )
        axes.set_xticks([])
        axes.set_yticks([])
        if titles is not None:
            axes.set_title(titles[i], fontsize=10)
    figure.legend(
        *grid[0].get_legend_handles_labels(),
        loc="outside right center",
        fontsize=7,
        frameon=False,
    )
    return figure


# Colours of heads, as on the page.
COLOURS = {"global": "#2f6db3", "vertical": "#b8590b", "diagonal": "#2c7f4c"}


def attention_map(
    weights: Any,
    spectrogram: Any,
    frame_rate: Any,
    phones: Sequence[Any] = (),
    title: str = "",
    relation: Any = None,
) -> "Figure":
    """Draws one head's map with the clip's spectrogram on both axes.

    Args:
        weights: `(queries, keys)`.
        spectrogram: `(bands, frames)`, the lowest band first.
        frame_rate: Hz, of the frames.
        phones: `(start, end, name)` of each, in seconds.
        title: Of the figure.
        relation: `(values, names)`, the head's relation of phonemes, less 1,
            and what they are called; drawn beside the map.

    Returns:
        A matplotlib `Figure`.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    end = len(weights) / frame_rate
    figure = Figure((12.4 if relation else 7.0, 7.0))
    wide = 7.0 / figure.get_figwidth()
    left, low, side, strip = 0.12 * wide, 0.08, 0.11, 0.1
    size = 0.74
    top = figure.add_axes(
        (left + side * wide, low + size + 0.01, size * wide, strip)
    )
    beside = figure.add_axes((left, low, strip * wide, size))
    main = figure.add_axes((left + side * wide, low, size * wide, size))
    bands = len(spectrogram)
    top.imshow(spectrogram, origin="lower", aspect="auto", cmap="magma",
               extent=(0, end, 0, bands))  # fmt: skip
    beside.imshow(spectrogram.T[:, ::-1], aspect="auto", cmap="magma",
                  extent=(bands, 0, end, 0))  # fmt: skip
    main.imshow(weights, aspect="auto", cmap="magma", norm=PowerNorm(0.5),
                extent=(0, end, end, 0), interpolation="nearest")  # fmt: skip
    main.set_xlabel("key, seconds", fontsize=9)
    beside.set_ylabel("query, seconds", fontsize=9)
    main.set_yticks([])
    top.set_xticks([])
    top.set_yticks([])
    beside.set_xticks([])
    for axes in (main, beside):
        axes.tick_params(labelsize=8)
    for start, stop, name in phones:
        stop = min(stop, end)
        for at in (start, stop):
            top.axvline(at, color="w", alpha=0.5, linewidth=0.6)
            beside.axhline(at, color="w", alpha=0.5, linewidth=0.6)
            main.axvline(at, color="w", alpha=0.25, linewidth=0.5)
            main.axhline(at, color="w", alpha=0.25, linewidth=0.5)
        # As many names as there is room for.
        if stop - start > 0.012 * end:
            middle = (start + stop) / 2
            top.text(middle, 1.02 * bands, plain(name), fontsize=6,
                     ha="center", va="bottom")  # fmt: skip
            beside.text(1.03 * bands, middle, plain(name), fontsize=6,
                        ha="right", va="center")  # fmt: skip
    if phones:
        beside.tick_params(axis="y", pad=15, length=0)
    figure.suptitle(plain(title), fontsize=11, x=left + side * wide,
                    y=0.985, ha="left")  # fmt: skip
    if relation:
        axes = figure.add_axes((0.63, low + 0.04, 0.3, 0.3 / wide * 0.98))
        bar = figure.add_axes((0.94, low + 0.04, 0.01, 0.3 / wide * 0.98))
        values, labels = relation
        draw_relation(axes, values, labels, bar=bar)
        axes.set_title("relation of phones, to uniform attention", fontsize=9)
    return figure


def plain(text: str) -> str:
    """Text in which matplotlib sees no formula, and a font no bad sign."""
    return printable(text).replace("$", r"\$")


def draw_relation(axes: Any, values: Any, names: Any, bar: Any = None) -> None:
    """A relation of phonemes on axes of matplotlib; blank where it is NaN."""
    values = np.asarray(values, "float64")
    known = np.abs(values[np.isfinite(values)])
    most = min(2.0, known.max(initial=0.01))
    image = axes.imshow(values, cmap="RdBu_r", vmin=-most, vmax=most)
    at = np.arange(len(names))
    words = [plain(name) for name in names]
    small = 8 if len(names) <= 24 else 5
    axes.set_xticks(at, words, fontsize=small)
    axes.set_yticks(at, words, fontsize=small)
    axes.set_xlabel("key", fontsize=9)
    axes.set_ylabel("query", fontsize=9)
    if bar is not None:
        axes.figure.colorbar(image, cax=bar).ax.tick_params(labelsize=7)


def relation_map(relative: Any, names: Any, title: str = "") -> "Figure":
    """Draws how much one phoneme looks at another, over uniform attention.

    Args:
        relative: `(phonemes, phonemes)`, 0 as uniform attention, -1 never,
            NaN where there is none; phoneme of the query first.
        names: Of the phonemes.
        title: Of the figure.

    Returns:
        A matplotlib `Figure`.
    """
    from matplotlib.figure import Figure

    size = max(4.0, 2.0 + 0.16 * len(names))
    figure = Figure((size + 0.9, size))
    axes = figure.add_axes((0.13, 0.12, 0.7, 0.78))
    bar = figure.add_axes((0.87, 0.12, 0.025, 0.78))
    draw_relation(axes, relative, names, bar)
    axes.set_title(plain(title), fontsize=10)
    return figure


def attention_grid(maps: Any, rows: Any) -> "Figure":
    """Draws the maps of all heads, a line for each layer.

    Args:
        maps: `(layers, heads, frames, frames)`.
        rows: A dict with the `category` of each head, layer by layer.

    Returns:
        A matplotlib `Figure`.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    layers, heads = maps.shape[:2]
    figure = Figure((1.2 * heads + 0.4, 1.4 * layers + 0.3))
    grid = figure.subplots(layers, heads, squeeze=False)
    figure.subplots_adjust(0.02, 0.01, 0.99, 0.94, 0.06, 0.2)
    for axes, one, row in zip(
        grid.flat, maps.reshape(-1, *maps.shape[2:]), rows, strict=True
    ):
        # A picture of an inch: more points than it has are left out.
        every = max(1, len(one) // 240)
        axes.imshow(one[::every, ::every], cmap="magma", norm=PowerNorm(0.5),
                    aspect="auto")  # fmt: skip
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(
            f"{row['layer'] + 1}.{row['head'] + 1} {row['category']}",
            fontsize=7, color=COLOURS[row["category"]], pad=2,
        )  # fmt: skip
    return figure


def metric_bars(rows: Any) -> "Figure":
    """Draws globalness, verticality and diagonality of all heads.

    Args:
        rows: A dict for each head with these, `layer`, `head`, `category`.

    Returns:
        A matplotlib `Figure`: bars, and heads in the plane.
    """
    from matplotlib.figure import Figure

    figure = Figure((10, 6), layout="constrained")
    grid = figure.subplots(2, 2)
    colours = [COLOURS[row["category"]] for row in rows]
    names = [f"{row['layer'] + 1}.{row['head'] + 1}" for row in rows]
    at = np.arange(len(rows))
    values = {}
    for axes, name in zip(
        grid.flat, ("globalness", "verticality", "diagonality"), strict=False
    ):
        values[name] = np.array([row[name] for row in rows])
        axes.bar(at, values[name], color=colours)
        axes.set_title(name, fontsize=10)
        every = -(-len(rows) // 16)
        axes.set_xticks(at[::every], names[::every], fontsize=7)
        axes.tick_params(axis="y", labelsize=8)
    plane = grid[1, 1]
    plane.scatter(values["globalness"], values["diagonality"], c=colours, s=22)
    if len(rows) <= 48:
        for x, y, name in zip(
            values["globalness"], values["diagonality"], names, strict=True
        ):
            plane.annotate(name, (x, y), xytext=(3, 3), fontsize=6,
                           textcoords="offset points")  # fmt: skip
    plane.set_xlabel("globalness", fontsize=9)
    plane.set_ylabel("diagonality", fontsize=9)
    plane.tick_params(labelsize=8)
    for category, colour in COLOURS.items():
        plane.scatter([], [], c=colour, s=22, label=category)
    plane.legend(fontsize=7, frameon=False)
    return figure


def pruning_curves(curves: Any, score: str = "score") -> "Figure":
    """Draws scores as heads are switched off.

    Args:
        curves: Dict of a name to what `prune_heads` yields: pairs of heads
            that are off, and score.
        score: What the score is.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: There is nothing to draw.
    """
    if not curves:
        raise ValueError("`curves` must hold at least one curve.")
    from matplotlib.figure import Figure

    figure = Figure((5.2, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        off, values = zip(*curve, strict=True)
        axes.plot(off, values, marker="o", markersize=3, label=plain(name))
    axes.set_xlabel("heads switched off", fontsize=9)
    axes.set_ylabel(plain(score), fontsize=9)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8, frameon=False)
    return figure
