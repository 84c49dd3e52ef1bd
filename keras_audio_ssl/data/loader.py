"""Batches read by threads, ahead of the step that trains on them."""

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from typing import NamedTuple

import numpy as np

from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.clips.crops import Crops
from keras_audio_ssl.data.clips.skipped import SkippedClips
from keras_audio_ssl.data.lengths import bucket
from keras_audio_ssl.data.order import Order

ORDERS = 3  # epochs whose order is kept


class Batch(NamedTuple):
    """A batch that is being read: arrays that are filled, clip by clip."""

    x: dict[str, np.ndarray]
    clips: np.ndarray
    parts: list[Future]


class Threads:
    """Threads that read, begun when first asked for, anew in each process.

    Args:
        count: How many, at least one.
    """

    def __init__(self, count: int) -> None:
        self.count = max(1, count)
        self._lock = threading.Lock()
        self._process = 0
        self._pool: ThreadPoolExecutor | None = None

    def __reduce__(self) -> tuple:
        return type(self), (self.count,)

    def submit(self, function: Callable, *args: Any) -> Future:
        """Lets a thread call a function; threads are made at first use."""
        with self._lock:
            if self._pool is None or self._process != os.getpid():
                self._process = os.getpid()
                self._pool = ThreadPoolExecutor(
                    self.count, "keras_audio_ssl-read"
                )
            pool = self._pool
        return pool.submit(function, *args)


class Loader:
    """Reads the batches of an order.

    A clip that cannot be used is replaced by another, and recorded.

    Args:
        crops: Of the clips.
        order: Which of them come where.
        skipped: Takes what cannot be used.
        threads: What reads.
        ahead: Batches that are begun before they are asked for; 0 for none.
        goes_on: Whether those of the next epoch are, at the end of one.

    Attributes:
        pending: Batches that are begun, by epoch and step.
    """

    def __init__(
        self,
        crops: Crops,
        order: Order,
        skipped: SkippedClips,
        threads: Threads,
        ahead: int,
        goes_on: bool = True,
    ) -> None:
        self.crops, self.order, self.skipped = crops, order, skipped
        self.threads, self.ahead, self.goes_on = threads, ahead, goes_on
        self.pending: dict[tuple[int, int], Batch] = {}
        self._orders: dict[int, np.ndarray] = {}
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        state = {k: v for k, v in self.__dict__.items() if k != "_lock"}
        return {**state, "pending": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    def batch(self, epoch: int, step: int) -> Any:
        """A batch, as `AudioDataset.batch` gives it."""
        return self._collect(self._submit(self._same(epoch), step))

    def fetch(self, epoch: int, step: int) -> Any:
        """A batch, while threads read the `ahead` ones that follow it."""
        if not self.ahead:
            return self.batch(epoch, step)
        window = []
        for number in range(step, step + self.ahead + 1):
            turns, at = divmod(number, self.order.steps)
            if turns and not self.goes_on:
                break
            window.append((self._same(epoch + turns), at))
        with self._lock:
            for key in window:
                if key not in self.pending:
                    self.pending[key] = self._submit(*key)
            batch = self.pending.pop(window[0])
            # Batches of a pass that was given up.
            for key in list(self.pending)[: -2 * len(window)]:
                for future in self.pending.pop(key).parts:
                    future.cancel()
        return self._collect(batch)

    def _same(self, epoch: int) -> int:
        """The epoch to read: the first one where all are alike."""
        varies = self.order.shuffle or self.crops.crop == "random"
        return epoch if varies else 0

    def _submit(self, epoch: int, step: int) -> Batch:
        """Begins to read a batch, in one task for each thread."""
        positions = self.order.positions(step)
        count = len(positions)
        x, clips = self.crops.blank(count), np.zeros(count, "int64")
        tasks = min(count, self.threads.count)
        edges = [count * k // tasks for k in range(tasks + 1)]
        parts = []
        for part in map(slice, edges, edges[1:]):
            rows = {name: array[part] for name, array in x.items()}
            parts.append(
                self.threads.submit(
                    self._read, epoch, positions[part], clips[part], rows
                )
            )
        return Batch(x, clips, parts)

    def _collect(self, batch: Batch) -> Any:
        """Waits for a batch's clips; pads whole clips to one length."""
        waves = [wave for part in batch.parts for wave in part.result()]
        x, crops = batch.x, self.crops
        if crops.seconds is None:
            width = bucket(x["lengths"].max())
            if crops.most is not None:
                width = min(width, crops.most)
            x["waveform"] = np.zeros((len(waves), width), "float32")
            for row, wave in zip(x["waveform"], waves, strict=True):
                row[: len(wave)] = wave
        labels = crops.clips.labels
        return x if labels is None else (x, labels[batch.clips])

    def _read(
        self,
        epoch: int,
        positions: np.ndarray,
        clips: np.ndarray,
        rows: dict[str, np.ndarray],
    ) -> list[np.ndarray]:
        """Reads the clips at some positions of an epoch.

        Fills in their numbers and rows; returns whole clips as they are.
        """
        clips[:] = self._order(epoch)[positions]
        chances = self.order.chances(epoch, positions)
        waves = []
        for k, position in enumerate(positions):
            clips[k], wave, extras = self._read_one(
                epoch, int(position), int(clips[k]), float(chances[k])
            )
            rows["lengths"][k] = len(wave)
            for name, value in extras.items():
                rows[name][k] = value
            if self.crops.seconds is None:
                waves.append(wave)
            else:
                rows["waveform"][k, : len(wave)] = wave
        return waves

    def _read_one(
        self, epoch: int, position: int, clip: int, chance: float
    ) -> tuple[int, np.ndarray, dict[str, np.ndarray]]:
        """A clip that can be used, its crop, and what goes with that."""
        spares = self.order.spares(epoch, position)
        for one in itertools.chain([clip], spares):
            try:
                return one, *self.crops.read(one, chance)
            except AudioError as error:
                self.skipped.add(error)
        raise self.skipped.nothing_left()

    def _order(self, epoch: int) -> np.ndarray:
        """The order of an epoch, which is drawn once a pass."""
        with self._lock:
            if epoch not in self._orders:
                self._orders[epoch] = self.order.of(epoch)
                for old in list(self._orders)[:-ORDERS]:
                    del self._orders[old]
            return self._orders[epoch]
