"""Figures of features and embeddings; matplotlib is the extra `viz`."""

import numpy as np


def log_mels(features, titles=None, frame_rate=None, columns=4):
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


def embedding_map(embeddings, labels, titles=None, seed=0):
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
