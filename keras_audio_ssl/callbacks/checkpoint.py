"""Runs that go on where they were stopped, to the bit."""

from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import keras_audio_ssl.backend as backend
from keras_audio_ssl import hub
from keras_audio_ssl._files import as_json
from keras_audio_ssl._files import write_text
from keras_audio_ssl._types import FilePath
from keras_audio_ssl.callbacks.resume import changes
from keras_audio_ssl.callbacks.resume import checkpoints
from keras_audio_ssl.callbacks.resume import copy_state
from keras_audio_ssl.callbacks.resume import last_checkpoint
from keras_audio_ssl.callbacks.resume import read_record
from keras_audio_ssl.callbacks.resume import record
from keras_audio_ssl.callbacks.resume import write_contents
from keras_audio_ssl.callbacks.steps import StepCallback
from keras_audio_ssl.engine import go_on_with_metrics
from keras_audio_ssl.engine import keep_metrics


class Checkpoint(StepCallback):
    """Saves the whole model every few steps, whole or not at all.

    The file `step_<n>.keras` holds weights, optimizer, target network, random
    generators and running means: `last_checkpoint` goes on from it.

    Args:
        folder: Where; the newest `keep` files stay.
        every: Steps between files.
        minutes: Longest time between files.
        steps_done: Steps done before this `fit`.
        keep: Files that stay.
    """

    def __init__(
        self,
        folder: FilePath,
        every: int = 500,
        steps_done: int = 0,
        keep: int = 2,
        minutes: float = 10.0,
    ) -> None:
        super().__init__(every, steps_done)
        self.folder, self.keep, self.minutes = Path(folder), keep, minutes
        self.saved: int | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.last = monotonic()

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        super().on_epoch_begin(epoch, logs)
        go_on_with_metrics(self.model)

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        super().on_train_batch_end(batch, logs)
        if monotonic() - self.last > 60 * self.minutes:
            self.save()

    def on_step(self, step: int, logs: dict[str, Any]) -> None:
        self.save()

    def save(self) -> Any:
        """Saves now, unless this step is saved; the path of the file."""
        path = self.folder / f"step_{self.step:09d}.keras"
        if self.saved != self.step:
            hub.save_encoder(self.model, path)
            self.saved, self.last = self.step, monotonic()
        # Those of later steps were passed over: they are damaged.
        here = [p for p in checkpoints(self.folder) if p <= path]
        later = [p for p in checkpoints(self.folder) if p > path]
        for old in here[: -self.keep] + later:
            old.unlink(missing_ok=True)
        return path


class ResumableCheckpoint(Checkpoint):
    """Lets `fit` go on where the one before it was stopped, to the bit.

    The same program again, with the same folder, opens the last checkpoint:
    weights, optimizer, target network, random generators and the order of
    the data are those of a run that was never stopped, in the middle of an
    epoch too.

    Args:
        folder: Where the checkpoints lie.
        every: Steps between files.
        minutes: Longest time between files.
        keep: Files that stay.
        say: Called with a line of words where a run goes on.

    Raises:
        ValueError: From `fit`: the data are no `AudioDataset`, whose order
            can be gone on with, or the model or the data changed.

    Example:
        >>> data = kas.data.from_folder("my_audio", 0.95, batch_size=32)
        >>> keep = kas.callbacks.ResumableCheckpoint("run")
        >>> run = model.fit(data, epochs=1, callbacks=[keep], verbose=0)
    """

    def __init__(
        self,
        folder: FilePath,
        every: int = 500,
        minutes: float = 10.0,
        keep: int = 2,
        say: Callable[[str], Any] = print,
    ) -> None:
        super().__init__(folder, every, 0, keep, minutes)
        self.say = say
        # Steps of an epoch while the first, shorter one lasts.
        self._short = 0
        self._seeds: list[Any] | None = None

    def resume(self, model: Any, data: Any) -> int:
        """Brings a model and its data where the run before was stopped.

        `PretextModel.fit` calls it.

        Returns:
            The epoch to begin with.
        """
        signature = getattr(data, "signature", None)
        if signature is None or data.num_batches is None:
            raise ValueError(
                "ResumableCheckpoint needs data whose order it can go on with "
                "and whose epochs end: kas.data.from_folder, from_manifest, "
                "from_arrays or from_huggingface, without `repeat`. "
                f"Received: {type(data).__name__}"
            )
        path, table = self.folder / "run.json", self.folder / "files.csv"
        saved, step = last_checkpoint(self.folder, self.say)
        now = record(model, data)
        if saved is None:
            write_contents(table, data)
            write_text(path, as_json(now))
            # Those of the file that the model itself was opened from.
            keep_metrics(model, [])
            return 0
        changed = changes(read_record(path), now, table, data)
        if changed:
            raise ValueError(
                f"{self.folder} holds a run of other settings or data: take "
                "another folder, or the same ones. Changed: "
                + "; ".join(changed)
            )
        copy_state(saved, model)
        self.begin_at(step)
        self.saved = step
        epoch, rest = divmod(step, len(data))
        self._short = len(data) if rest else 0
        data.start(epoch, rest)
        if not rest:
            # An epoch begins with metrics of its own.
            keep_metrics(model, [])
        self.say(f"going on after step {step} (epoch {epoch + 1})")
        return epoch

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        super().on_train_batch_end(batch, logs)
        if self._short and self.step % self._short == 0:
            self._short = 0
            if backend.reads_ahead():
                self._seeds = [v.numpy() for v in self.model._seed_states()]

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        # TensorFlow asks the shorter epoch for one more batch, and draws for
        # it before it knows that there is none.
        if self._seeds is not None:
            states = self.model._seed_states()
            for variable, value in zip(states, self._seeds, strict=True):
                variable.assign(value)
            self._seeds = None

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.save()
