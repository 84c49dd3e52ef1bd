"""Datasets from folders, manifests, arrays and rows of data sets."""

import os
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_audio_ssl._shapes import rows
from keras_audio_ssl._text import column_list
from keras_audio_ssl.data.checks import has_many_files
from keras_audio_ssl.data.clips import ArrayClips
from keras_audio_ssl.data.clips import Clips
from keras_audio_ssl.data.clips import FileClips
from keras_audio_ssl.data.clips import RowClips
from keras_audio_ssl.data.clips import Skipped
from keras_audio_ssl.data.clips.folder import EXTENSIONS
from keras_audio_ssl.data.clips.folder import endings_of
from keras_audio_ssl.data.clips.folder import scan_folder
from keras_audio_ssl.data.clips.given import holds_numbers
from keras_audio_ssl.data.clips.given import to_numpy
from keras_audio_ssl.data.clips.given import whole_rate
from keras_audio_ssl.data.clips.index import ManifestIndex
from keras_audio_ssl.data.clips.labels import NO_LABEL
from keras_audio_ssl.data.clips.labels import NOTHING_LABELLED
from keras_audio_ssl.data.clips.labels import encode_labels
from keras_audio_ssl.data.clips.manifest import row_conditions
from keras_audio_ssl.data.clips.manifest import scan_manifest
from keras_audio_ssl.data.dataset import AudioDataset


def from_folder(
    folder: Any,
    seconds: float | None = None,
    batch_size: int = 64,
    *,
    max_files: int | None = None,
    extensions: Iterable[str] = EXTENSIONS,
    isolate: bool = False,
    **options: Any,
) -> AudioDataset:
    """A dataset of the audio files below a folder.

    Hidden files and folders are passed over, links are followed.

    Args:
        folder: The folder; its subfolders belong to it.
        seconds: Length of the segments; whole clips if `None` (default).
        batch_size: Clips in a batch, 64 by default.
        max_files: At most so many files, taken evenly from the sorted list.
        extensions: Endings of the names of audio files, in any case.
        isolate: `True` to decode in child processes, so that a file which
            crashes the decoder is skipped like any other that is broken;
            `False` by default.
        **options: The other arguments of `AudioDataset`.

    Returns:
        An `AudioDataset` without labels.

    Raises:
        ValueError: If there is no such folder, nothing in it is readable, or
            an argument is out of range.

    Example:
        >>> data = from_folder("my_audio", seconds=0.95, batch_size=32)
        >>> run = model.fit(data, epochs=1, verbose=0)
    """
    folder = os.fspath(folder)
    if not os.path.isdir(folder):
        hint = ""
        if os.path.isfile(folder):
            hint = " It is a file: `from_manifest` reads CSV tables."
        raise ValueError(f"No such folder: {folder}.{hint}")
    _check_max_files(max_files)
    extensions = endings_of(extensions)
    files, skipped = scan_folder(folder, extensions, max_files)
    if not files and not skipped:
        raise ValueError(
            f"No audio found in {folder}: no file ends with "
            f"{', '.join(extensions)}"
        )
    clips = FileClips(folder, files, isolate=isolate)
    return AudioDataset(
        clips,
        seconds,
        batch_size,
        skipped=skipped,
        source=folder,
        **options,
    )


def from_file(
    path: Any,
    seconds: float | None = None,
    batch_size: int = 1,
    *,
    isolate: bool = False,
    **options: Any,
) -> AudioDataset:
    """A dataset of one audio file.

    Args:
        path: The file.
        seconds: Length of the segments; the whole file if `None` (default).
        batch_size: Clips in a batch, 1 by default.
        isolate: As for `from_folder`.
        **options: The other arguments of `AudioDataset`.

    Returns:
        An `AudioDataset` of one clip, without labels.

    Raises:
        ValueError: If it cannot be read.

    Example:
        >>> night = from_file("night.flac", 1.0, crops_per_clip=64)
        >>> len(night), night[0]["waveform"].shape
        (64, (1, 16000))
    """
    clips = FileClips("", [os.fspath(path)], isolate=isolate)
    return AudioDataset(
        clips, seconds, batch_size, source=os.fspath(path), **options
    )


def from_manifest(
    path: Any,
    seconds: float | None = None,
    batch_size: int = 64,
    *,
    label: str | None = None,
    where: Any = None,
    file: str = "file",
    start: str = "start",
    end: str = "end",
    classes: Sequence[str] | None = None,
    unlabelled: bool = False,
    max_files: int | None = None,
    isolate: bool = False,
    **options: Any,
) -> AudioDataset:
    """A dataset of the files that a CSV table names.

    Where the table names more than 10,000 files, they are not opened before
    training, and what a first look at their sizes has found is kept for the
    next start, in the folder `keras_audio_ssl/manifests` where the system
    keeps caches (Linux: `XDG_CACHE_HOME`, by default `~/.cache`; macOS:
    `~/Library/Caches`; Windows: the local application data). It holds until
    the table is changed; a file that vanishes or breaks meanwhile is skipped
    when its turn comes, as always.
    To look anew, `touch` the table or delete that folder.

    Args:
        path: The CSV file. Its first line names the columns; files are
            relative to its folder.
        seconds: Length of the segments; whole clips if `None` (default).
        batch_size: Clips in a batch, 64 by default.
        label: Column of the labels; none by default.
        where: Rows to keep: `"COLUMN=VALUE"`, a list of these, or a dict of
            column to value or values.
        file: Column of the file names.
        start: Column with the start of a part of the file, in seconds.
            Together with `end` this makes each row a clip of its own. Taken
            where the table has it; empty values are the file's own ends.
        end: Column with the end of the part, in seconds.
        classes: Names of the labels in their order; by default the values
            of the whole column, also of rows that `where` leaves out, sorted
            (by value if all are whole numbers).
        unlabelled: `True` to keep clips without label, where the cell is
            empty or `-1`: they get the label -1, and are in no class. `False`
            (default) leaves out rows with an empty cell, says how many, and
            takes `-1` for a name.
        max_files: At most so many files.
        isolate: `True` to decode in child processes, so that a file which
            crashes the decoder is skipped like any other that is broken;
            `False` by default.
        **options: The other arguments of `AudioDataset`.

    Returns:
        An `AudioDataset`.

    Raises:
        ValueError: If the table or a column is missing, no row fulfils
            `where`, all labels are missing, or no file is readable.

    Example:
        >>> data = from_manifest(
        ...     "digits/manifest.csv", 0.5, batch_size=8,
        ...     label="speaker", where="split=train",
        ... )
        >>> x, y = data.batch(epoch=0, step=0)
    """
    _check_max_files(max_files)
    if where is not None and not isinstance(where, (str, Mapping)):
        where = list(where)
    if classes is not None:
        classes = list(classes)
    conditions = row_conditions(where).items()
    index = ManifestIndex(
        path,
        {
            "where": {name: sorted(values) for name, values in conditions},
            "label": label,
            "columns": [file, start, end],
            "classes": classes,
            "unlabelled": bool(unlabelled),
            "max_files": max_files,
        },
    )
    clips, skipped = index.read(isolate) or scan_manifest(
        path,
        where,
        label,
        file,
        start,
        end,
        classes,
        max_files,
        unlabelled,
        isolate,
    )
    if not clips.weighed and has_many_files(clips):
        skipped += clips.weigh()
        index.write(clips, skipped)
    return AudioDataset(
        clips,
        seconds,
        batch_size,
        skipped=skipped,
        source=os.fspath(path),
        **options,
    )


def from_arrays(
    x: Any,
    y: Any = None,
    sample_rate: int = 16000,
    seconds: float | None = None,
    batch_size: int = 64,
    *,
    input_rate: int | None = None,
    classes: Sequence[str] | None = None,
    unlabelled: bool = False,
    **options: Any,
) -> AudioDataset:
    """A dataset of waveforms in memory, or made when asked for.

    Args:
        x: Array `(clips, samples)`, or any sequence of clips as
            `Encoder.embed` takes them: waveforms `(samples,)` of any length,
            floats in [-1, 1], or integers, which are scaled by the range of
            their type; `(waveform, rate)`; paths.
        y: Labels, integers or names, `(clips,)`; none by default. Clips
            without one (`None`, NaN or `""`) are left out.
        sample_rate: Of the batches, in Hz, 16000 by default.
        seconds: Length of the segments; whole clips if `None` (default).
        batch_size: Clips in a batch, 64 by default.
        input_rate: Sample rate of `x`, if it is another.
        classes: Names of the labels in their order.
        unlabelled: `True` to keep clips without label, with the label -1;
            -1 among integers and `"-1"` among names then say so too. `False`
            by default.
        **options: The other arguments of `AudioDataset`.

    Returns:
        An `AudioDataset`.

    Raises:
        ValueError: If shapes, labels or arguments are wrong.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(100, 16000)) * 0.1
        >>> len(from_arrays(x, seconds=0.5, batch_size=10))
        10
    """
    if not hasattr(x, "__len__") or not hasattr(x, "__getitem__"):
        raise ValueError(
            "`x` must be an array (clips, samples) or a sequence of "
            f"waveforms. Received: {type(x).__name__}"
        )
    if hasattr(x, "shape") and hasattr(x, "dtype") and holds_numbers(x):
        x = rows(to_numpy(x), "`x`")
    rate = whole_rate(sample_rate)
    if input_rate is not None:
        rate = whole_rate(input_rate, "input_rate")
    labels, names = None, None
    if y is not None:
        labels, names = encode_labels(y, len(x), classes, unlabelled)
    clips = ArrayClips(x, rate, labels, names)
    return AudioDataset(
        clips,
        seconds,
        batch_size,
        sample_rate=sample_rate,
        skipped=[] if unlabelled else _leave_out(clips, "`y`"),
        source="`x`",
        **options,
    )


def from_huggingface(
    dataset: Any,
    column: str = "audio",
    label: str | None = None,
    seconds: float | None = None,
    batch_size: int = 64,
    *,
    classes: Sequence[str] | None = None,
    unlabelled: bool = False,
    isolate: bool = False,
    **options: Any,
) -> AudioDataset:
    """A dataset of the rows of a `datasets.Dataset`, or of anything like it.

    Args:
        dataset: An object with `__len__` and `__getitem__`, which gives
            dicts. Sound may be a dict with `array` and `sampling_rate`, or
            with `bytes` or `path`, or a torchcodec decoder; with the feature
            `Audio(decode=False)` crops are read without decoding the rest.
        column: Key of the sound, `"audio"` by default.
        label: Key of the labels, integers or names; none by default. Rows
            without one (`None`, NaN or `""`) are left out.
        seconds: Length of the segments; whole clips if `None` (default).
        batch_size: Clips in a batch, 64 by default.
        classes: Names of the labels; those of a `ClassLabel` by default.
        unlabelled: `True` to keep rows without label, as `from_arrays`;
            `False` by default.
        isolate: `True` to decode paths and bytes in child processes, as
            `from_folder`; `False` by default.
        **options: The other arguments of `AudioDataset`.

    Returns:
        An `AudioDataset`.

    Raises:
        ValueError: If a column is missing or nothing is readable.

    Example:
        With `datasets` installed::

            speech = datasets.load_dataset("google/fleurs", "de_de")
            data = from_huggingface(speech["train"], seconds=2.0)
    """
    for needed in ("__len__", "__getitem__"):
        if not hasattr(dataset, needed):
            raise ValueError(
                "`dataset` must have `__len__` and `__getitem__` (a stream "
                "has not; a split of a data set has). Received: "
                f"{type(dataset).__name__}"
            )
    if not len(dataset):
        raise ValueError("`dataset` has no rows.")
    names = getattr(dataset, "column_names", None)
    if not isinstance(names, (list, tuple)):
        names = list(dataset[0])
    for key in (column, label):
        if key is not None and key not in names:
            raise ValueError(
                f"No column {key!r} in the data set. "
                f"Its columns: {column_list(names)}"
            )
    labels, known = None, None
    if label is not None:
        feature = (getattr(dataset, "features", None) or {}).get(label)
        classes = classes or getattr(feature, "names", None)
        try:
            values = list(dataset[label])
        except (KeyError, TypeError, IndexError):
            values = [dataset[i][label] for i in range(len(dataset))]
        labels, known = encode_labels(values, len(dataset), classes, unlabelled)
    clips = RowClips(dataset, column, labels, known, isolate)
    return AudioDataset(
        clips,
        seconds,
        batch_size,
        skipped=[] if unlabelled else _leave_out(clips, f"column {label!r}"),
        source="the data set",
        **options,
    )


def _leave_out(clips: Clips, source: str) -> Skipped:
    """Drops the clips without label, if there are labels.

    Returns:
        What was dropped, as `(item, reason)`.

    Raises:
        ValueError: No clip has a label.
    """
    if clips.labels is None:
        return []
    without = np.flatnonzero(clips.labels < 0)
    if len(without) and len(without) == len(clips):
        raise ValueError(NOTHING_LABELLED.format(len(clips), source))
    skipped = [(clips.name(int(clip)), NO_LABEL) for clip in without]
    if skipped:
        clips.keep(np.flatnonzero(clips.labels >= 0))
    return skipped


def _check_max_files(max_files: int | None) -> None:
    if max_files is not None and max_files < 1:
        raise ValueError(
            "`max_files` must be positive, or None for all. "
            f"Received: max_files={max_files}"
        )
