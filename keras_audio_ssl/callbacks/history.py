"""What a run measures, kept in files."""

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_audio_ssl._files import WriteError
from keras_audio_ssl._files import written_whole
from keras_audio_ssl._optional import need
from keras_audio_ssl._types import FilePath
from keras_audio_ssl.callbacks.steps import StepCallback


class HistoryCSV(StepCallback):
    """Writes a row of `history.csv` every few steps.

    Losses and metrics are means over the steps since the row before. The
    columns are `step`, `loss`, the metrics by name, `learning_rate`, and
    what a monitor measured. A table that was damaged is set aside, and the
    rows that can be read go on.

    Args:
        path: The file; rows are appended to what is there. Those of steps
            that are to be done again, since a killed run came further than
            its last checkpoint, are dropped.
        every: Steps between rows.
        steps_done: Steps done before this `fit`.
        monitor: `EmbeddingMonitor` of the same `fit`, called before this.
        say: Called with words about a damaged table.
    """

    def __init__(
        self,
        path: FilePath,
        every: int = 20,
        steps_done: int = 0,
        monitor: Any = None,
        say: Callable[[str], Any] = print,
    ) -> None:
        super().__init__(every, steps_done)
        self.path = Path(path)
        self.monitor = monitor
        self.columns: list[str] | None = None
        self.say = say
        self._written = False  # whether the row of the first step is there

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not self.path.exists():
            return
        head, rows, whole = read_table(self.path)
        kept = [row for row in rows if int(row[0]) <= self.steps_done]
        if not whole:
            aside = self.path.with_suffix(f".damaged{self.path.suffix}")
            os.replace(self.path, aside)
            self.say(
                f"{self.path} is damaged, and was set aside as {aside.name}: "
                f"{len(kept)} of its rows can be read"
            )
        if head is None:
            self.path.unlink(missing_ok=True)
            return
        self.columns = head
        self._written = bool(kept) and int(kept[-1][0]) == self.steps_done
        with (
            written_whole(self.path) as draft,
            open(draft, "w", newline="", encoding="utf-8") as file,
        ):
            csv.writer(file).writerows([head, *kept])

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        super().on_epoch_begin(epoch, logs)
        if self._written:
            # The means of a checkpoint that was written just before the row.
            self.model.reset_metrics()
            self._written = False

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        row = {"step": step, **logs, "learning_rate": learning_rate(self.model)}
        new = not self.path.exists()
        rest = sorted(set(row) - {"step", "loss"})
        if self.monitor is not None:
            rest += self.monitor.columns
            row.update(self.monitor.measured.get(step, {}))
        self.columns = self.columns or ["step", "loss", *rest]
        try:
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                writer: csv.DictWriter[str] = csv.DictWriter(
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


def read_table(path: Path) -> Any:
    """What can be read of a history.

    Args:
        path: The CSV file.

    Returns:
        `(names of columns or None, rows, whether all could be read)`. A last
        row that was not written to its end is none, and no damage.
    """
    data = path.read_bytes()
    text = data.decode("utf-8", "replace")
    whole = "\0" not in text and data == text.encode()
    body, _, torn = text.rpartition("\n")
    whole = whole and (not torn or torn.isprintable())
    head, *rows = [line.rstrip("\r").split(",") for line in body.split("\n")]
    if head[:2] != ["step", "loss"]:
        return None, [], whole and not body
    kept, last = [], -1
    for row in rows:
        if len(row) == len(head) and is_row(row) and int(row[0]) > last:
            kept.append(row)
            last = int(row[0])
    return head, kept, whole and len(kept) == len(rows)


def is_row(row: Any) -> bool:
    """Whether cells are a step and numbers, or empty."""
    try:
        [float(cell or 0) for cell in row]
    except ValueError:
        return False
    return row[0].isascii() and row[0].isdigit()


class TensorBoard(StepCallback):
    """Writes what `HistoryCSV` does as TensorBoard's files.

    Unlike Keras' callback of this name it needs no TensorFlow, but the
    package tensorboardX.

    Args:
        folder: Where; `tensorboard --logdir` takes it.
        every: Steps between points.
        steps_done: Steps done before this `fit`.
        monitor: `EmbeddingMonitor` of the same `fit`, called before this.

    Raises:
        ImportError: TensorboardX is not installed.
    """

    def __init__(
        self,
        folder: FilePath,
        every: int = 20,
        steps_done: int = 0,
        monitor: Any = None,
    ) -> None:
        super().__init__(every, steps_done)
        need("tensorboardX", "`TensorBoard`")
        import tensorboardX

        self.monitor = monitor
        # A killed run loses the points of its last seconds.
        self._open = lambda: tensorboardX.SummaryWriter(
            str(folder), flush_secs=10
        )

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.writer = self._open()

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        row = {**logs, "learning_rate": learning_rate(self.model)}
        if self.monitor is not None:
            row.update(self.monitor.measured.get(step, {}))
        for name, value in row.items():
            self.writer.add_scalar(name, float(np.asarray(value)), step)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        # `flush` would leave what waits in the writer's queue.
        self.writer.close()


def learning_rate(model: Any) -> float:
    """The optimizer's rate at this step."""
    return float(np.asarray(model.optimizer.learning_rate))
