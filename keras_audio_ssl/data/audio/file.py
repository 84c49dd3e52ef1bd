"""Decoding: any part of an audio file as mono float32."""

import os
import re
from typing import Any

import numpy as np
import soundfile

from keras_audio_ssl.data.audio.containers import FEW_FRAMES
from keras_audio_ssl.data.audio.containers import Content
from keras_audio_ssl.data.audio.containers import flac_head
from keras_audio_ssl.data.audio.containers import flac_streams
from keras_audio_ssl.data.audio.containers import mpeg_counts
from keras_audio_ssl.data.audio.containers import mpeg_end
from keras_audio_ssl.data.audio.containers import mpeg_head
from keras_audio_ssl.data.audio.containers import mpeg_preroll
from keras_audio_ssl.data.audio.containers import mpeg_samples
from keras_audio_ssl.data.audio.containers import ogg_pages
from keras_audio_ssl.data.audio.containers import ogg_streams
from keras_audio_ssl.data.audio.containers import wav_behind
from keras_audio_ssl.data.audio.containers import wav_head
from keras_audio_ssl.data.audio.libsndfile import AU
from keras_audio_ssl.data.audio.libsndfile import FLAC
from keras_audio_ssl.data.audio.libsndfile import MP3
from keras_audio_ssl.data.audio.libsndfile import OGG
from keras_audio_ssl.data.audio.libsndfile import WAV
from keras_audio_ssl.data.audio.libsndfile import WAVEX
from keras_audio_ssl.data.audio.libsndfile import Sound
from keras_audio_ssl.data.audio.source import FOREIGN
from keras_audio_ssl.data.audio.source import AudioError
from keras_audio_ssl.data.audio.source import check_finite
from keras_audio_ssl.data.audio.source import check_regular
from keras_audio_ssl.data.audio.source import convert
from keras_audio_ssl.data.audio.source import name_of
from keras_audio_ssl.data.audio.source import plain

LAYERS = {"MPEG_LAYER_I": 1, "MPEG_LAYER_II": 2}
# libsndfile's position is off after a seek into the last page of an Ogg.
OGG_PREROLL = 8192
UNKNOWN_LENGTH = 1 << 56
CHAIN = (
    "{} {} one after the other, of which the first alone would be read: "
    "decode it and encode it anew"
)
SEVERAL = (
    "{} behind the end that the header announces, and would not be read: "
    "decode it and encode it anew"
)
# Samples decoded at a time to count them.
BLOCK = 1 << 18
TAIL_BYTES = 1 << 17
# So many bytes behind the end of a stream are tags, or were read ahead.
AHEAD_BYTES = 1 << 13


class AudioFile:
    """An open audio file, of which parts are read as mono float32.

    Args:
        file: A path, or the bytes of a file.
        name: Name used in errors; the path by default.
        facts: `facts` of an earlier look at the same file, which spares
            looking at its end again.

    Attributes:
        rate: Sample rate in Hz.
        channels: Number of channels in the file.
        format: Container and coding, such as `"WAV PCM_16"`.
        floating: Whether the file stores floating point, so may hold NaN.
        frames: Length in samples, verified at the end of the file.
        facts: Two integers, to be handed to the next `AudioFile`.

    Raises:
        AudioError: If the file is missing, no audio, empty or truncated.
    """

    def __init__(
        self,
        file: Any,
        name: Any = None,
        facts: tuple[int, int] | None = None,
    ) -> None:
        self.name = name_of(file, name)
        self._file = file
        if facts is None and not isinstance(file, bytes):
            check_regular(file, self.name)
        try:
            self._sound = Sound(file, watched=facts is None)
        except (soundfile.LibsndfileError, OSError, ValueError) as error:
            raise AudioError(self.name, self._diagnose(error)) from None
        self._at = 0
        self.rate, self.floating = self._sound.rate, self._sound.floating
        self.channels, self.format = self._sound.channels, self._sound.format
        try:
            if self.rate < 1:
                raise self._error(f"sample rate of {self.rate} Hz")
            self._mend(facts)
            self.facts = facts or self._look()
        except BaseException:
            self.close()
            raise
        self.frames, self._exact = self.facts

    def __enter__(self) -> "AudioFile":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file, which then cannot be read any more."""
        self._sound.close()

    def read(self, start: int, frames: int) -> np.ndarray:
        """Reads samples `[start, start + frames)`, channels averaged.

        Args:
            start: First sample, at the file's own rate.
            frames: Number of samples, at most to the end of the file.

        Returns:
            float32 array `(frames,)`.

        Raises:
            AudioError: If decoding fails or a sample is NaN or infinite.
        """
        wave = self.read_channels(start, frames)
        try:
            wave = wave[:, 0] if wave.shape[1] == 1 else wave.mean(axis=1)
            check_finite(wave, self.name, self.rate, start)
            return np.ascontiguousarray(wave)
        except MemoryError as error:
            raise self._error(plain(error)) from None

    def read_channels(self, start: int, frames: int) -> np.ndarray:
        """Reads samples `[start, start + frames)` as the file has them.

        Args:
            start: First sample, at the file's own rate.
            frames: Number of samples, at most to the end of the file.

        Returns:
            float32 array `(frames, channels)`, which may hold NaN.

        Raises:
            AudioError: If decoding fails.
        """
        begin = start
        if start == self._at:
            pass  # goes on where it is, without a seek
        elif self._sound.container == MP3:
            # The first frames after a seek lack what earlier ones left.
            layer = LAYERS.get(self.format.split()[-1], 3)
            preroll = mpeg_preroll(self.rate, self.channels, layer)
            begin = max(0, start - preroll)
        elif start > self._exact - OGG_PREROLL:
            begin = max(0, self._exact - OGG_PREROLL)
        wave = self._decode(begin, start + frames - begin)
        wave = wave[start - begin :]
        if len(wave) < frames:
            seconds = (start + len(wave)) / self.rate
            raise self._error(f"decoding stops at {seconds:.2f} s")
        return wave

    def _error(self, reason: str) -> AudioError:
        return AudioError(self.name, reason)

    def _decode(self, start: int, frames: int) -> np.ndarray:
        try:
            if start != self._at:
                self._sound.seek(start)
            wave = self._sound.read(frames)
        except (soundfile.LibsndfileError, ValueError, MemoryError) as error:
            self._at = -1
            seconds = start / self.rate
            raise self._error(
                f"decoding fails from {seconds:.2f} s on ({plain(error)})"
            ) from None
        self._at = start + len(wave)
        return wave

    def _mend(self, facts: tuple[int, int] | None) -> None:
        """Lets libsndfile read on where a header makes it stop too early."""
        sound = self._sound
        if sound.container in (WAV, WAVEX) and sound.frames < 1:
            self._reopen(wav_head(Content(self._file)))
        elif facts and facts[0] > sound.frames:
            if sound.container == MP3:
                self._announce(facts[0])
            elif sound.container == FLAC:
                self._reopen(flac_head(Content(self._file)))

    def _look(self) -> tuple[int, int]:
        """True length, and the sample up to which seeks are exact."""
        frames = self._sound.frames
        exact = UNKNOWN_LENGTH
        if self._sound.container == OGG:
            exact = self._ogg_end()
        elif self._sound.container == MP3:
            frames = self._mp3_frames()
        elif self._sound.container == FLAC:
            frames = self._flac_frames()
        else:
            self._check_sizes()
        if frames < 1:
            size = Content(self._file).size
            raise self._error(
                "no samples"
                if size < 4096
                else f"no samples: the header of a file of {size} bytes "
                "announces none, it was never finished"
            )
        return frames, exact

    def _check_sizes(self) -> None:
        """Compares the header's sizes with the file's, as libsndfile does."""
        log = self._sound.log()
        unit = "bytes"
        found = re.search(
            r"^ *(?:data|SSND|Data Size|riff) *: (?P<said>\d+)"
            r" \(should be (?P<real>\d+)\)",
            log,
            re.MULTILINE,
        )
        if found is None:
            unit = "samples"
            found = re.search(
                r"frame count (?P<real>\d+) does not match .* (?P<said>\d+)",
                log,
            )
        if found is None:
            self._check_behind(log)
            return
        said, real = int(found["said"]), int(found["real"])
        # Recorders that write into a pipe announce the largest size.
        if real < said < 0x7FFFF000:
            raise self._error(
                f"truncated: the header announces {said} {unit}, "
                f"the file holds {real}"
            )

    def _check_behind(self, log: str) -> None:
        """That no sound lies behind what the header announces."""
        sound, behind = self._sound, 0
        if sound.frames < 1:
            return
        content = Content(self._file)
        second = content.size / sound.frames * self.rate
        found = re.search(r"^ *(?:data|Data Size) *: (\d+)", log, re.MULTILINE)
        if found is not None:
            second = int(found[1]) / sound.frames * self.rate
        if sound.container in (WAV, WAVEX):
            behind = wav_behind(content, second)
        elif sound.container == AU and found is not None:
            loose = content.size - int(found[1])
            behind = loose if loose > second + AHEAD_BYTES else 0
        if behind:
            raise self._error(
                f"the header announces {sound.frames / self.rate:.2f} s and "
                f"{behind} bytes lie behind them: it was never finished"
            )

    def _flac_frames(self) -> int:
        frames = self._sound.frames
        if frames > UNKNOWN_LENGTH:
            return self._count(0, frames)
        if frames > 0:
            try:
                last = len(self._decode(frames - 1, 1))
            except AudioError:
                last = 0
            if not last:
                raise self._error(
                    f"truncated: the header announces {frames} samples, "
                    "the last of them cannot be decoded"
                )
            content, at = Content(self._file), self._sound.position()
            if (streams := flac_streams(content)) > 1:
                raise self._error(CHAIN.format(streams, "FLAC files"))
            if at is not None and mpeg_end(content) - at > AHEAD_BYTES:
                # There is more than was announced.
                self._reopen(flac_head(content))
                frames = self._count(0, self._sound.frames)
        return frames

    def _mp3_frames(self) -> int:
        """Decodes the end: without a Xing header the length is a guess."""
        content = Content(self._file)
        counted, lacking = mpeg_counts(content)
        said, frames = self._mp3_end()
        if counted and said - frames > (0 if lacking else 2 * 1152):
            raise self._error(
                f"truncated: the header announces {said} samples, "
                f"{frames} can be decoded"
            )
        at, end = self._sound.position(), mpeg_end(content)
        if at is None or not frames:
            return frames
        more = mpeg_samples(content, at, end)
        few = FEW_FRAMES * (1152 if self.rate >= 32000 else 576)
        if more <= (few if counted else 0):
            return frames
        if counted or not self._announce(frames + more):
            seconds = more / self.rate
            raise self._error(SEVERAL.format(f"about {seconds:.1f} s lie"))
        return self._mp3_end()[1]

    def _mp3_end(self) -> tuple[int, int]:
        """Samples that an MP3 is said to have, and those that it has."""
        said = self._sound.frames
        step = 16 * 1152
        start = max(0, said - step)
        while not (got := self._count(start, said)) and start:
            step *= 4
            start = max(0, said - step)
        return said, start + got

    def _announce(self, frames: int) -> bool:
        """Opens an MP3 anew, with a head that announces a length.

        What is decoded ends with the length that libsndfile guessed.
        """
        head = mpeg_head(Content(self._file), frames)
        return head is not None and self._reopen(head)

    def _reopen(self, head: tuple[bytes, int] | None) -> bool:
        if head is None:
            return False
        self._sound.close()
        self._sound, self._at = Sound(self._file, head), 0
        return True

    def _count(self, start: int, end: int) -> int:
        """How many samples can be decoded between two, block by block.

        A header may announce more than there is memory for.
        """
        at = start
        while at < end and (got := len(self._decode(at, min(BLOCK, end - at)))):
            at += got
        return at - start

    def _ogg_end(self) -> int:
        """The sample at which the last page starts; a cut file has none."""
        content = Content(self._file)
        tail = content.read(max(0, content.size - TAIL_BYTES), TAIL_BYTES)
        pages = [page for page in ogg_pages(tail) if page.whole]
        if not pages or not pages[-1].ends:
            raise self._error("truncated: the last Ogg page is missing")
        streams = ogg_streams(content)
        if streams > 1:
            raise self._error(CHAIN.format(streams, "Ogg streams"))
        before = [page.granule for page in pages[:-1] if page.granule >= 0]
        return before[-1] if before else 0

    def _diagnose(self, error: Exception) -> str:
        try:
            head = Content(self._file).read(0, 512)
        except (OSError, ValueError) as problem:
            return plain(problem)
        if not head:
            return "empty file (0 bytes)"
        if not head.strip(b"\0"):
            return "not audio: begins with zero bytes only"
        ending = os.path.splitext(self.name)[1].lower()
        if ending in FOREIGN:
            return convert(ending)
        return f"not readable as audio: {plain(error)}"
