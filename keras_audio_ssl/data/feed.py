"""Batches as Keras takes them, in the order in which they are given."""

import contextlib
import threading
import warnings
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from keras_audio_ssl.data.loader import Loader


class Feed(keras.utils.PyDataset, DataAdapter):
    """Batches for `fit`, epoch after epoch, from where they were left.

    Keras takes it for its own adapter: no other way keeps the order, since
    `fit` shuffles the indices of a `PyDataset` by default.

    Attributes:
        repeat: Whether epochs follow each other in one pass without end.
    """

    repeat: bool
    _loader: Loader

    def __init__(self) -> None:
        # Keras' own threads would deliver batches out of turn.
        super().__init__(workers=1)
        self._start = (0, 0)
        self._lock = threading.RLock()
        self._quiet = contextlib.ExitStack()

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("_lock", "_quiet"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()
        self._quiet = contextlib.ExitStack()

    def __len__(self) -> int:
        return self._loader.order.steps

    @property
    def num_batches(self) -> int | None:
        return None if self.repeat else len(self)

    @property
    def batch_size(self) -> int:
        return self._loader.order.batch_size

    @property
    def epoch(self) -> int:
        """The epoch that the next pass of `fit` begins in, from 0 on."""
        return self._start[0]

    def start(self, epoch: int, step: int = 0) -> None:
        """Lets the next pass of `fit` begin with batch `(epoch, step)`.

        That pass ends with the epoch, so it has `len(self) - step` steps;
        the next ones are whole.

        Args:
            epoch: A whole number, zero or more.
            step: 0 to `len(self)`; the latter is the start of the next epoch.
        """
        if epoch < 0 or not 0 <= step <= len(self):
            raise ValueError(
                f"`epoch` must not be negative and `step` lie in 0 to "
                f"{len(self)}. Received: epoch={epoch}, step={step}"
            )
        turn, step = divmod(int(step), len(self))
        with self._lock:
            self._start = (int(epoch) + turn, step)

    def batch(self, epoch: int, step: int) -> Any:
        """Batch `step` of epoch `epoch`.

        Args:
            epoch: A whole number, zero or more.
            step: 0 to `len(self) - 1`.

        Returns:
            dict of `waveform`, `lengths` and the source's extras, or
            `(dict, labels)`.
        """
        if epoch < 0 or not 0 <= step < len(self):
            raise IndexError(
                f"No batch (epoch {epoch}, step {step}): an epoch has "
                f"{len(self)} steps"
            )
        return self._loader.batch(int(epoch), int(step))

    def __getitem__(self, index: int) -> Any:
        return self.batch(self.epoch, index)

    def __iter__(self) -> Iterator[Any]:
        epoch = self.epoch
        for step in range(len(self)):
            yield self._loader.fetch(epoch, step)

    def get_numpy_iterator(self) -> Iterator[Any]:
        return self._pass()

    def get_jax_iterator(self, super_batch: int | None = None) -> Iterator[Any]:
        if not super_batch:
            return self._pass()
        # From 3.16 on Keras asks for the batches of an execution at once.
        from keras.src.trainers.data_adapters import data_adapter_utils

        return data_adapter_utils.super_batch_iterator(
            self._pass(), super_batch
        )

    def get_torch_dataloader(self) -> Iterable[Any]:
        convert = keras.ops.convert_to_tensor
        for batch in self._pass():
            yield keras.tree.map_structure(convert, batch)

    def get_tf_dataset(self) -> Any:
        import tensorflow as tf

        def spec(array: np.ndarray) -> Any:
            # What varies from batch to batch is 0 in an empty one.
            shape = [size or None for size in array.shape]
            return tf.TensorSpec(shape, array.dtype)

        crops = self._loader.crops
        empty, labels = crops.blank(0), crops.clips.labels
        signature = keras.tree.map_structure(
            spec, empty if labels is None else (empty, labels[:0])
        )
        data = tf.data.Dataset.from_generator(
            self._pass, output_signature=signature
        )
        return data.prefetch(2)

    def on_epoch_begin(self) -> None:
        pass

    def on_epoch_end(self) -> None:
        self._quiet.close()

    def _pass(self) -> Iterator[Any]:
        """The batches from `start` to the end of its epoch."""
        with self._lock:
            begun = self._start
        epoch, step = begun
        short = step > 0
        while step < len(self):
            batch = self._loader.fetch(epoch, step)
            step += 1
            if step == len(self):
                with self._lock:
                    if self._start is begun:
                        begun = self._start = (epoch + 1, 0)
                if self.repeat:
                    epoch, step = epoch + 1, 0
            yield batch
        if short:
            # Keras expects a whole epoch and would warn of missing data.
            self._quiet.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", "Your input ran out of data")
