"""Clip and frame vectors of many files, each computed once."""

import os
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_audio_ssl._text import some_skipped
from keras_audio_ssl.data import AudioError
from keras_audio_ssl.data import read_audio
from keras_audio_ssl.data.clips.manifest import MOST_SECONDS

WHOLE = (0.0, 1.0)
# What is decoded before the encoder is called: enough for clips of like length
# to meet in a batch, at most 128 MiB.
CHUNK_FILES = 256
CHUNK_SAMPLES = 2**25

Cut = tuple[float, float]
# Start and end in seconds, end None for the file's.
Span = tuple[float, float | None]


class Embeddings:
    """Vectors of audio files under one encoder, kept for the next task.

    Files that cannot be read are skipped, and named in `skipped`.

    Args:
        encoder: Any object with `sample_rate` and `embed(list of waveforms)`,
            and for frames `frame_rate` and `embed_frames`; an `Encoder`.
        progress: Called with (files done, files in all).

    Attributes:
        skipped: `(file, reason)` of every file that could not be read.
        seconds: Time spent reading and embedding.

    Example:
        >>> embeddings = Embeddings(encoder)
        >>> vectors, kept = embeddings.clips(["broken.flac", "clip.flac"])
        >>> vectors.shape == (1, 1, encoder.dim), kept.tolist()
        (True, [1])
    """

    def __init__(
        self,
        encoder: Any,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        for name in ("embed", "sample_rate"):
            if not hasattr(encoder, name):
                raise ValueError(
                    "An encoder needs `embed` and `sample_rate`. Received: "
                    f"{type(encoder).__name__} without `{name}`"
                )
        self.encoder, self.progress = encoder, progress
        self.seconds = 0.0
        self._vectors: dict[tuple, np.ndarray] = {}
        self._failed: dict[str, str] = {}

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """`(file, reason)` of every file that could not be read, by name."""
        return sorted(self._failed.items())

    def clips(
        self,
        files: Sequence[str],
        spans: Sequence[Span] | None = None,
        cuts: Sequence[Cut] = (WHOLE,),
    ) -> tuple[np.ndarray, np.ndarray]:
        """Clip vectors of files.

        Args:
            files: Paths.
            spans: Start and end of each in seconds, end None for the file's.
            cuts: Parts of each clip to embed, as fractions: `(0, 0.5)` is
                the first half.

        Returns:
            `(vectors (files, cuts, dim), indices)`: float32 vectors of the
            files that could be read, and their places in `files`.

        Raises:
            ValueError: No file can be read, or a vector is not finite.
        """
        keys = [(os.fspath(f), s) for f, s in pair(files, spans)]
        wanted = dict.fromkeys(
            key
            for key in keys
            if any((*key, cut) not in self._vectors for cut in cuts)
        )
        began = time.perf_counter()
        for batch in self._decoded(list(wanted)):
            parts = [
                ((*key, cut), part(wave, cut))
                for key, wave in batch
                for cut in cuts
                if (*key, cut) not in self._vectors
            ]
            vectors = self.encoder.embed([wave for _, wave in parts])
            for (key, _), vector in zip(parts, vectors, strict=True):
                check_finite(vector, key[0])
                self._vectors[key] = np.asarray(vector, "float32")
        self.seconds += time.perf_counter() - began
        kept = [
            i
            for i, key in enumerate(keys)
            if all((*key, cut) in self._vectors for cut in cuts)
        ]
        if not kept:
            raise ValueError(nothing_readable(files, self._failed))
        vectors = [[self._vectors[(*keys[i], c)] for c in cuts] for i in kept]
        return np.array(vectors), np.array(kept)

    def frames(self, files: Sequence[str]) -> Iterator[tuple[int, np.ndarray]]:
        """Frame vectors of files; too many to be kept.

        Args:
            files: Paths.

        Yields:
            `(place in files, vectors (frames, dim))` of the readable ones.

        Raises:
            ValueError: No file can be read, a vector is not finite, or the
                encoder gives no frames.
        """
        if not hasattr(self.encoder, "embed_frames"):
            raise ValueError(
                "Frames need an encoder with `embed_frames`. Received: "
                f"{type(self.encoder).__name__}"
            )
        places = {os.fspath(file): i for i, file in enumerate(files)}
        found = False
        began = time.perf_counter()
        for batch in self._decoded([(file, (0.0, None)) for file in places]):
            rows = self.encoder.embed_frames([wave for _, wave in batch])
            self.seconds += time.perf_counter() - began
            for (key, _), vectors in zip(batch, rows, strict=True):
                check_finite(vectors, key[0])
                found = True
                yield places[key[0]], np.asarray(vectors, "float32")
            began = time.perf_counter()
        if not found:
            raise ValueError(nothing_readable(files, self._failed))

    def _decoded(
        self, keys: list[tuple[str, Span]]
    ) -> Iterator[list[tuple[tuple[str, Span], np.ndarray]]]:
        """Yields lists of (key, waveform), a chunk of files each."""
        batch, samples = [], 0
        for done, (file, span) in enumerate(keys, 1):
            start, end = span
            try:
                stop = MOST_SECONDS if end is None else end
                if not 0 <= start < stop <= MOST_SECONDS:
                    raise AudioError(file, f"no part from {start} to {end} s")
                wave = read_audio(
                    file,
                    self.encoder.sample_rate,
                    start=start,
                    seconds=None if end is None else end - start,
                )
            except AudioError as error:
                self._failed[file] = error.reason
            else:
                batch.append(((file, span), wave))
                samples += len(wave)
            full = len(batch) == CHUNK_FILES or samples > CHUNK_SAMPLES
            if batch and (full or done == len(keys)):
                yield batch
                batch, samples = [], 0
            if self.progress is not None:
                self.progress(done, len(keys))


def as_embeddings(encoder: Any, progress: Any = None) -> Embeddings:
    """An encoder, or the `Embeddings` it has already, as `Embeddings`."""
    if isinstance(encoder, Embeddings):
        if progress is not None:
            encoder.progress = progress
        return encoder
    return Embeddings(encoder, progress)


def pair(
    files: Sequence[str], spans: Sequence[Span] | None
) -> Iterator[tuple[str, Span]]:
    """Files with their spans, `(start, end)` in seconds.

    Without spans all are whole: `(0.0, None)`.
    """
    if spans is None:
        spans = [(0.0, None)] * len(files)
    return zip(files, spans, strict=True)


def part(wave: np.ndarray, cut: Cut) -> np.ndarray:
    """A part of a waveform, at least one sample long."""
    start, end = (round(at * len(wave)) for at in cut)
    start = min(start, len(wave) - 1)
    return wave[start : max(end, start + 1)]


def check_finite(vector: Any, file: str) -> None:
    """Raises `ValueError` for a vector with NaN or infinite values."""
    if not np.isfinite(vector).all():
        raise ValueError(
            f"The encoder gives NaN or infinite values for {file}: "
            "its weights or its front end's statistics are broken."
        )


def nothing_readable(files: Sequence[str], failed: dict[str, str]) -> str:
    """That no file can be read, and why the first ones cannot."""
    first = some_skipped(list(failed.items())[:3])
    return f"None of {len(files)} files can be read. The first: {first}"
