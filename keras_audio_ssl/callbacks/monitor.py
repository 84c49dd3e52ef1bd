"""What the loss does not show."""

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.callbacks.steps import StepCallback
from keras_audio_ssl.engine import waveform_and_lengths
from keras_audio_ssl.evaluation import geometry
from keras_audio_ssl.losses import embedding_std


class EmbeddingMonitor(StepCallback):
    """Watches the embeddings of some clips, which the loss does not show.

    Each clip is cut in two; the vectors of the first halves tell deviation,
    effective rank, uniformity and, with labels, how often the nearest clip
    has the same label; those of both halves the alignment. The first time
    that all clips look alike, it says so, and what to try. Where a method
    knows what doing nothing would cost (`baseline`), it says at the end
    whether the loss is below that.

    Args:
        clips: `(clips, samples)`, or a dict with `"waveform"` and
            `"lengths"`, at the encoder's rate: the same ones all the time.
        labels: `(clips,)` or None.
        every: Steps between measurements; the first is before training.
        steps_done: Steps done before this `fit`.
        seconds: Most of a half that is used.
        say: Called with words when something is wrong.

    Attributes:
        measured: Dict of step to a dict of the `columns`.

    Raises:
        ValueError: Fewer than four clips, or not a label for each.

    Example:
        >>> data = kas.data.from_folder("my_audio", 0.95, batch_size=32)
        >>> monitor = kas.callbacks.EmbeddingMonitor(data[0])
        >>> run = model.fit(data, callbacks=[monitor], verbose=0)
        loss ...
    """

    def __init__(
        self,
        clips: Any,
        labels: Tensor | None = None,
        every: int = 100,
        steps_done: int = 0,
        seconds: float = 2.0,
        say: Callable[[str], Any] = print,
    ) -> None:
        super().__init__(every, steps_done)
        if isinstance(clips, tuple):
            clips, *rest = clips
            labels = rest[0] if labels is None and rest else labels
        waveform, lengths = waveform_and_lengths(clips)
        waveform = np.asarray(waveform)
        if len(waveform) < 4:
            raise ValueError(
                "`clips` must be at least 4, to tell alike from unlike. "
                f"Received: {len(waveform)}"
            )
        if lengths is None:
            lengths = np.full(len(waveform), waveform.shape[1])
        if labels is not None and len(labels) != len(waveform):
            raise ValueError(
                f"`labels` must be one for each of {len(waveform)} clips. "
                f"Received: {len(labels)}"
            )
        self.waves = [
            w[:n] for w, n in zip(waveform, np.asarray(lengths), strict=True)
        ]
        self.labels = None if labels is None else np.asarray(labels)
        self.seconds, self.say = seconds, say
        self.measured: dict[int, dict[str, float]] = {}
        self.collapsed = False
        self.last: dict[str, float] = {}

    @property
    def columns(self) -> list[str]:
        """Names of what is measured."""
        names = ["std", "effective_rank", "alignment", "uniformity"]
        if self.labels is not None:
            names.append("neighbour_accuracy")
        return names

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self.step not in self.measured:
            self.on_step(self.step, {})

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        super().on_train_batch_end(batch, logs)
        self.last = logs or {}

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        name = self.model.baseline
        if name not in self.last:
            return
        loss, nothing = (float(self.last[k]) for k in ("loss", name))
        self.say(
            f"loss {loss:.4g}; {name}, which takes no learning, {nothing:.4g}"
            + (
                "."
                if loss < nothing
                else ": nothing was learnt that it does not know. Try more "
                "steps, or a higher learning rate."
            )
        )

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        encoder = self.model.encoder
        longest = round(self.seconds * encoder.sample_rate)
        halves = [
            part[:longest]
            for wave in self.waves
            for part in np.split(wave, [len(wave) // 2])
        ]
        vectors = encoder.embed(halves)
        if not np.isfinite(vectors).all():
            # The loss tells of it: nothing is to be learnt from the vectors.
            return
        vectors, others = vectors[::2], vectors[1::2]
        row = {
            "std": float(embedding_std(vectors)),
            "effective_rank": geometry.effective_rank(vectors),
            "alignment": geometry.alignment(vectors, others),
            "uniformity": geometry.uniformity(vectors),
        }
        if self.labels is not None:
            row["neighbour_accuracy"] = geometry.neighbour_accuracy(
                vectors, self.labels
            )
        self.measured[step] = row
        begin = next(iter(self.measured.values()))
        # Rectified features lie in a cone from the start, so the deviation is
        # held against that of the first measurement.
        alike = row["effective_rank"] < 2 or row["std"] < 0.1 * begin["std"]
        if alike and not self.collapsed:
            self.say(
                f"collapsed: at step {step} the embeddings of "
                f"{len(vectors)} clips are nearly the same (deviation "
                f"{row['std']:.2g}, {begin['std']:.2g} at first; effective "
                f"rank {row['effective_rank']:.1f} of at most "
                f"{min(len(vectors) - 1, vectors.shape[1])}). Try a lower "
                "learning rate, a larger batch or more varied clips, and "
                "look whether the clips are silent."
            )
        self.collapsed = alike
