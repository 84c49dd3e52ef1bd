"""A procedural corpus of labelled sounds and speech: no file, no download."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from keras_audio_ssl.data.builders import from_arrays
from keras_audio_ssl.data.clips.arrays import ArrayClips
from keras_audio_ssl.data.clips.segments import AlignedArrays
from keras_audio_ssl.data.clips.segments import Segment
from keras_audio_ssl.data.clips.segments import SegmentTable
from keras_audio_ssl.data.dataset import AudioDataset
from keras_audio_ssl.data.synthetic.patches import draw_patch
from keras_audio_ssl.data.synthetic.patches import perturbed
from keras_audio_ssl.data.synthetic.patches import play
from keras_audio_ssl.data.synthetic.sounds import HOP
from keras_audio_ssl.data.synthetic.sounds import RATE
from keras_audio_ssl.data.synthetic.sounds import SOUNDS
from keras_audio_ssl.data.synthetic.sounds import Array
from keras_audio_ssl.data.synthetic.sounds import Rng
from keras_audio_ssl.data.synthetic.sounds import band
from keras_audio_ssl.data.synthetic.sounds import curve
from keras_audio_ssl.data.synthetic.sounds import fft_size
from keras_audio_ssl.data.synthetic.sounds import frequencies
from keras_audio_ssl.data.synthetic.sounds import log_uniform
from keras_audio_ssl.data.synthetic.sounds import noise
from keras_audio_ssl.data.synthetic.sounds import partials
from keras_audio_ssl.data.synthetic.sounds import tone
from keras_audio_ssl.data.synthetic.speech import SYLLABLES
from keras_audio_ssl.data.synthetic.speech import VOICES
from keras_audio_ssl.data.synthetic.speech import Script
from keras_audio_ssl.data.synthetic.speech import script
from keras_audio_ssl.data.synthetic.speech import speak

Segments = list[tuple[float, float, str]]

KINDS = ("sounds", "patches", "speech")
FOLDS = 5


def _colour(rng: Rng, x: Array, strength: float = 1.0) -> Array:
    """A random room and microphone: reverberation, tilt, bumps, bandwidth."""
    decay = log_uniform(rng, 0.03, 0.5)  # seconds to -60 dB
    tail = noise(rng, int(decay * RATE), rng.uniform(0, 1.5))
    tail *= np.exp(-6.9 * np.arange(len(tail)) / len(tail))
    tail /= np.sqrt(np.sum(tail**2))
    size = fft_size(len(x) + len(tail))
    f = frequencies(size)
    decibels = strength * rng.uniform(-2, 2) * np.log2(f / 1000).clip(-4, 3)
    for _ in range(3):
        bump = band(f, log_uniform(rng, 100, 7000), rng.uniform(0.3, 1.0))
        decibels += strength * rng.uniform(-5, 5) * bump
    gain = 10 ** (decibels / 20)
    gain /= 1 + (f / log_uniform(rng, 4000, 12000)) ** 6
    gain /= 1 + (log_uniform(rng, 20, 200) / f) ** 3
    wet = 10 ** (rng.uniform(-24, -2) / 20)
    response = gain * (1 + wet * np.fft.rfft(tail, size))
    return np.fft.irfft(np.fft.rfft(x, size) * response)[: len(x)]


def _ambience(rng: Rng, samples: int) -> Array:
    """What else is heard: coloured noise, at times a hum or clicks."""
    x = noise(rng, samples, rng.uniform(-0.5, 2.2), log_uniform(rng, 20, 300))
    x = x * curve(rng, samples, rng.uniform(0.5, 4), rng.uniform(0.2, 1), 1)
    if rng.random() < 0.3:
        f0 = np.full(samples, log_uniform(rng, 50, 600))
        hum = tone(f0, partials(rng, 12, rng.uniform(0.3, 1.5), 8.0))
        x = x + rng.uniform(0.2, 1) * hum / np.std(hum)
    if rng.random() < 0.3:
        at = rng.integers(0, samples, int(rng.integers(1, 6)))
        x[at] += rng.uniform(-20, 20, len(at))
    return x


def _finish(rng: Rng, x: Array, snr_db: float, strength: float = 1.0) -> Array:
    """Puts a sound in a place, beside a background, at some level."""
    x = _colour(rng, x, strength)
    background = _colour(rng, _ambience(rng, len(x)))
    scale = 10 ** (-snr_db / 20) * np.std(x) / np.std(background)
    x = x + scale * background
    peak = 10 ** (rng.uniform(-31, -1) / 20)
    return (x * (peak / np.max(np.abs(x)))).astype("float32")


def _sound(rng: Rng, samples: int, name: str) -> Array:
    length = int(samples * rng.uniform(0.7, 1))
    edge = int(rng.uniform(0.005, 0.15) * RATE)
    x = SOUNDS[name](rng, length)
    ramp = np.minimum(np.arange(length) / edge, 1)
    out = np.zeros(samples)
    at = int(rng.integers(samples - length + 1))
    out[at : at + length] = x * ramp * ramp[::-1]
    return _finish(rng, out, rng.uniform(0, 25))


class SyntheticCorpus(Sequence):
    """Labelled clips made from nothing but a seed, each when asked for.

    `corpus[i]` is a waveform float32 `(samples,)` in [-1, 1], a pure function
    of `(seed, i)`: a longer corpus begins with the clips of a shorter one,
    and any process can make any clip. Other sample rates give the same
    sounds, resampled from 16 kHz.

    `kind="sounds"`: everyday sounds (birds, rain, footsteps, sirens ...) of
    varying pitch, rate, timbre, place in the clip and level (30 dB), in a
    random room beside a background 0 to 25 dB below. Label `"label"`.

    `kind="patches"`: sounds of synthesizers whose every knob is drawn (pitched,
    noisy and struck layers, one to three of them), in a room, beside noise,
    through a microphone: no labels, and hardly two alike. `perturbed` gives a
    clip again with its knobs moved a little.

    `kind="speech"`: consonant-vowel syllables by several voices, 5 to 30 dB
    above a background. Labels `"speaker"` and `"syllable"` (the first one),
    with `phones(i)` and `syllables(i)` for the rest.

    Args:
        clips: Number of clips, 1000 by default. Classes take turns, so that
            any run of neighbouring clips is balanced.
        seconds: Typical length of a clip, 0.5 or more, 2.0 by default;
            lengths lie between 0.75 and 1.25 times this.
        sample_rate: In Hz, 16000 by default.
        seed: A whole number, zero or more. Voices and classes do not depend
            on it, so corpora of two seeds serve as training and test data.
        kind: `"sounds"` (default), `"patches"` or `"speech"`.
        memory_mb: Megabytes for clips to stay in once made, 0 by default;
            a second of sound at 16 kHz takes 0.064.

    Attributes:
        labels: Dict of class indices, each int32 `(clips,)`.
        classes: Dict of class names, a tuple for each label.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> corpus = SyntheticCorpus(clips=34, seed=1)
        >>> corpus.classes["label"][corpus.labels["label"][5]]
        'dog_bark'
        >>> corpus[5].dtype
        dtype('float32')
    """

    def __init__(
        self,
        clips: int = 1000,
        seconds: float = 2.0,
        sample_rate: int = 16000,
        seed: int = 0,
        kind: str = "sounds",
        memory_mb: float = 0.0,
    ) -> None:
        for name, given, least in (
            ("clips", clips, 1),
            ("sample_rate", sample_rate, 1),
            ("seed", seed, 0),
        ):
            if int(given) != given or given < least:
                raise ValueError(
                    f"`{name}` must be a whole number, {least} or more. "
                    f"Received: {name}={given!r}"
                )
        if seed >= 2**64:
            raise ValueError(f"`seed` must be below 2**64. Received: {seed}")
        if not 0.5 <= seconds < math.inf:
            raise ValueError(
                f"`seconds` must be 0.5 or more. Received: seconds={seconds!r}"
            )
        if not memory_mb >= 0:
            raise ValueError(
                "`memory_mb` must not be negative. "
                f"Received: memory_mb={memory_mb!r}"
            )
        if kind not in KINDS:
            raise ValueError(
                f"`kind` must be {', '.join(map(repr, KINDS[:-1]))} or "
                f"{KINDS[-1]!r}. Received: kind={kind!r}"
            )
        self.clips = int(clips)
        self.seconds = float(seconds)
        self.sample_rate = int(sample_rate)
        self.seed = int(seed)
        self.kind = kind
        self.memory_mb = float(memory_mb)
        self._made: dict[int, Array] = {}
        self._room = int(self.memory_mb * 1e6)  # bytes
        self.classes: dict[str, tuple[str, ...]]
        if kind == "sounds":
            self.classes = {"label": tuple(SOUNDS)}
        elif kind == "patches":
            self.classes = {}
        else:
            # 12 voices and 35 syllables: every pair comes once in 420 clips
            voices = tuple(voice.name for voice in VOICES)
            self.classes = {"speaker": voices, "syllable": SYLLABLES}
        turns = np.arange(self.clips)
        self.labels = {
            name: (turns % len(classes)).astype("int32")
            for name, classes in self.classes.items()
        }

    def __len__(self) -> int:
        return self.clips

    def __repr__(self) -> str:
        return (
            f"SyntheticCorpus(clips={self.clips}, seconds={self.seconds}, "
            f"sample_rate={self.sample_rate}, seed={self.seed}, "
            f"kind={self.kind!r})"
        )

    def _draw(self, i: int) -> tuple[Rng, int]:
        """Clip i's own generator, and its length in samples at RATE."""
        key = np.array([self.seed, i], dtype="uint64")
        rng = np.random.Generator(np.random.Philox(key=key))
        seconds = self.seconds * rng.uniform(0.75, 1.25)
        return rng, round(seconds * RATE)

    def _index(self, i: int) -> int:
        if not -self.clips <= i < self.clips:
            raise IndexError(f"Clip {i} of a corpus of {self.clips} clips.")
        return int(i) % self.clips

    def _script(self, rng: Rng, i: int, samples: int) -> Script:
        voice = VOICES[self.labels["speaker"][i]]
        first = SYLLABLES[self.labels["syllable"][i]]
        return script(rng, samples, voice, first)

    def __getstate__(self) -> dict[str, Any]:
        room = int(self.memory_mb * 1e6)
        return {**self.__dict__, "_made": {}, "_room": room}

    def __getitem__(self, i: Any) -> Any:
        i = self._index(i)
        if i in self._made:
            return self._made[i].copy()
        x = self._make(i)
        if x.nbytes <= self._room:
            self._room -= x.nbytes
            self._made[i] = x.copy()
        return x

    def _make(self, i: int) -> Array:
        rng, samples = self._draw(i)
        if self.kind == "patches":
            x = play(draw_patch(rng), rng, samples)
        elif self.kind == "sounds":
            name = self.classes["label"][self.labels["label"][i]]
            x = _sound(rng, samples, name)
        else:
            said = self._script(rng, i, samples)
            voice = VOICES[self.labels["speaker"][i]]
            x = speak(rng, samples, said, voice)
            x = _finish(rng, x, rng.uniform(5, 30), 2.0)
        return self._resampled(x, i)

    def perturbed(self, i: int, delta: float = 0.03, turn: int = 0) -> Array:
        """Clip i of `kind="patches"` again, each knob moved a little.

        Args:
            i: The clip.
            delta: Standard deviation of the moves, of knobs that go from 0 to
                1. With 0 it is the clip itself.
            turn: Another for another version.

        Returns:
            `(samples,)` float32, as long as `corpus[i]`.

        Raises:
            ValueError: The corpus is of another kind.

        Reference:
            Cherep & Singh, 2025, "Contrastive Learning from Synthetic Audio
            Doppelgängers", arXiv 2406.05923.
        """
        if self.kind != "patches":
            raise ValueError(
                "Only a corpus of kind='patches' has knobs that can be moved. "
                f"Received: kind={self.kind!r}"
            )
        i = self._index(i)
        rng, samples = self._draw(i)
        key = np.array([self.seed, i], dtype="uint64")
        # Far from the clip's own draws, which begin at 0.
        other = np.random.Philox(key=key, counter=[0, 0, 0, turn + 1])
        turns = draw_patch(rng)
        turns = perturbed(turns, np.random.Generator(other), delta)
        return self._resampled(play(turns, rng, samples), i)

    def _resampled(self, x: Array, i: int) -> Array:
        """Clip i at the corpus' own rate, of what it is at RATE."""
        if self.sample_rate == RATE:
            return x
        x = np.clip(soxr.resample(x, RATE, self.sample_rate), -1, 1)
        missing = max(0, self.samples(i) - len(x))
        return np.pad(x, (0, missing))[: self.samples(i)]

    def samples(self, i: int) -> int:
        """Length of clip i in samples, without making it."""
        _, samples = self._draw(self._index(i))
        return round(samples / RATE * self.sample_rate)

    def phones(self, i: int) -> Segments:
        """What is said in clip i: (start, end, phone), `sil` for silence.

        Times in seconds; the segments join and cover the clip.
        """
        if self.kind != "speech":
            raise ValueError(
                "Only a corpus of kind='speech' has phones and syllables. "
                f"Received: kind={self.kind!r}"
            )
        i = self._index(i)
        rng, samples = self._draw(i)
        segments, start = [], 0
        for phone, frames in self._script(rng, i, samples):
            end = start + frames * HOP
            if frames:
                segments.append((start / RATE, end / RATE, phone))
            start = end
        last, _, phone = segments[-1]
        segments[-1] = (last, samples / RATE, phone)
        return segments

    def syllables(self, i: int) -> Segments:
        """The syllables of clip i: (start, end, syllable), in seconds."""
        said = [x for x in self.phones(i) if x[2] != "sil"]
        pairs = zip(said[::2], said[1::2], strict=True)
        return [(c[0], v[1], c[2] + v[2]) for c, v in pairs]

    def write(self, folder: str | Path) -> Path:
        """Writes the clips as 16-bit WAV files with their labels.

        `folder` receives `audio/`, `manifest.csv` (file, the labels by name,
        duration in seconds, sample_rate, split, fold) and for speech
        `phones.csv` and `syllables.csv` (file, start, end, name). Each class
        is spread over the folds 1 to 5; fold 5 is the split `test`.

        Args:
            folder: Where to write; made if it does not exist.

        Returns:
            The path of `manifest.csv`.
        """
        folder = Path(folder)
        (folder / "audio").mkdir(parents=True, exist_ok=True)
        names = {
            key: [self.classes[key][k] for k in labels]
            for key, labels in self.labels.items()
        }
        turns = max(map(len, list(self.classes.values())[:1]), default=1)
        rows = []
        segments: dict[str, list] = {}
        if self.kind == "speech":
            segments = {"phone": [], "syllable": []}
        for i in range(self.clips):
            labels = [column[i] for column in names.values()]
            file = f"audio/{'-'.join([f'{i:06d}', *labels])}.wav"
            x = self[i]
            soundfile.write(folder / file, x, self.sample_rate, "PCM_16")
            fold = i // turns % FOLDS + 1
            split = "test" if fold == FOLDS else "train"
            duration = round(len(x) / self.sample_rate, 4)
            rows.append(
                [file, *labels, duration, self.sample_rate, split, fold]
            )
            for column, found in segments.items():
                spans = self.phones if column == "phone" else self.syllables
                found += [
                    [file, round(start, 4), round(end, 4), name]
                    for start, end, name in spans(i)
                ]
        head = ["file", *names, "duration", "sample_rate", "split", "fold"]
        _write_csv(folder / "manifest.csv", head, rows)
        for column, found in segments.items():
            head = ["file", "start", "end", column]
            _write_csv(folder / f"{column}s.csv", head, found)
        return folder / "manifest.csv"


class PairedPatches(ArrayClips):
    """Patches, each crop with the same of a perturbed version.

    Args:
        corpus: `SyntheticCorpus` of `kind="patches"`.
        seconds: Length of a crop.
        delta: As of `SyntheticCorpus.perturbed`.
    """

    def __init__(
        self, corpus: SyntheticCorpus, seconds: float, delta: float
    ) -> None:
        if not 0 <= delta < math.inf:
            raise ValueError(
                f"`delta` must not be negative. Received: delta={delta!r}"
            )
        super().__init__(corpus, corpus.sample_rate)
        self._corpus, self._delta = corpus, delta
        self._length = round(seconds * corpus.sample_rate)
        self.extra_spec = {"pair": ((self._length,), "float32")}

    def extras(
        self, i: int, start: int, samples: int, sample_rate: int
    ) -> dict[str, Array]:
        clip = int(self._rows[i])
        # Another perturbation for each place where a crop begins.
        other = self._corpus.perturbed(clip, self._delta, turn=start)
        pair = np.zeros(self._length, "float32")
        pair[:samples] = other[start : start + samples]
        return {"pair": pair}


def synthetic(
    seconds: float | None = 1.0,
    batch_size: int = 64,
    *,
    kind: str = "sounds",
    clips: int = 1000,
    label: str | None = None,
    segments: bool = False,
    pairs: str | None = None,
    delta: float = 0.03,
    sample_rate: int = 16000,
    seed: int = 0,
    memory_mb: float = 512.0,
    **options: Any,
) -> AudioDataset:
    """A dataset of procedural sounds or speech, for when there is no data.

    Args:
        seconds: Length of the segments, 1.0 by default, cropped from clips
            that are longer; whole clips of about 2 seconds if `None`.
        batch_size: Clips in a batch, 64 by default.
        kind: `"sounds"` (default), `"patches"` or `"speech"`; see
            `SyntheticCorpus`.
        clips: Number of clips, 1000 by default.
        label: None by default; `"label"` for sounds, `"speaker"` or
            `"syllable"` for speech.
        segments: `True` for batches that tell where the syllables lie, as
            `from_alignments`, of speech.
        pairs: `"perturbed"` for batches with `"pair"`, `(batch, samples)`:
            beside each crop of a patch the same crop of
            `SyntheticCorpus.perturbed`, another one for each place. Methods
            that compare two views make the second one of it. None by default.
        delta: How far a pair's knobs are apart, 0.03 by default.
        sample_rate: In Hz, 16000 by default.
        seed: Of the clips and of their order; another for test data.
        memory_mb: Megabytes for clips to stay in after the first epoch, 512
            by default; those that find no room are made again.
        **options: The other arguments of `AudioDataset`.

    Returns:
        An `AudioDataset`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> data = synthetic(seconds=1.0, batch_size=32, label="label")
        >>> x, y = data.batch(epoch=0, step=0)
        >>> x["waveform"].shape
        (32, 16000)
    """
    typical = 2.0 if seconds is None else max(0.5, 1.5 * seconds)
    corpus = SyntheticCorpus(clips, typical, sample_rate, seed, kind, memory_mb)
    if label is not None and label not in corpus.labels:
        raise ValueError(
            f"`label` must be {', '.join(map(repr, corpus.labels)) or 'left'}, "
            f"or None, with kind={kind!r}. Received: label={label!r}"
        )
    if segments and kind != "speech":
        raise ValueError(
            f"`segments=True` needs kind='speech'. Received: kind={kind!r}"
        )
    if pairs is not None and (pairs != "perturbed" or kind != "patches"):
        raise ValueError(
            "`pairs` must be 'perturbed', with kind='patches', or None. "
            f"Received: pairs={pairs!r}, kind={kind!r}"
        )
    if pairs is not None:
        if seconds is None:
            raise ValueError("`pairs` needs `seconds`. Received: None")
        return AudioDataset(
            PairedPatches(corpus, seconds, delta),
            seconds,
            batch_size,
            sample_rate=sample_rate,
            seed=seed,
            source="the corpus",
            **options,
        )
    labels, classes = None, None
    if label is not None:
        labels, classes = corpus.labels[label], list(corpus.classes[label])
    if not segments:
        return from_arrays(
            corpus,
            labels,
            sample_rate,
            seconds,
            batch_size,
            classes=classes,
            seed=seed,
            **options,
        )
    table = SegmentTable(
        [
            [Segment(*syllable) for syllable in corpus.syllables(i)]
            for i in range(len(corpus))
        ]
    )
    source = AlignedArrays(corpus, sample_rate, labels, classes)
    source.hold(table, seconds or options.get("max_seconds"))
    return AudioDataset(
        source,
        seconds,
        batch_size,
        sample_rate=sample_rate,
        seed=seed,
        source="the corpus",
        **options,
    )


def _write_csv(path: Path, head: list, rows: list) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)
