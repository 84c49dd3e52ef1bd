"""libsndfile's own functions, through the library that soundfile brings.

`soundfile.SoundFile` seeks after each read, for which FLAC decodes once more,
and holds Python's lock for 50 us a file: with two threads that is half of the
speed of crops. `benchmarks/reading.py` measures it.
"""

import io
import os
from typing import Any

import numpy as np
import soundfile
from soundfile import _ffi as ffi
from soundfile import _snd as lib

from keras_audio_ssl.data.audio.containers import Headed

FLAC, OGG, MP3 = 0x170000, 0x200000, 0x230000
WAV, WAVEX, AU = 0x010000, 0x130000, 0x030000
FLOAT, DOUBLE = 0x0006, 0x0007
READ, LOG = 0x10, 0x1001
SEEK_FAILED = 39  # SFE_BAD_SEEK
CONTAINER, CODING = 0x0FFF0000, 0x0000FFFF
CONTAINERS = {number: name for name, number in soundfile._formats.items()}
CODINGS = {number: name for name, number in soundfile._subtypes.items()}


class Sound:
    """An open file, for one thread at a time.

    Args:
        file: A path, or the bytes of a file.
        head: What the file is to begin with, and how many of its bytes that
            takes the place of; the file as it is by default.
        watched: Whether `position` is to be known.

    Attributes:
        rate: Sample rate in Hz.
        channels: Number of channels.
        frames: Length in samples, as the header or libsndfile has it.
        container: Its number: `FLAC`, `OGG`, `MP3` or another.
        format: Container and coding in words, such as `"WAV PCM_16"`.
        floating: Whether samples are stored as floating point.

    Raises:
        soundfile.LibsndfileError: If libsndfile cannot open it.

    Example:
        >>> sound = Sound("speech.flac")
        >>> sound.seek(1000)
        >>> sound.read(500).shape
        (500, 1)
    """

    def __init__(
        self,
        file: Any,
        head: tuple[bytes, int] | None = None,
        watched: bool = False,
    ) -> None:
        self._file, self._head, self._watched = file, head, watched
        self._open()

    def _open(self) -> None:
        file = self._file
        self._handle = ffi.NULL
        self._owner = None
        self._at = 0
        self._place: Any = None
        if self._head is not None or isinstance(file, bytes):
            if self._head is not None:
                self._place = Headed(file, *self._head)
            else:
                self._place = io.BytesIO(file)
            try:
                self._owner = soundfile.SoundFile(self._place)
            except BaseException:
                self._place.close()
                raise
            self._handle, info = self._owner._file, self._owner._info
        else:
            info = ffi.new("SF_INFO*")
            if self._watched and os.name != "nt":
                # `lseek` tells how far this one has been read.
                self._place = os.open(file, os.O_RDONLY)
                self._handle = lib.sf_open_fd(self._place, READ, info, 1)
                if self._handle == ffi.NULL:
                    # What is known by its name's ending alone.
                    self._place = None
                    info = ffi.new("SF_INFO*")
            if self._handle != ffi.NULL:
                pass
            elif os.name == "nt":
                name = os.fspath(file)
                self._handle = lib.sf_wchar_open(name, READ, info)
            else:
                # As bytes, a name in whatever encoding can be opened.
                self._handle = lib.sf_open(os.fsencode(file), READ, info)
            if self._handle == ffi.NULL:
                raise soundfile.LibsndfileError(lib.sf_error(ffi.NULL))
        self.rate, self.channels = info.samplerate, info.channels
        self.frames = info.frames
        self.container = info.format & CONTAINER
        self.format = _words(info.format)
        self.floating = info.format & CODING in (FLOAT, DOUBLE)
        self._seekable = bool(info.seekable)

    def seek(self, frame: int) -> None:
        """Goes to a frame; `LibsndfileError` where that fails."""
        if not self._seekable:
            self._skip(frame)
        elif lib.sf_seek(self._handle, frame, 0) != frame:
            raise soundfile.LibsndfileError(lib.sf_error(self._handle))

    def _skip(self, frame: int) -> None:
        """Decodes what lies before a frame: some codings cannot be sought."""
        if frame < self._at:
            self.close()
            self._open()
        while self._at < frame:
            if not len(self.read(min(frame - self._at, 1 << 16))):
                raise soundfile.LibsndfileError(SEEK_FAILED)

    def read(self, frames: int) -> np.ndarray:
        """The next frames, float32 `(frames, channels)`, fewer at the end."""
        wave = np.empty((frames, self.channels), "float32")
        target = ffi.cast("float*", wave.ctypes.data)
        got = lib.sf_readf_float(self._handle, target, frames)
        problem = lib.sf_error(self._handle)
        if problem:
            raise soundfile.LibsndfileError(problem)
        self._at += got
        return wave[:got]

    def position(self) -> int | None:
        """Bytes of the file that were read; `None` where nobody knows."""
        if isinstance(self._place, int):
            return os.lseek(self._place, 0, os.SEEK_CUR)
        return None if self._place is None else self._place.tell()

    def log(self) -> str:
        """What libsndfile noted about the header."""
        text = ffi.new("char[]", 1 << 14)
        lib.sf_command(self._handle, LOG, text, ffi.sizeof(text))
        return ffi.string(text).decode("utf-8", "replace")

    def close(self) -> None:
        """Closes the file and what libsndfile holds of it."""
        handle, self._handle = self._handle, ffi.NULL
        if self._owner is not None:
            self._owner.close()
            self._place.close()
        elif handle != ffi.NULL:
            lib.sf_close(handle)

    def __del__(self) -> None:
        self.close()


def _words(format: int) -> str:
    """The names in libsndfile of a container and a coding."""
    container, coding = format & CONTAINER, format & CODING
    outer = CONTAINERS.get(container, hex(container))
    return f"{outer} {CODINGS.get(coding, hex(coding))}"
