"""Sounds of drawn synthesizers: unlabelled, of every kind and of none.

A patch is an array of turns in [0, 1], `(LAYERS + 1, KNOBS)`: a row for each
layer of the sound, and one for the place where it is heard. Two patches whose
turns are alike sound alike.
"""

import functools
import math

import numpy as np

from keras_audio_ssl.data.synthetic.sounds import HOP
from keras_audio_ssl.data.synthetic.sounds import RATE
from keras_audio_ssl.data.synthetic.sounds import TABLE
from keras_audio_ssl.data.synthetic.sounds import Array
from keras_audio_ssl.data.synthetic.sounds import Rng
from keras_audio_ssl.data.synthetic.sounds import band
from keras_audio_ssl.data.synthetic.sounds import fft_size
from keras_audio_ssl.data.synthetic.sounds import frequencies

LAYERS, KNOBS = 3, 80
# Share of clips with two layers or more, and with three.
SEVERAL = (0.7, 0.3)
# Complex draws of which all noise is a piece: drawing anew takes longer than
# the rest of a layer.
POOL = 1 << 18
MOST_EVENTS, MOST_KNOTS = 100, 64
RAMP = (np.arange(HOP, dtype="float32") / HOP)[None]


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


def slowly(points: Array, samples: int) -> Array:
    """Straight lines between points that lie HOP samples apart."""
    points = points.astype("float32")
    rise = (points[1:] - points[:-1])[:, None]
    return (points[:-1, None] + rise * RAMP).reshape(-1)[:samples]


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


def pool_of(rng: Rng, count: int) -> Array:
    """Complex normal draws `(count,)`, a stretch of those kept for all."""
    start = int(rng.integers(POOL - count)) if count < POOL else 0
    return np.resize(_pool()[start : start + count], count)


@functools.lru_cache(maxsize=1)
def _pool() -> Array:
    draws = np.random.Generator(np.random.Philox(key=7)).standard_normal
    return draws(2 * POOL, dtype="float32").view("complex64")


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


def spectral_gain(knobs: Knobs, f: Array, peaks: int) -> Array:
    """A spectral envelope: a tilt, and peaks of some width."""
    gain = f ** -knobs.between(0, 1.6)
    top = np.zeros_like(gain)
    for _ in range(peaks):
        centre, octaves = knobs.log(80, 7000), knobs.log(0.05, 1.0)
        top = top + knobs.between(0, 1) * band(f, centre, octaves)
    return gain * (knobs.decibels(-40, 0) + top)


def tables(knobs: Knobs, rng: Rng, highest: float, count: int) -> Array:
    """Wavetables `(count, TABLE)` of a common tilt and peaks of their own."""
    bins = max(1, min(int(0.47 * RATE / highest), TABLE // 2 - 1))
    k = np.arange(1, bins + 1)
    pitch = highest * k / 2
    even = knobs.between(0, 1)
    # Breath, bells and strings are off by more than voices and organs.
    spread = knobs.between(0, 10)
    spectrum = np.zeros((count, TABLE // 2 + 1), "complex64")
    for row in spectrum:
        gain = spectral_gain(knobs, pitch, 3)
        gain = gain * np.where(k % 2, 1.0, even)
        draws = pool_of(rng, TABLE // 2)[:bins]
        gain = gain * 10 ** (spread * draws.real / 20)
        row[1 : bins + 1] = gain * np.exp(2j * np.pi * draws.imag)
    made = np.fft.irfft(spectrum).astype("float32")
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
    phase = np.cumsum(slowly(f, samples), dtype="float64") * (TABLE / RATE)
    depth = knobs.between(-1, 1)
    if depth > 0.3:
        ratio = (1, 2, 3, 1.41, 0.5, 5.19)[knobs.one_of(6)]
        phase = phase + (0.3 * TABLE * depth**2) * sine(ratio * phase)
    made = tables(knobs, rng, float(f.max()), 3)
    at = phase.astype("int64") & (TABLE - 1)
    # From one table to the next and on: vowels, a filter that opens.
    path = 1.998 * slowly(wander(rng, t, knobs.log(0.3, 8)), samples)
    left = path.astype("int32")
    at += left * TABLE
    flat = made.reshape(-1)
    x = flat[at]
    x += (path - left) * (flat[at + TABLE] - x)
    return x * slowly(envelope(knobs, rng, t), samples)


def sine(phase: Array) -> Array:
    """Sine of a phase that counts TABLE a turn."""
    return SINE[phase.astype("int64") & (TABLE - 1)]


SINE = np.sin(2 * np.pi * np.arange(TABLE) / TABLE).astype("float32")


def hissed(knobs: Knobs, rng: Rng, samples: int) -> Array:
    """Noise that goes from one colour to another: wind, surf, breath, tyres."""
    size = fft_size(samples)
    f = frequencies(size)
    draws = pool_of(rng, len(f))
    both = np.stack([spectral_gain(knobs, f, 2) for _ in range(2)])
    both /= np.sqrt(np.mean(both**2, 1, keepdims=True))
    # Of the same draws: one colour becomes the other, no second noise.
    a, b = np.fft.irfft(both * draws)[:, :samples]
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
    f = frequencies(fft_size(count))
    gain = spectral_gain(knobs, f, 2)
    x = np.fft.irfft(gain * pool_of(rng, len(f)))[:count]
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
    size = fft_size(samples + RATE // 4)
    f = frequencies(size)
    spectrum = np.fft.rfft(x, size)
    decay = place.log(0.02, 1.2)  # seconds to -60 dB
    loud = place.between(-54, 0)
    if loud > -36:  # else it is outside
        length = min(int(decay * RATE), size - samples)
        fall = np.arange(length, dtype="float32") * (-6.9 / (decay * RATE))
        tail = pool_of(rng, length).real * np.exp(fall)
        wet = 10 ** (loud / 20) / math.sqrt(float(tail @ tail) + 1e-9)
        spectrum *= 1 + wet * np.fft.rfft(tail, size)
    # A white background, which the microphone colours too.
    power = float(np.vdot(spectrum, spectrum).real) / len(f)
    hiss = place.decibels(-60, -8) * math.sqrt(power / 2)
    spectrum += pool_of(rng, len(f)) * (hiss * f**-0.3)
    octave = np.log2(f * 1e-3)
    level = place.between(-3, 3) * np.clip(octave, -4, 3)
    for _ in range(2):
        centre, octaves = place.log(100, 7000), place.between(0.3, 1.0)
        level += place.between(-8, 8) * band(f, centre, octaves)
    gain = np.exp2(level * (1 / 6.02))
    gain /= 1 + (f / place.log(2500, 12000)) ** 6
    gain /= 1 + (place.log(20, 300) / f) ** 3
    y = np.fft.irfft(spectrum * gain)[:samples]
    peak = place.decibels(-31, -1)
    return y * (peak / (max(float(y.max()), -float(y.min())) + 1e-9))
