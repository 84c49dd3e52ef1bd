"""What a run measures, kept in files."""

import csv
from pathlib import Path

import numpy as np

from keras_audio_ssl._files import WriteError
from keras_audio_ssl._files import written_whole
from keras_audio_ssl.callbacks.steps import StepCallback


class HistoryCSV(StepCallback):
    """Writes a row of `history.csv` every few steps.

    Losses and metrics are means over the steps since the row before. The
    columns are `step`, `loss`, the metrics by name, `learning_rate`, and
    what a monitor measured.

    Args:
        path: The file; rows are appended to what is there. Those of steps
            that are to be done again, since a killed run came further than
            its last checkpoint, are dropped.
        every: Steps between rows.
        first: Steps done before this `fit`.
        monitor: `EmbeddingMonitor` of the same `fit`, called before this.
    """

    def __init__(self, path, every=20, first=0, monitor=None):
        super().__init__(every, first)
        self.path = Path(path)
        self.monitor = monitor
        self.columns = None

    def on_train_begin(self, logs=None):
        if not self.path.exists():
            return
        with open(self.path, newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        head, *rows = rows or [[]]
        if head[:2] != ["step", "loss"]:
            # Empty, or damaged when the machine went down.
            self.path.unlink()
            return
        self.columns = head
        kept = [
            row
            for row in rows
            if len(row) == len(head)
            and row[0].isdigit()
            and int(row[0]) <= self.first
        ]
        with (
            written_whole(self.path) as draft,
            open(draft, "w", newline="", encoding="utf-8") as file,
        ):
            csv.writer(file).writerows([head, *kept])

    def on_step(self, step, logs):
        row = {"step": step, **logs, "learning_rate": learning_rate(self.model)}
        new = not self.path.exists()
        rest = sorted(set(row) - {"step", "loss"})
        if self.monitor is not None:
            rest += self.monitor.columns
            row.update(self.monitor.measured.get(step, {}))
        self.columns = self.columns or ["step", "loss", *rest]
        try:
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(
                    file, self.columns, restval="", extrasaction="ignore"
                )
                if new:
                    writer.writeheader()
                writer.writerow(
                    {
                        k: f"{v:.6g}" if k != "step" else v
                        for k, v in row.items()
                    }
                )
        except OSError as error:
            raise WriteError(self.path, error) from error
        self.model.reset_metrics()


class TensorBoard(StepCallback):
    """Writes what `HistoryCSV` does as TensorBoard's files.

    Unlike Keras' callback of this name it needs no TensorFlow, but the
    package tensorboardX (`pip install "keras-audio-ssl[tensorboard]"`).

    Args:
        folder: Where; `tensorboard --logdir` takes it.
        every: Steps between points.
        first: Steps done before this `fit`.
        monitor: `EmbeddingMonitor` of the same `fit`, called before this.

    Raises:
        ImportError: tensorboardX is not installed.
    """

    def __init__(self, folder, every=20, first=0, monitor=None):
        super().__init__(every, first)
        try:
            import tensorboardX
        except ImportError:
            raise ImportError(
                "TensorBoard's files need tensorboardX: pip install "
                "tensorboardX"
            ) from None
        self.monitor = monitor
        # A killed run loses the points of its last seconds.
        self._open = lambda: tensorboardX.SummaryWriter(
            str(folder), flush_secs=10
        )

    def on_train_begin(self, logs=None):
        self.writer = self._open()

    def on_step(self, step, logs):
        row = {**logs, "learning_rate": learning_rate(self.model)}
        if self.monitor is not None:
            row.update(self.monitor.measured.get(step, {}))
        for name, value in row.items():
            self.writer.add_scalar(name, float(np.asarray(value)), step)

    def on_train_end(self, logs=None):
        # `flush` would leave what waits in the writer's queue.
        self.writer.close()


def learning_rate(model):
    """The optimizer's rate at this step."""
    return float(np.asarray(model.optimizer.learning_rate))
