"""Sounds and pictures as `data:` addresses, drawn here: no extra is needed."""

import base64
import math
import struct
import zlib
from typing import Any

import numpy as np

from keras_audio_ssl._types import Size

# Eight points of matplotlib's magma, straight lines between them.
MAGMA = np.array(
    [
        (0, 0, 4), (28, 16, 68), (79, 18, 123), (129, 37, 129),
        (181, 54, 122), (229, 80, 100), (251, 135, 97), (254, 194, 135),
        (252, 253, 191),
    ],
    "float64",
)  # fmt: skip


def wav_uri(wave: np.ndarray, rate: int) -> str:
    """A waveform as the `data:` address of a 16-bit WAV file.

    Args:
        wave: `(samples,)`; what lies beyond [-1, 1] is cut off.
        rate: Sample rate in Hz.

    Returns:
        Text.
    """
    samples = np.rint(np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes()
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF", 36 + len(samples), b"WAVE", b"fmt ", 16, 1, 1, rate,
        2 * rate, 2, 16, b"data", len(samples),
    )  # fmt: skip
    coded = base64.b64encode(head + samples).decode("ascii")
    return f"data:audio/wav;base64,{coded}"


def spectrogram_png(
    wave: np.ndarray,
    rate: int,
    bands: int = 80,
    columns: int = 320,
    range_db: float = 65,
) -> Any:
    """A mel spectrogram as the `data:` address of a PNG picture.

    Args:
        wave: `(samples,)`.
        rate: Sample rate in Hz; the picture reaches to half of it.
        bands: Mel bands, the picture's height.
        columns: The picture's width, at most.
        range_db: From the loudest point down to black.

    Returns:
        Text.
    """
    size = window_size(rate)
    wave = np.asarray(wave, "float64")
    if len(wave) < size:
        wave = np.pad(wave, (0, size - len(wave)))
    count = min(columns, 1 + (len(wave) - size) // max(1, rate // 200))
    starts = np.linspace(0, len(wave) - size, count).astype(int)
    return png_uri(mel_shades(wave, rate, starts, bands, range_db)[::-1])


def window_size(rate: int) -> int:
    """Samples of a spectrogram's window, some 30 ms."""
    return 1 << min(14, max(5, math.ceil(math.log2(0.03 * rate))))


def frame_shades(
    wave: np.ndarray,
    rate: int,
    frames: Size,
    frame_rate: Any,
    bands: int = 80,
    range_db: float = 65,
) -> Any:
    """A mel spectrogram with a column around the middle of each frame.

    Args:
        wave: `(samples,)`.
        rate: Sample rate in Hz.
        frames: Columns.
        frame_rate: Hz, of the columns.
        bands: Mel bands.
        range_db: From the loudest point down to black.

    Returns:
        uint8 `(bands, frames)`, the lowest band first.
    """
    half = window_size(rate) // 2
    starts = ((np.arange(frames) + 0.5) * rate / frame_rate).astype(int)
    after = max(0, starts[-1] + half - len(wave))
    wave = np.pad(np.asarray(wave, "float64"), (half, half + after))
    return mel_shades(wave, rate, starts, bands, range_db)


def mel_shades(
    wave: np.ndarray,
    rate: int,
    starts: Any,
    bands: int = 80,
    range_db: float = 65,
) -> Any:
    """Levels in mel bands, uint8 `(bands, windows)`; see `frame_shades`."""
    size = window_size(rate)
    shape, window = (bands, len(starts)), np.hanning(size)
    decibels, filters = np.empty(shape), _mel(bands, size, rate)
    # Some windows at a time: the wave may be long.
    for at in range(0, len(starts), 512):
        some = starts[at : at + 512]
        frames = wave[some[:, None] + np.arange(size)] * window
        power = np.abs(np.fft.rfft(frames)) ** 2
        decibels[:, at : at + 512] = 10 * np.log10(power @ filters + 1e-10).T
    # A sine at full scale; silence is black, not noise at its loudest.
    most = max(float(decibels.max()), 20 * math.log10(size / 4) - 60)
    shade = np.clip((decibels - most + range_db) / range_db, 0, 1)
    return np.rint(255 * shade).astype("uint8")


def _mel(bands: Any, size: Size, rate: int) -> Any:
    """Triangles `(size // 2 + 1, bands)`, each as wide as a bin at least."""
    top = 2595 * math.log10(1 + rate / 2 / 700)
    points = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    bins = np.arange(size // 2 + 1)
    points = points * size / rate
    centre = points[1:-1]
    below = np.maximum(1, centre - points[:-2])
    above = np.maximum(1, points[2:] - centre)
    away = bins[:, None] - centre
    return np.maximum(0, 1 - np.where(away < 0, -away / below, away / above))


def wave_outline(wave: np.ndarray, columns: int = 300) -> str:
    """The outline of a waveform between -1 and 1, as an SVG path.

    Args:
        wave: `(samples,)`.
        columns: Width of the drawing, 48 high.

    Returns:
        Text.
    """
    parts = np.array_split(wave, min(columns, len(wave)))
    high = np.clip([p.max() for p in parts], -1, 1)
    low = np.clip([p.min() for p in parts], -1, 1)
    # A line of its own where there is silence.
    high, low = np.maximum(high, low + 0.02), low
    x = np.linspace(0, columns, len(parts))
    x, y = np.r_[x, x[::-1]], np.r_[high, low[::-1]]
    points = [f"{a:.0f} {24 - 23 * b:.1f}" for a, b in zip(x, y, strict=True)]
    return f"M{' L'.join(points)}Z"


def png_uri(shades: Any) -> str:
    """A picture in magma colours as the `data:` address of a PNG.

    Args:
        shades: uint8 `(height, width)`.

    Returns:
        Text.
    """
    height, width = shades.shape
    at = np.linspace(0, 255, len(MAGMA))
    colours = np.stack(
        [np.interp(np.arange(256), at, c) for c in MAGMA.T], axis=1
    )
    # Each line begins with its filter: none.
    lines = np.pad(shades, ((0, 0), (1, 0))).tobytes()
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", np.rint(colours).astype("uint8").tobytes()),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    )
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body))
        + name
        + body
        + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )
    return f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"
