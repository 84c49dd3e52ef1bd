"""Procedural sounds of everyday things, and the pieces they are made of.

Signals are (samples,) at RATE; times in seconds, frequencies `f` in Hz.
"""

import functools
from collections.abc import Callable

import numpy as np

RATE = 16000  # Hz; all synthesis runs at this rate
HOP = 64  # samples (4 ms): the grid of phone boundaries and vocal tracts
TABLE = 2048  # samples in a wavetable

Rng = np.random.Generator
Array = np.ndarray


@functools.lru_cache(maxsize=64)
def frequencies(size: int) -> Array:
    """Hz of each bin of a real FFT `(size // 2 + 1,)`, at least 1."""
    return np.maximum(np.fft.rfftfreq(size, 1 / RATE), 1.0).astype("float32")


def fft_size(samples: int) -> int:
    """The next multiple of 1024: sizes whose FFT is quick."""
    return -(-samples // 1024) * 1024


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """A draw between two positive numbers, uniform in its logarithm."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def band(f: Array, centre: float, octaves: float) -> Array:
    """A bell on the logarithmic frequency axis, 1 at its centre."""
    return np.exp(-0.5 * (np.log2(f / centre) / octaves) ** 2)


def noise(
    rng: Rng,
    samples: int,
    tilt: float = 0.0,
    low: float = 20.0,
    high: float = 8000.0,
) -> Array:
    """Noise of unit RMS whose power falls as `f ** -tilt` from low to high."""
    f = frequencies(fft_size(samples))
    gain = f ** (-tilt / 2) / (1 + (low / f) ** 3) / (1 + (f / high) ** 6)
    gain *= np.sqrt(len(f) / np.mean(gain**2))
    draw = rng.standard_normal(2 * len(f), dtype="float32").view("complex64")
    return np.fft.irfft(draw * gain)[:samples]


def tone(f0: Array, partials: Array) -> Array:
    """Harmonics of a pitch track: f0 in Hz (samples,), partials complex."""
    partials = partials[: int(0.48 * RATE / np.max(f0))]
    spectrum = np.zeros(TABLE // 2 + 1, "complex64")
    spectrum[1 : len(partials) + 1] = partials
    table = np.fft.irfft(spectrum) * (TABLE / 2)
    table = np.append(table, table[0])
    phase = np.cumsum(np.asarray(f0, "float64")) / RATE % 1.0 * TABLE
    whole = phase.astype("int32")
    return table[whole] + (phase - whole) * np.diff(table)[whole]


def partials(rng: Rng, count: int, tilt: float, spread: float = 4.0) -> Array:
    """Amplitudes `k ** -tilt`, each off by `spread` dB, in random phase."""
    gain = np.arange(1, count + 1) ** -tilt
    gain = gain * 10 ** (spread * rng.standard_normal(count) / 20)
    return gain * np.exp(2j * np.pi * rng.random(count))


def modes(seconds: float, f: Array, decay: Array, gain: Array) -> Array:
    """Struck resonances: damped sinusoids, decay in seconds to 1/e."""
    t = np.arange(int(seconds * RATE)) / RATE
    rings = np.exp(-t / np.reshape(decay, (-1, 1)))
    rings = rings * np.sin(2 * np.pi * np.reshape(f, (-1, 1)) * t)
    return np.reshape(gain, -1) @ rings


def burst(rng: Rng, seconds: float, decay: float, centre: float) -> Array:
    """A noise burst around `centre` Hz dying away within `decay` seconds."""
    samples = int(seconds * RATE)
    x = noise(rng, samples, 0.0, centre / 1.6, centre * 1.6)
    return x * np.exp(-np.arange(samples) / (decay * RATE))


def curve(
    rng: Rng, samples: int, rate: float, low: float, high: float
) -> Array:
    """A random curve in [low, high] that turns about `rate` times a second."""
    knots = max(2, int(samples / RATE * rate) + 3)
    at = (np.arange(knots) - rng.random()) * RATE / rate
    return np.interp(np.arange(samples), at, rng.uniform(low, high, knots))


def _onsets(rng: Rng, samples: int, interval: float, jitter: float) -> list:
    """Sample indices of a beat that begins in the clip's first third."""
    interval *= RATE
    first = rng.random() * min(interval, samples / 3)
    beats = np.arange(int((samples - first) / interval) + 1)
    off = beats + jitter * rng.uniform(-1, 1, len(beats)) * (beats > 0)
    return [int(x) for x in first + interval * off if 0 <= x < samples]


def _add(out: Array, at: int, event: Array, gain: float = 1.0) -> None:
    event = event[: max(0, len(out) - at)]
    out[at : at + len(event)] += gain * event


def _arch(samples: int, attack: float = 0.3) -> Array:
    """An envelope 0 .. 1 .. 0 that peaks at the share `attack` of its way."""
    u = np.linspace(0, 1, samples)
    return np.sin(np.pi * u ** (np.log(0.5) / np.log(attack)))


def _convolve(x: Array, kernel: Array) -> Array:
    size = fft_size(len(x) + len(kernel))
    product = np.fft.rfft(x, size) * np.fft.rfft(kernel, size)
    return np.fft.irfft(product)[: len(x)]


def _hits(samples: int, at: Array, gain: Array, kernel: Array) -> Array:
    """Many copies of a short event, at sample indices `at`."""
    return _convolve(np.bincount(at, gain, samples)[:samples], kernel)


def tract(x: Array, formants: Array, widths: Array) -> Array:
    """Resonances that move: formants and widths in Hz, `(frames, n)`.

    One all-pole filter a frame of HOP samples, by overlap-add.
    """
    size, block = 512, 4 * HOP
    frames = len(x) // HOP + 4
    at = np.clip(np.arange(frames) - 1, 0, len(formants) - 1)
    radius = np.exp(-np.pi * widths / RATE)
    middle = -2 * radius * np.cos(2 * np.pi * formants / RATE)
    poles = np.ones((len(formants), 1))
    for k in range(formants.shape[1]):
        section = np.stack([middle[:, k], radius[:, k] ** 2], axis=1)
        section = section / (1 + section.sum(axis=1, keepdims=True))
        lead = 1 - section.sum(axis=1, keepdims=True)  # 1 at 0 Hz
        padded = np.pad(poles, ((0, 0), (0, 2)))
        poles = padded * lead
        poles[:, 1:] += padded[:, :-1] * section[:, :1]
        poles[:, 2:] += padded[:, :-2] * section[:, 1:]
    padded = np.pad(x, (3 * HOP, 5 * HOP)).astype("float32")
    grains = np.lib.stride_tricks.sliding_window_view(padded, block)
    grains = grains[: frames * HOP : HOP] * np.hanning(block + 1)[:-1] / 2
    spectra = np.fft.rfft(grains.astype("float32"), size)
    spectra /= np.fft.rfft(poles.astype("float32"), size)[at]
    grains = np.fft.irfft(spectra)
    out = np.zeros((frames + size // HOP, HOP), "float32")
    for k in range(size // HOP):
        out[k : k + frames] += grains[:, k * HOP : (k + 1) * HOP]
    return out.reshape(-1)[3 * HOP : 3 * HOP + len(x)]


# The sounds: each draws one (samples,) example; scale does not matter.


def _bird(rng: Rng, samples: int) -> Array:
    """Groups of whistles that glide, 2 to 7 kHz."""
    base = rng.uniform(2000, 4800)
    note, gap = rng.uniform(0.03, 0.12), rng.uniform(0.02, 0.1)
    u = np.linspace(0, 1, int(note * RATE))
    whistles = []
    for _ in range(2):
        glide, bend = rng.uniform(-0.6, 0.6), rng.uniform(-0.5, 0.5)
        octaves = glide * (u - 0.5) + bend * np.sin(np.pi * u)
        f0 = base * rng.uniform(0.85, 1.15) * 2**octaves
        whistles.append(tone(f0, partials(rng, 2, 3.0)) * _arch(len(u)))
    count = int(rng.integers(2, 8))
    group, out = count * (note + gap), np.zeros(samples)
    for at in _onsets(rng, samples, group + rng.uniform(0.1, 0.5), 0.1):
        for k in range(count):
            where = at + int(k * (note + gap) * RATE)
            _add(out, where, whistles[k % 2], rng.uniform(0.6, 1))
    return out


def _dog(rng: Rng, samples: int) -> Array:
    """Barks: a rough voice whose pitch and mouth open and close."""
    pitch, size = log_uniform(rng, 250, 750), rng.uniform(0.8, 1.3)
    seconds, rough = rng.uniform(0.12, 0.28), rng.uniform(0.2, 0.7)
    interval = seconds + rng.uniform(0.12, 0.6)
    out = np.zeros(samples)
    for at in _onsets(rng, samples, interval, 0.15):
        length = int(seconds * rng.uniform(0.85, 1.15) * RATE)
        arch = _arch(length, 0.35)
        f0 = pitch * rng.uniform(0.9, 1.1) * (0.55 + 0.45 * arch)
        voice = tone(f0, partials(rng, 20, 0.7))
        voice = voice + rough * noise(rng, length)
        mouth = arch[::HOP, None]
        formants = np.array([[450, 1000, 2600]]) + mouth * [[550, 700, 300]]
        widths = np.full_like(formants, 160.0)
        bark = tract(voice, size * formants, widths)
        _add(out, at, bark * arch**0.7, rng.uniform(0.6, 1))
    return out


def _frog(rng: Rng, samples: int) -> Array:
    """Croaks: trains of 25 to 80 resonant pulses a second."""
    f, rate = log_uniform(rng, 350, 1600), rng.uniform(25, 80)
    pulse = modes(
        0.06,
        f * np.array([1, rng.uniform(1.6, 2.4), 3.1]),
        rng.uniform(0.004, 0.012, 3),
        rng.uniform(0.3, 1, 3),
    )
    croak = rng.uniform(0.15, 0.5)
    count = int(croak * rate)
    at = (np.arange(count) / rate * RATE).astype(int)
    shape = 0.2 + _arch(count + 2, rng.uniform(0.3, 0.8))[1:-1]
    one = _hits(int((croak + 0.1) * RATE), at, shape, pulse)
    out = np.zeros(samples)
    for at in _onsets(rng, samples, croak + rng.uniform(0.1, 0.6), 0.1):
        _add(out, at, one, rng.uniform(0.6, 1))
    return out


def _cricket(rng: Rng, samples: int) -> Array:
    """A 2.5 to 6 kHz tone in chirps of two to six pulses."""
    count, rate = int(rng.integers(2, 7)), rng.uniform(25, 60)
    pulse = _arch(int(rng.uniform(0.5, 0.8) / rate * RATE), 0.5)
    interval = count / rate + rng.uniform(0.03, 0.35)
    gate = np.zeros(samples)
    for at in _onsets(rng, samples, interval, 0.03):
        for k in range(count):
            _add(gate, at + int(k / rate * RATE), pulse, 0.6 + 0.1 * k)
    f0 = rng.uniform(2500, 6000) * curve(rng, samples, 2, 0.99, 1.01)
    return gate * tone(f0, partials(rng, 2, 3.0))


def _mosquito(rng: Rng, samples: int) -> Array:
    """A thin whine of 250 to 750 Hz that wanders and comes and goes."""
    f0 = log_uniform(rng, 250, 750) * 2 ** curve(rng, samples, 4, -0.2, 0.2)
    f0 *= curve(rng, samples, 60, 0.99, 1.01)
    x = tone(f0, partials(rng, 24, rng.uniform(0.6, 1.6)))
    return x * curve(rng, samples, 3, 0.1, 1) ** 1.5


def _rain(rng: Rng, samples: int) -> Array:
    """Hundreds of drops a second over a steady hiss."""
    hiss = noise(rng, samples, rng.uniform(-0.5, 1.0), 400)
    out = rng.uniform(0.05, 0.6) * hiss
    count = int(log_uniform(rng, 60, 900) * samples / RATE / 3) + 1
    for _ in range(3):
        f = log_uniform(rng, 900, 6500)
        drop = burst(rng, 0.03, rng.uniform(0.001, 0.006), f)
        at = rng.integers(0, samples, count)
        out += _hits(samples, at, rng.exponential(1, count) ** 1.5, drop)
    return out


def _wind(rng: Rng, samples: int) -> Array:
    """Gusts of dark noise with a howl that follows them."""
    gust = curve(rng, samples, rng.uniform(1, 4), 0.15, 1)
    howl = log_uniform(rng, 200, 900) * 2 ** (2 * gust[::HOP, None] - 1)
    formants = np.concatenate([howl, 2.3 * howl], axis=1)
    widths = formants * rng.uniform(0.06, 0.3)
    x = noise(rng, samples, rng.uniform(0, 1), 60)
    x = tract(x, formants, widths) * rng.uniform(0.1, 1)
    tilt = rng.uniform(0.8, 2)
    return (x + noise(rng, samples, tilt, 60, 3000)) * gust**1.5


def _waves(rng: Rng, samples: int) -> Array:
    """Swell: a slow rumbling rise, the crash, a hiss that drains away."""
    period = rng.uniform(1.0, 2.4)
    u = (np.arange(samples) / RATE / period + rng.random()) % 1
    crash, drain = rng.uniform(0.3, 0.6), rng.uniform(4, 9)
    rise = (np.minimum(u, crash) / crash) ** 2
    fall = np.exp(-drain * np.maximum(u - crash, 0))
    low = noise(rng, samples, rng.uniform(0.8, 1.6), 60, 1500)
    high = noise(rng, samples, rng.uniform(-0.5, 0.8), 800)
    level = rng.uniform(0.3, 1)
    return low * (rise * fall**2 + 0.03) + level * high * rise**3 * fall


def _drops(rng: Rng, samples: int) -> Array:
    """Drips: bubbles ringing at a pitch that rises, with an echo."""
    f, rise = log_uniform(rng, 400, 2200), rng.uniform(4, 16)
    decay, echo = rng.uniform(0.01, 0.035), rng.uniform(0.05, 0.15)
    t = np.arange(int(6 * decay * RATE)) / RATE
    out = np.zeros(samples)
    for at in _onsets(rng, samples, rng.uniform(0.12, 0.7), 0.35):
        f0 = f * 2 ** rng.uniform(-0.5, 0.5) * (1 + rise * t)
        drip = tone(f0, np.ones(1)) * np.exp(-t / decay)
        gain = rng.uniform(0.3, 1)
        _add(out, at, burst(rng, 0.01, 0.001, 4000), 0.15 * gain)
        for k in range(3):
            where = at + int((0.008 + k * echo) * RATE)
            _add(out, where, drip, gain * 0.3**k)
    return out


def _engine(rng: Rng, samples: int) -> Array:
    """A four-cylinder motor: uneven firing, 20 to 90 times a second."""
    cycle = log_uniform(rng, 5, 22) * curve(rng, samples, 8, 0.96, 1.04)
    cycle = cycle * curve(rng, samples, 1.2, 1, rng.choice([1.05, 1.8]))
    k = np.arange(1, 800)
    fire = rng.uniform(0.6, 1, 4) @ np.exp(
        -0.5j * np.pi * np.arange(4)[:, None] * k + 2j * rng.random((4, 1))
    )
    pipe = sum(
        rng.uniform(0.3, 1) * band(k * cycle.mean(), f, 0.4)
        for f in (log_uniform(rng, 60, 300), log_uniform(rng, 300, 1500))
    )
    x = tone(cycle, fire * (pipe + 0.1 / np.sqrt(k)))
    x = x / np.std(x)
    rattle = noise(rng, samples, rng.uniform(0, 1), 300)
    return x + rng.uniform(0.05, 0.3) * rattle * np.abs(x)


def _siren(rng: Rng, samples: int) -> Array:
    """A wail, a yelp or a two-tone horn between two pitches."""
    kind = int(rng.integers(3))
    low, width = log_uniform(rng, 350, 800), rng.uniform(0.5, 1.2)
    period = rng.uniform(*[(1.2, 3.0), (0.22, 0.45), (0.5, 1.0)][kind])
    u = (np.arange(samples) / RATE / period + rng.random()) % 1
    swing = 0.5 - 0.5 * np.cos(2 * np.pi * u)
    if kind == 2:
        swing, width = (u > 0.5).astype(float), rng.uniform(0.3, 0.5)
    f0 = low * 2 ** (width * swing)
    return tone(f0, partials(rng, 12, rng.uniform(0.5, 1.5)))


def _horn(rng: Rng, samples: int) -> Array:
    """A car's two horns at once, steady, in one to three honks."""
    low = rng.uniform(260, 520)
    high = low * rng.choice([1.19, 1.26, 1.33])
    seconds = rng.uniform(0.12, 0.7)
    steady = np.ones(int(seconds * RATE))
    tilt = rng.uniform(0.2, 0.9)
    honk = sum(tone(f * steady, partials(rng, 24, tilt)) for f in (low, high))
    ramp = np.minimum(np.arange(len(steady)) / (0.015 * RATE), 1)
    honk = honk * ramp * ramp[::-1]
    out = np.zeros(samples)
    for at in _onsets(rng, samples, seconds + rng.uniform(0.08, 0.5), 0.1)[:3]:
        _add(out, at, honk)
    return out


def _telephone(rng: Rng, samples: int) -> Array:
    """Rings: a hammer between two bells, or an electronic warble."""
    seconds, rate = rng.uniform(0.35, 0.9), rng.uniform(12, 26)
    length, low = int(seconds * RATE), log_uniform(rng, 700, 1800)
    high = low * rng.uniform(1.15, 1.4)
    if rng.random() < 0.5:
        ring = np.zeros(length)
        for k, f in enumerate((low, high)):
            bell = modes(
                min(0.3, seconds),
                f * np.array([1.0, 2.1, 3.4]),
                rng.uniform(0.02, 0.08, 3),
                rng.uniform(0.2, 1, 3),
            )
            at = np.arange(k / rate / 2, seconds, 1 / rate) * RATE
            at = at.astype(int)[: int(seconds * rate)]
            ring += _hits(length, at, np.ones(len(at)), bell)
    else:
        second = np.arange(length) * rate / RATE % 1 > 0.5
        ring = tone(np.where(second, high, low), partials(rng, 8, 1.2))
        ring = ring * np.minimum(_arch(length, 0.5) * 10, 1)
    out = np.zeros(samples)
    for at in _onsets(rng, samples, seconds + rng.uniform(0.15, 0.5), 0.0):
        _add(out, at, ring)
    return out


def _clock(rng: Rng, samples: int) -> Array:
    """Ticks and tocks: two to six clicks a second, never late."""
    clicks = []
    for _ in range(2):
        f = np.sort(rng.uniform(900, 6500, 4))
        decay = rng.uniform(0.001, 0.006, 4)
        tick = np.zeros(int(0.09 * RATE))
        for at, gain in ((0, rng.uniform(0.2, 0.6)), (0.012, 1.0)):
            ring = modes(0.04, f, decay, rng.uniform(0.2, 1, 4))
            _add(tick, int(at * RATE), ring, gain)
        clicks.append(tick)
    out = np.zeros(samples)
    for k, at in enumerate(_onsets(rng, samples, rng.uniform(0.16, 0.5), 0)):
        _add(out, at, clicks[k % 2])
    return out


def _steps(rng: Rng, samples: int) -> Array:
    """Footsteps: a heel's thump, then the scuff of the sole."""
    surface, gravel = rng.random(), rng.uniform(700, 4500)
    scuff, delay = rng.uniform(0.05, 0.12), rng.uniform(0.03, 0.09)
    f = rng.uniform([60, 150, 350], [130, 350, 900])
    decay = rng.uniform(0.01, 0.035, 3)
    out = np.zeros(samples)
    for at in _onsets(rng, samples, rng.uniform(0.28, 0.7), 0.06):
        heel = modes(0.15, f, decay, rng.uniform(0.3, 1, 3))
        click = burst(rng, 0.03, 0.004, gravel)
        sole = noise(rng, int(scuff * RATE), 0.5, gravel / 2)
        sole = sole * rng.random(len(sole)) ** 3 * _arch(len(sole))
        gain = rng.uniform(0.5, 1)
        _add(out, at, heel, gain)
        _add(out, at, click, 0.5 * gain * surface)
        _add(out, at + int(delay * RATE), sole, 0.8 * gain * surface)
    return out


def _knock(rng: Rng, samples: int) -> Array:
    """Two to six quick raps on wood, then a pause."""
    gap, count = rng.uniform(0.1, 0.22), int(rng.integers(2, 7))
    f = rng.uniform([90, 200, 450, 900], [220, 500, 1000, 2500])
    decay = rng.uniform(0.008, 0.035, 4)
    gain = rng.uniform(0.3, 1, 4) * [1, 1, 0.6, 0.4]
    rap, out = modes(0.2, f, decay, gain), np.zeros(samples)
    pause = count * gap + rng.uniform(0.4, 0.9)
    for at in _onsets(rng, samples, pause, 0.1):
        for k in range(count):
            where = at + int((k + rng.uniform(-0.06, 0.06)) * gap * RATE)
            _add(out, max(where, 0), rap, rng.uniform(0.6, 1))
            _add(out, max(where, 0), burst(rng, 0.02, 0.002, 2000), 0.3)
    return out


def _applause(rng: Rng, samples: int) -> Array:
    """Three to sixty people clapping, each at their own beat."""
    people, out = log_uniform(rng, 3, 60), np.zeros(samples)
    for _ in range(4):
        clap = burst(
            rng, 0.05, rng.uniform(0.004, 0.01), log_uniform(rng, 700, 3000)
        )
        at, gain = [], []
        for _ in range(max(1, round(people / 4))):
            beats = _onsets(rng, samples, rng.uniform(0.19, 0.36), 0.08)
            at += beats
            gain += len(beats) * [rng.uniform(0.2, 1)]
        out += _hits(samples, np.array(at), np.array(gain), clap)
    return out


SOUNDS: dict[str, Callable[[Rng, int], Array]] = {
    "applause": _applause,
    "bird": _bird,
    "car_horn": _horn,
    "clock_tick": _clock,
    "cricket": _cricket,
    "dog_bark": _dog,
    "door_knock": _knock,
    "engine": _engine,
    "footsteps": _steps,
    "frog": _frog,
    "mosquito": _mosquito,
    "rain": _rain,
    "sea_waves": _waves,
    "siren": _siren,
    "telephone": _telephone,
    "water_drops": _drops,
    "wind": _wind,
}
