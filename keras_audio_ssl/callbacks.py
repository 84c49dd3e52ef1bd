"""Keras callbacks for pretraining runs."""

import csv
import math
import sys
from pathlib import Path
from time import monotonic

import keras
import numpy as np

from keras_audio_ssl.evaluation import geometry
from keras_audio_ssl.hub import save_encoder
from keras_audio_ssl.losses import embedding_std
from keras_audio_ssl.methods.pretext import waveform_and_lengths


class StepCallback(keras.callbacks.Callback):
    """Counts steps over epochs, and calls `on_step` every few of them.

    Args:
        every: Steps between calls. Where Keras runs several steps at once
            (`steps_per_execution`), the call comes after the last of them.
        first: Steps done before this `fit`.

    Attributes:
        step: Steps done.
    """

    def __init__(self, every=1, first=0):
        super().__init__()
        self.every, self.first = every, first
        self.step = self._epoch_start = first

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_start = self.step

    def on_train_batch_end(self, batch, logs=None):
        before, self.step = self.step, self._epoch_start + batch + 1
        if self.step // self.every > before // self.every:
            self.on_step(self.step, logs or {})

    def on_step(self, step, logs):
        """What is done after `step` steps."""


class HistoryCSV(StepCallback):
    """Writes a row of `history.csv` every few steps.

    Losses and metrics are means over the steps since the row before. The
    columns are `step`, `loss`, the metrics by name, `learning_rate`, and
    what a monitor measured.

    Args:
        path: The file; rows are appended to what is there.
        every: Steps between rows.
        first: Steps done before this `fit`.
        monitor: `EmbeddingMonitor` of the same `fit`, called before this.
    """

    def __init__(self, path, every=20, first=0, monitor=None):
        super().__init__(every, first)
        self.path = Path(path)
        self.monitor = monitor
        self.columns = None

    def on_step(self, step, logs):
        rate = float(np.asarray(self.model.optimizer.learning_rate))
        row = {"step": step, **logs, "learning_rate": rate}
        new = not self.path.exists()
        rest = sorted(set(row) - {"step", "loss"})
        if self.monitor is not None:
            rest += self.monitor.columns
            row.update(self.monitor.measured.get(step, {}))
        self.columns = self.columns or ["step", "loss", *rest]
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, restval="")
            if new:
                writer.writeheader()
            writer.writerow(
                {k: f"{v:.6g}" if k != "step" else v for k, v in row.items()}
            )
        self.model.reset_metrics()


class EmbeddingMonitor(StepCallback):
    """Watches the embeddings of some clips, which the loss does not show.

    Each clip is cut in two; the vectors of the first halves tell deviation,
    effective rank, uniformity and, with labels, how often the nearest clip
    has the same label; those of both halves the alignment. The first time
    that all clips look alike, it says so, and what to try.

    Args:
        clips: `(clips, samples)`, or a dict with `"waveform"` and
            `"lengths"`, at the encoder's rate: the same ones all the time.
        labels: `(clips,)` or None.
        every: Steps between measurements; the first is before training.
        first: Steps done before this `fit`.
        seconds: Most of a half that is used.
        say: Called with words when something is wrong.

    Attributes:
        measured: Dict of step to a dict of the `columns`.

    Raises:
        ValueError: Fewer than four clips, or not a label for each.

    Example:

    >>> model.fit(data, callbacks=[kas.callbacks.EmbeddingMonitor(data[0])])
    """

    def __init__(
        self, clips, labels=None, every=100, first=0, seconds=2.0, say=print
    ):
        super().__init__(every, first)
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

    @property
    def columns(self):
        """Names of what is measured."""
        names = ["std", "effective_rank", "alignment", "uniformity"]
        if self.labels is not None:
            names.append("neighbour_accuracy")
        return names

    def on_train_begin(self, logs=None):
        if self.step not in self.measured:
            self.on_step(self.step, {})

    def on_step(self, step, logs):
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


class StepCost(StepCallback):
    """Measures the first steps and says what the whole run will cost.

    Args:
        steps: Steps of the whole run that are to be done.
        say: Called with the line of words, once.
        warm: Steps that are not measured: compilation, first reading.
        measured: Steps that are, fewer where they last 20 s.
        stop: Whether the training ends there.

    Attributes:
        cost: None, then a dict of `seconds_per_step`, `seconds` (of the whole
            run), `memory_bytes` (largest so far; None where the system does
            not tell), `checkpoint_bytes` and `colab_sessions`.

    Example:

    >>> model.fit(data, callbacks=[kas.callbacks.StepCost(10_000)])
    """

    # What a free session of Google Colab gives, roughly.
    COLAB_HOURS, COLAB_BYTES = 12, 12.7e9

    def __init__(self, steps, say=print, warm=3, measured=30, stop=False):
        super().__init__()
        self.stop = stop
        self.steps, self.say = steps, say
        self.warm, self.measured = warm, measured
        self.cost: dict[str, float | None] | None = None
        self.begin: tuple[int, float] | None = None

    def on_step(self, step, logs):
        if self.cost is not None or step < self.warm:
            return
        # Reading a number waits for the step on backends that run ahead.
        float(np.asarray(logs.get("loss", 0.0)))
        now = monotonic()
        if self.begin is None:
            self.begin = (step, now)
            return
        done, passed = step - self.begin[0], now - self.begin[1]
        if done >= self.measured or passed > 20:
            self._tell(passed / done)
            if self.stop:
                self.model.stop_training = True

    def _tell(self, seconds):
        variables = [*self.model.variables, *self.model.optimizer.variables]
        total = seconds * self.steps
        memory = peak_memory()
        sessions = math.ceil(total / 3600 / self.COLAB_HOURS)
        self.cost = {
            "seconds_per_step": seconds,
            "seconds": total,
            "memory_bytes": memory,
            "checkpoint_bytes": sum(
                math.prod(v.shape) * np.dtype(v.dtype).itemsize
                for v in {id(v): v for v in variables}.values()
                if v.dtype != "string"
            ),
            "colab_sessions": sessions,
        }
        self.say(cost_in_words(self.cost, self.steps, self.COLAB_BYTES))


def peak_memory():
    """Most bytes of memory this process has held; None where unknown."""
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def cost_in_words(cost, steps, colab_bytes):
    """The line of a `StepCost`."""
    hours = cost["seconds"] / 3600
    time_ = f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
    text = (
        f"{cost['seconds_per_step']:.3g} s a step, {steps:,} steps in {time_}"
    )
    memory = cost["memory_bytes"]
    if memory is not None:
        text += f"; {memory / 1e9:.1f} GB of memory"
    text += f", checkpoints of {cost['checkpoint_bytes'] / 1e6:.3g} MB. "
    if memory is not None and memory > colab_bytes:
        return text + "Too much memory for a free Colab session."
    if cost["colab_sessions"] <= 1:
        return text + "At this speed a free Colab session would do."
    return text + (
        f"At this speed that is {cost['colab_sessions']} free Colab sessions: "
        "resume between them."
    )


class Checkpoint(StepCallback):
    """Saves the whole model every few steps, whole or not at all.

    The file `step_<n>.keras` holds weights, optimizer, target network and
    random generators: `keras.saving.load_model` goes on from it.

    Args:
        folder: Where; the newest `keep` files stay.
        every: Steps between files.
        first: Steps done before this `fit`.
        keep: Files that stay.
    """

    def __init__(self, folder, every, first=0, keep=2):
        super().__init__(every, first)
        self.folder, self.keep = Path(folder), keep

    def on_step(self, step, logs):
        self.save()

    def save(self):
        """Saves now; the path of the file."""
        path = self.folder / f"step_{self.step:09d}.keras"
        save_encoder(self.model, path)
        for old in checkpoints(self.folder)[: -self.keep]:
            old.unlink()
        return path


def checkpoints(folder):
    """The complete checkpoints of a folder, oldest first."""
    return sorted(Path(folder).glob("step_*.keras"))
