"""Audio as people hold it: one meaning at every door."""

import os
from collections.abc import Iterable
from collections.abc import Mapping
from numbers import Number
from typing import Any

import numpy as np

from keras_audio_ssl._shapes import rows
from keras_audio_ssl.data.audio import AudioArray
from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.audio import AudioSource
from keras_audio_ssl.data.isolation import open_audio


def whole_rate(rate: Any, name: str = "sample_rate") -> int:
    """A sample rate as a whole number, also of `16000.0`.

    Raises:
        ValueError: It is none, or not positive.
    """
    try:
        whole = int(rate)
        fits = whole == rate and whole >= 1
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise ValueError(
            f"`{name}` must be a positive whole number, in Hz. "
            f"Received: {rate!r}"
        )
    return whole


def is_path(audio: Any) -> bool:
    """Whether it names a file or a folder."""
    return isinstance(audio, (str, os.PathLike))


def is_pair(audio: Any) -> bool:
    """Whether it is `(waveform, rate)`, as `librosa.load` returns it."""
    return (
        isinstance(audio, (tuple, list))
        and len(audio) == 2
        and is_number(audio[1])
        and not is_number(audio[0])
        and not is_path(audio[0])
    )


def is_number(value: Any) -> bool:
    """Whether it is a number, of Python or NumPy, and no truth value."""
    return isinstance(value, Number) and not isinstance(value, bool)


def is_one(audio: Any) -> bool:
    """Whether it is one clip, and not several of them.

    One are a path, the bytes of a file, a waveform `(samples,)` or a list of
    numbers, `(waveform, rate)`, and a row of a data set.
    """
    if is_path(audio) or isinstance(audio, (bytes, bytearray, Mapping)):
        return True
    if hasattr(audio, "get_all_samples") or is_pair(audio):
        return True
    if hasattr(audio, "shape") and hasattr(audio, "dtype"):
        return len(audio.shape) == 1 and holds_numbers(audio)
    return (
        isinstance(audio, (tuple, list))
        and len(audio) > 0
        and is_number(audio[0])
    )


def holds_numbers(array: Any) -> bool:
    """Whether an array, of any library, holds numbers: not names, nor rows."""
    return any(
        word in str(array.dtype).lower() for word in ("float", "int", "complex")
    )


def to_numpy(array: Any) -> np.ndarray:
    """An array of any backend as numpy's, without gradients."""
    if hasattr(array, "detach"):
        array = array.detach().cpu()
    return np.asarray(array)


def several(audio: Any) -> list[Any]:
    """The clips of an array `(batch, samples)` or of anything iterable.

    Raises:
        ValueError: It is an array of another rank, or one clip of several
            channels, or nothing that can be gone through.
    """
    if hasattr(audio, "shape") and hasattr(audio, "dtype") and len(audio.shape):
        if not holds_numbers(audio) or len(audio.shape) == 1:
            return list(audio)
        return list(rows(to_numpy(audio)))
    if isinstance(audio, Iterable):
        return list(audio)
    raise ValueError(
        "Audio must be a path, an array or a list of them. "
        f"Received: {type(audio).__name__}"
    )


def open_given(
    audio: Any,
    rate: int | None,
    name: str,
    isolate: bool = False,
    holder: str = "",
) -> AudioSource:
    """Opens one clip, whatever holds it; use it in a `with` statement.

    Args:
        audio: A path; the bytes of a file; a waveform `(samples,)`, or with
            channels as `AudioArray` takes it, of any library; `(waveform,
            rate)`; a dict with `array` and `sampling_rate`, with `bytes` or
            `path`, or with such a dict as `audio`; a decoder with
            `get_all_samples()`.
        rate: Hz of what does not say it; `None` if it has to.
        name: Name used in errors, of what has none.
        isolate: As for `open_audio`.
        holder: Where it lies, in words that `holds` ends, for errors.

    Raises:
        AudioError: It is no audio, or broken.
    """
    if hasattr(audio, "get_all_samples"):
        found = audio.get_all_samples()
        return AudioArray(
            to_numpy(found.data), _rate_of(found.sample_rate, name), name
        )
    if is_path(audio):
        return open_audio(audio, isolate=isolate)
    if isinstance(audio, (bytes, bytearray)):
        return open_audio(bytes(audio), name, isolate=isolate)
    found = type(audio).__name__
    if isinstance(audio, Mapping):
        if audio.get("array") is not None:
            rate = _rate_of(audio.get("sampling_rate") or 0, name)
            return AudioArray(to_numpy(audio["array"]), rate, name)
        if audio.get("bytes"):
            if audio.get("path"):
                name = f"{name} ({audio['path']})"
            return open_audio(bytes(audio["bytes"]), name, isolate=isolate)
        if audio.get("path"):
            return open_audio(audio["path"], isolate=isolate)
        if audio.get("audio") is not None:
            return open_given(audio["audio"], rate, name, isolate, holder)
        found = f"a dict with {', '.join(map(str, audio))}"
        audio, rate = None, None
    if is_pair(audio):
        audio, rate = audio[0], _rate_of(audio[1], name)
    if rate is None or not (
        hasattr(audio, "shape") or isinstance(audio, (list, tuple))
    ):
        raise AudioError(
            name,
            f"{holder}{found}, expected a dict with 'array' and "
            "'sampling_rate', 'bytes' or 'path'; a path; (waveform, rate)"
            + ("" if rate is None else "; an array"),
        )
    try:
        array = to_numpy(audio)
    except ValueError as error:
        raise AudioError(name, f"no waveform: {error}") from None
    return AudioArray(array, rate, name)


def _rate_of(rate: Any, name: str) -> int:
    try:
        return whole_rate(rate)
    except ValueError:
        raise AudioError(name, f"sample rate of {rate} Hz") from None
