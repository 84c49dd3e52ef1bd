"""Looks at clips before training, and drops what is unusable."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from keras_audio_ssl._text import printable
from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.clips import Clips
from keras_audio_ssl.data.clips import FileClips
from keras_audio_ssl.data.clips.crops import Crops
from keras_audio_ssl.data.clips.labels import NO_LABEL
from keras_audio_ssl.data.clips.labels import NOTHING_LABELLED
from keras_audio_ssl.data.clips.labels import keep_share
from keras_audio_ssl.data.clips.skipped import SkippedClips

log = logging.getLogger("keras_audio_ssl")

# Before training, of up to so many files both ends are looked at (of more
# files only kind and size),
CHECK_FILES = 10_000
# and of files with floating point every sample, if all files together have
# no more bytes than this,
CHECK_BYTES = 4 << 30
# and they are not longer than this, in samples.
WHOLE = 1 << 21
PART = 256  # clips that a thread looks at before it takes others


def has_many_files(clips: FileClips) -> bool:
    """Whether files are too many to open each of them before training."""
    return int(clips.used().sum()) > CHECK_FILES


def say_left_out(clips: Clips, skipped: SkippedClips) -> None:
    """Says once how many clips have no label."""
    count = sum(reason == NO_LABEL for _, reason in skipped.pairs())
    if count:
        log.warning(
            "left out %d of %d clips of %s, which have no label "
            "(unlabelled=True keeps them)",
            count,
            count + len(clips),
            printable(skipped.source),
        )


def check_clips(crops: Crops, skipped: SkippedClips, threads: int) -> None:
    """Drops clips that cannot be used, as far as a look at them tells.

    Args:
        crops: Of the clips.
        skipped: Takes what is dropped.
        threads: How many clips are looked at together.

    Raises:
        ValueError: No clip is left.
    """
    clips = crops.clips
    found: list[AudioError | None] = []
    if isinstance(clips, FileClips) and has_many_files(clips):
        if not clips.weighed:
            for file, reason in clips.weigh():
                skipped.add(AudioError(file, reason))
        usable = np.ones(len(clips), bool)
    elif isinstance(clips, FileClips):
        files = clips.files()
        found = _map(clips.sniff, files, threads)
        good = [n for n, e in enumerate(found) if e is None]
        size = int(clips.sizes[clips.rows[files]].sum())
        look = partial(_look, crops, thorough=size <= CHECK_BYTES)
        seen = _map(look, files[good], threads)
        for n, error in zip(good, seen, strict=True):
            found[n] = error
        bad = [n for n, error in enumerate(found) if error is not None]
        usable = ~np.isin(clips.rows, clips.rows[files[bad]])
    elif clips.in_memory:
        look = partial(_look, crops, thorough=True)
        found = _map(look, np.arange(len(clips)), threads)
        usable = np.array([error is None for error in found], bool)
    else:
        usable = np.ones(len(clips), bool)
    for error in found:
        if error is not None:
            skipped.add(error)
    if not usable.all():
        clips.keep(np.flatnonzero(usable))
    for clip in range(len(clips)):
        try:
            crops.read(clip, 0.0)
            return
        except AudioError as error:
            skipped.add(error)
    raise skipped.nothing_left()


def check_labels(clips: Clips, share: float, seed: int, source: str) -> None:
    """Keeps a share of the labels, if so asked; there must be one.

    Raises:
        ValueError: No clip has a label, but there are labels.
    """
    if share < 1:
        clips.labels = keep_share(clips, share, seed)
    if clips.labels is not None and not (clips.labels >= 0).any():
        raise ValueError(NOTHING_LABELLED.format(len(clips), source))


def _look(crops: Crops, clip: int, thorough: bool) -> AudioError | None:
    """What is wrong with a whole clip, as far as its ends tell."""
    try:
        with crops.clips.open(clip) as audio:
            if crops.clips.span(clip) is None:
                crops.extent(audio, clip, crops.sample_rate)
            if thorough and audio.floating and audio.frames < WHOLE:
                audio.read(0, audio.frames)
    except AudioError as error:
        return error
    return None


def _map(function: Callable, items: np.ndarray, threads: int) -> list:
    with ThreadPoolExecutor(max(1, threads)) as pool:
        parts = np.array_split(items, -(-len(items) // PART) or 1)
        done = pool.map(lambda part: [function(int(k)) for k in part], parts)
        return [answer for part in done for answer in part]
