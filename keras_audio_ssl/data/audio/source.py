"""What all sources of samples have in common, and the error of a bad one."""

import os
import stat
from typing import Any
from typing import Protocol
from typing import Self

import numpy as np

from keras_audio_ssl._text import with_reason

# Endings of sound that libsndfile does not decode: named, never passed in
# silence.
FOREIGN = (
    *(".3g2", ".3gp", ".aa", ".aac", ".aax", ".ac3", ".adts", ".ape"),
    *(".amr", ".asf", ".avi", ".awb", ".dff", ".dsf", ".dss", ".dts"),
    *(".eac3", ".ec3", ".f4a", ".f4v", ".flv", ".g722", ".gsm", ".m2ts"),
    *(".m4a", ".m4b", ".m4p", ".m4r", ".m4v", ".mka", ".mkv", ".mov"),
    *(".mp4", ".mpc", ".mpeg", ".mpg", ".mts", ".ofr", ".ogm", ".ogv"),
    *(".pcm", ".qt", ".ra", ".raw", ".rm", ".rmvb", ".sd2", ".shn"),
    *(".spx", ".tak", ".thd", ".tta", ".vob", ".vox", ".weba", ".webm"),
    *(".wma", ".wmv", ".wv"),
)
# What libsndfile says of files, in words that say what is wrong with them.
PLAIN = {
    "Internal error : SF_INFO struct incomplete": (
        "the header's sample rate, channels or length is impossible"
    ),
    "File does not exist or is not a regular file (possibly a pipe?)": (
        "Format not recognised"
    ),
    "(Garbled error message from libsndfile)": "damaged data",
}


class AudioError(ValueError):
    """A file (or array) that gives no usable audio, and why.

    Args:
        file: The file's name as the user gave it.
        reason: What is wrong with it, in words.

    Example:
        >>> try:
        ...     wave = kas.data.read_audio("broken.flac", 16000)
        ... except AudioError as error:
        ...     print(error.file, "cannot be read")
        broken.flac cannot be read
    """

    def __init__(self, file: Any, reason: str) -> None:
        super().__init__(str(file), reason)
        self.file = str(file)
        self.reason = reason

    def __str__(self) -> str:
        return with_reason(self.file, self.reason)


class AudioSource(Protocol):
    """Samples of a clip, of which any part can be read.

    An `AudioFile`, an `AudioArray` or, in a child process, an
    `IsolatedFile`; each is used in a `with` statement.

    Attributes:
        name: What errors call it.
        rate: Sample rate in Hz.
        frames: Length in samples.
        floating: Whether samples are stored as floating point, so may hold
            NaN.
        format: Container and coding, such as `"WAV PCM_16"`; `"array"`.
    """

    name: str
    rate: int
    frames: int
    floating: bool
    format: str

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: Any) -> None: ...

    def read(self, start: int, frames: int) -> np.ndarray:
        """Reads samples `[start, start + frames)`, channels averaged.

        Args:
            start: First sample, at the source's own rate.
            frames: Number of samples, at most to the end.

        Returns:
            float32 array `(frames,)`.

        Raises:
            AudioError: If decoding fails or a sample is NaN or infinite.
        """
        ...


def name_of(file: Any, name: Any = None) -> str:
    """What errors call a file: its path, unless it has another name."""
    if name is None:
        name = "a file in memory" if isinstance(file, bytes) else file
    return str(name)


def convert(ending: str) -> str:
    """What to do about a file with an ending among `FOREIGN`."""
    return f"{ending} cannot be decoded: convert it to WAV, FLAC, OGG or MP3"


def check_regular(path: Any, name: str) -> None:
    """Raises `AudioError` unless `path` is a file, found and readable.

    A named pipe or a device would block the reader for ever.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        broken = os.path.islink(path)
        raise AudioError(
            name, f"broken link ({plain(error)})" if broken else plain(error)
        ) from None
    if stat.S_ISDIR(mode):
        raise AudioError(name, "a folder, not a file")
    if not stat.S_ISREG(mode):
        raise AudioError(name, "not a regular file")


def check_finite(wave: np.ndarray, name: str, rate: int, start: int) -> None:
    """Refuses samples that are NaN or infinite.

    Args:
        wave: `(frames,)` or `(frames, channels)`.
        name: Of the file, for the message.
        rate: Hz.
        start: Place of the first sample in its file.

    Raises:
        AudioError: One of them is not finite; it says at which second.
    """
    if np.isfinite(wave.sum()):
        return
    finite = np.isfinite(wave)
    if not finite.all():
        at = (start + int(np.argmin(finite))) / rate
        raise AudioError(name, f"NaN or infinite sample at {at:.2f} s")


def plain(error: BaseException) -> str:
    """An error's text without the path, which stands beside it anyway."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = getattr(error, "error_string", None) or str(error)
    text = " ".join(str(text).split()).rstrip(".")
    return PLAIN.get(text, text) or type(error).__name__
