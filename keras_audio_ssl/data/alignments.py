"""Datasets of utterances whose words' places are known."""

import math
import os
from collections.abc import Iterable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np

from keras_audio_ssl._text import some_skipped
from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.audio import read_part
from keras_audio_ssl.data.clips import Skipped
from keras_audio_ssl.data.clips.alignment_files import FORMATS
from keras_audio_ssl.data.clips.alignment_files import SILENCES
from keras_audio_ssl.data.clips.alignment_files import Entry
from keras_audio_ssl.data.clips.alignment_files import alignment_files
from keras_audio_ssl.data.clips.alignment_files import read_alignments
from keras_audio_ssl.data.clips.folder import EXTENSIONS
from keras_audio_ssl.data.clips.folder import endings_of
from keras_audio_ssl.data.clips.folder import scan_folder
from keras_audio_ssl.data.clips.manifest import read_manifest
from keras_audio_ssl.data.clips.segments import AlignedFiles
from keras_audio_ssl.data.clips.segments import Segment
from keras_audio_ssl.data.clips.segments import SegmentTable
from keras_audio_ssl.data.clips.segments import WithSegments
from keras_audio_ssl.data.dataset import AudioDataset
from keras_audio_ssl.data.isolation import open_audio

# Seconds that times may be wrong by: tables round, and not all alike.
OVERLAP, BEYOND = 0.001, 0.02
BLOCK = 4096  # utterances that are looked at together


def from_alignments(
    folder: Any,
    alignments: Any = None,
    seconds: float | None = None,
    batch_size: int = 64,
    *,
    where: Any = None,
    label: str | None = None,
    tier: str | None = None,
    min_words: int = 2,
    extensions: Iterable[str] = EXTENSIONS,
    isolate: bool = False,
    **options: Any,
) -> AudioDataset:
    """A dataset of utterances, with where their words (or syllables) lie.

    A batch carries `segments` beside `waveform` and `lengths`, int32
    `(batch, words, 2)`: of each word that lies in the crop whole, in turn,
    the first sample and the one after its last; both 0 where there is none.
    An utterance is an audio file (or, of a CTM and of TextGrids with several
    speakers, one of those who speak in it): words of two never meet.

    Alignments are Praat TextGrid files in long or short text form, as the
    Montreal Forced Aligner writes them (named as their audio), CTM files,
    LibriSpeech's `.alignment.txt` with end times, or a CSV table with the
    columns file, start and end, in seconds, and the word. Silence is passed
    over: an empty word, `sil`, `sp`, `spn`, `<eps>` and their like. An entry
    without times or length, out of order, or that overlaps the one before or
    reaches beyond its file, is skipped and named in `skipped`; so are
    audio without alignment and alignments without audio.

    Args:
        folder: Folder of the audio; or a manifest (CSV), whose files are
            relative to its own folder.
        alignments: A file, a folder that is searched for TextGrid, CTM and
            `.alignment.txt` files, or a list of these; `None` (default)
            searches `folder`.
        seconds: Length of the segments; whole utterances if `None`.
        batch_size: Utterances in a batch, 64 by default.
        where: Rows of the manifest to keep, as for `from_manifest`.
        label: Column of the words in a table: `"label"` or `"word"` by
            default, or the only one left.
        tier: Of TextGrids; by default `words`, or the only one.
        min_words: Utterances of fewer are skipped, 2 by default.
        extensions: Endings of the names of audio files, in any case.
        isolate: `True` to decode in child processes, as for `from_folder`.
        **options: The other arguments of `AudioDataset`.

    Returns:
        An `AudioDataset`; `spoken_words` reads its words one by one.

    Raises:
        ValueError: If there are no alignments, a table lacks a column, or
            nothing is left.

    Example:
        >>> words = "speech/words.csv"
        >>> data = from_alignments("speech", words, 2.0, batch_size=8)
        >>> data.batch(epoch=0, step=0)["segments"].shape
        (8, 3, 2)
    """
    root, files, others, skipped = _audio(folder, where, endings_of(extensions))
    found = _utterances(root, alignments, label, tier, skipped)
    segments, names = [], []
    clips = _matched(files, others, found, root, skipped)
    # Some at a time: what is known of each line takes far more memory than
    # what is kept of it.
    while block := list(islice(clips, BLOCK)):
        lengths = _durations(root, [name for name, _ in block], isolate)
        for (name, entries), length in zip(block, lengths, strict=True):
            if isinstance(length, AudioError):
                skipped.append((length.file, length.reason))
                continue
            words = _usable(entries, length, skipped)
            if len(words) < min_words:
                reason = f"words: {len(words)}, at least {min_words} expected"
                if not entries:
                    reason = "no words, silence only"
                skipped.append((os.path.join(root, name), reason))
                continue
            names.append(name)
            segments.append(words)
    if not names:
        first = some_skipped(skipped[:3])
        raise ValueError(
            f"No utterance of {folder} has words that can be used. "
            f"First: {first}"
        )
    files = list(dict.fromkeys(names))
    number = {name: k for k, name in enumerate(files)}
    rows = np.array([number[name] for name in names], "int32")
    source = AlignedFiles(root, files, rows, isolate=isolate)
    source.hold(SegmentTable(segments), seconds or options.get("max_seconds"))
    return AudioDataset(
        source,
        seconds,
        batch_size,
        skipped=_named_once(skipped),
        source=os.fspath(folder),
        **options,
    )


def spoken_words(data: AudioDataset) -> Iterator[tuple[np.ndarray, str]]:
    """The words of a dataset, one by one, in the order of its clips.

    What `Speech2Vec.embed_types` takes. A file that cannot be read any more
    is named in the dataset's `skipped`.

    Args:
        data: Of `from_alignments`, or `synthetic(segments=True)`.

    Yields:
        The waveform, float32 `(samples,)` at the dataset's rate, and the
        word.

    Raises:
        ValueError: If the dataset knows no words.

    Example:
        >>> words = "speech/words.csv"
        >>> data = from_alignments("speech", words, 2.0, batch_size=8)
        >>> segments, labels = zip(*spoken_words(data))
        >>> len(segments), labels[:3]
        (24, ('word0', 'word1', 'word2'))
    """
    clips, rate = data._clips, data.sample_rate
    if not isinstance(clips, WithSegments):
        raise ValueError(
            "`data` must be of `from_alignments`, or synthetic speech with "
            "`segments=True`: this one knows no words."
        )
    for i in range(len(clips)):
        try:
            with clips.open(i) as audio:
                for start, end, word in clips.table.of(i):
                    first = round(start * rate)
                    samples = max(1, round(end * rate) - first)
                    yield read_part(audio, rate, first, samples), word
        except AudioError as error:
            data._skipped.add(error)


def _audio(
    folder: Any, where: Any, extensions: list[str]
) -> tuple[str, list[str], list[str], Skipped]:
    """Where audio lies, files that are wanted and others, and what is none."""
    folder = os.fspath(folder)
    if os.path.isdir(folder):
        if where is not None:
            raise ValueError(
                "`where` needs a manifest as `folder`. Received: " + folder
            )
        files, skipped = scan_folder(folder, extensions, None)
        if not files:
            raise ValueError(
                f"No audio found in {folder}: no file ends with "
                f"{', '.join(extensions)}"
            )
        return folder, files, [], skipped
    if not os.path.isfile(folder):
        raise ValueError(f"No such folder, nor manifest: {folder}")
    wanted, every = (
        dict.fromkeys(
            name.strip() for name in read_manifest(folder, w, ["file"])["file"]
        )
        for w in (where, None)
    )
    others = [name for name in every if name not in wanted]
    return os.path.dirname(folder), list(wanted), others, []


def _utterances(
    root: str,
    alignments: Any,
    label: str | None,
    tier: str | None,
    skipped: Skipped,
) -> Iterator[tuple[str, list[Entry], str]]:
    """Name, entries and file of each utterance of all alignments."""
    given = alignments
    if alignments is None:
        given = root or "."
    if isinstance(given, (str, os.PathLike)):
        given = [given]
    files = []
    for path in map(os.fspath, given):
        if not os.path.exists(path):
            raise ValueError(f"`alignments`: there is no such file: {path}")
        below = path if os.path.isdir(path) else os.path.dirname(path)
        files += [(file, below) for file in alignment_files(path)]
    if not files:
        where = "None" if alignments is None else f"{alignments}, with none"
        raise ValueError(
            "Where words begin and end must be known: give `alignments`, a "
            f"file or folder of {FORMATS}. Received: {where}"
        )
    for file, below in files:
        for name, entries in read_alignments(file, below, label, tier, skipped):
            yield name, entries, file


class _Names:
    """Audio files by how alignments may call them."""

    def __init__(self, files: list[str]) -> None:
        self.files = files
        self._exact = {os.path.normpath(name): name for name in files}
        self._stems: dict[str, list[str]] = {}
        for name in files:
            stem = os.path.normpath(os.path.splitext(name)[0])
            for key in {stem, os.path.basename(stem)}:
                self._stems.setdefault(key, []).append(name)

    def find(self, name: str) -> list[str]:
        """The files that are meant, one if all is well."""
        key = os.path.normpath(name)
        if key in self._exact:
            return [self._exact[key]]
        # The ending may be another: aligners were given WAV.
        plain = os.path.splitext(key)[0]
        for stem in (key, plain, os.path.basename(key)):
            if stem in self._stems:
                return self._stems[stem]
        return []


def _matched(
    files: list[str],
    others: list[str],
    found: Iterable[tuple[str, list[Entry], str]],
    root: str,
    skipped: Skipped,
) -> Iterator[tuple[str, list[Entry]]]:
    """Utterances with their audio; names what has none, or no alignment."""
    names, unwanted = _Names(files), _Names(others)
    aligned: dict[str, str] = {}
    for name, entries, source in found:
        match = names.find(name)
        if len(match) != 1:
            if not match and unwanted.find(name):
                continue
            reason = f"no such audio in {root or '.'}"
            if match:
                reason = f"{len(match)} audio files have this name"
            skipped.append((f"{source}: {name}", reason))
            continue
        if aligned.setdefault(match[0], source) != source:
            skipped.append(
                (f"{source}: {name}", f"aligned by {aligned[match[0]]} too")
            )
            continue
        words = [e for e in entries if e.label.casefold() not in SILENCES]
        yield match[0], words
    skipped += [
        (os.path.join(root, name), "no alignment")
        for name in files
        if name not in aligned
    ]


def _durations(
    root: str, names: list[str], isolate: bool
) -> list[float | AudioError]:
    """Seconds of each file, or what is wrong with it."""

    def look(name: str) -> float | AudioError:
        try:
            with open_audio(os.path.join(root, name), isolate=isolate) as audio:
                return audio.frames / audio.rate
        except AudioError as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(look, names))


def _usable(
    entries: list[Entry], length: float, skipped: Skipped
) -> list[Segment]:
    """The entries that follow each other in a file; the others are named."""
    words: list[Segment] = []
    for start, end, label, where in entries:
        before = words[-1] if words else Segment(0.0, 0.0, "")
        if not (math.isfinite(start) and math.isfinite(end)):
            reason = "has no time"
        elif end <= start:
            reason = f"ends at {end:g} s, not after its start at {start:g} s"
        elif start < 0:
            reason = f"starts at {start:g} s, before its file"
        elif end > length + BEYOND or start >= length:
            reason = f"ends at {end:g} s, beyond its file's {length:.3f} s"
        elif start < before.start:
            reason = (
                f"starts at {start:g} s, out of order: the one before starts "
                f"at {before.start:g} s"
            )
        elif start < before.end - OVERLAP:
            reason = (
                f"starts at {start:g} s and overlaps the one before, which "
                f"ends at {before.end:g} s"
            )
        else:
            start, end = max(start, before.end), min(end, length)
            if end > start:
                words.append(Segment(start, end, label))
                continue
            reason = "lies within the one before"
        skipped.append((f"{where} ({label})", reason))
    return words


def _named_once(skipped: Skipped) -> Skipped:
    """Each name once, with all reasons."""
    found: dict[str, str] = {}
    for name, reason in skipped:
        found[name] = f"{found[name]}; {reason}" if name in found else reason
    return list(found.items())
