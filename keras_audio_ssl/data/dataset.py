"""The data set that is trained on: what it is asked for, and what it has."""

import contextlib
import copy
import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_audio_ssl._files import write_table
from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.audio import read_part
from keras_audio_ssl.data.checks import check_clips
from keras_audio_ssl.data.checks import check_labels
from keras_audio_ssl.data.checks import say_left_out
from keras_audio_ssl.data.clips import Clips
from keras_audio_ssl.data.clips.crops import Crops
from keras_audio_ssl.data.clips.labels import NO_LABEL
from keras_audio_ssl.data.clips.skipped import SkippedClips
from keras_audio_ssl.data.feed import Feed
from keras_audio_ssl.data.loader import Loader
from keras_audio_ssl.data.loader import Threads
from keras_audio_ssl.data.order import Order

# Clips of which the length is looked at, where an average will do.
LOOK = 64
NUMBER = (int, float, np.number)


class TooFewClips(ValueError):
    """There are fewer clips than one batch takes.

    Args:
        message: What was asked for, and what would do.
        clips: How many there are for each host.

    Example:
        >>> try:
        ...     data = kas.data.from_folder("my_audio", 1.0, batch_size=256)
        ... except TooFewClips as error:
        ...     many = error.clips
        >>> data = kas.data.from_folder("my_audio", 1.0, batch_size=many)
    """

    def __init__(self, message: str, clips: int) -> None:
        super().__init__(message)
        self.clips = clips


class ClipByClip:
    """The clips of a dataset one by one, as they are in their source."""

    _crops: Crops

    @property
    def _clips(self) -> Clips:
        return self._crops.clips

    @property
    def num_clips(self) -> int:
        """Number of clips in use, of all shards."""
        return len(self._clips)

    @property
    def files(self) -> list[str]:
        """File (or item) of each clip."""
        return [self._clips.name(i) for i in range(len(self._clips))]

    @property
    def labels(self) -> np.ndarray | None:
        """Class of each clip, int32 `(clips,)`, -1 for none; or None."""
        return self._clips.labels

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes, in the order of their numbers; None without."""
        return self._clips.classes

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
                rate = self._crops.sample_rate
                seconds.append(self._crops.extent(a, clip, rate)[1] / rate)
        return count * float(np.mean(seconds or [0.0])) / 3600

    def contents(self) -> Iterator[tuple[str, int]]:
        """What the clips are read from: files in use and their bytes.

        A file comes once, whatever number of clips lies in it; items that
        are no files have 0 bytes.
        """
        return self._clips.contents()

    def part(self, clip: int) -> tuple[float, float] | None:
        """Start and end of a clip in its file, in seconds, if not all."""
        return self._clips.span(clip)

    def clip_seconds(self, clip: int) -> float:
        """How long a clip is in its source.

        Args:
            clip: Its number, the place of its name in `files`.

        Raises:
            AudioError: It cannot be read.
        """
        with self._clips.open(clip) as audio:
            rate = audio.rate
            return self._crops.extent(audio, clip, rate)[1] / rate

    def read_clip(
        self,
        clip: int,
        sample_rate: int | None = None,
        seconds: float | None = None,
        start: float = 0.0,
    ) -> np.ndarray:
        """A clip as it is in its source, neither cropped nor padded.

        Args:
            clip: Its number, the place of its name in `files`.
            sample_rate: Hz; the dataset's if `None` (default).
            seconds: How much of it; all if `None` (default).
            start: Where to begin, in seconds from its start, 0.0 by default.

        Returns:
            float32 `(samples,)`.

        Raises:
            AudioError: It cannot be read.
        """
        rate = sample_rate or self._crops.sample_rate
        with self._clips.open(clip) as audio:
            first, length = self._crops.extent(audio, clip, rate)
            skip = min(round(start * rate), length - 1)
            first, length = first + skip, length - skip
            if seconds is not None:
                length = min(length, round((start + seconds) * rate) - skip)
            return read_part(audio, rate, first, length)

    def read_native(self, clip: int, seconds: float) -> tuple[np.ndarray, str]:
        """The middle of a clip as it is stored, channels averaged.

        Args:
            clip: Its number, the place of its name in `files`.
            seconds: How much of it, at most.

        Returns:
            float32 `(samples,)` at the source's own rate, and the coding.

        Raises:
            AudioError: It cannot be read.
        """
        with self._clips.open(clip) as audio:
            first, length = self._crops.extent(audio, clip, audio.rate)
            size = max(1, min(length, round(seconds * audio.rate)))
            wave = audio.read(first + (length - size) // 2, size)
            return wave, audio.format


class AudioDataset(ClipByClip, Feed):
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
        clips: The source.
        seconds: Length of the segments; shorter clips are padded with zeros.
            `None` (default) gives whole clips, padded to the longest of the
            batch (rounded up to one of four lengths an octave, so that a
            compiled step meets few shapes).
        batch_size: Clips in a batch, 64 by default.
        sample_rate: In Hz, 16000 by default; others are resampled.
        seed: A whole number; all random choices derive from it.
        shuffle: `True` (default) for another order in each epoch.
        crop: Place of the segment in a longer clip: `"random"` (default),
            `"start"` or `"center"`.
        drop_last: `True` (default) leaves out the last incomplete batch; see
            `whole`.
        min_seconds: Shorter clips are skipped; 0.0 by default, which skips
            those without a single sample.
        max_seconds: With `seconds=None`, crops longer clips to this.
        workers: Decoding threads, 2 by default; 0 decodes when asked.
        shard: `(index, count)`: this host's part of each epoch. The parts
            are disjoint, cover the epoch and have the same number of steps
            (for which the last step may repeat a clip if `drop_last=False`).
        crops_per_clip: How often a clip comes in an epoch, 1 by default;
            more for few, long recordings.
        repeat: `True` for a stream of epochs without end, for `fit` with
            `steps_per_epoch`.
        label_fraction: Of the clips with a label, the share of each class
            that keeps it, at least one; 1.0 by default. The others are then
            without label. Which ones is a function of `seed`, this share and
            the names of the clips; a larger share keeps what a smaller does.
        skipped: `(file, reason)` of what was left out before.
        source: What errors call it.

    Attributes:
        epoch: The epoch that the next pass of `fit` begins with.
        skipped: List of `(file, reason)`, in the order of discovery.
        classes: Names of the labels, or `None`.
        labels: int32 `(clips,)`, -1 for a clip that has none; `None` if no
            clip has.

    Raises:
        ValueError: If an argument is out of range, or no clip is readable.

    Example:
        >>> data = kas.data.from_folder("my_audio", 1.0, batch_size=32)
        >>> x = data.batch(epoch=0, step=0)
        >>> x["waveform"].shape
        (32, 16000)
        >>> run = model.fit(data, epochs=1, verbose=0)
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
        shard = _checked(
            seconds=seconds,
            batch_size=batch_size,
            sample_rate=sample_rate,
            seed=seed,
            crop=crop,
            min_seconds=min_seconds,
            max_seconds=max_seconds,
            workers=workers,
            shard=shard,
            crops_per_clip=crops_per_clip,
            label_fraction=label_fraction,
        )
        super().__init__()
        self.seconds, self.max_seconds = seconds, max_seconds
        self.sample_rate, self.seed = int(sample_rate), int(seed)
        self.shuffle, self.crop, self.shard = bool(shuffle), crop, shard
        self.drop_last, self.min_seconds = bool(drop_last), float(min_seconds)
        self.crops_per_clip, self.repeat = int(crops_per_clip), bool(repeat)
        self.threads, self.source = int(workers), source
        self.label_fraction = float(label_fraction)
        self._crops = Crops(
            clips, self.sample_rate, seconds, crop, self.min_seconds,
            max_seconds,
        )  # fmt: skip
        self._skipped = SkippedClips(source)
        for file, reason in skipped:
            error = AudioError(file, reason)
            self._skipped.add(error, quiet=reason == NO_LABEL)
        say_left_out(clips, self._skipped)
        check_clips(self._crops, self._skipped, self.threads)
        check_labels(clips, self.label_fraction, self.seed, source)
        order = Order(
            len(clips), int(batch_size), self.seed, self.shuffle,
            self.drop_last, shard, self.crops_per_clip,
        )  # fmt: skip
        _check_enough(order, source)
        self._loader = Loader(
            self._crops, order, self._skipped, Threads(self.threads),
            ahead=self.threads + 1 if self.threads else 0,
        )  # fmt: skip

    def __repr__(self) -> str:
        if "_loader" not in self.__dict__:
            return "<AudioDataset that could not be made>"
        length = "whole" if self.seconds is None else f"{self.seconds:g} s of"
        about = "about " if len(self._clips) > LOOK else ""
        steps = "batches without end" if self.repeat else f"{len(self)} batches"
        return (
            f"<AudioDataset: {len(self._clips):,} clips, {about}"
            f"{self.hours:.2f} h; {length} clips at {self.sample_rate} Hz, "
            f"{steps} of {self.batch_size}>"
        )

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """(file, reason) of each clip that could not be used so far."""
        return self._skipped.pairs()

    def write_skipped(self, path: Any) -> None:
        """Writes `skipped` as a CSV table with the columns file and reason.

        Args:
            path: The CSV file, replaced as a whole.
        """
        write_table(path, ("file", "reason"), self.skipped, "backslashreplace")

    def signature(self) -> dict[str, Any]:
        """What the batches and their order depend on, as plain values.

        Two data sets with the same signature give the same batches, as far
        as names and sizes of the files tell.
        """
        clips, extras = self._clips, self._crops.extra_spec
        mark = hashlib.sha256()
        for name, size in self.contents():
            mark.update(os.fsencode(f"{name}\0{size}\0"))
        mark.update(clips.places())
        more: dict[str, Any] = {}
        if clips.labels is not None:
            labels = hashlib.sha256(clips.labels.tobytes())
            labels.update(repr(clips.classes).encode("utf-8", "replace"))
            more["labels"] = labels.hexdigest()
            more["label_fraction"] = self.label_fraction
        if extras:
            more["extras"] = {
                name: [list(shape), dtype.name]
                for name, (shape, dtype) in extras.items()
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

    def whole(self) -> "AudioDataset":
        """The same clips for one pass over all of them.

        Each clip of this shard comes once, in the source's order, the last
        batch with as many as are left; a random crop gives way to the one in
        the middle. What `predict` and `evaluate` should see.

        Returns:
            An `AudioDataset` that shares the source, what it has cached, the
            threads and `skipped` with this one.

        Example:
            >>> data = kas.data.from_folder("my_audio", 1.0, batch_size=8)
            >>> data.num_clips, 8 * len(data)
            (45, 40)
            >>> sum(len(x["lengths"]) for x in data.whole())
            45
        """
        view = copy.copy(self)
        view.shuffle = view.drop_last = view.repeat = False
        view.crop = "center" if self.crop == "random" else self.crop
        view.crops_per_clip = 1
        view._start, loader = (0, 0), self._loader
        view._crops = dataclasses.replace(self._crops, crop=view.crop)
        view._loader = Loader(
            view._crops,
            dataclasses.replace(
                loader.order, shuffle=False, drop_last=False, crops_per_clip=1
            ),
            self._skipped,
            loader.threads,
            loader.ahead,
            goes_on=False,
        )
        return view


def _checked(
    *,
    seconds: float | None,
    batch_size: int,
    sample_rate: int,
    seed: int,
    crop: str,
    min_seconds: float,
    max_seconds: float | None,
    workers: int,
    shard: tuple[int, int],
    crops_per_clip: int,
    label_fraction: float,
) -> tuple[int, int]:
    """Raises `ValueError` where an argument is out of range.

    Returns:
        `shard`, of whole numbers.
    """
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
    for name, length in (("seconds", seconds), ("max_seconds", max_seconds)):
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
    return index, count


def _require(fits: bool, name: str, what: str, value: Any) -> None:
    if not fits:
        raise ValueError(f"`{name}` must {what}. Received: {name}={value!r}")


def _check_enough(order: Order, source: str) -> None:
    """Raises `TooFewClips` where no batch can be filled."""
    hosts = order.shard[1]
    if not order.steps:
        raise TooFewClips(
            f"`batch_size={order.batch_size}` is more than the {order.total} "
            f"clips of {source}"
            + (f" on {hosts} hosts" if hosts > 1 else "")
            + ": pass a smaller `batch_size`, `drop_last=False`, or "
            "`crops_per_clip` for more crops of each clip",
            order.total // hosts,
        )
