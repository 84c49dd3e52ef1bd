"""Other tempo, other pitch: a phase vocoder in the graph."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_audio_ssl._types import Seed
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.augment.draws import between
from keras_audio_ssl.augment.draws import masked
from keras_audio_ssl.augment.draws import valid_lengths
from keras_audio_ssl.augment.draws import whole_between
from keras_audio_ssl.augment.protocol import Augmentation

OVERLAP = 4


def revoice(
    x: Tensor, tempo: Tensor, pitch: Tensor, window: int = 1024
) -> Tensor:
    """Plays waveforms at another tempo, another pitch, or both.

    A phase vocoder: frame `k` of the output is read `k * hop * tempo` samples
    into the clip, its samples `pitch` apart, and so is a frame a hop later;
    what the phases of the two differ by is what they advance by from frame to
    frame of the output. So neither tempo nor pitch needs a signal of another
    length.

    Args:
        x: `(batch, samples)`, with a known number of samples.
        tempo: `(batch,)`, 2 is twice as quick.
        pitch: `(batch,)`, 2 is an octave higher.
        window: Samples of a frame, a multiple of 4.

    Returns:
        Like `x`; a clip that grew is cut, one that shrank ends in silence.

    Reference:
        Laroche & Dolson, 1999, "Improved Phase Vocoder Time-Scale
        Modification of Audio", for frames a hop apart.
    """
    samples, hop = x.shape[1], window // OVERLAP
    tempo, pitch = tempo[:, None, None], pitch[:, None, None]
    x, rate = oversampled(x, pitch[:, 0])
    blocks = -(-samples // hop)
    count = blocks + OVERLAP - 1
    # Frames begin before the clip, so that all of it has as many.
    start = (np.arange(count) + 1 - OVERLAP // 2) * hop
    inside = np.arange(window) - window // 2
    start = ops.convert_to_tensor(start[:, None].astype("float32"))
    inside = ops.convert_to_tensor(inside[None].astype("float32"))
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    hann = ops.convert_to_tensor(hann.astype("float32"))

    def spectra(later: float) -> Tensor:
        place = start * tempo + (inside + later) * pitch
        return ops.rfft(hann * read(x, place * rate), fft_length=window)

    real, imaginary = spectra(0.0)
    size = ops.sqrt(ops.square(real) + ops.square(imaginary))
    phase = ops.arctan2(imaginary, real)
    later = spectra(float(hop))
    # How far each bin turns while the output moves by a hop.
    step = ops.arctan2(later[1], later[0]) - phase
    # Summed up over the frames before: the phases of the output.
    advance = ops.cumsum(step, axis=1) - step
    # The loudest frame keeps its phases: from one that holds half of a tone,
    # or none, bins would start out of step and stay so.
    loudest = ops.argmax(ops.sum(ops.square(size), axis=2), axis=1)
    loudest = loudest[:, None, None]
    advance = advance - ops.take_along_axis(advance, loudest, axis=1)
    phase = ops.take_along_axis(phase, loudest, axis=1)
    phase = phase + ops.mod(advance, 2 * math.pi)
    frames = ops.irfft(
        (size * ops.cos(phase), size * ops.sin(phase)), fft_length=window
    )
    return overlap_add(hann * frames, hop, blocks)[:, :samples]


def oversampled(x: Tensor, pitch: Tensor) -> tuple[Tensor, Tensor]:
    """Twice as many samples, without what a higher pitch would fold back.

    Args:
        x: `(batch, samples)`.
        pitch: `(batch, 1)`.

    Returns:
        `(x, 2)`: the waveform `(batch, 2 * samples)` and its samples for one.
    """
    samples = x.shape[1]
    # Silence behind the clip: its end is no neighbour of its beginning.
    size = 1 << (samples + 63).bit_length()
    real, imaginary = ops.rfft(x, fft_length=size)
    bins = ops.arange(size // 2 + 1, dtype="float32")[None]
    # Twice, since the transform back divides by twice the samples.
    kept = 2.0 * ops.cast(bins * pitch < size // 2, "float32")
    more = ((0, 0), (0, size // 2))
    wide = ops.irfft(
        (ops.pad(real * kept, more), ops.pad(imaginary * kept, more)),
        fft_length=2 * size,
    )
    return wide[:, : 2 * samples], 2


def read(x: Tensor, place: Tensor) -> Tensor:
    """Waveforms `(batch, samples)` between their samples, 0 outside.

    Args:
        x: `(batch, samples)`.
        place: `(batch, frames, window)`, in samples.

    Returns:
        Like `place`.
    """
    shape, last = ops.shape(place), ops.shape(x)[1] - 1
    place = ops.reshape(place, (shape[0], -1))
    below = ops.floor(place)
    share = place - below
    index = ops.cast(below, "int32")

    def at(index: Tensor) -> Tensor:
        inside = (index >= 0) & (index <= last)
        taken = ops.take_along_axis(x, ops.clip(index, 0, last), axis=1)
        return ops.where(inside, taken, 0.0)

    value = (1.0 - share) * at(index) + share * at(index + 1)
    return ops.reshape(value, shape)


def overlap_add(frames: Tensor, hop: int, blocks: int) -> Tensor:
    """Adds up frames of `OVERLAP` hops, windowed twice by a Hann window.

    Args:
        frames: `(batch, blocks + OVERLAP - 1, OVERLAP * hop)`.
        hop: Samples between frames.
        blocks: Hops of the output, which begins with the first sample that
            has all its frames.

    Returns:
        `(batch, blocks * hop)`.
    """
    last = OVERLAP - 1
    parts = ops.reshape(frames, (-1, blocks + last, OVERLAP, hop))
    whole = sum(
        parts[:, last - i : last - i + blocks, i] for i in range(OVERLAP)
    )
    # The squares of such windows add up to this.
    return ops.reshape(whole, (-1, blocks * hop)) / 1.5


class TimeStretch(Augmentation):
    """Plays each waveform slower or quicker, at its pitch.

    What grew beyond the clip's length is cut, what shrank ends in silence.
    The released code resamples to the clip's length in place of that, which
    undoes the tempo and leaves another pitch.

    Args:
        low: Smallest tempo, 0.5 is half as quick.
        high: Largest tempo.
        window: Samples of a frame of the vocoder.

    The number of samples must be known.

    Raises:
        ValueError: They are no tempos.

    Reference:
        Al-Tahan & Mohsenzadeh, 2021, "CLAR", arXiv 2010.09542.
    """

    domain = "waveform"

    def __init__(
        self,
        low: float = 0.5,
        high: float = 1.5,
        window: int = 1024,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 < low <= high:
            raise ValueError(
                "`low` must be positive and `high` not below it. "
                f"Received: low={low}, high={high}"
            )
        check_window(window)

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        return {"tempo": between((shape[0],), self.low, self.high, seed)}

    def apply(
        self, x: Tensor, lengths: Tensor | None = None, *, tempo: Tensor
    ) -> Tensor:
        x, same = masked(x, lengths), ops.ones_like(tempo)
        out = revoice(x, tempo, same, self.window)
        valid = ops.cast(valid_lengths(ops.shape(x), lengths), "float32")
        end = ops.cast(valid / tempo, "int32")
        return masked(masked(out, end), lengths)


class PitchShift(Augmentation):
    """Moves each waveform by semitones, at its tempo.

    Args:
        low: Least shift, in semitones.
        high: Largest; drawn are whole numbers.
        window: Samples of a frame of the vocoder.

    The number of samples must be known.

    Raises:
        ValueError: `high` is below `low`.

    Reference:
        Al-Tahan & Mohsenzadeh, 2021, "CLAR", arXiv 2010.09542.
    """

    domain = "waveform"

    def __init__(
        self, low: int = -15, high: int = 14, window: int = 1024, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not low <= high:
            raise ValueError(
                "`high` must not be below `low`. "
                f"Received: low={low}, high={high}"
            )
        check_window(window)

    def draw(
        self,
        shape: Sequence[Any],
        lengths: Tensor | None = None,
        seed: Seed = None,
    ) -> dict[str, Any]:
        shift = whole_between((shape[0],), self.low, self.high, seed)
        return {"pitch": 2.0 ** (ops.cast(shift, "float32") / 12.0)}

    def apply(
        self, x: Tensor, lengths: Tensor | None = None, *, pitch: Tensor
    ) -> Tensor:
        x, same = masked(x, lengths), ops.ones_like(pitch)
        out = revoice(x, same, pitch, self.window)
        return masked(out, lengths)


def check_window(window: int) -> None:
    """Refuses a window whose hop is no whole number."""
    if window < OVERLAP or window % OVERLAP:
        raise ValueError(
            f"`window` must be a positive multiple of {OVERLAP}. "
            f"Received: {window}"
        )
