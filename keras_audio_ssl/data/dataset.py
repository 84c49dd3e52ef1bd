"""Batches for `fit`, whose order is a function of seed, epoch and step."""

import contextlib
import copy
import functools
import hashlib
import itertools
import logging
import os
import threading
import warnings
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from keras_audio_ssl._files import write_table
from keras_audio_ssl._text import printable
from keras_audio_ssl._text import some_skipped
from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.audio import AudioSource
from keras_audio_ssl.data.audio import read_part
from keras_audio_ssl.data.audio import resampled_length
from keras_audio_ssl.data.clips import Clips
from keras_audio_ssl.data.clips import FileClips
from keras_audio_ssl.data.clips.labels import NO_LABEL
from keras_audio_ssl.data.clips.labels import NOTHING_LABELLED
from keras_audio_ssl.data.clips.labels import keep_share
from keras_audio_ssl.data.lengths import bucket

log = logging.getLogger("keras_audio_ssl")

# Clips of which the length is looked at, where an average will do.
LOOK = 64
# Before training, of up to so many files both ends are looked at (of more
# files only kind and size),
CHECK_FILES = 10_000
# and of files with floating point every sample, if all files together have
# no more bytes than this,
CHECK_BYTES = 4 << 30
# and they are not longer than this, in samples.
WHOLE = 1 << 21
# What the random numbers of (seed, epoch) are for: apart in Philox' counter.
ORDER, CROPS, SPARES = range(3)
FAR = 1 << 62  # samples: beyond the end of all files
NUMBER = (int, float, np.number)
BLOCK = 4  # 64-bit numbers Philox makes for one value of its counter


class TooFewClips(ValueError):
    """There are fewer clips than one batch takes.

    Args:
        message: what was asked for, and what would do.
        clips: how many there are for each host.

    Example:
        >>> try:
        ...     data = from_folder("few", 1.0, batch_size=256)
        ... except TooFewClips as error:
        ...     data = from_folder("few", 1.0, batch_size=error.clips)
    """

    def __init__(self, message: str, clips: int) -> None:
        super().__init__(message)
        self.clips = clips


class _Batch(NamedTuple):
    """A batch that is being read: arrays that are filled, clip by clip."""

    x: dict[str, np.ndarray]
    clips: np.ndarray
    parts: list[Future]


class _Threads:
    """Threads that read, begun when first asked for, anew in each process."""

    def __init__(self, count: int) -> None:
        self.count = max(1, count)
        self._lock = threading.Lock()
        self._process = 0
        self._pool: ThreadPoolExecutor | None = None

    def __reduce__(self) -> tuple:
        return type(self), (self.count,)

    def submit(self, function: Callable, *args: Any) -> Future:
        with self._lock:
            if self._pool is None or self._process != os.getpid():
                self._process = os.getpid()
                self._pool = ThreadPoolExecutor(
                    self.count, "keras_audio_ssl-read"
                )
            pool = self._pool
        return pool.submit(function, *args)


class AudioDataset(keras.utils.PyDataset, DataAdapter):
    """Batches of waveforms read from disk while the model trains.

    Batch `step` of epoch `epoch` is a pure function of `(seed, epoch, step)`:
    which clips, in which order, cropped where. `fit` receives the batches in
    that order on all backends, whatever its `shuffle`, and epoch after epoch:
    a second `fit` begins with the epoch after the last complete one.
    `start(epoch, step)` begins anywhere else. Decoding runs in threads ahead
    of the training step.

    A batch is a dict of `waveform`, float32 `(batch, samples)`, and
    `lengths`, int32 `(batch,)`: the samples before the padding with zeros.
    Beside them lies what the source adds to each crop (`Clips.extras`).
    With labels it is `(dict, labels)`, labels int32 `(batch,)`, -1 for a
    clip without label.

    A clip that cannot be used is replaced by another of the same source,
    chosen by `(seed, epoch, position)`, and recorded in `skipped`.

    Made by `from_folder`, `from_manifest`, `from_arrays` and
    `from_huggingface`, which take the arguments below. For validation pass
    `shuffle=False, crop="center"`, so that each epoch sees the same; an
    `evaluate` counts as a pass too. `class_weight` of `fit` has no effect.

    Args:
        clips: the source.
        seconds: length of the segments; shorter clips are padded with zeros.
            `None` (default) gives whole clips, padded to the longest of the
            batch (rounded up to one of four lengths an octave, so that a
            compiled step meets few shapes).
        batch_size: clips in a batch, 64 by default.
        sample_rate: in Hz, 16000 by default; others are resampled.
        seed: a whole number; all random choices derive from it.
        shuffle: `True` (default) for another order in each epoch.
        crop: place of the segment in a longer clip: `"random"` (default),
            `"start"` or `"center"`.
        drop_last: `True` (default) leaves out the last incomplete batch; see
            `whole`.
        min_seconds: shorter clips are skipped; 0.0 by default, which skips
            those without a single sample.
        max_seconds: with `seconds=None`, crops longer clips to this.
        workers: decoding threads, 2 by default; 0 decodes when asked.
        shard: `(index, count)`: this host's part of each epoch. The parts
            are disjoint, cover the epoch and have the same number of steps
            (for which the last step may repeat a clip if `drop_last=False`).
        crops_per_clip: how often a clip comes in an epoch, 1 by default;
            more for few, long recordings.
        repeat: `True` for a stream of epochs without end, for `fit` with
            `steps_per_epoch`.
        label_fraction: of the clips with a label, the share of each class
            that keeps it, at least one; 1.0 by default. The others are then
            without label. Which ones is a function of `seed`, this share and
            the names of the clips; a larger share keeps what a smaller does.

    Attributes:
        epoch: the epoch that the next pass of `fit` begins with.
        skipped: list of `(file, reason)`, in the order of discovery.
        classes: names of the labels, or `None`.
        labels: int32 `(clips,)`, -1 for a clip that has none; `None` if no
            clip has.

    Raises:
        ValueError: if an argument is out of range, or no clip is readable.

    Example:
        >>> data = from_folder("my_audio", seconds=1.0, batch_size=32)
        >>> x = data.batch(epoch=0, step=0)
        >>> x["waveform"].shape
        (32, 16000)
        >>> model.fit(data, epochs=10)
    """

    def __init__(
        self,
        clips: Clips,
        seconds: float | None = None,
        batch_size: int = 64,
        *,
        sample_rate: int = 16000,
        seed: int = 0,
        shuffle: bool = True,
        crop: str = "random",
        drop_last: bool = True,
        min_seconds: float = 0.0,
        max_seconds: float | None = None,
        workers: int = 2,
        shard: tuple[int, int] = (0, 1),
        crops_per_clip: int = 1,
        repeat: bool = False,
        label_fraction: float = 1.0,
        skipped: Iterable[tuple[str, str]] = (),
        source: str = "the source",
    ) -> None:
        for name, number, least in (
            ("batch_size", batch_size, 1),
            ("sample_rate", sample_rate, 1),
            ("workers", workers, 0),
            ("crops_per_clip", crops_per_clip, 1),
            ("seed", seed, 0),
        ):
            whole = isinstance(number, NUMBER) and float(number).is_integer()
            what = f"be a whole number, {least} or more"
            _require(whole and number >= least, name, what, number)
        _require(seed < 2**64, "seed", "be less than 2**64", seed)
        for name, length in (
            ("seconds", seconds),
            ("max_seconds", max_seconds),
        ):
            what = "be positive, or None for whole clips"
            fits = length is None or (
                isinstance(length, NUMBER)
                and 0.5 <= float(length) * sample_rate < 2**31
            )
            _require(fits, name, what, length)
        fits = isinstance(min_seconds, NUMBER) and min_seconds >= 0
        _require(fits, "min_seconds", "not be negative", min_seconds)
        what = "be 'random', 'start' or 'center'"
        _require(crop in ("random", "start", "center"), "crop", what, crop)
        try:
            index, count = (int(k) for k in shard)
        except (TypeError, ValueError):
            index, count = 0, 0
        what = "be (index, count) with 0 <= index < count"
        _require(0 <= index < count, "shard", what, shard)
        fits = isinstance(label_fraction, NUMBER) and 0 < label_fraction <= 1
        what = "be above 0 and at most 1"
        _require(fits, "label_fraction", what, label_fraction)
        # Keras' own threads would deliver batches out of turn.
        super().__init__(workers=1)
        self.seconds, self.max_seconds = seconds, max_seconds
        self._batch_size, self.sample_rate = int(batch_size), int(sample_rate)
        self.seed, self.shuffle, self.crop = int(seed), bool(shuffle), crop
        self.drop_last, self.min_seconds = bool(drop_last), float(min_seconds)
        self.threads, self.shard = int(workers), (index, count)
        self.crops_per_clip, self.repeat = int(crops_per_clip), bool(repeat)
        self.label_fraction, self.source = float(label_fraction), source
        self._clips = clips
        self._skipped: dict[str, str] = {}
        self._logged = 0  # of them, those that the log was told of
        self._lock = threading.RLock()
        self._orders: dict[int, np.ndarray] = {}
        self._pending: dict[tuple[int, int], _Batch] = {}
        self._readers = _Threads(self.threads)
        self._quiet = contextlib.ExitStack()
        self._start = (0, 0)
        self._ends = False  # whether nothing is read ahead of a next pass
        self._extra_spec = _checked_spec(clips.extra_spec)
        for file, reason in skipped:
            self._record(AudioError(file, reason), quiet=reason == NO_LABEL)
        self._say_left_out()
        self._check()
        self._check_labels()
        self._steps = self._count_steps()

    def __len__(self) -> int:
        return self._steps

    @property
    def num_batches(self) -> int | None:
        return None if self.repeat else self._steps

    @property
    def batch_size(self) -> int:
        return self._batch_size

    @property
    def epoch(self) -> int:
        return self._start[0]

    @property
    def num_clips(self) -> int:
        """Number of clips in use, of all shards."""
        return len(self._clips)

    @functools.cached_property
    def hours(self) -> float:
        """Hours of audio in all clips, from some of them where many are."""
        count = len(self._clips)
        some = np.unique(
            np.linspace(0, count - 1, min(count, LOOK)).astype(int)
        )
        seconds = []
        for clip in some.tolist():
            with contextlib.suppress(AudioError), self._clips.open(clip) as a:
                rate = self.sample_rate
                seconds.append(self._extent(a, clip, rate)[1] / rate)
        return count * float(np.mean(seconds or [0.0])) / 3600

    def __repr__(self) -> str:
        length = "whole" if self.seconds is None else f"{self.seconds:g} s of"
        about = "about " if len(self._clips) > LOOK else ""
        steps = "batches without end" if self.repeat else f"{len(self)} batches"
        return (
            f"<AudioDataset: {len(self._clips):,} clips, {about}"
            f"{self.hours:.2f} h; {length} clips at {self.sample_rate} Hz, "
            f"{steps} of {self.batch_size}>"
        )

    @property
    def files(self) -> list[str]:
        """File (or item) of each clip."""
        return [self._clips.name(i) for i in range(len(self._clips))]

    @property
    def labels(self) -> np.ndarray | None:
        return self._clips.labels

    @property
    def classes(self) -> list[str] | None:
        return self._clips.classes

    @property
    def skipped(self) -> list[tuple[str, str]]:
        with self._lock:
            return list(self._skipped.items())

    def signature(self) -> dict[str, Any]:
        """What the batches and their order depend on, as plain values.

        Two data sets with the same signature give the same batches, as far
        as names and sizes of the files tell.
        """
        clips = self._clips
        mark = hashlib.sha256()
        for name, size in self.contents():
            mark.update(os.fsencode(f"{name}\0{size}\0"))
        if isinstance(clips, FileClips):
            mark.update(clips.places())
        more: dict[str, Any] = {}
        if clips.labels is not None:
            labels = hashlib.sha256(clips.labels.tobytes())
            labels.update(repr(clips.classes).encode("utf-8", "replace"))
            more["labels"] = labels.hexdigest()
            more["label_fraction"] = self.label_fraction
        if self._extra_spec:
            more["extras"] = {
                name: [list(shape), dtype.name]
                for name, (shape, dtype) in self._extra_spec.items()
            }
        return {
            **more,
            "clips": len(clips),
            "files": mark.hexdigest(),
            "batch_size": self.batch_size,
            "seconds": self.seconds,
            "sample_rate": self.sample_rate,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "crop": self.crop,
            "drop_last": self.drop_last,
            "min_seconds": self.min_seconds,
            "max_seconds": self.max_seconds,
            "shard": list(self.shard),
            "crops_per_clip": self.crops_per_clip,
        }

    def contents(self) -> Iterator[tuple[str, int]]:
        """What the clips are read from: files in use and their bytes.

        A file comes once, whatever number of clips lies in it; items that
        are no files have 0 bytes.
        """
        clips = self._clips
        if isinstance(clips, FileClips):
            yield from clips.contents()
        else:
            for item in range(len(clips)):
                yield clips.name(item), 0

    def read_clip(
        self,
        clip: int,
        sample_rate: int | None = None,
        seconds: float | None = None,
        start: float = 0.0,
    ) -> np.ndarray:
        """A clip as it is in its source, neither cropped nor padded.

        Args:
            clip: its number, the place of its name in `files`.
            sample_rate: Hz; the dataset's if `None` (default).
            seconds: how much of it; all if `None` (default).
            start: where to begin, in seconds from its start, 0.0 by default.

        Returns:
            float32 `(samples,)`.

        Raises:
            AudioError: it cannot be read.
        """
        rate = sample_rate or self.sample_rate
        with self._clips.open(clip) as audio:
            first, length = self._extent(audio, clip, rate)
            skip = min(round(start * rate), length - 1)
            first, length = first + skip, length - skip
            if seconds is not None:
                length = min(length, round((start + seconds) * rate) - skip)
            return read_part(audio, rate, first, length)

    def read_native(self, clip: int, seconds: float) -> tuple[np.ndarray, str]:
        """The middle of a clip as it is stored, channels averaged.

        Args:
            clip: its number, the place of its name in `files`.
            seconds: how much of it, at most.

        Returns:
            float32 `(samples,)` at the source's own rate, and the coding.

        Raises:
            AudioError: it cannot be read.
        """
        with self._clips.open(clip) as audio:
            first, length = self._extent(audio, clip, audio.rate)
            size = max(1, min(length, round(seconds * audio.rate)))
            wave = audio.read(first + (length - size) // 2, size)
            return wave, audio.format

    def clip_seconds(self, clip: int) -> float:
        """How long a clip is in its source.

        Args:
            clip: its number, the place of its name in `files`.

        Raises:
            AudioError: it cannot be read.
        """
        with self._clips.open(clip) as audio:
            rate = audio.rate
            return self._extent(audio, clip, rate)[1] / rate

    def part(self, clip: int) -> tuple[float, float] | None:
        """Start and end of a clip in its file, in seconds, if not all."""
        return self._clips.span(clip)

    def whole(self) -> "AudioDataset":
        """The same clips for one pass over all of them.

        Each clip of this shard comes once, in the source's order, the last
        batch with as many as are left; a random crop gives way to the one in
        the middle. What `predict` and `evaluate` should see.

        Returns:
            An `AudioDataset` that shares the source, what it has cached, the
            threads and `skipped` with this one.

        Example:
            >>> data = from_folder("my_audio", seconds=1.0, batch_size=8)
            >>> data.num_clips, 8 * len(data)
            (13, 8)
            >>> sum(len(x["lengths"]) for x in data.whole())
            13
        """
        view = copy.copy(self)
        view._lock = self._lock
        view.shuffle = view.drop_last = view.repeat = False
        view.crop = "center" if self.crop == "random" else self.crop
        view.crops_per_clip = 1
        view._start, view._orders, view._ends = (0, 0), {}, True
        view._steps = view._count_steps()
        return view

    def write_skipped(self, path: Any) -> None:
        """Writes `skipped` as a CSV table with the columns file and reason.

        Args:
            path: the CSV file, replaced as a whole.
        """
        write_table(path, ("file", "reason"), self.skipped, "backslashreplace")

    def start(self, epoch: int, step: int = 0) -> None:
        """Lets the next pass of `fit` begin with batch `(epoch, step)`.

        That pass ends with the epoch, so it has `len(self) - step` steps;
        the next ones are whole.

        Args:
            epoch: a whole number, zero or more.
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
            epoch: a whole number, zero or more.
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
        epoch = int(epoch) if self._varies else 0
        return self._collect(self._submit(epoch, int(step)))

    def __getitem__(self, index: int) -> Any:
        return self.batch(self.epoch, index)

    def __iter__(self) -> Iterator[Any]:
        epoch = self.epoch
        for step in range(len(self)):
            yield self._fetch(epoch, step)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("_lock", "_quiet"):
            del state[name]
        return {**state, "_pending": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()
        self._quiet = contextlib.ExitStack()

    # Keras takes the dataset itself for its adapter: no other way keeps the
    # order, since `fit` shuffles the indices of a PyDataset by default.

    def get_numpy_iterator(self) -> Iterator[Any]:
        return self._pass()

    def get_jax_iterator(self) -> Iterator[Any]:
        return self._pass()

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

        empty = self._blank(0)
        signature = keras.tree.map_structure(
            spec, empty if self.labels is None else (empty, self.labels[:0])
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
            batch = self._fetch(epoch, step)
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

    @property
    def _samples(self) -> int:
        return max(1, round((self.seconds or 0) * self.sample_rate))

    @property
    def _at_most(self) -> int:
        return max(1, round((self.max_seconds or 0) * self.sample_rate))

    @property
    def _varies(self) -> bool:
        """Whether epochs differ from each other."""
        return self.shuffle or self.crop == "random"

    def _fetch(self, epoch: int, step: int) -> Any:
        """A batch, with the following ones begun."""
        if not self.threads:
            return self.batch(epoch, step)
        size = len(self)
        window = []
        for ahead in range(self.threads + 2):
            turns, at = divmod(step + ahead, size)
            if turns and self._ends:
                break
            window.append((epoch + turns if self._varies else 0, at))
        with self._lock:
            for key in window:
                if key not in self._pending:
                    self._pending[key] = self._submit(*key)
            batch = self._pending.pop(window[0])
            # Batches of a pass that was given up.
            for key in list(self._pending)[: -2 * len(window)]:
                for future in self._pending.pop(key).parts:
                    future.cancel()
        return self._collect(batch)

    def _blank(self, clips: int) -> dict[str, np.ndarray]:
        """A batch's arrays, zero; whole clips have no samples yet."""
        samples = 0 if self.seconds is None else self._samples
        x = {
            "waveform": np.zeros((clips, samples), "float32"),
            "lengths": np.zeros(clips, "int32"),
        }
        for name, (shape, dtype) in self._extra_spec.items():
            x[name] = np.zeros((clips, *shape), dtype)
        return x

    def _submit(self, epoch: int, step: int) -> "_Batch":
        """Begins to read a batch, in one task for each thread."""
        positions = self._positions(step)
        count = len(positions)
        x, clips = self._blank(count), np.zeros(count, "int64")
        tasks = min(count, self._readers.count)
        edges = [count * k // tasks for k in range(tasks + 1)]
        parts = []
        for part in map(slice, edges, edges[1:]):
            rows = {name: array[part] for name, array in x.items()}
            parts.append(
                self._readers.submit(
                    self._read, epoch, positions[part], clips[part], rows
                )
            )
        return _Batch(x, clips, parts)

    def _collect(self, batch: "_Batch") -> Any:
        """Waits for a batch's clips; pads whole clips to one length."""
        waves = [wave for part in batch.parts for wave in part.result()]
        x = batch.x
        if self.seconds is None:
            width = bucket(x["lengths"].max())
            if self.max_seconds is not None:
                width = min(width, self._at_most)
            x["waveform"] = np.zeros((len(waves), width), "float32")
            for row, wave in zip(x["waveform"], waves, strict=True):
                row[: len(wave)] = wave
        return x if self.labels is None else (x, self.labels[batch.clips])

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
        clips[:] = self._order(epoch)[positions] // self.crops_per_clip
        # One block of numbers for each position, all positions apart.
        first = int(positions[0])
        size = BLOCK * (int(positions[-1]) - first + 1)
        draws = self._draw((first, 0, 0, CROPS), epoch, size)
        places = (draws[BLOCK * (positions - first)] >> np.uint64(11)) / 2**53
        waves = []
        for k, position in enumerate(positions):
            clips[k], wave, extras = self._read_one(
                epoch, int(position), int(clips[k]), float(places[k])
            )
            rows["lengths"][k] = len(wave)
            for name, value in extras.items():
                rows[name][k] = value
            if self.seconds is None:
                waves.append(wave)
            else:
                rows["waveform"][k, : len(wave)] = wave
        return waves

    def _read_one(
        self, epoch: int, position: int, clip: int, place: float
    ) -> tuple[int, np.ndarray, dict[str, np.ndarray]]:
        """A clip that can be used, its crop, and what goes with that."""
        for one in itertools.chain([clip], self._spares(epoch, position)):
            try:
                return one, *self._load(one, place)
            except AudioError as error:
                self._record(error)
        raise ValueError(self._nothing())

    def _spares(self, epoch: int, position: int) -> Iterator[int]:
        """Clips to try instead: some at random, then one after the other."""
        size = len(self._clips)
        draws = self._draw((0, position, 0, SPARES), epoch, 32)
        yield from (int(draw % size) for draw in draws)
        first = int(draws[-1] % size)
        yield from ((first + k) % size for k in range(1, size))

    def _load(
        self, clip: int, place: float
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """A clip's segment; `place` in [0, 1) is where, if at random."""
        with self._clips.open(clip) as audio:
            rate = self.sample_rate
            first, length = self._extent(audio, clip, rate)
            wanted = length
            if self.seconds is not None:
                wanted = self._samples
            elif self.max_seconds is not None:
                wanted = self._at_most
            room = max(0, length - wanted)
            if self.crop == "random":
                first += int(place * (room + 1))
            elif self.crop == "center":
                first += room // 2
            wave = read_part(audio, rate, first, min(wanted, length))
        return wave, self._extras(clip, first, len(wave))

    def _extras(
        self, clip: int, start: int, samples: int
    ) -> dict[str, np.ndarray]:
        """What the source adds to a crop."""
        extras = self._clips.extras(clip, start, samples, self.sample_rate)
        arrays = {name: np.asarray(value) for name, value in extras.items()}
        found = {name: (a.shape, a.dtype) for name, a in arrays.items()}
        if found != self._extra_spec:
            raise ValueError(
                f"`extras` must be {self._extra_spec}, as `extra_spec`. "
                f"Received for {self._clips.name(clip)}: {found}"
            )
        return arrays

    def _extent(
        self,
        audio: AudioSource,
        clip: int,
        rate: int,
    ) -> tuple[int, int]:
        """First sample and length of a clip, at a rate."""
        first, end = 0, resampled_length(audio.frames, audio.rate, rate)
        span = self._clips.span(clip)
        if span is not None:
            start, stop = span
            # Times of strangers may be too large for any sample.
            first = 0 if np.isnan(start) else round(min(start * rate, FAR))
            last = end if np.isnan(stop) else round(min(stop * rate, FAR))
            # Tables round their times.
            if last > end + 0.1 * rate or first >= end:
                raise AudioError(
                    audio.name,
                    f"the part {start} to {stop} s lies beyond the end at "
                    f"{end / rate:.2f} s",
                )
            end = min(last, end)
        length = end - first
        if length < max(1, self.min_seconds * rate):
            raise AudioError(
                audio.name,
                f"too short: {length / rate:.3f} s, at least "
                f"{max(self.min_seconds, 1 / rate):.3g} s expected",
            )
        return first, length

    def _record(self, error: AudioError, quiet: bool = False) -> None:
        with self._lock:
            if error.file in self._skipped:
                return
            self._skipped[error.file] = error.reason
            self._logged += not quiet
            count = self._logged
        if quiet:
            return
        if count <= 10:
            log.warning("skipped %s", error)
        elif count == 11:
            log.warning("skipped more files: see `dataset.skipped`")

    def _say_left_out(self) -> None:
        """Says once how many clips have no label."""
        count = sum(why == NO_LABEL for why in self._skipped.values())
        if count:
            log.warning(
                "left out %d of %d clips of %s, which have no label "
                "(unlabelled=True keeps them)",
                count,
                count + len(self._clips),
                printable(self.source),
            )

    def _check(self) -> None:
        """Looks at the source before training and drops what is unusable."""
        clips = self._clips
        found: list[AudioError | None] = []
        if isinstance(clips, FileClips) and has_many_files(clips):
            if not clips.weighed:
                for file, reason in clips.weigh():
                    self._record(AudioError(file, reason))
            usable = np.ones(len(clips), bool)
        elif isinstance(clips, FileClips):
            files = clips.files()
            found = self._map(clips.sniff, files)
            good = [n for n, e in enumerate(found) if e is None]
            size = int(clips.sizes[clips.rows[files]].sum())
            look = partial(self._look, thorough=size <= CHECK_BYTES)
            seen = self._map(look, files[good])
            for n, error in zip(good, seen, strict=True):
                found[n] = error
            bad = [n for n, error in enumerate(found) if error is not None]
            usable = ~np.isin(clips.rows, clips.rows[files[bad]])
        elif clips.in_memory:
            look = partial(self._look, thorough=True)
            found = self._map(look, np.arange(len(clips)))
            usable = np.array([error is None for error in found], bool)
        else:
            usable = np.ones(len(clips), bool)
        for error in found:
            if error is not None:
                self._record(error)
        if not usable.all():
            clips.keep(np.flatnonzero(usable))
        for clip in range(len(clips)):
            try:
                self._load(clip, 0.0)
                return
            except AudioError as error:
                self._record(error)
        raise ValueError(self._nothing())

    def _check_labels(self) -> None:
        """Keeps some of the labels, if so asked; there must be one."""
        clips = self._clips
        if self.label_fraction < 1:
            clips.labels = keep_share(clips, self.label_fraction, self.seed)
        if clips.labels is not None and not (clips.labels >= 0).any():
            raise ValueError(NOTHING_LABELLED.format(len(clips), self.source))

    def _look(self, clip: int, thorough: bool) -> AudioError | None:
        """What is wrong with a whole clip, as far as its ends tell."""
        try:
            with self._clips.open(clip) as audio:
                if self._clips.span(clip) is None:
                    self._extent(audio, clip, self.sample_rate)
                if thorough and audio.floating and audio.frames < WHOLE:
                    audio.read(0, audio.frames)
        except AudioError as error:
            return error
        return None

    def _map(self, function: Callable, items: np.ndarray) -> list:
        with ThreadPoolExecutor(max(1, self.threads)) as pool:
            parts = np.array_split(items, -(-len(items) // 256) or 1)
            done = pool.map(
                lambda part: [function(int(k)) for k in part], parts
            )
            return [answer for part in done for answer in part]

    def _nothing(self) -> str:
        if not self._skipped:
            return f"No audio found in {self.source}"
        return (
            f"Nothing readable in {self.source}: {len(self._skipped)} skipped. "
            f"First: {some_skipped(self.skipped[:3])}"
        )

    def _count_steps(self) -> int:
        """Steps of an epoch, the same for all shards."""
        total = len(self._clips) * self.crops_per_clip
        size = self.batch_size * self.shard[1]
        if not self.drop_last:
            return -(-total // size)
        if total < size:
            raise TooFewClips(
                f"`batch_size={self.batch_size}` is more than the {total} "
                f"clips of {self.source}"
                + (f" on {self.shard[1]} hosts" if self.shard[1] > 1 else "")
                + ": pass a smaller `batch_size`, `drop_last=False`, or "
                "`crops_per_clip` for more crops of each clip",
                total // self.shard[1],
            )
        return total // size

    def _positions(self, step: int) -> np.ndarray:
        """The places of a batch in its epoch's order."""
        index, count = self.shard
        total = len(self._clips) * self.crops_per_clip
        first = step * self.batch_size * count + index
        places = first + count * np.arange(self.batch_size)
        places = places[places < total]
        return places if len(places) else np.array([index % total])

    def _order(self, epoch: int) -> np.ndarray:
        with self._lock:
            if epoch not in self._orders:
                total = len(self._clips) * self.crops_per_clip
                order = np.arange(total)
                if self.shuffle:
                    draws = self._draw((0, 0, 0, ORDER), epoch, total)
                    order = np.argsort(draws, kind="stable")
                small = total < 2**31
                self._orders[epoch] = order.astype("int32") if small else order
                for old in list(self._orders)[:-3]:
                    del self._orders[old]
            return self._orders[epoch]

    def _draw(
        self, counter: tuple[int, ...], epoch: int, count: int
    ) -> np.ndarray:
        """Random integers, uint64 `(count,)`, the same in every version."""
        key = np.array([self.seed, epoch], "uint64")
        at = np.array(counter, "uint64")
        return np.random.Philox(key=key, counter=at).random_raw(count)


def has_many_files(clips: FileClips) -> bool:
    """Whether files are too many to open each of them before training."""
    return int(clips.used().sum()) > CHECK_FILES


def _checked_spec(
    spec: Mapping[str, tuple[tuple[int, ...], str]],
) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """The shapes and types of extras, in numpy's words."""
    taken = {"waveform", "lengths"} & spec.keys()
    _require(not taken, "extra_spec", "name other arrays", sorted(taken))
    return {
        name: (tuple(shape), np.dtype(dtype))
        for name, (shape, dtype) in spec.items()
    }


def _require(fits: bool, name: str, what: str, value: Any) -> None:
    if not fits:
        raise ValueError(f"`{name}` must {what}. Received: {name}={value!r}")
