"""What a batch is, and the first batches of whatever `fit` takes."""

import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from keras_audio_ssl._shapes import rows
from keras_audio_ssl._types import Batch
from keras_audio_ssl._types import Size
from keras_audio_ssl._types import Tensor

# Clips that `fit` reads to measure a front end's statistics.
ADAPT_CLIPS = 2000


def waveform_and_lengths(x: Batch) -> tuple[Tensor, Tensor | None]:
    """Splits a batch into waveforms and lengths (or None).

    Args:
        x: `(batch, samples)`, or a dict with `"waveform"` and, optionally,
            `"lengths"`.

    Returns:
        `(waveform, lengths)`.

    Raises:
        ValueError: `x` is a dict without `"waveform"`.
    """
    if isinstance(x, dict):
        if "waveform" not in x:
            raise ValueError(
                "A batch must be waveforms or a dict with 'waveform' and "
                f"'lengths'. Received a dict with: {sorted(x)}"
            )
        return x["waveform"], x.get("lengths")
    return x, None


def partners(x: Batch) -> Batch:
    """The batch that second views are made of.

    Args:
        x: A batch; with `"pair"`, `(batch, samples)`, another sound for each
            clip, as long, that is to be told to be the same.

    Returns:
        The batch of those sounds, or `x` itself.
    """
    if isinstance(x, dict) and "pair" in x:
        return {**x, "waveform": x["pair"]}
    return x


def of_both(function: Callable[[Batch], Any], x: Batch) -> tuple[Any, Any]:
    """What a function makes of a batch and of its partners.

    Args:
        function: Without draws: called once where both are the same.
        x: As of `partners`.
    """
    first, others = function(x), partners(x)
    return first, first if others is x else function(others)


def checked(x: Any, sample_rate: int | None) -> Any:
    """What `fit`, `evaluate` and `predict` are given, if they can use it.

    Args:
        x: Arrays, a data set, an iterable of batches.
        sample_rate: Hz that the model takes, or None.

    Returns:
        `x`; arrays `(batch, samples, 1)` without their last axis.

    Raises:
        ValueError: It is the name of a folder, a list of arrays, one clip of
            several channels, integers, or a data set at another rate.
    """
    if isinstance(x, (str, os.PathLike)):
        raise ValueError(
            "A model takes batches, not a path: make a data set of it, "
            f"kas.data.from_folder({str(x)!r}), or from_manifest of a CSV. "
            f"Received: {str(x)!r}"
        )
    if isinstance(x, (list, tuple)) and any(hasattr(a, "shape") for a in x):
        raise ValueError(
            "A model takes one array of waveforms (batch, samples): join them, "
            "np.concatenate(x), or kas.data.from_arrays(x) for clips of any "
            f"length. Received: a {type(x).__name__} of {len(x)} arrays"
        )
    rate = getattr(x, "sample_rate", None)
    if None not in (rate, sample_rate) and rate != sample_rate:
        raise ValueError(
            f"The model takes audio at {sample_rate} Hz: make the data with "
            f"sample_rate={sample_rate}. Received: data at {rate} Hz"
        )
    if isinstance(x, dict) and hasattr(x.get("waveform"), "shape"):
        return {**x, "waveform": checked(x["waveform"], sample_rate)}
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        dtype = keras.backend.standardize_dtype(x.dtype)
        if not keras.backend.is_float_dtype(dtype):
            raise ValueError(
                "Waveforms must be floats in [-1, 1]; kas.data.from_arrays "
                "scales integers by the range of their type. Received: "
                f"dtype {dtype}"
            )
        return rows(x, "Waveforms")
    return x


def rate_of(model: Any) -> int | None:
    """Hz of the waveforms that a model takes; None where it has none."""
    encoder = getattr(model, "encoder", None)
    return getattr(model, "sample_rate", getattr(encoder, "sample_rate", None))


def frame_mask(lengths: Tensor, frames: Size) -> Tensor:
    """True for the frames before a clip's end.

    Args:
        lengths: `(batch,)` valid frames (or samples).
        frames: Their number in all.

    Returns:
        Boolean tensor `(batch, frames)`.
    """
    steps = ops.arange(frames, dtype="int32")
    return steps[None, :] < ops.cast(lengths, "int32")[:, None]


def as_float32(x: Tensor) -> Tensor:
    """A tensor in float32, if it has floating point; integers as they are."""
    if keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype)):
        return ops.cast(x, "float32")
    return x


def clips_in(batch: Batch) -> Size:
    """Clips of a batch: a number, or a tensor where it is not known yet."""
    return ops.shape(keras.tree.flatten(batch)[0])[0]


def is_arrays(x: Any) -> bool:
    """Whether `x` is one array, or a dict of them, and no data set."""
    return isinstance(x, dict) or hasattr(x, "shape")


def whole(x: Any) -> Any:
    """Data for `evaluate` and `predict`: all clips of a data set.

    Args:
        x: Whatever they take. A data set of ours would leave out the last
            few clips; Keras wants a generator's batches in tuples.
    """
    return x.whole() if hasattr(x, "whole") else in_tuples(x)


def in_tuples(x: Any) -> Any:
    """An iterator as Keras wants one, of tuples; other data as they are."""
    if not hasattr(x, "__next__"):
        return x
    return (b if isinstance(b, tuple) else (b,) for b in x)


def first_batches(
    x: Any, batch_size: int | None = None, clips: int = 1
) -> tuple[list[Batch], Any]:
    """The first batches of whatever `fit` takes, and data still whole.

    Args:
        x: Arrays, a `PyDataset`, or an iterable of batches.
        batch_size: Of arrays, Keras' default if None.
        clips: Enough when that many have been read.

    Returns:
        `(list of inputs, x)`; a generator comes back as one of all batches.

    Raises:
        ValueError: There is no batch.
    """
    batch_size = batch_size or 32
    if is_arrays(x):
        n = min(len(keras.tree.flatten(x)[0]), max(clips, 1))
        parts = [slice(i, i + batch_size) for i in range(0, n, batch_size)]
        return [
            keras.tree.map_structure(lambda v, part=part: v[part], x)
            for part in parts
        ], x
    if isinstance(x, keras.utils.PyDataset):
        source = (x[i] for i in range(x.num_batches or 1))
    else:
        source = iter(x)
    batches, seen = [], 0
    for batch in source:
        batches.append(batch)
        seen += len(keras.tree.flatten(batch)[0])
        if seen >= clips:
            break
    if not batches:
        raise ValueError("The training data is empty.")
    if source is x:
        x = in_tuples(chained(batches, source))
    return [b[0] if isinstance(b, (tuple, list)) else b for b in batches], x


def chained(batches: Iterable[Any], source: Iterable[Any]) -> Iterator[Any]:
    """A generator, as Keras wants one, of batches and those that follow."""
    yield from batches
    yield from source


def steps_of(x: Any, options: dict[str, Any]) -> int | None:
    """Steps that a `fit` makes in all; None where its data do not tell.

    Args:
        x: Its data.
        options: Its other arguments, a dict.
    """
    epochs = options.get("epochs", 1) - options.get("initial_epoch", 0)
    steps = options.get("steps_per_epoch")
    if steps is None and is_arrays(x):
        clips = len(keras.tree.flatten(x)[0])
        split = options.get("validation_split") or 0.0
        steps = -(
            -int(clips * (1 - split)) // (options.get("batch_size") or 32)
        )
    elif steps is None:
        steps = getattr(x, "num_batches", None)
    return None if steps is None else max(1, epochs * steps)
