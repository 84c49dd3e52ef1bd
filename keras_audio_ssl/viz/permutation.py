"""What a method by permutations shuffles of a clip, and puts in order."""

from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keras_audio_ssl._types import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def permutation(model: Any, clip: Tensor) -> "Figure":
    """Draws a window of a clip as it is, shuffled, and put back in order.

    Lines are the edges of patches. Those that the model puts in the wrong
    place are pale, and the title counts the others.

    Args:
        model: `kas.Permutations`.
        clip: `(samples,)` at the encoder's rate.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: The method shuffles nothing, or `clip` is no single clip.

    Example:
        >>> model = kas.Permutations(preset="tiny")
        >>> clip = kas.data.read_audio("clip.flac", 16000)
        >>> kas.viz.permutation(model, clip).savefig("permutation.png")
    """
    wave = np.asarray(clip, "float32")
    if wave.ndim != 1:
        raise ValueError(
            f"`clip` must be (samples,), one clip. Received: {wave.shape}"
        )
    outputs = model(wave[None])
    if not {"shuffled", "scores", "ranks"} <= set(outputs):
        raise ValueError(
            f"{type(model).__name__} shuffles no patches: there is nothing to "
            "put in order."
        )
    from keras import ops
    from matplotlib.figure import Figure

    shuffled, scores, ranks = (
        np.asarray(ops.convert_to_numpy(outputs[key]))[0]
        for key in ("shuffled", "scores", "ranks")
    )
    order = np.argsort(scores, kind="stable")
    right = ranks[order] == np.arange(len(ranks)) + 1
    panels = [
        ("original", shuffled[np.argsort(ranks)], None),
        ("shuffled", shuffled, None),
        (
            f"put in order, {right.sum()} of {len(right)} in their place",
            shuffled[order],
            right,
        ),
    ]
    counts = model.cutter.counts
    figure = Figure((3 * len(panels), 3.2), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True)
    low, high = np.percentile(shuffled, [1, 99.5])
    end = counts[0] * shuffled.shape[1] / model.encoder.frontend.frame_rate
    for ax, (title, patches, seen) in zip(axes, panels, strict=True):
        shade = None
        if seen is not None:
            pale = np.where(seen, 1.0, 0.3)[:, None, None]
            shade = joined(np.broadcast_to(pale, patches.shape), counts).T
        ax.imshow(
            joined(patches, counts).T, origin="lower", aspect="auto",
            cmap="magma", vmin=low, vmax=high, alpha=shade,
            extent=(0, end, 0, counts[1]), interpolation="nearest",
        )  # fmt: skip
        for i in range(1, counts[0]):
            ax.axvline(i * end / counts[0], color="w", linewidth=0.6)
        for i in range(1, counts[1]):
            ax.axhline(i, color="w", linewidth=0.6)
        ax.set_title(title, fontsize=9, loc="left")
        ax.tick_params(labelsize=7)
        ax.set_xlabel("s", fontsize=8)
    axes[0].set_ylabel("patch, low to high", fontsize=8)
    axes[0].set_yticks(np.arange(counts[1]) + 0.5, range(1, counts[1] + 1))
    return figure


def joined(patches: Any, counts: Any) -> Any:
    """Patches `(number, frames, bins)` as one map `(time, bins)`."""
    _, frames, bins = patches.shape
    x = patches.reshape(*counts, frames, bins).transpose(0, 2, 1, 3)
    return x.reshape(counts[0] * frames, counts[1] * bins)
