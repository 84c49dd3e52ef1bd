"""Keras callbacks for pretraining runs."""

import csv
from pathlib import Path

import keras
import numpy as np

from keras_audio_ssl.hub import save_encoder


class HistoryCSV(keras.callbacks.Callback):
    """Writes a row of `history.csv` every few steps.

    Losses and metrics are means over the steps since the row before. The
    columns are `step`, `loss`, the metrics by name and `learning_rate`.

    Args:
        path: The file; rows are appended to what is there.
        every: Steps between rows.
        first: Steps done before this `fit`.
    """

    def __init__(self, path, every=20, first=0):
        super().__init__()
        self.path, self.every, self.first = Path(path), every, first
        self.columns = None

    def on_train_batch_end(self, batch, logs=None):
        step = self.first + batch + 1
        if step % self.every:
            return
        rate = float(np.asarray(self.model.optimizer.learning_rate))
        row = {"step": step, **(logs or {}), "learning_rate": rate}
        new = not self.path.exists()
        rest = sorted(set(row) - {"step", "loss"})
        self.columns = self.columns or ["step", "loss", *rest]
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, restval="")
            if new:
                writer.writeheader()
            writer.writerow(
                {k: f"{v:.6g}" if k != "step" else v for k, v in row.items()}
            )
        self.model.reset_metrics()


class Checkpoint(keras.callbacks.Callback):
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
        super().__init__()
        self.folder, self.every = Path(folder), every
        self.first, self.keep = first, keep
        self.step = first

    def on_train_batch_end(self, batch, logs=None):
        self.step = self.first + batch + 1
        if self.step % self.every == 0:
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
