"""What a masked method hides of a clip, and what it makes of it."""

from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keras_audio_ssl._types import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reconstruction(model: Any, clip: Tensor) -> "Figure":
    """Draws input, altered input, prediction and error of one clip.

    Four panels with seconds and Hz. The error is shown where it counts in the
    loss; elsewhere it is pale.

    Args:
        model: A method that rebuilds features: its call gives `"target"` and
            `"prediction"`, and where it hides some `"altered"` and `"label"`.
        clip: `(samples,)` at the encoder's rate.

    Returns:
        A matplotlib `Figure`.

    Raises:
        ValueError: The method rebuilds nothing, or `clip` is no single clip.

    Example:
        >>> model = kas.NPC(preset="tiny")
        >>> clip = kas.data.read_audio("clip.flac", 16000)
        >>> kas.viz.reconstruction(model, clip).savefig("reconstruction.png")
    """
    wave = np.asarray(clip, "float32")
    if wave.ndim != 1:
        raise ValueError(
            f"`clip` must be (samples,), one clip. Received: {wave.shape}"
        )
    outputs = model(wave[None])
    if not {"target", "prediction"} <= set(outputs):
        raise ValueError(
            f"{type(model).__name__} rebuilds no features: there is nothing "
            "to compare."
        )
    from keras import ops
    from matplotlib.figure import Figure

    parts = {
        key: np.asarray(ops.convert_to_numpy(outputs[key]))[0]
        for key in ("target", "altered", "prediction", "label")
        if key in outputs
    }
    encoder, stack = model.encoder, getattr(model, "stack", 1)
    target_frontend = getattr(model, "target_frontend", None)
    frontends = {"altered": encoder.frontend}
    of_target = target_frontend or encoder.frontend
    parts = {
        key: part.reshape(len(part) * stack, -1) for key, part in parts.items()
    }
    error = np.abs(parts["prediction"] - parts["target"])
    panels = [("input", parts["target"], of_target)]
    if target_frontend is not None:
        panels[0] = ("target", parts["target"], of_target)
    if "altered" in parts:
        panels.append(("altered input", parts["altered"], frontends["altered"]))
    panels += [("prediction", parts["prediction"], of_target)]
    figure = Figure((7, 1.7 * len(panels) + 1.9), layout="constrained")
    axes = figure.subplots(len(panels) + 1, 1, sharex=True)
    low, high = np.percentile(parts["target"], [1, 99.5])
    for ax, (title, image, frontend) in zip(axes, panels, strict=False):
        drawn = show(ax, image, frontend, "magma", low, high)
        ax.set_title(title, fontsize=9, loc="left")
        figure.colorbar(drawn, ax=ax, pad=0.01).ax.tick_params(labelsize=7)
    label = parts.get("label")
    shade = None if label is None else np.where(label, 1.0, 0.25)
    top = max(float(np.percentile(error, 99.5)), 1e-6)
    drawn = show(axes[-1], error, of_target, "viridis", 0, top, shade)
    axes[-1].set_title(told(error, label), fontsize=9, loc="left")
    figure.colorbar(drawn, ax=axes[-1], pad=0.01).ax.tick_params(labelsize=7)
    axes[-1].set_xlabel("s", fontsize=8)
    return figure


def told(error: Any, label: Any) -> str:
    """The last panel's title: mean errors in words."""
    if label is None or label.all() or not label.any():
        return f"absolute error, {error.mean():.2f} on average"
    return (
        f"absolute error, {error[label].mean():.2f} on average where hidden, "
        f"{error[~label].mean():.2f} elsewhere (pale)"
    )


def show(
    ax: Any,
    image: Any,
    frontend: Any,
    colours: Any,
    low: Any,
    high: Any,
    alpha: Any = None,
) -> Any:
    """One panel: seconds along, bins up, their Hz where they have some."""
    end = len(image) / frontend.frame_rate
    bins = image.shape[1]
    drawn = ax.imshow(
        image.T, origin="lower", aspect="auto", cmap=colours, vmin=low,
        vmax=high, extent=(0, end, 0, bins), interpolation="nearest",
        alpha=None if alpha is None else alpha.T,
    )  # fmt: skip
    ax.tick_params(labelsize=7)
    hz = frontend.frequencies
    if hz is None or bins % len(hz):
        ax.set_ylabel("bin", fontsize=8)
        return drawn
    marks = [f for f in (250, 500, 1000, 2000, 4000, 8000) if f <= hz[-1]]
    at = np.interp(marks, hz, np.arange(len(hz)) + 0.5)
    ax.set_yticks(at, [str(mark) for mark in marks])
    ax.set_ylabel("Hz", fontsize=8)
    return drawn
