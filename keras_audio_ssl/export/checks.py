"""Whether a file gives what Keras does."""

from typing import Any

import keras
import numpy as np

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.export.formats import ExportError

# How far a file's vectors may be from Keras', absolute or, of vectors larger
# than 1, relative.
TOLERANCE = 1e-4
# Where the last digit of the samples matters more than that, so does the
# order in which a runtime adds: so many times as much.
ROUNDINGS = 10.0
BATCHES = (1, 3, 2)
# A graph may have been traced for one remainder of a stride alone. So there
# are clips of so many frames more than the shortest.
MORE_FRAMES = (1, 2, 3, 4, 6, 9, 16, 33)


def clips_for(
    model: keras.Model, samples: int | None = None
) -> list[np.ndarray]:
    """Waveforms to compare with, the longest last.

    Args:
        model: With `sample_rate` and `min_samples`.
        samples: Their only length; None for three, the shortest that there is
            among them, and some between.

    Returns:
        List of float32 `(batch, samples)`.
    """
    rate = model.sample_rate
    if samples is None:
        # A hundredth of a second: less is no sound.
        least = max(model.min_samples, rate // 100)
        some = least + rate // 3 + 7
        sizes = [(1, some + n * (rate // 100)) for n in MORE_FRAMES]
        lengths = (least, some, 2 * max(least, rate) + 11)
    else:
        sizes, lengths = [], (samples,) * 3
    sizes = [*sizes, *zip(BATCHES, lengths, strict=True)]
    random = np.random.default_rng(0)
    return [
        (0.1 * random.standard_normal(size)).astype("float32") for size in sizes
    ]


def compare(
    model: keras.Model,
    clips: list[np.ndarray],
    found: list[dict[str, np.ndarray]],
    title: str,
) -> None:
    """Compares what a file gives with what Keras does.

    Args:
        model: As of `clips_for`.
        clips: What it gave.
        found: What the file makes of each.
        title: The format, in words.

    Raises:
        ExportError: They differ.
    """
    for clip, outputs in zip(clips, found, strict=True):
        wanted = vectors(model, clip)
        nudged = vectors(model, np.nextafter(clip, 2 * clip))
        for key, want in wanted.items():
            got = outputs[key]
            if got.shape != want.shape:
                raise ExportError(
                    f"The {title} file gives `{key}` {got.shape} of "
                    f"{clip.shape[1]} samples, and Keras {want.shape}."
                )
            if not want.size:
                continue
            noise = np.abs(nudged[key] - want).max()
            most = max(
                TOLERANCE * max(1.0, np.abs(want).max()), ROUNDINGS * noise
            )
            off = np.abs(got - want).max()
            # Not a number is more than anything.
            if not off <= most:
                raise ExportError(
                    f"The {title} file gives other vectors than Keras: `{key}` "
                    f"of {clip.shape[1]} samples is off by {off:.2g}, where "
                    f"{most:.2g} may be."
                )


def vectors(model: keras.Model, clip: np.ndarray) -> dict[str, np.ndarray]:
    """A model's outputs by name, numpy."""
    return {
        key: np.asarray(keras.ops.convert_to_numpy(value))
        for key, value in named(model(clip, training=False)).items()
    }


def named(outputs: Any) -> dict[str, Tensor]:
    """Outputs of a model by name, whether it has several or one."""
    if isinstance(outputs, dict):
        return {key: outputs[key] for key in sorted(outputs)}
    return {"output": outputs}
