"""What the attention heads of an encoder look at: the self-attention study.

Heads of all layers are one list, first layer first: head `h` of layer `i` is
number `i * heads + h`. A map is `(queries, keys)`, each row adding up to 1.

Reference:
    Yang et al., 2020, "Understanding Self-Attention of Self-Supervised Audio
    Transformers", arXiv 2006.03265.
"""

import dataclasses
import math
import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_audio_ssl._text import some_skipped
from keras_audio_ssl._types import FilePath
from keras_audio_ssl.data import AudioError
from keras_audio_ssl.data import bucket
from keras_audio_ssl.data.audio import read_part
from keras_audio_ssl.data.isolation import open_audio
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.evaluation.intervals import intervals_at
from keras_audio_ssl.evaluation.intervals import read_intervals

# The list that a head leads when it has the most of a metric.
CATEGORIES = {
    "globalness": "global",
    "verticality": "vertical",
    "diagonality": "diagonal",
}
METRICS = (*CATEGORIES, "mean_max_weight")
# Of one clip's maps that are to be looked at.
MOST_WEIGHTS = 2**24
MOST_FRAMES = 2000


def entropy(p: np.ndarray) -> np.ndarray:
    """Entropy of the last axis, in nats; 0 log 0 is 0."""
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    return -(p * logs).sum(-1)


def head_metrics(maps: Any) -> dict[str, np.ndarray]:
    """How global, vertical and diagonal the heads are on one clip.

    Args:
        maps: `(heads, frames, frames)`.

    Returns:
        Dict of float64 `(heads,)`. `"globalness"`: mean entropy of a query's
        weights, in nats, largest where all frames get the same.
        `"verticality"`: minus the entropy of the mean weights, largest where
        every query looks at the same frame. `"diagonality"`: minus the mean
        distance `|q - k|` over the frames, largest where frames look at their
        neighbours. `"mean_max_weight"`: a query's largest weight, on average.
    """
    values: dict[str, list[Any]] = {name: [] for name in METRICS}
    for one in maps:
        one = np.asarray(one, "float64")
        at = np.arange(len(one))
        far = np.abs(at[:, None] - at)
        values["globalness"].append(entropy(one).mean())
        values["verticality"].append(-entropy(one.mean(0)))
        values["diagonality"].append(-(far * one).sum() / len(one) ** 2)
        values["mean_max_weight"].append(one.max(-1).mean())
    return {name: np.array(v, "float64") for name, v in values.items()}


def head_ranks(metrics: dict[str, Any]) -> np.ndarray:
    """Where each head stands in the lists of global, vertical, diagonal ones.

    Args:
        metrics: As `head_metrics` gives them.

    Returns:
        `(3, heads)`, 0 for the head with the highest value; of equal heads
        the first one stands first.
    """
    ranks = []
    for name in CATEGORIES:
        order = np.argsort(-np.asarray(metrics[name]), kind="stable")
        ranks.append(np.argsort(order))
    return np.stack(ranks)


def head_categories(metrics: dict[str, Any]) -> np.ndarray:
    """The list in which each head stands best, `(heads,)` text.

    Args:
        metrics: As `head_metrics` gives them.

    Returns:
        `"global"`, `"vertical"` or `"diagonal"`; in case of a tie the first
        of these.
    """
    return np.array(list(CATEGORIES.values()))[head_ranks(metrics).argmin(0)]


def phoneme_relation(maps: Any, labels: Any, phonemes: int) -> np.ndarray:
    """How much weight goes from the frames of each phoneme to each other.

    Args:
        maps: `(heads, frames, frames)`.
        labels: `(frames,)`, the phoneme's index, -1 for a frame of none.
        phonemes: How many there are.

    Returns:
        float64 `(heads, phonemes, phonemes)`, phoneme of the query first; a
        head's values add up to 1 where every frame has a phoneme.
    """
    which = np.asarray(labels)[:, None] == np.arange(phonemes)
    which = which.astype("float64")
    return np.stack(
        [which.T @ np.asarray(one, "float64") @ which for one in maps]
    ) / len(which)


def phoneme_background(labels: Any, phonemes: int) -> np.ndarray:
    """What `phoneme_relation` would be of uniform attention.

    Args:
        labels: `(frames,)`, the phoneme's index, -1 for a frame of none.
        phonemes: How many there are.

    Returns:
        float64 `(phonemes, phonemes)`, phoneme of the query first.
    """
    which = np.asarray(labels)[:, None] == np.arange(phonemes)
    share = which.mean(0)
    return share[:, None] * share


def within_span(maps: Any, radius: int) -> np.ndarray:
    """Attention that sees no further than `radius` frames: cut, renormalised.

    Args:
        maps: `(..., frames, frames)`.
        radius: Weights with `|q - k| <= radius` are kept; 0 or more.

    Returns:
        As `maps`, each row adding up to 1. A query that gave nothing to what
        is left looks at all of it alike.

    Raises:
        ValueError: `radius` is negative.
    """
    if radius < 0:
        raise ValueError(f"`radius` must be 0 or more. Received: {radius}")
    maps = np.asarray(maps)
    at = np.arange(maps.shape[-1])
    kept = np.abs(at[:, None] - at) <= radius
    cut = np.where(kept, maps, 0)
    total = cut.sum(-1, keepdims=True)
    alike = kept / kept.sum(-1, keepdims=True)
    return np.where(
        total > 0, cut / np.where(total > 0, total, 1), alike
    ).astype(maps.dtype)


def head_reach(maps: Any, share: float = 0.9) -> np.ndarray:
    """The smallest radius that holds this share of each head's weight.

    Args:
        maps: `(heads, frames, frames)`.
        share: Of the weight, up to 1.

    Returns:
        `(heads,)`, frames.
    """
    reach = []
    for one in maps:
        one = np.asarray(one, "float64")
        at = np.arange(len(one))
        far = np.abs(at[:, None] - at)
        held = np.cumsum(np.bincount(far.ravel(), one.ravel()))
        reach.append(np.argmax(held >= share * held[-1] * (1 - 1e-12)))
    return np.array(reach)


class AttentionStudy:
    """Means over clips, each of equal weight; one clip in memory at a time.

    Args:
        phonemes: Names of the phonemes, if their relation is wanted.

    Attributes:
        clips: How many were added.
        shape: `(layers, heads)`, of the first clip's maps.
        skipped: `(file, reason)` of what `attention_study` could not use.

    Example:
        >>> study = AttentionStudy()
        >>> wave = kas.data.read_audio("clip.flac", encoder.sample_rate)
        >>> study.add(attention_maps(encoder, wave))
        >>> layers, heads = study.shape
        >>> study.categories.shape == (layers * heads,)
        True
    """

    def __init__(self, phonemes: Sequence[str] = ()):
        self.phonemes = list(phonemes)
        self.clips = 0
        self.shape: tuple[int, int] | None = None
        self.skipped: list[tuple[str, str]] = []
        self._sums: dict[str, np.ndarray] = {}

    def add(self, maps: Any, labels: Any = None) -> None:
        """Adds a clip.

        Args:
            maps: `(layers, heads, frames, frames)`, or `(heads, frames,
                frames)` as of one layer.
            labels: `(frames,)`, index into `phonemes`, or -1.

        Raises:
            ValueError: Other heads than of the first clip, or no labels where
                there are phonemes.
        """
        maps = np.asarray(maps)
        maps = maps[None] if maps.ndim == 3 else maps
        if self.shape not in (None, maps.shape[:2]):
            raise ValueError(
                f"The clips before had {self.shape} layers and heads. "
                f"Received: {maps.shape[:2]}"
            )
        count = len(self.phonemes)
        if count and np.shape(labels) != maps.shape[-1:]:
            raise ValueError(
                f"`labels` must be ({maps.shape[-1]},), a phoneme for each "
                f"frame. Received: {np.shape(labels)}"
            )
        self.shape = maps.shape[:2]
        maps = maps.reshape(-1, *maps.shape[2:])
        values = head_metrics(maps)
        if count:
            values["relation"] = phoneme_relation(maps, labels, count)
            values["background"] = phoneme_background(labels, count)
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0) + value
        self.clips += 1

    def _mean(self, name: str) -> np.ndarray:
        if name not in self._sums:
            what = "phonemes" if self.clips else "clip yet"
            raise ValueError(f"The study has no {what}.")
        return self._sums[name] / self.clips

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """As `head_metrics`, `(layers * heads,)` each."""
        return {name: self._mean(name) for name in METRICS}

    @property
    def ranks(self) -> np.ndarray:
        """As `head_ranks`, `(3, layers * heads)`."""
        return head_ranks(self.metrics)

    @property
    def categories(self) -> np.ndarray:
        """As `head_categories`, `(layers * heads,)`."""
        return head_categories(self.metrics)

    @property
    def relation(self) -> np.ndarray:
        """`(layers * heads, phonemes, phonemes)`; see `phoneme_relation`."""
        return self._mean("relation")

    @property
    def background(self) -> np.ndarray:
        """`(phonemes, phonemes)`: what uniform attention would give."""
        return self._mean("background")

    @property
    def relative(self) -> np.ndarray:
        """Relation to background, less 1: 0 is as uniform attention, -1 never.

        NaN where the background is 0.
        """
        ground = self.background
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(ground > 0, self.relation / ground, np.nan) - 1

    def order(self, metric: str, most_first: bool = True) -> np.ndarray:
        """The heads in the order of a metric, for `prune_heads`.

        Args:
            metric: One of `METRICS`.
            most_first: Whether the head with the highest value goes first.

        Returns:
            `(layers * heads,)`, their numbers.

        Raises:
            ValueError: There is no such metric, or no clip was added yet.
        """
        if metric not in METRICS:
            raise ValueError(
                f"`metric` must be one of {', '.join(METRICS)}. "
                f"Received: {metric!r}"
            )
        values = self.metrics[metric]
        return np.argsort(-values if most_first else values, kind="stable")

    def rows(self) -> list[dict[str, Any]]:
        """The table of heads: a dict for each."""
        metrics, ranks, names = self.metrics, self.ranks, self.categories
        heads = self.shape[1] if self.shape else 1
        return [
            {
                "layer": i // heads,
                "head": i % heads,
                "category": str(names[i]),
                **{name: float(metrics[name][i]) for name in METRICS},
                **{
                    f"{name}_rank": int(ranks[k, i])
                    for k, name in enumerate(CATEGORIES.values())
                },
            }
            for i in range(len(names))
        ]


def check_attention(encoder: Encoder) -> None:
    """Raises unless the encoder has attention maps."""
    backbone = getattr(encoder, "backbone", None)
    if not getattr(backbone, "has_attention", False):
        what = type(encoder if backbone is None else backbone).__name__
        raise ValueError(
            f"This encoder has no attention maps: it is {what}, and a "
            "transformer is needed, as of TERA, Mockingjay or Audio ALBERT."
        )


def attention_maps(encoder: Encoder, wave: Any) -> np.ndarray:
    """The maps of one clip.

    Args:
        encoder: `Encoder` whose backbone `has_attention`.
        wave: `(samples,)` at `encoder.sample_rate`.

    Returns:
        float32 `(layers, heads, frames, frames)`.

    Raises:
        ValueError: The encoder has no maps.
    """
    check_attention(encoder)
    samples = max(len(wave), encoder.min_samples)
    # A few shapes for clips of all lengths, where padding changes nothing.
    exact = encoder.backbone.exact_lengths
    width = bucket(samples, encoder.min_samples) if exact else samples
    padded = np.zeros((1, width), "float32")
    padded[0, : len(wave)] = wave
    lengths = np.array([samples], "int32")
    outputs = encoder(
        ops.convert_to_tensor(padded),
        lengths=ops.convert_to_tensor(lengths) if exact else None,
        return_attention=True,
        training=False,
    )
    frames = int(ops.convert_to_numpy(encoder.frame_lengths(lengths))[0])
    return np.stack(
        [
            ops.convert_to_numpy(layer)[0, :, :frames, :frames]
            for layer in outputs["attention"]
        ]
    )


class Phones:
    """Which phone is said when, of many files.

    Args:
        path: CSV with `file` (relative to its folder), `start`, `end` in
            seconds, and a label.
        label: Column of the labels, by default the one beside these.
    """

    def __init__(self, path: Any, label: str | None = None):
        self.path, table, label = read_intervals(path, path, label)
        try:
            spans = [[float(t) for t in table[k]] for k in ("start", "end")]
        except ValueError as error:
            raise ValueError(
                f"`start` and `end` of {path} must hold seconds: {error}"
            ) from None
        self._start, self._end = np.array(spans)
        self._names = table[label]
        self._rows: dict[str, list[int]] = {}
        folder = os.path.dirname(os.fspath(self.path))
        places: dict[str, str] = {}
        for row, file in enumerate(table["file"]):
            if file not in places:
                places[file] = os.path.realpath(os.path.join(folder, file))
            self._rows.setdefault(places[file], []).append(row)
        self.first = table["file"][0]

    def of(self, file: Any) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """`(start, end, names)` of a file's phones, in order.

        Raises:
            ValueError: There are none.
        """
        rows = self._rows.get(os.path.realpath(file))
        if rows is None:
            # The table may have been copied away from the audio.
            same = [
                place
                for place in self._rows
                if os.path.basename(place) == os.path.basename(file)
            ]
            rows = self._rows[same[0]] if len(same) == 1 else None
        if rows is None:
            raise ValueError(
                f"{self.path} names no interval of {file}. "
                f"Its first file: {self.first!r}"
            )
        rows = sorted(rows, key=lambda row: self._start[row])
        return (
            self._start[rows],
            self._end[rows],
            [self._names[r] for r in rows],
        )

    @property
    def names(self) -> list[str]:
        """All phones, sorted."""
        return sorted(set(self._names))


def read_start(path: Any, rate: int, seconds: float) -> tuple[Any, float]:
    """The first seconds of a file, and how long the whole is.

    Returns:
        `(wave (samples,), seconds of the whole)`.
    """
    with open_audio(path) as audio:
        wave = read_part(audio, rate, 0, max(1, round(seconds * rate)))
        if not wave.size:
            raise AudioError(path, "empty")
        return wave, audio.frames / audio.rate


def attention_study(
    encoder: Encoder,
    files: Iterable[Any],
    phones: FilePath | None = None,
    label: str | None = None,
    seconds: float = 10.0,
    progress: Callable[[int], None] | None = None,
) -> AttentionStudy:
    """Studies the heads of an encoder over many clips.

    Args:
        encoder: `Encoder` whose backbone `has_attention`.
        files: Audio files. One that cannot be read, or of which no phone is
            known, is skipped, and named in `skipped` of the result.
        phones: CSV with `file`, `start`, `end` and a label, for the relation
            of phonemes.
        label: Column of the label, by default the one beside these.
        seconds: Of a longer clip only so much is taken.
        progress: Called with the number of files done.

    Returns:
        An `AttentionStudy`.

    Raises:
        ValueError: The encoder has no maps, or no clip is left.

    Example:
        >>> files = ["speech/0.wav", "speech/1.wav"]
        >>> study = attention_study(encoder, files, "speech/words.csv")
        >>> study.clips, study.phonemes
        (2, ['word0', 'word1', 'word2'])
    """
    check_attention(encoder)
    table = None if phones is None else Phones(phones, label)
    names = [] if table is None else table.names
    code = {name: i for i, name in enumerate(names)}
    study = AttentionStudy(names)
    for done, file in enumerate(files, 1):
        try:
            known = None if table is None else table.of(file)
            wave, _ = read_start(file, encoder.sample_rate, seconds)
        except ValueError as error:
            why = getattr(error, "reason", str(error))
            study.skipped.append((os.fspath(file), why))
        else:
            maps, labels = attention_maps(encoder, wave), None
            if known is not None:
                start, end, said = known
                which = intervals_at(
                    start, end, maps.shape[-1], encoder.frame_rate
                )
                codes = np.array([code[name] for name in said])
                labels = np.where(which >= 0, codes[which], -1)
            study.add(maps, labels)
        if progress is not None:
            progress(done)
    if not study.clips:
        raise ValueError(
            f"No clip is left to study. Skipped: {some_skipped(study.skipped)}"
        )
    return study


@dataclasses.dataclass
class ClipAttention:
    """One clip with its maps, to be looked at.

    Attributes:
        name: Of the clip.
        encoder: What the encoder is called.
        wave: `(samples,)`, the part of the clip that the maps are of.
        sample_rate: Hz.
        seconds: Of the whole clip.
        frame_rate: Hz, of the maps.
        maps: `(layers, heads, frames, frames)`.
        study: `AttentionStudy` of this clip alone.
        phones: `(start, end, name)` of each, in order.
    """

    name: str
    encoder: str
    wave: np.ndarray
    sample_rate: int
    seconds: float
    frame_rate: float
    maps: np.ndarray
    study: AttentionStudy
    phones: list[tuple[float, float, str]]

    @property
    def shown_seconds(self) -> float:
        """Seconds of the clip that were looked at."""
        return len(self.wave) / self.sample_rate

    @property
    def cut(self) -> str:
        """A sentence if the clip is longer than what is shown of it."""
        # The last frame may end with the clip.
        if self.seconds - self.shown_seconds < 1 / self.frame_rate:
            return ""
        return (
            f"Of its {self.seconds:,.1f} s, the first "
            f"{self.shown_seconds:.1f} s are shown: maps grow with the square "
            "of the length."
        )

    def rows(self) -> list[dict[str, Any]]:
        """The table of heads, with their reach in seconds."""
        maps = self.maps.reshape(-1, *self.maps.shape[2:])
        reach = head_reach(maps) / self.frame_rate
        return [
            {**row, "reach_seconds": round(float(r), 6)}
            for row, r in zip(self.study.rows(), reach, strict=True)
        ]


def clip_attention(
    encoder: Encoder,
    path: FilePath,
    phones: FilePath | None = None,
    label: str | None = None,
    seconds: float | None = None,
    most_weights: int = MOST_WEIGHTS,
    title: str | None = None,
) -> ClipAttention:
    """Reads a clip and computes its maps, as much as can be looked at.

    Args:
        encoder: `Encoder` whose backbone `has_attention`.
        path: An audio file.
        phones: CSV with `file`, `start`, `end` (seconds) and a label.
        label: Column of the label, by default the one beside these.
        seconds: From the clip's start; None for as much as fits.
        most_weights: Most weights of all maps together.
        title: What the encoder is called; by default its name.

    Returns:
        A `ClipAttention`.

    Raises:
        ValueError: The encoder has no maps, the clip cannot be read
            (`AudioError`), `phones` says nothing of it, or `seconds` is not
            positive.
    """
    check_attention(encoder)
    if seconds is not None and not 0 < seconds < math.inf:
        raise ValueError(f"`seconds` must be positive. Received: {seconds}")
    known = None if phones is None else Phones(phones, label).of(path)
    rate = encoder.sample_rate
    # The heads are counted on the shortest clip there can be.
    layers, heads = attention_maps(encoder, np.zeros(1, "float32")).shape[:2]
    frames = min(MOST_FRAMES, math.isqrt(most_weights // (layers * heads)))
    most = max(frames / encoder.frame_rate, encoder.min_samples / rate)
    wave, whole = read_start(path, rate, min(seconds or most, most))
    maps = attention_maps(encoder, wave)
    said: list[tuple[float, float, str]] = []
    names: list[str] = []
    labels = None
    if known is not None:
        start, end, every = known
        which = intervals_at(start, end, maps.shape[-1], encoder.frame_rate)
        names = sorted({every[i] for i in which if i >= 0})
        codes = np.array([names.index(n) if n in names else -1 for n in every])
        labels = np.where(which >= 0, codes[which], -1)
        shown = len(wave) / rate
        said = [
            (float(a), min(float(b), shown), name)
            for a, b, name in zip(start, end, every, strict=True)
            if a < shown
        ]
    study = AttentionStudy(names)
    study.add(maps, labels)
    return ClipAttention(
        os.path.basename(os.fspath(path)), title or encoder.name, wave, rate,
        whole, encoder.frame_rate, maps, study, said,
    )  # fmt: skip


def prunable_copy(encoder: Encoder) -> tuple[Encoder, Any]:
    """The same encoder with a variable that switches heads off.

    Args:
        encoder: `Encoder` of a transformer; it is left as it is.

    Returns:
        `(copy, head_mask)`; the variable is `(layers, heads)`, of ones unless
        the encoder had one.

    Raises:
        ValueError: Its backbone has no argument `prunable`.
    """
    config = keras.saving.serialize_keras_object(encoder)
    if not make_prunable(config):
        raise ValueError(
            "Heads can be switched off in a backbone that has `prunable`, as "
            f"Transformer. Received: {type(encoder.backbone).__name__}"
        )
    copy = keras.saving.deserialize_keras_object(config)
    [mask] = [w for w in copy.weights if w.name == "head_mask"]
    before = encoder.weights
    own = any(w.name == "head_mask" for w in before)
    after = [w for w in copy.weights if own or w is not mask]
    for new, old in zip(after, before, strict=True):
        new.assign(ops.convert_to_numpy(old))
    return copy, mask


def make_prunable(config: Any) -> bool:
    """Sets `prunable` wherever a configuration has it; whether it has."""
    found = False
    if isinstance(config, dict):
        if "prunable" in config:
            config["prunable"] = found = True
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            found = make_prunable(value) or found
    return found


def prune_heads(
    encoder: Encoder, order: Iterable[int], score: Callable[[Encoder], Any]
) -> Iterator[tuple[int, Any]]:
    """Switches heads off one after the other, and scores what is left.

    A copy of the encoder is scored, whose `head_mask` is a variable: what was
    compiled for it serves all scores.

    Args:
        encoder: `Encoder` of a transformer; it is left as it is.
        order: Numbers of the heads, the first to go first; see
            `AttentionStudy.order`.
        score: Called with the copy.

    Yields:
        `(heads that are off, score)`, the first with none.

    Raises:
        ValueError: The encoder has no heads to switch off, or `order` names
            one twice or one that is not there.

    Example:
        >>> def dim(encoder):
        ...     return encoder.embed("clip.flac").shape == (encoder.dim,)
        >>> study = attention_study(encoder, ["clip.flac"])
        >>> order = study.order("globalness")[:1]
        >>> list(prune_heads(encoder, order, dim))
        [(0, True), (1, True)]
    """
    copy, mask = prunable_copy(encoder)
    numbers = [int(i) for i in order]
    layers, heads = mask.shape
    if len(set(numbers)) < len(numbers) or any(
        not 0 <= i < layers * heads for i in numbers
    ):
        raise ValueError(
            "`order` must hold different numbers from 0 to "
            f"{layers * heads - 1}. Received: {numbers}"
        )
    return pruned(copy, mask, numbers, score)


def pruned(
    encoder: Encoder,
    mask: keras.Variable,
    order: list[int],
    score: Callable[[Encoder], Any],
) -> Iterator[tuple[int, Any]]:
    """What `prune_heads` yields, of what it has checked."""
    kept = np.array(ops.convert_to_numpy(mask))
    yield 0, score(encoder)
    for off, i in enumerate(order, 1):
        kept[i // kept.shape[1], i % kept.shape[1]] = 0
        mask.assign(kept)
        yield off, score(encoder)
