"""Levels of sound that tell that something is wrong with it."""

import math

import numpy as np

RUN = 3  # equal samples at the peak that make it a plateau
# A wave that was cut enters or leaves its plateau by a step; a smooth one is
# flat there too once it is rounded. Coarse codings have large steps anyway.
STEP = 0.01
COARSE_STEP = 0.1
COARSE = ("PCM_S8", "PCM_U8", "ULAW", "ALAW", "ADPCM", "DPCM_8", "GSM610")
LOUD = 2.0  # full scale is 1.0; lossy codings overshoot it a little


class Plateau:
    """Counts samples in runs at the largest value of a stream.

    Args:
        step: Part of the peak by which a run must be entered or left.

    Attributes:
        best: The largest value so far.
    """

    def __init__(self, step: float) -> None:
        self.best = -math.inf
        self._step = step
        self._counted = 0
        self._last = math.nan  # sample before the next block
        self._run = 0  # length of the run that the last block ended with
        self._stepped = False  # whether that run was entered by a step

    def add(self, wave: np.ndarray, top: float) -> None:
        """Takes the next samples, float64 `(samples,)`, and their maximum."""
        if top > self.best:
            self.best, self._counted, self._run = top, 0, 0
        if top == self.best:
            at = np.flatnonzero(wave == top)
            breaks = np.flatnonzero(np.diff(at) > 1) + 1
            firsts = at[np.r_[0, breaks]]
            lasts = at[np.r_[breaks - 1, len(at) - 1]]
            if self._run and firsts[0] > 0:
                self._end(float(wave[0]))
            for first, last in zip(firsts, lasts, strict=True):
                if first > 0 or not self._run:
                    before = wave[first - 1] if first > 0 else self._last
                    self._stepped = self._is_step(float(before))
                self._run += int(last - first) + 1
                if last + 1 < len(wave):
                    self._end(float(wave[last + 1]))
        elif self._run:
            self._end(float(wave[0]))
        self._last = float(wave[-1])

    def count(self, peak: float) -> int:
        """Samples in plateaus; `peak` is the channel's, of both signs."""
        if self._run:
            self._end(math.nan)
        # A wave that is only ever negative has its zeros at the top.
        return self._counted if self.best > 0.5 * peak else 0

    def _is_step(self, neighbour: float) -> bool:
        return self.best - neighbour > self._step * abs(self.best)

    def _end(self, after: float) -> None:
        if self._run >= RUN and (self._stepped or self._is_step(after)):
            self._counted += self._run
        self._run = 0


def plateau_step(format: str) -> float:
    """The step by which a wave of a coding must enter a plateau."""
    coarse = format.split()[-1].endswith(COARSE)
    return COARSE_STEP if coarse else STEP


def clipped_share(wave: np.ndarray, step: float = STEP) -> float:
    """The part of a wave's samples that lie in plateaus at its peak."""
    double = wave.astype("float64")
    sides = [Plateau(step), Plateau(step)]
    for plateau, side in zip(sides, (double, -double), strict=True):
        plateau.add(side, float(side.max()))
    high = max(plateau.best for plateau in sides)
    return sum(plateau.count(high) for plateau in sides) / len(wave)
