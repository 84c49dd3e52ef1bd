"""A vector for each word: the mean of how it was spoken."""

from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from keras_audio_ssl._files import written_whole

# Spoken words that are held in memory at once.
LOADED_SEGMENTS = 2048


@dataclass(frozen=True)
class WordVectors:
    """Vectors of words, of unit length.

    They tell how words sound, and what of their neighbours the corpus has
    taught; that they tell what words mean is not known of any real speech
    (Chen, 2022, arXiv 2209.10791).

    Args:
        words: Each word once, the most frequent first.
        vectors: float32 `(words, dim)`.
        counts: int `(words,)`, how often each was spoken.

    Example:
        >>> table = np.array([[1.0, 0.0], [0.8, 0.6], [-1.0, 0.0]])
        >>> words = WordVectors(["seven", "eleven", "no"], table, [1, 1, 1])
        >>> words.nearest("seven", 1)
        [('eleven', 0.8)]
    """

    words: list[str]
    vectors: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self.words

    def __getitem__(self, word: str) -> np.ndarray:
        """The vector `(dim,)` of a word."""
        if word not in self.words:
            raise KeyError(f"{word!r} is none of {len(self)} words.")
        return self.vectors[self.words.index(word)]

    def nearest(self, word: Any, k: int = 10) -> list[tuple[str, float]]:
        """The words of most similar vectors.

        Args:
            word: One of the words, which is left out then, or a vector
                `(dim,)`.
            k: How many.

        Returns:
            Pairs of word and cosine, the nearest first.
        """
        vector = self[word] if isinstance(word, str) else np.asarray(word)
        vector = vector / max(float(np.linalg.norm(vector)), 1e-12)
        cosines = self.vectors @ vector
        order = np.argsort(-cosines, kind="stable")
        found = [(self.words[i], float(cosines[i])) for i in order]
        return (
            [pair for pair in found if pair[0] != word][:k]
            if isinstance(word, str)
            else found[:k]
        )

    def save_word2vec(self, path: Any) -> None:
        """Writes word2vec's text format, which gensim and others read.

        The first line tells the number of words and the width; each other
        line is a word and its numbers, with spaces between. A space within
        a word becomes `_`.

        Args:
            path: The file.

        Raises:
            ValueError: Two words would be the same.
        """
        names = ["_".join(word.split()) for word in self.words]
        if len(set(names)) < len(names) or "" in names:
            raise ValueError(
                "Words must differ by more than spaces, and have a letter. "
                f"Received: {sorted(n for n in names if names.count(n) > 1)}"
            )
        with (
            written_whole(path) as draft,
            open(draft, "w", encoding="utf-8", newline="\n") as file,
        ):
            file.write(f"{len(self)} {self.vectors.shape[1]}\n")
            for name, vector in zip(names, self.vectors, strict=True):
                numbers = " ".join(f"{x:.8g}" for x in vector.tolist())
                file.write(f"{name} {numbers}\n")


def word_vectors(
    encoder: Any,
    segments: Iterable[Any],
    labels: Iterable[Any],
    sample_rate: int | None = None,
    batch_size: int = 32,
) -> WordVectors:
    """The mean of each word's unit vectors, scaled to unit length again.

    Args:
        encoder: `Encoder`.
        segments: Spoken words, each a waveform `(samples,)` or a path; read
            some thousand at a time, so a generator will do.
        labels: The word of each.
        sample_rate: Hz of waveforms; None for the encoder's.
        batch_size: As of `Encoder.embed`.

    Returns:
        `WordVectors`.

    Raises:
        ValueError: There is not a label for each segment, or nothing at all.
    """
    sums: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    for waves, names in _blocks(segments, labels):
        vectors = encoder.embed(waves, sample_rate, batch_size)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        units = vectors / np.maximum(lengths, 1e-12)
        for name, vector in zip(names, units.astype("float64"), strict=True):
            sums[name] = sums.get(name, 0.0) + vector
            counts[name] = counts.get(name, 0) + 1
    if not sums:
        raise ValueError("`segments` must not be empty.")
    words = sorted(sums, key=lambda word: (-counts[word], word))
    means = np.stack([sums[word] for word in words])
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return WordVectors(
        words,
        means.astype("float32"),
        np.array([counts[word] for word in words]),
    )


def _blocks(
    segments: Iterable[Any], labels: Iterable[Any]
) -> Iterator[tuple[list[Any], list[str]]]:
    """Some segments and their labels at a time."""
    if isinstance(segments, (str, bytes)) or isinstance(labels, (str, bytes)):
        raise ValueError("`segments` and `labels` must be sequences.")
    segments, labels = iter(segments), iter(labels)
    while True:
        waves = list(islice(segments, LOADED_SEGMENTS))
        names = [str(name) for name in islice(labels, len(waves))]
        over = not waves and next(labels, None) is not None
        if len(names) != len(waves) or over:
            raise ValueError("There must be a label for each segment.")
        if not waves:
            return
        yield waves, names
