"""Sounds of drawn synthesizers: unlabelled, of every kind and of none.

A patch is an array of turns in [0, 1], `(LAYERS + 1, KNOBS)`: a row for each
layer of the sound, and one for the place where it is heard. Two patches whose
turns are alike sound alike.
"""

import functools
import math

import numpy as np
from scipy import fft

from keras_audio_ssl.data.synthetic.sounds import HOP
from keras_audio_ssl.data.synthetic.sounds import RATE
from keras_audio_ssl.data.synthetic.sounds import TABLE
from keras_audio_ssl.data.synthetic.sounds import Array
from keras_audio_ssl.data.synthetic.sounds import Rng
from keras_audio_ssl.data.synthetic.sounds import fft_size
from keras_audio_ssl.data.synthetic.sounds import frequencies

LAYERS, KNOBS = 3, 80
# Share of clips with two layers or more, and with three.
SEVERAL = (0.7, 0.3)
# Complex draws of which all noise is a piece: drawing anew takes longer than
# the rest of a layer.
POOL = 1 << 18
# Rooms of which all reverberation is a piece, from dry to long, and the share
# of a clip in which the first and the last fall by 60 dB.
ROOMS, ROOM_BINS, SHORTEST, LONGEST = 24, 1 << 16, 0.008, 1.1
MOST_EVENTS, MOST_KNOTS = 100, 64
RAMP = np.arange(HOP, dtype="float32") / HOP
# Bins of a spectrum between two points of what colours it.
COLOUR_RAMP = np.arange(8, dtype="float32") / 8


class Knobs:
    """Gives what a row of turns says, one knob after the other.

    Args:
        turns: `(KNOBS,)` in [0, 1].
    """

    def __init__(self, turns: Array) -> None:
        self._turns = iter(turns.tolist())

    def between(self, low: float, high: float) -> float:
        """A number from `low` to `high`."""
        return low + (high - low) * next(self._turns)

    def log(self, low: float, high: float) -> float:
        """A number from `low` to `high`, evenly spread in its logarithm."""
        return low * (high / low) ** next(self._turns)

    def decibels(self, low: float, high: float) -> float:
        """A factor of an amplitude, from `low` to `high` dB."""
        return 10 ** (self.between(low, high) / 20)

    def one_of(self, count: int) -> int:
        """A number from 0 to `count - 1`."""
        return min(int(count * next(self._turns)), count - 1)


def draw_patch(rng: Rng) -> Array:
    """A patch: turns `(LAYERS + 1, KNOBS)`, each uniform in [0, 1]."""
    return rng.random((LAYERS + 1, KNOBS))


def perturbed(turns: Array, rng: Rng, delta: float) -> Array:
    """The turns moved by normal draws of deviation `delta`, within [0, 1]."""
    moved = turns + delta * rng.standard_normal(turns.shape)
    # Reflected: turns do not gather at the ends.
    return 1 - np.abs(1 - np.abs(moved) % 2)


def play(turns: Array, rng: Rng, samples: int) -> Array:
    """The sound of a patch.

    Args:
        turns: The patch.
        rng: Of noise, and of when things happen.
        samples: Its length at RATE.

    Returns:
        `(samples,)` float32 in [-1, 1].
    """
    place = Knobs(turns[-1])
    several = place.between(0, 1)
    layers = 1 + sum(several < share for share in SEVERAL)
    mix = np.zeros(samples, "float32")
    for row in turns[:layers]:
        knobs = Knobs(row)
        gain = knobs.decibels(-18, 0)
        engine = ENGINES[knobs.one_of(len(ENGINES))]
        x = engine(knobs, rng, samples)
        mix += (gain / math.sqrt(float(x @ x) / samples + 1e-12)) * x
    return heard(place, rng, mix)


def slowly(points: Array, samples: int, ramp: Array = RAMP) -> Array:
    """Straight lines between points that lie a ramp, HOP samples, apart."""
    points = points.astype("float32", copy=False)
    lines = np.multiply.outer(points[1:] - points[:-1], ramp)
    lines += points[:-1, None]
    return lines.reshape(-1)[:samples]


def steps(samples: int) -> Array:
    """Seconds of the points that `slowly` joins."""
    return np.arange(-(-samples // HOP) + 1) * (HOP / RATE)


def wander(rng: Rng, t: Array, rate: float, held: bool = False) -> Array:
    """A random curve in [0, 1], with so many turns, or steps, a second."""
    at = t * rate + rng.random()
    # As many draws whatever the rate: what is drawn next stays the same.
    knots = np.resize(rng.random(MOST_KNOTS), int(at[-1]) + 2)
    if held:
        return knots[at.astype("int32")]
    return np.interp(at, np.arange(len(knots)), knots)


def piece(kept: Array, rng: Rng, count: int) -> Array:
    """A stretch `(count,)` of what is kept for all."""
    if count >= len(kept):
        return np.resize(kept, count)
    start = int(rng.integers(len(kept) - count))
    return kept[start : start + count]


def pool_of(rng: Rng, count: int) -> Array:
    """Complex normal draws `(count,)`, of unit variance in either part."""
    return piece(_pool(), rng, count)


@functools.lru_cache(maxsize=1)
def _pool() -> Array:
    draws = np.random.Generator(np.random.Philox(key=7)).standard_normal
    return draws(2 * POOL, dtype="float32").view("complex64")


def room_of(rng: Rng, decay: float, size: int) -> Array:
    """Spectrum of a room's response `(size // 2 + 1,)`, of unit power.

    Args:
        rng: Says which one.
        decay: Seconds in which it falls by 60 dB.
        size: Of the real FFT.
    """
    samples = decay * RATE
    if size > ROOM_BINS:
        # The delays of what is kept would be more than a sample apart.
        t = np.arange(min(int(samples), size), dtype="float32")
        tail = pool_of(rng, len(t)).real * np.exp(t * (-6.9 / samples))
        return fft.rfft(tail / math.sqrt(float(tail @ tail)), size)
    place = math.log(samples / size / SHORTEST) / math.log(LONGEST / SHORTEST)
    row = min(max(round(place * (ROOMS - 1)), 0), ROOMS - 1)
    return piece(_rooms()[row], rng, size // 2 + 1)


@functools.lru_cache(maxsize=1)
def _rooms() -> Array:
    # Bins that follow each other, from wherever, are the spectrum of noise
    # that dies away, other noise for another start.
    shares = np.geomspace(SHORTEST, LONGEST, ROOMS)[:, None]
    t = np.arange(ROOM_BINS) / ROOM_BINS
    fall = np.exp(t * (-6.9 / shares)).astype("float32")
    fall /= np.sqrt(2 * np.sum(fall**2, 1, keepdims=True))
    return fft.fft(fall * _pool()[:ROOM_BINS])


def envelope(knobs: Knobs, rng: Rng, t: Array) -> Array:
    """Loudness over time at the points `t`, at most 1."""
    length = float(t[-1])
    shape = knobs.one_of(4)
    start = knobs.between(0, 0.4) * length
    attack, decay = knobs.log(0.004, 0.6), knobs.log(0.02, 2.0)
    hold = knobs.between(0.1, 1.0) * length
    rate, duty = knobs.log(0.8, 14), knobs.between(0.15, 0.9)
    u = t - start
    rising = np.clip(u / attack, 0, 1)
    if shape == 0:  # struck
        return rising * np.exp(-np.maximum(u - attack, 0) / decay)
    if shape == 1:  # held, then let go
        return rising * np.exp(-np.maximum(u - hold, 0) / decay)
    if shape == 2:  # again and again
        phase = (u * rate) % 1.0
        gate = np.clip(np.minimum(phase, duty - phase) * 8, 0, 1)
        return np.where(u > 0, gate, 0) * (0.3 + 0.7 * wander(rng, t, rate))
    return wander(rng, t, rate) ** 2  # comes and goes


@functools.lru_cache(maxsize=64)
def octaves_of(size: int) -> Array:
    """Octaves above 1 Hz of each bin of a real FFT `(size // 2 + 1,)`."""
    return np.log2(frequencies(size))


def bell(octave: Array, centre: float, width: float) -> Array:
    """1 at a frequency in Hz, falling with a deviation in octaves."""
    x = octave - math.log2(centre)
    x *= x
    x *= -0.5 / width**2
    return np.exp(x, out=x)


def spectral_gain(knobs: Knobs, octave: Array, peaks: int) -> Array:
    """A spectral envelope: a tilt, and peaks of some width.

    Args:
        knobs: What it is like.
        octave: Octaves above 1 Hz.
        peaks: How many.
    """
    gain = np.exp2(octave * -knobs.between(0, 1.6))
    top = np.zeros_like(gain)
    for _ in range(peaks):
        centre, width = knobs.log(80, 7000), knobs.log(0.05, 1.0)
        top += knobs.between(0, 1) * bell(octave, centre, width)
    top += knobs.decibels(-40, 0)
    gain *= top
    return gain


def tables(knobs: Knobs, rng: Rng, highest: float, count: int) -> Array:
    """Wavetables `(count, TABLE)` of a common tilt and peaks of their own."""
    bins = max(1, min(int(0.47 * RATE / highest), TABLE // 2 - 1))
    octave = OCTAVES[:bins] + math.log2(max(highest / 2, 1))
    even = knobs.between(0, 1)
    # Breath, bells and strings are off by more than voices and organs.
    spread = knobs.between(0, 10)
    spectrum = np.zeros((count, TABLE // 2 + 1), "complex64")
    for row in spectrum:
        gain = spectral_gain(knobs, octave, 3)
        gain[1::2] *= even
        draws = pool_of(rng, TABLE // 2)[:bins]
        gain *= np.exp(spread * math.log(10) / 20 * draws.real)
        row[1 : bins + 1] = gain * np.exp(2j * np.pi * draws.imag)
    made = fft.irfft(spectrum)
    return made / (np.sqrt(np.mean(made**2, 1, keepdims=True)) + 1e-9)


def pitched(knobs: Knobs, rng: Rng, samples: int) -> Array:
    """An oscillator whose pitch and timbre move, at times shaken by another.

    Notes, voices, sirens, engines, birds.
    """
    t = steps(samples)
    f0, octaves = knobs.log(40, 3000), 2.5 * knobs.between(0, 1) ** 2
    held = knobs.one_of(2) == 1
    pitch = np.log2(f0) + octaves * (
        wander(rng, t, knobs.log(0.5, 12), held) - 0.5
    )
    shake = 0.08 * knobs.between(0, 1) ** 3
    pitch = pitch + shake * np.sin(2 * np.pi * knobs.log(3, 60) * t)
    f = 2.0 ** np.clip(pitch, np.log2(25), np.log2(0.4 * RATE))
    phase = passed(f, samples)
    depth = knobs.between(-1, 1)
    if depth > 0.3:
        ratio = (1, 2, 3, 1.41, 0.5, 5.19)[knobs.one_of(6)]
        shaken = sine(passed(ratio * f, samples))
        shaken *= 0.3 * TABLE * depth**2
        phase += shaken
    made = tables(knobs, rng, float(f.max()), 3)
    at = phase.astype("int32") & (TABLE - 1)
    # From one table to the next and on: vowels, a filter that opens.
    path = 1.998 * slowly(wander(rng, t, knobs.log(0.3, 8)), samples)
    left = path.astype("int32")
    at += left * TABLE
    flat = made.reshape(-1)
    x = flat.take(at)
    at += TABLE
    y = flat.take(at)
    y -= x
    path -= left
    y *= path
    x += y
    return x * slowly(envelope(knobs, rng, t), samples)


def passed(f: Array, samples: int) -> Array:
    """Phase `(samples,)` of a pitch whose points lie HOP samples apart.

    Args:
        f: In Hz; between the points it goes in straight lines.
        samples: How many.

    Returns:
        Turns times TABLE. It is right but for whole turns.
    """
    f = f * (TABLE / RATE * HOP)
    rise = (f[1:] - f[:-1]) / 2
    hop = f[:-1] + rise
    start = (np.cumsum(hop) - hop) % TABLE
    lines = np.multiply.outer(f[:-1].astype("float32"), RAMP)
    lines += np.multiply.outer(rise.astype("float32"), RAMP**2)
    lines += start.astype("float32")[:, None]
    return lines.reshape(-1)[:samples]


def sine(phase: Array) -> Array:
    """Sine of a phase that counts TABLE a turn."""
    return SINE.take(phase.astype("int32") & (TABLE - 1))


SINE = np.sin(2 * np.pi * np.arange(TABLE) / TABLE).astype("float32")
# Of a harmonic above the first one.
OCTAVES = np.log2(np.arange(1, TABLE // 2)).astype("float32")


def hissed(knobs: Knobs, rng: Rng, samples: int) -> Array:
    """Noise that goes from one colour to another: wind, surf, breath, tyres."""
    half = -(-samples // 2)
    octave = octaves_of(fft_size(half))
    draws = pool_of(rng, len(octave))
    both = np.stack([spectral_gain(knobs, octave, 2) for _ in range(2)])
    both /= np.sqrt(np.mean(both**2, 1, keepdims=True))
    # Of the same draws: one colour becomes the other, no second noise.
    noise = fft.irfft(both * draws)[:, :half]
    # The second half is the first one backwards.
    a, b = np.concatenate([noise, noise[:, ::-1]], axis=1)[:, :samples]
    t = steps(samples)
    path = slowly(wander(rng, t, knobs.log(0.3, 10)), samples)
    # Roughness, from a flutter to a buzz.
    rate, depth = knobs.log(2, 120), knobs.between(-1, 1)
    x = a + path * (b - a)
    if depth > 0:
        x *= 1 + depth * sine(np.arange(samples) * (rate * TABLE / RATE))
    return x * slowly(envelope(knobs, rng, t), samples)


def struck(knobs: Knobs, rng: Rng, samples: int) -> Array:
    """One short event once or many times: steps, knocks, drops, crackle."""
    event = (rings, clicks, chirps)[knobs.one_of(3)](knobs, rng)
    rate, jitter = knobs.log(0.5, 80), knobs.between(0, 1) ** 2
    count = max(1, min(int(rate * samples / RATE), MOST_EVENTS))
    first, early = rng.random(), rng.random(MOST_EVENTS)[:count]
    beat = np.arange(count) + first + jitter * early
    at = (beat * (RATE / rate)).astype("int64") % samples
    loudness = rng.standard_normal(MOST_EVENTS)[:count]
    gain = 10 ** (knobs.between(0, 1) * loudness / 2)
    x = np.zeros(samples + len(event), "float32")
    for start, loud in zip(at.tolist(), gain.tolist(), strict=True):
        x[start : start + len(event)] += loud * event
    return x[:samples]


def rings(knobs: Knobs, rng: Rng) -> Array:
    """Resonances that are struck: wood, glass, metal, bars and bells."""
    decay = knobs.log(0.004, 0.15)
    t = np.arange(int(5 * decay * RATE), dtype="float32") / RATE
    count = 2 + knobs.one_of(5)
    f0, stretch = knobs.log(80, 4000), knobs.between(0.6, 2.2)
    f = f0 * np.arange(1, count + 1) ** stretch
    off = rng.standard_normal(6)[:count]
    f *= 2 ** (0.3 * knobs.between(0, 1) * off)
    fall = knobs.between(0, 1.5)
    x = np.zeros(len(t), "float32")
    for k, hz in enumerate(np.minimum(f, 0.47 * RATE).tolist(), 1):
        x += np.exp(t * (-(k**fall) / decay)) * np.sin(2 * np.pi * hz * t) / k
    return x


def clicks(knobs: Knobs, rng: Rng) -> Array:
    """A burst of coloured noise that dies away."""
    decay = knobs.log(0.0008, 0.12)
    count = max(64, int(5 * decay * RATE))
    octave = octaves_of(fft_size(count))
    gain = spectral_gain(knobs, octave, 2)
    x = fft.irfft(gain * pool_of(rng, len(octave)))[:count]
    x /= np.abs(x).max() + 1e-9
    return x * np.exp(np.arange(count, dtype="float32") / (-decay * RATE))


def chirps(knobs: Knobs, rng: Rng) -> Array:
    """A glide: a drop, a bird's note, a laser."""
    length = knobs.log(0.01, 0.4)
    t = np.arange(int(length * RATE), dtype="float32") / RATE
    f0, octaves = knobs.log(150, 5000), knobs.between(-2, 2)
    f = np.clip(f0 * 2 ** (octaves * t / length), 30, 0.45 * RATE)
    x = np.sin(np.cumsum(f, dtype="float64") * (2 * np.pi / RATE))
    window = np.sin(np.pi * (t / length) ** knobs.log(0.25, 2.0)) ** 2
    return (x * window).astype("float32")


ENGINES = (pitched, hissed, struck)


def heard(place: Knobs, rng: Rng, x: Array) -> Array:
    """A sound in a room, beside some noise, through a microphone."""
    samples = len(x)
    size = fft_size(samples)
    octave = octaves_of(size)
    spectrum = fft.rfft(x, size)
    decay = place.log(0.02, 1.2)  # seconds to -60 dB
    loud = place.between(-54, 0)
    if loud > -36:  # else it is outside
        # What still sounds at the end is heard at the beginning.
        room = room_of(rng, decay, size)
        room = room * np.float32(10 ** (loud / 20))
        room += 1
        spectrum *= room
    # A white background, which the microphone colours too.
    power = float(np.vdot(spectrum, spectrum).real) / len(octave)
    hiss = place.decibels(-60, -8) * math.sqrt(power / 2)
    octave = octave[:: len(COLOUR_RAMP)]
    octave = np.append(octave, octave[-1])
    tilt = np.exp2(octave * -0.3 + math.log2(hiss + 1e-20))
    spectrum += pool_of(rng, len(spectrum)) * slowly(
        tilt, len(spectrum), COLOUR_RAMP
    )
    level = place.between(-3, 3) * np.clip(octave - math.log2(1e3), -4, 3)
    for _ in range(2):
        centre, width = place.log(100, 7000), place.between(0.3, 1.0)
        level += place.between(-8, 8) * bell(octave, centre, width)
    gain = np.exp2(level * (1 / 6.02))
    gain /= 1 + np.exp2(6 * (octave - math.log2(place.log(2500, 12000))))
    gain /= 1 + np.exp2(3 * (math.log2(place.log(20, 300)) - octave))
    spectrum *= slowly(gain, len(spectrum), COLOUR_RAMP)
    y = fft.irfft(spectrum)[:samples]
    peak = place.decibels(-31, -1)
    return y * (peak / (max(float(y.max()), -float(y.min())) + 1e-9))
