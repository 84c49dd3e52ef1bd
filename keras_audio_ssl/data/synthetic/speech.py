"""Source-filter speech: a few syllables spoken by one of several voices.

Glottal pulses and breath pass through formants that move from target to
target; bursts and hisses are added behind them.
"""

from typing import NamedTuple

import numpy as np

from keras_audio_ssl.data.synthetic.sounds import HOP
from keras_audio_ssl.data.synthetic.sounds import RATE
from keras_audio_ssl.data.synthetic.sounds import Array
from keras_audio_ssl.data.synthetic.sounds import Rng
from keras_audio_ssl.data.synthetic.sounds import curve
from keras_audio_ssl.data.synthetic.sounds import noise
from keras_audio_ssl.data.synthetic.sounds import partials
from keras_audio_ssl.data.synthetic.sounds import tone
from keras_audio_ssl.data.synthetic.sounds import tract

Script = list[tuple[str, int]]


class Voice(NamedTuple):
    """How one speaker differs from the rest."""

    name: str
    f0: float  # Hz
    scale: float  # of the formants; 1 is a tall man's vocal tract
    jitter: float  # share of f0
    breath: float  # aspiration beside the voice
    tempo: float  # 1 is about four syllables a second
    tilt: float  # of the harmonics: amplitude k ** -tilt
    melody: float  # octaves the pitch falls (or rises) over a clip


VOICES = (
    Voice("voice01", 84, 0.94, 0.010, 0.04, 0.85, 1.1, -0.20),
    Voice("voice02", 98, 1.02, 0.025, 0.08, 1.10, 0.8, -0.40),
    Voice("voice03", 110, 0.98, 0.008, 0.30, 1.00, 1.3, -0.10),
    Voice("voice04", 122, 1.06, 0.012, 0.05, 1.30, 0.9, 0.15),
    Voice("voice05", 136, 0.96, 0.030, 0.15, 0.90, 1.15, -0.30),
    Voice("voice06", 150, 1.10, 0.008, 0.06, 1.20, 0.75, -0.15),
    Voice("voice07", 168, 1.16, 0.015, 0.25, 0.95, 1.25, -0.35),
    Voice("voice08", 184, 1.12, 0.010, 0.05, 1.25, 1.0, 0.20),
    Voice("voice09", 203, 1.20, 0.020, 0.12, 1.05, 0.85, -0.25),
    Voice("voice10", 224, 1.15, 0.008, 0.35, 0.85, 1.3, -0.10),
    Voice("voice11", 248, 1.24, 0.012, 0.08, 1.15, 1.1, 0.25),
    Voice("voice12", 290, 1.34, 0.015, 0.10, 1.00, 0.95, -0.30),
)

# Formants in Hz (Peterson & Barney 1952, men, rounded).
VOWELS = {
    "a": (730, 1200, 2500),
    "e": (430, 1950, 2550),
    "i": (280, 2250, 2950),
    "o": (470, 850, 2450),
    "u": (310, 750, 2250),
}
HIGHER = (3400, 4300, 5300, 6300, 7300)  # Hz, the same in every phone


class Consonant(NamedTuple):
    """A consonant's length, place and sources."""

    seconds: float
    formants: tuple[float, float, float]  # Hz; g takes its own from the vowel
    voice: float  # amplitude of the voice, a vowel's being 1
    noise: float  # amplitude of the noise
    centre: float  # Hz, of the noise
    release: float  # seconds of noise at the end; 0: all along


CONSONANTS = {
    "b": Consonant(0.09, (200, 850, 2200), 0.15, 0.6, 900, 0.010),
    "d": Consonant(0.09, (200, 1750, 2700), 0.15, 0.6, 4000, 0.014),
    "g": Consonant(0.09, (200, 1500, 2000), 0.15, 0.7, 1900, 0.022),
    "m": Consonant(0.09, (250, 950, 2200), 0.45, 0.0, 1000, 0),
    "n": Consonant(0.09, (250, 1600, 2600), 0.45, 0.0, 1000, 0),
    "s": Consonant(0.12, (350, 1700, 2700), 0.0, 0.35, 5800, 0),
    "l": Consonant(0.08, (350, 1150, 2800), 0.6, 0.0, 1000, 0),
}
SYLLABLES = tuple(c + v for c in CONSONANTS for v in VOWELS)


def script(rng: Rng, samples: int, voice: Voice, first: str) -> Script:
    """Draws what is said: `(phone, frames of HOP)`, silence at both ends."""
    said: Script = []
    syllable, room = first, samples // HOP
    while True:
        pace = rng.uniform(0.85, 1.25) * RATE / HOP / voice.tempo
        consonant, vowel = syllable[0], syllable[1]
        lengths = [
            round(CONSONANTS[consonant].seconds * pace),
            round(rng.uniform(0.1, 0.18) * pace),
        ]
        more: Script = []
        if not said:
            lengths = [min(k, int(0.45 * room)) for k in lengths]
        elif rng.random() < 0.2:
            more = [("sil", round(rng.uniform(0.04, 0.15) * RATE / HOP))]
        more += [(consonant, lengths[0]), (vowel, lengths[1])]
        spare = room - sum(frames for _, frames in said)
        if said and spare < sum(frames for _, frames in more) + 6:
            break
        said += more
        syllable = SYLLABLES[rng.integers(len(SYLLABLES))]
    lead = int(rng.uniform(0.2, 0.8) * spare)
    return [("sil", lead), *said, ("sil", spare - lead)]


def _smooth(track: Array, frames: int) -> Array:
    """Tracks (frames, n) under a moving Hann window."""
    window = np.hanning(frames + 2)[1:-1]
    half = frames // 2
    padded = np.pad(track, ((half, half), (0, 0)), mode="edge")
    columns = [
        np.convolve(column, window / window.sum(), "valid")
        for column in padded.T
    ]
    return np.stack(columns, axis=1)


def _targets(said: Script, voice: Voice) -> tuple[Array, Array]:
    """Formants and their widths in Hz, two arrays (phones, 8)."""
    formants: list = []
    widths: list = []
    for phone, _ in reversed(said):
        if phone == "sil":  # the mouth waits where it is going, or was
            place = formants[-1][:3] if formants else VOWELS[said[-2][0]]
            width = (80, 100, 150)
        elif phone in VOWELS:
            place, width = VOWELS[phone], (70, 90, 130)
        else:
            place, width = CONSONANTS[phone].formants, (90, 120, 180)
            if phone in "mn":  # the nose damps what lies above the murmur
                width = (90, 350, 400)
            if phone == "g":
                second = 700 + 0.7 * formants[-1][1]
                place = (200, second, second + 400)
        formants.append((*place, *HIGHER))
        widths.append((*width, 250, 300, 400, 500, 600))
    f = voice.scale * np.array(formants[::-1])
    # so wide a resonance is none: those beyond the band leave no trace
    return f, np.where(f < 0.48 * RATE, np.array(widths[::-1]), RATE)


def _hiss(rng: Rng, said: Script, voice: Voice, samples: int) -> Array:
    """Fricatives and the bursts of plosives."""
    out, at = np.zeros(samples), 0
    for phone, frames in said:
        at += frames * HOP
        kind = CONSONANTS.get(phone)
        if kind is None or kind.noise == 0:
            continue
        centre = kind.centre * voice.scale**0.5
        length = round((kind.release or frames * HOP / RATE) * RATE)
        x = noise(rng, length, 0.0, centre / 1.4, centre * 1.4)
        u = np.arange(length) / length
        if kind.release:
            x = x * np.minimum(u * 10, 1) * np.exp(-2 * u)
        else:
            x = x * np.minimum(1, 4 * np.minimum(u, 1 - u))
        out[at - length : at] += kind.noise * rng.uniform(0.7, 1.3) * x
    return out


def speak(rng: Rng, samples: int, said: Script, voice: Voice) -> Array:
    """The waveform (samples,) of a script, at RATE."""
    phones, frames = zip(*said, strict=True)
    gains = [
        10 ** (rng.normal(0, 2) / 20)
        if phone in VOWELS
        else CONSONANTS[phone].voice
        if phone in CONSONANTS
        else 0.0
        for phone in phones
    ]
    formants, widths = _targets(said, voice)
    rows = np.repeat(np.arange(len(said)), frames)
    tracks = np.concatenate([formants, widths, np.array(gains)[:, None]], 1)
    moving = _smooth(tracks[rows, :-1], 21)
    times = (np.arange(len(rows)) + 0.5) * HOP
    gain = _smooth(tracks[rows, -1:], 7)[:, 0]
    gain = np.interp(np.arange(samples), times, gain)

    t = np.linspace(-0.5, 0.5, samples)
    octaves = voice.melody * t + rng.uniform(-0.08, 0.08)
    octaves = octaves + curve(rng, samples, 4, -0.08, 0.08)
    shake = 1 + voice.jitter * curve(rng, samples, 100, -2, 2)
    f0 = voice.f0 * 2**octaves * shake
    pulses = tone(f0, partials(rng, 90, voice.tilt, 1.0))
    breath = voice.breath * noise(rng, samples)
    source = gain * (pulses / np.std(pulses) + breath)
    x = tract(source, moving[:, :8], moving[:, 8:])
    x = x / np.sqrt(np.sum(x**2) / np.sum(gain**2))
    return x + _hiss(rng, said, voice, samples)
