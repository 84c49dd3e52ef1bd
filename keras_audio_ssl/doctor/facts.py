"""What one audio file holds: length, level, clipping, bandwidth, a digest."""

import hashlib
import math
import struct
from typing import NamedTuple

import numpy as np

from keras_audio_ssl.data.audio import AudioFile
from keras_audio_ssl.data.audio.clipping import Plateau
from keras_audio_ssl.data.audio.clipping import plateau_step
from keras_audio_ssl.data.isolation import IsolatedFile

BLOCK = 1 << 16  # samples of all channels that are in memory at a time
SILENCE_DB = -60.0  # dBFS; 16-bit audio's own noise lies at -98
WINDOW = 0.02  # seconds of the windows that are silent or not
LONGEST = 1 << 14  # samples of a window: a header may claim any rate
SPECTRA = 2048  # windows that the mean spectrum is taken over, at most
# A spectrum that was cut off falls by so much within so small a part of its
# end's frequency.
EDGE_DB = 25.0
GAP = 0.12
# The fields of `Facts`, in their order.
RECORD = struct.Struct("<qqq24sdddddqddq16s")
# The same as columns of an array, for many files.
COLUMNS = np.dtype(
    [
        ("frames", "<i8"),
        ("rate", "<i8"),
        ("channels", "<i8"),
        ("format", "S24"),
        ("peak", "<f8"),
        ("peak_at", "<f8"),
        ("rms", "<f8"),
        ("silent", "<f8"),
        ("cancelled_db", "<f8"),
        ("clipped", "<i8"),
        ("dc", "<f8"),
        ("bandwidth", "<f8"),
        ("nonfinite", "<i8"),
        ("digest", "V16"),
    ]
)


class Facts(NamedTuple):
    """What `examine` finds in a file.

    Attributes:
        frames: Length in samples.
        rate: Sample rate in Hz.
        channels: Number of channels.
        format: Container and coding.
        peak: Largest absolute sample of any channel; 1.0 is full scale.
        peak_at: Where that sample is, in seconds.
        rms: Root mean square of the channels' average, which is what
            training hears.
        silent: Part of the 20 ms windows of that average below -60 dBFS.
        cancelled_db: How much quieter the average is than its channels; 3 for
            unrelated channels, 0 for equal ones, infinite where they cancel.
        clipped: Samples in plateaus of three or more at a channel's peak.
        dc: Mean of the channels' average.
        bandwidth: Hz up to which there is sound; `rate / 2` unless the
            spectrum ends before, in a steep edge.
        nonfinite: Samples that are NaN or infinite.
        digest: Of the decoded average: the same sound has the same digest in
            WAV and FLAC, mono or doubled, whatever the file's metadata.
    """

    frames: int
    rate: int
    channels: int
    format: str
    peak: float
    peak_at: float
    rms: float
    silent: float
    cancelled_db: float
    clipped: int
    dc: float
    bandwidth: float
    nonfinite: int
    digest: str

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.frames / self.rate

    def pack(self) -> bytes:
        """The facts as `RECORD.size` bytes."""
        values = self._asdict()
        values["format"] = self.format.encode("ascii", "replace")
        values["digest"] = bytes.fromhex(self.digest)
        return RECORD.pack(*values.values())

    @classmethod
    def unpack(cls, record: bytes) -> "Facts":
        """The facts of `pack`; `ValueError` where they cannot be true."""
        try:
            values = dict(zip(cls._fields, RECORD.unpack(record), strict=True))
            text = values["format"].rstrip(b"\0").decode("ascii")
        except (struct.error, UnicodeDecodeError) as error:
            raise ValueError(f"not a record of facts: {error}") from None
        values["format"], values["digest"] = text, values["digest"].hex()
        facts = cls(**values)
        numbers = [v for v in values.values() if not isinstance(v, str)]
        if (
            min(facts.frames, facts.rate, facts.channels) < 1
            or min(facts.clipped, facts.nonfinite) < 0
            or any(math.isnan(number) for number in numbers)
            or not text.isprintable()
        ):
            raise ValueError("not a record of facts: impossible values")
        return facts


def decibels(amplitude: float) -> float:
    """An amplitude in dBFS; full scale is 1.0, silence `-inf`."""
    return 20 * math.log10(amplitude) if amplitude > 0 else -math.inf


def examine(audio: AudioFile | IsolatedFile, block: int = BLOCK) -> Facts:
    """Reads a file once, block by block, and says what it holds.

    Args:
        audio: An open file.
        block: Samples that are in memory at a time, 65,536 by default. The
            answer does not depend on it.

    Returns:
        The file's `Facts`.

    Raises:
        AudioError: If decoding fails. NaN is no error here, but counted.

    Example:
        >>> with AudioFile("clip.flac") as audio:
        ...     facts = examine(audio)
        >>> facts.rate, facts.bandwidth
        (16000, 8000.0)
    """
    frames, rate, channels = audio.frames, audio.rate, audio.channels
    peak = peak_at = 0.0
    nonfinite = 0
    total = squares = 0.0
    each = np.zeros(channels)
    digest = hashlib.blake2b(digest_size=16)
    step = plateau_step(audio.format)
    plateaus = [Plateau(step) for _ in range(2 * channels)]
    silence = _Silence(rate)
    spectrum = _Spectrum(rate, frames)
    # Hundreds of channels would make blocks of a few samples each.
    size = max(1, block // min(channels, 16))
    for start in range(0, frames, size):
        wave = audio.read_channels(start, min(size, frames - start))
        # Faster than `isfinite`, and right: NaN and infinity stay in a sum.
        if not math.isfinite(float(wave.sum(dtype="float64"))):
            broken = ~np.isfinite(wave)
            nonfinite += int(broken.sum())
            wave = np.where(broken, np.float32(0), wave)
        mono = wave[:, 0] if channels == 1 else wave.mean(axis=1)
        # Adding zero turns -0.0 into 0.0, which is the same sound.
        mono = np.ascontiguousarray(mono + np.float32(0))
        digest.update(mono.astype("<f4", copy=False).data)
        double = mono.astype("float64")
        total += float(double.sum())
        power = _energy(double)
        squares += power
        for k in range(channels):
            one = double
            if channels > 1:
                one = wave[:, k].astype("float64")
                power = _energy(one)
            each[k] += power
            top, bottom = int(one.argmax()), int(one.argmin())
            at = top if one[top] >= -one[bottom] else bottom
            if abs(one[at]) > peak:
                peak, peak_at = float(abs(one[at])), (start + at) / rate
            plateaus[2 * k].add(one, float(one[top]))
            plateaus[2 * k + 1].add(-one, float(-one[bottom]))
        silence.add(double)
        spectrum.add(double)
    loudest = float(each.mean()) / frames
    power = squares / frames
    clipped = 0
    for plus, minus in zip(plateaus[::2], plateaus[1::2], strict=True):
        high = max(plus.best, minus.best)
        clipped += sum(p.count(high) for p in (plus, minus))
    return Facts(
        frames=frames,
        rate=rate,
        channels=channels,
        format=audio.format,
        peak=peak,
        peak_at=peak_at,
        rms=math.sqrt(power),
        silent=silence.part(),
        cancelled_db=_ratio_db(loudest, power),
        clipped=clipped,
        dc=total / frames,
        bandwidth=spectrum.bandwidth(),
        nonfinite=nonfinite,
        digest=digest.hexdigest(),
    )


class _Framed:
    """Cuts a stream into windows of equal length, whatever its blocks."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._rest = np.zeros(0)

    def windows(self, wave: np.ndarray) -> np.ndarray:
        if len(self._rest):
            wave = np.concatenate([self._rest, wave])
        whole = len(wave) // self.size * self.size
        self._rest = wave[whole:].copy()
        return wave[:whole].reshape(-1, self.size)


class _Silence:
    """Part of the windows that are silent."""

    def __init__(self, rate: int) -> None:
        self._framed = _Framed(min(LONGEST, max(1, round(WINDOW * rate))))
        self._floor = 10 ** (SILENCE_DB / 10)
        self._silent = self._count = 0

    def add(self, wave: np.ndarray) -> None:
        self._take(self._framed.windows(wave))

    def part(self) -> float:
        if not self._count:
            self._take(self._framed._rest[None])
        return self._silent / self._count

    def _take(self, windows: np.ndarray) -> None:
        power = np.einsum("ij,ij->i", windows, windows) / windows.shape[1]
        self._silent += int((power < self._floor).sum())
        self._count += len(power)


class _Spectrum:
    """The mean spectrum of evenly spread windows, and where it ends."""

    def __init__(self, rate: int, frames: int) -> None:
        size = min(LONGEST, 1 << max(6, math.ceil(math.log2(0.03 * rate))))
        self._rate = rate
        self._framed = _Framed(size)
        self._every = max(1, frames // size // SPECTRA)
        self._seen = 0
        self._taper = np.hanning(size)
        self._power = np.zeros(size // 2 + 1)

    def add(self, wave: np.ndarray) -> None:
        windows = self._framed.windows(wave)
        first = -self._seen % self._every
        self._seen += len(windows)
        self._take(windows[first :: self._every])

    def bandwidth(self) -> float:
        """Hz, the start of the first steep and final fall, or half the rate."""
        if not self._seen:
            rest = self._framed._rest
            self._take(np.pad(rest, (0, self._framed.size - len(rest)))[None])
        bins = len(self._power)
        if not self._power.any():
            return 0.0
        # Three bins together, in dB: single bins of noise scatter.
        smooth = np.convolve(self._power, np.ones(3) / 3, "same")
        decibels = 10 * np.log10(np.maximum(smooth, 1e-30))
        sums = np.cumsum(np.r_[0.0, decibels])
        above = np.maximum.accumulate(decibels[::-1])[::-1]
        # Steep in octaves: dark sounds fall slowly. From what lies just below
        # and from the whole octave below: a partial may stand alone.
        ends = np.arange(max(20, bins // 10), int(bins / (1 + GAP)))
        below = ends - np.maximum(2, np.rint(GAP * ends)).astype(int)
        beyond = ends + np.maximum(2, np.rint(GAP * ends)).astype(int)
        before = np.minimum(
            (sums[ends] - sums[below]) / (ends - below),
            (sums[ends] - sums[ends // 2]) / (ends - ends // 2),
        )
        falls = before - above[np.minimum(beyond, bins - 1)] > EDGE_DB
        if not falls.any():
            return self._rate / 2
        return float(ends[falls][0] * self._rate / self._framed.size)

    def _take(self, windows: np.ndarray) -> None:
        if len(windows):
            spectra = np.fft.rfft(windows * self._taper)
            self._power += (spectra.real**2 + spectra.imag**2).sum(axis=0)


def _energy(wave: np.ndarray) -> float:
    # Not `@`: BLAS would take all cores for it, from the other threads.
    return float(np.einsum("i,i->", wave, wave))


def _ratio_db(above: float, below: float) -> float:
    if above <= 0:
        return 0.0
    # Rounding leaves some 1e-15 where channels cancel.
    return 10 * math.log10(above / below) if below > 1e-14 * above else math.inf
