"""What is wrong with audio data, or odd about it, before training on it."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any
from typing import NamedTuple

import numpy as np

from keras_audio_ssl._text import column_list
from keras_audio_ssl.data.audio.clipping import LOUD
from keras_audio_ssl.data.clips.labels import sort_classes
from keras_audio_ssl.data.clips.manifest import MOST_SECONDS
from keras_audio_ssl.doctor.facts import SILENCE_DB
from keras_audio_ssl.doctor.files import Survey

# Columns that say which part of an evaluation a clip belongs to, and those
# that name what it was cut from, where the user names none.
FOLDS = ("fold", "split")
GROUPS = ("source", "recording")
LABELS = ("label",)
MIN_SECONDS = 0.1
USUAL_RATES = (
    *(8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    *(88200, 96000, 176400, 192000),
)
RARE = 1 / 50  # share of files below which a rate or a channel count is odd
MOSTLY = 0.9  # silent part of a file of which little is left
CANCELLED_DB = 20.0  # decibels that averaging its channels costs a file
DC = 0.01  # of full scale, or of the peak if that is higher
NARROW = 0.6  # of half the sample rate
# A plateau at full scale is clipping; lower, a few may be chance.
FULL, CHANCE = 0.985, 12


class Kind(NamedTuple):
    """One way in which a file can be wrong or odd.

    Attributes:
        severity: `"skipped"` (training leaves it out), `"check"` or `"note"`.
        title: In a word or two.
        advice: What it does to training, and what to do.
    """

    severity: str
    title: str
    advice: str


KINDS = {
    "unreadable": Kind(
        "skipped",
        "unreadable",
        "Training skips these. Convert or fetch them again.",
    ),
    "nan": Kind(
        "skipped",
        "NaN or infinite",
        "Training skips the parts with such samples. Export them again.",
    ),
    "short": Kind(
        "skipped",
        "too short",
        "Less than a few frames of a spectrogram. Leave them out.",
    ),
    "beyond": Kind(
        "skipped",
        "beyond the end",
        "The manifest names a part that the file does not have.",
    ),
    "leak": Kind(
        "check",
        "same sound across {0}",
        "A score would count what was trained on. Keep one copy, or put "
        "both into one fold.",
    ),
    "group_leak": Kind(
        "check",
        "same {0} across {1}",
        "Parts of one recording resemble each other in more than what the "
        "label says. Divide by recording.",
    ),
    "contradiction": Kind(
        "check",
        "same sound, two labels",
        "One of the labels is wrong, or a clip has several.",
    ),
    "unlabelled": Kind(
        "check",
        "no {0}",
        "Rows without a label are left out of probes and classifiers; methods "
        "that take labels learn from their sound alone.",
    ),
    "silent": Kind(
        "check",
        "silent",
        "Nothing above -60 dBFS. They teach nothing and can upset "
        "normalisation. Leave them out.",
    ),
    "cancelled": Kind(
        "check",
        "channels cancel out",
        "Channels are averaged for training, and these are opposites: next "
        "to nothing is left. Take one channel, or turn one round.",
    ),
    "clipped": Kind(
        "check",
        "clipped",
        "Peaks are cut off flat. Record at a lower level where you can.",
    ),
    "loud": Kind(
        "check",
        "above full scale",
        "More than 6 dB above 1.0: samples that were not scaled to [-1, 1]?",
    ),
    "dc": Kind(
        "check",
        "DC offset",
        "The wave does not swing about zero. A high-pass filter at 20 Hz "
        "removes it.",
    ),
    "duplicate": Kind(
        "check",
        "duplicates",
        "The same sound more than once weighs more in training. Keep one "
        "copy of each.",
    ),
    "narrow": Kind(
        "note",
        "narrow band",
        "There is sound in the lower part of the spectrum only, up to a "
        "steep edge: upsampled, or from a lossy or telephone coding.",
    ),
    "mostly_silent": Kind(
        "note",
        "mostly silent",
        "Less than a tenth is above -60 dBFS: a random segment often is "
        "silence. Cut them to where the sound is.",
    ),
    "odd_rate": Kind(
        "note",
        "odd sample rate",
        "Not a usual rate, or one of few files. All rates are resampled; "
        "make sure the header tells the truth.",
    ),
    "odd_channels": Kind(
        "note",
        "odd channels",
        "More than two channels, or a number of few files. Channels are "
        "averaged.",
    ),
}


class Finding(NamedTuple):
    """Files of one kind.

    Attributes:
        kind: Key of `KINDS`.
        files: `(file number, detail)` pairs, the worst first.
        column: The manifest's columns that it is about, or `""`.
    """

    kind: str
    files: list[tuple[int, str]]
    column: str = ""

    @property
    def title(self) -> str:
        """What was found, in a few words."""
        return KINDS[self.kind].title.format(*self.column.split(", "))


class Settings(NamedTuple):
    """What `diagnose` is asked to look at.

    Attributes:
        min_seconds: Shorter clips are too short; `None` for 0.1, or 0 where
            the manifest names parts of files.
        folds: Columns of folds or splits; `None` for `fold` and `split`
            where the manifest has them.
        groups: Columns that name a recording, a source, a speaker...; `None`
            for `source` and `recording` where the manifest has them.
        label: Column of classes; `None` for `label` where there is one.
    """

    min_seconds: float | None = None
    folds: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    label: str | None = None

    def fill(self, columns: Iterable[str]) -> "Settings":
        """These settings with the columns that a manifest has.

        Raises:
            ValueError: A column that was named is missing.
        """
        known = list(columns)
        named = [*(self.folds or ()), *(self.groups or ())]
        for name in [*named, *([self.label] if self.label else [])]:
            if name not in known:
                raise ValueError(
                    f"No column {name!r} in the manifest. "
                    f"Its columns: {column_list(known) or 'none'}"
                )

        def usual(given: Any, names: Any) -> Any:
            if given is not None:
                return given
            return tuple(name for name in names if name in known)

        labels = usual((self.label,) if self.label else None, LABELS)
        return self._replace(
            folds=usual(self.folds, FOLDS),
            groups=usual(self.groups, GROUPS),
            label=labels[0] if labels else None,
        )


class Diagnosis:
    """A survey's findings, and the numbers behind them.

    Args:
        survey: What was found in the files.
        settings: What to look at; its columns are filled in.

    Attributes:
        readable: bool `(files,)`.
        usable: bool `(files,)`, files that training can learn from: readable,
            finite, not silent.
        seconds: float64 `(clips,)`, length of each clip; NaN if unreadable.
        findings: List of `Finding`, in the order of `KINDS`.

    Raises:
        ValueError: A column is missing.

    Example:
        >>> clips = kas.doctor.list_audio("my_audio")
        >>> found = Diagnosis(kas.doctor.survey(clips))
        >>> [(finding.kind, len(finding.files)) for finding in found.findings]
        [('clipped', 3)]
    """

    def __init__(self, survey: Survey, settings: Settings | None = None):
        self.survey, self.listing = survey, survey.listing
        self.settings = (settings or Settings()).fill(self.listing.columns)
        least = self.settings.min_seconds
        if least is None:
            least = MIN_SECONDS if self.listing.spans is None else 0.0
        self._least = least
        facts = survey.facts
        self.readable = facts["rate"] > 0
        rate = np.where(self.readable, facts["rate"], 1)
        self.file_seconds = np.where(
            self.readable, facts["frames"] / rate, np.nan
        )
        self.seconds = self.file_seconds[self.listing.rows]
        self._beyond = np.zeros(len(self.listing.rows), bool)
        if self.listing.spans is not None:
            self._cut(self.listing.spans)
        good = self.readable & (facts["nonfinite"] == 0)
        self._sounding = facts["silent"] < 1
        self._cancelled = (
            (facts["channels"] > 1)
            & (facts["cancelled_db"] >= CANCELLED_DB)
            & (facts["peak"] > 10 ** (SILENCE_DB / 20))
        )
        self.usable = good & self._sounding & ~self._cancelled
        self._sound_of = self._number_sounds()
        found = [
            *self._by_file(),
            *self._by_sound(),
            *self._by_group(),
            *self._without_label(),
        ]
        order = list(KINDS)
        self.findings = sorted(found, key=lambda f: order.index(f.kind))

    @property
    def clip_usable(self) -> np.ndarray:
        """Clips that training can learn from, bool `(clips,)`."""
        long_enough = self.seconds >= self._least
        return self.usable[self.listing.rows] & long_enough & ~self._beyond

    def problems(self) -> list[list[str]]:
        """For each file the kinds of its findings."""
        kinds: list[list[str]] = [[] for _ in self.readable]
        for finding in self.findings:
            for file, _ in finding.files:
                if finding.kind not in kinds[file]:
                    kinds[file].append(finding.kind)
        return kinds

    def classes(self) -> dict[str, int]:
        """Clips of each value of the label column."""
        if self.settings.label is None:
            return {}
        counts = Counter(self.listing.columns[self.settings.label])
        counts.pop("", None)
        return {name: counts[name] for name in sort_classes(counts)}

    def fold_sizes(self) -> dict[str, dict[str, int]]:
        """Clips of each value of each column of folds."""
        sizes = {}
        for column in self.settings.folds or ():
            counts = Counter(self.listing.columns[column])
            sizes[column] = {n: counts[n] for n in sort_classes(counts)}
        return sizes

    def _cut(self, spans: np.ndarray) -> None:
        """Lengths of clips that are parts of files."""
        length = self.seconds
        start = np.where(np.isnan(spans[:, 0]), 0, spans[:, 0])
        end = np.where(np.isnan(spans[:, 1]), length, spans[:, 1])
        # Tables round their times.
        self._beyond = (
            (end > length + 0.1)
            | (start >= length)
            | (end <= start)
            | (start < 0)
            # No length is known of what cannot be read.
            | (np.fmax(start, end) > MOST_SECONDS)
        )
        self.seconds = np.minimum(end, length) - start

    def _number_sounds(self) -> np.ndarray:
        """Number of the sound of each file; -1 for digital silence."""
        facts = self.survey.facts
        have = np.flatnonzero(self.readable & (facts["rms"] > 0))
        sound = np.full(len(facts), -1)
        digests = facts["digest"][have].view("S16")
        sound[have] = np.unique(digests, return_inverse=True)[1]
        return sound

    def _list(
        self, kind: str, mask: np.ndarray, badness: np.ndarray, words: Any
    ) -> list[Finding]:
        files = np.flatnonzero(mask & self.readable)
        if not len(files):
            return []
        files = files[np.argsort(-badness[files], kind="stable")]
        pairs = [(int(k), words(self.survey.facts[k])) for k in files]
        return [Finding(kind, pairs)]

    def _by_file(self) -> list[Finding]:
        facts, readable = self.survey.facts, self.readable
        found = []
        if self.survey.reasons:
            found.append(
                Finding("unreadable", sorted(self.survey.reasons.items()))
            )
        cancelled = self._cancelled
        few = np.where(facts["peak"] >= FULL, 1, CHANCE)
        half = np.where(readable, facts["rate"], 1) / 2
        rate_files = _rare(facts["rate"], readable)
        rate_files |= ~np.isin(facts["rate"], USUAL_RATES)
        channel_files = _rare(facts["channels"], readable)
        channel_files |= facts["channels"] > 2
        frames = np.maximum(facts["frames"], 1)
        return [
            *found,
            *self._list(
                "nan",
                facts["nonfinite"] > 0,
                facts["nonfinite"],
                lambda f: f"in {f['nonfinite']:,} of {f['frames']:,} samples",
            ),
            *self._short(),
            *self._list(
                "silent",
                ~self._sounding & ~cancelled & (facts["nonfinite"] == 0),
                -facts["rms"],
                lambda f: f"peak {words_db(f['peak'])}",
            ),
            *self._list(
                "cancelled",
                cancelled,
                facts["cancelled_db"],
                lambda f: (
                    f"{f['channels']} channels, average "
                    + (
                        "zero"
                        if math.isinf(f["cancelled_db"])
                        else f"{f['cancelled_db']:.0f} dB quieter"
                    )
                ),
            ),
            *self._list(
                "clipped",
                facts["clipped"] >= few,
                facts["clipped"] / frames,
                lambda f: f"{f['clipped']:,} samples at {words_db(f['peak'])}",
            ),
            *self._list(
                "loud",
                facts["peak"] > LOUD,
                facts["peak"],
                lambda f: f"peak {f['peak']:.4g}",
            ),
            *self._list(
                "dc",
                np.abs(facts["dc"]) >= DC * np.maximum(1, facts["peak"]),
                np.abs(facts["dc"]),
                lambda f: f"mean {f['dc']:+.3f}",
            ),
            *self._list(
                "narrow",
                self._sounding & (facts["bandwidth"] < NARROW * half),
                half / np.maximum(facts["bandwidth"], 1),
                lambda f: (
                    f"up to {words_hz(f['bandwidth'])} "
                    f"of {words_hz(f['rate'] / 2)}"
                ),
            ),
            *self._list(
                "mostly_silent",
                (facts["silent"] >= MOSTLY) & self._sounding,
                facts["silent"],
                lambda f: f"{100 * f['silent']:.0f} % silent",
            ),
            *self._list(
                "odd_rate",
                rate_files,
                np.zeros(len(facts)),
                lambda f: f"{f['rate']:,} Hz",
            ),
            *self._list(
                "odd_channels",
                channel_files,
                facts["channels"],
                lambda f: f"{f['channels']} channels",
            ),
        ]

    def _short(self) -> list[Finding]:
        """Clips that are too short, or lie beyond their file's end."""
        found = []
        with np.errstate(invalid="ignore"):
            short = self.seconds < self._least
        for kind, mask in (
            ("short", short & ~self._beyond),
            ("beyond", self._beyond),
        ):
            clips = np.flatnonzero(mask & self.readable[self.listing.rows])
            clips = clips[np.argsort(self.seconds[clips], kind="stable")]
            pairs = [
                (int(self.listing.rows[k]), self._clip_words(int(k)))
                for k in clips
            ]
            if pairs:
                found.append(Finding(kind, pairs))
        return found

    def _clip_words(self, clip: int) -> str:
        if self.listing.spans is None:
            return f"{self.seconds[clip]:.3f} s"
        start, end = self.listing.spans[clip]
        whole = self.file_seconds[self.listing.rows[clip]]
        return f"{_time(start)} to {_time(end)} s of {whole:.3f} s"

    def _by_sound(self) -> list[Finding]:
        """Duplicates, and what they mean across folds and labels."""
        found = []
        files = np.flatnonzero(self._sound_of >= 0)
        sounds = self._sound_of[files]
        order = np.argsort(sounds, kind="stable")
        files, sounds = files[order], sounds[order]
        cuts = np.flatnonzero(np.diff(sounds)) + 1
        copies = [part for part in np.split(files, cuts) if len(part) > 1]
        pairs = []
        for part in copies:
            first = self.listing.names[int(part[0])]
            pairs += [(int(k), f"same as {first}") for k in part[1:]]
        if pairs:
            found.append(Finding("duplicate", pairs))
        columns = [("leak", c) for c in self.settings.folds or ()]
        if self.settings.label is not None:
            columns.append(("contradiction", self.settings.label))
        clip_sounds = self._sound_of[self.listing.rows]
        for kind, column in columns:
            pairs = self._split_groups(clip_sounds, column)
            if pairs:
                found.append(Finding(kind, pairs, column))
        return found

    def _without_label(self) -> list[Finding]:
        """Clips that the label column has no value for."""
        column = self.settings.label
        values = self.listing.columns[column] if column else []
        clips = [clip for clip, value in enumerate(values) if not value]
        words = f"of {len(values):,} rows {len(clips):,} have none"
        pairs = [(int(self.listing.rows[clip]), words) for clip in clips]
        return [Finding("unlabelled", pairs, column or "")] if pairs else []

    def _by_group(self) -> list[Finding]:
        """Values of group columns that lie in more than one fold."""
        found = []
        for group in self.settings.groups or ():
            texts = np.array(self.listing.columns[group], dtype=object)
            values, number = np.unique(texts.astype(str), return_inverse=True)
            number = np.where(values[number] == "", -1, number)
            for column in self.settings.folds or ():
                pairs = self._split_groups(number, column, values)
                if pairs:
                    found.append(
                        Finding("group_leak", pairs, f"{group}, {column}")
                    )
        return found

    def _split_groups(
        self,
        number: np.ndarray,
        column: str,
        names: np.ndarray | None = None,
    ) -> list[tuple[int, str]]:
        """Files of the groups whose clips have several values of a column."""
        values = self.listing.columns[column]
        seen: dict[int, dict[str, int]] = {}
        for clip in np.flatnonzero(number >= 0):
            group = seen.setdefault(int(number[clip]), {})
            if values[clip]:
                group.setdefault(values[clip], int(self.listing.rows[clip]))
        pairs = []
        for number_of, places in seen.items():
            if len(places) < 2:
                continue
            about = "" if names is None else f"{names[number_of]}: "
            (one, first), *others = places.items()
            for value, file in others:
                words = f"{about}{column} {value} and {one}"
                if file != first:
                    words += f" ({self.listing.names[first]})"
                pairs.append((file, words))
        return pairs


def _time(seconds: float) -> str:
    """A time of a table, which may be any number."""
    return f"{seconds:.3f}" if abs(seconds) < 1e6 else f"{seconds:g}"


def _rare(values: np.ndarray, readable: np.ndarray) -> np.ndarray:
    """Where a value is that fewer than one file in fifty has."""
    _, number, counts = np.unique(
        values, return_inverse=True, return_counts=True
    )
    return readable & (counts[number] < RARE * readable.sum())


def words_db(amplitude: float) -> str:
    """An amplitude in dBFS, in words."""
    if amplitude <= 0:
        return "digital silence"
    return f"{20 * math.log10(amplitude):.1f} dBFS"


def words_hz(frequency: float) -> str:
    """`22050.0` as `22.05 kHz`."""
    if frequency < 1000:
        return f"{frequency:.0f} Hz"
    return f"{frequency / 1000:.2f}".rstrip("0").rstrip(".") + " kHz"
