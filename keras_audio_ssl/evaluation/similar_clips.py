"""The clips that sound most like one."""

import os
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import numpy as np

from keras_audio_ssl._text import printable
from keras_audio_ssl._text import with_reason
from keras_audio_ssl._types import Audio
from keras_audio_ssl.data import AudioDataset
from keras_audio_ssl.data import AudioError
from keras_audio_ssl.data import from_folder
from keras_audio_ssl.data import from_manifest
from keras_audio_ssl.evaluation.nearest_neighbours import Neighbours

BLOCK = 256


class Found(NamedTuple):
    """A clip and how like the query it is.

    Args:
        file: Its name.
        clip: Its number in the data.
        similarity: Cosine of the standardised vectors, -1 to 1.
    """

    file: str
    clip: int
    similarity: float


class SearchResult(list):
    """`Found` clips, the most like first.

    Args:
        found: The clips, in this order.
        searched: How many clips were compared.
        skipped: `(file, reason)` of what could not be read.

    Attributes:
        searched: How many clips were compared.
        skipped: `(file, reason)` of what could not be read.
    """

    def __init__(
        self, found: list[Found], searched: int, skipped: list[tuple[str, str]]
    ) -> None:
        super().__init__(found)
        self.searched, self.skipped = searched, skipped

    def __str__(self) -> str:
        lines = [
            f"{one.similarity:6.3f}  {printable(one.file)}" for one in self
        ]
        lines.append(f"{self.searched} clips searched")
        if self.skipped:
            lines.append(f"{len(self.skipped)} skipped:")
            lines += [f"  {with_reason(*pair)}" for pair in self.skipped[:5]]
        return "\n".join(lines)


def search(
    encoder: Any,
    query: Audio,
    data: Any,
    top: int = 10,
    *,
    where: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> SearchResult:
    """Finds the clips that sound most like one.

    Args:
        encoder: `Encoder`.
        query: One clip, as `Encoder.embed` takes it.
        data: A folder, a manifest (CSV) or an `AudioDataset`, whose clips
            are taken whole.
        top: How many to name.
        where: Rows of a manifest, as for `from_manifest`.
        progress: Called with (clips done, clips in all).

    Returns:
        `SearchResult`. Each dimension of the vectors is standardised over the
        data; the query itself is found too, if it is among them.

    Raises:
        ValueError: The query or the data cannot be read, or `top` is less
            than 1.

    Example:
        >>> found = kas.evaluation.search(encoder, "speech/3.wav", "speech", 2)
        >>> found[0].file
        'speech/3.wav'
    """
    if top < 1:
        raise ValueError(f"`top` must be 1 or more. Received: {top}")
    wanted = np.atleast_2d(encoder.embed(query))
    if len(wanted) != 1:
        raise ValueError(
            f"`query` must be one clip. Received: {len(wanted)} clips"
        )
    data = opened(data, where)
    rows, clips, skipped = [], [], list(data.skipped)
    for at in range(0, data.num_clips, BLOCK):
        waves = []
        for clip in range(at, min(at + BLOCK, data.num_clips)):
            try:
                waves.append(data.read_clip(clip, encoder.sample_rate))
                clips.append(clip)
            except AudioError as error:
                skipped.append((error.file, error.reason))
        if waves:
            rows.append(encoder.embed(waves))
        if progress is not None:
            progress(min(at + BLOCK, data.num_clips), data.num_clips)
    if not rows:
        raise ValueError(f"Nothing readable in {data.source}.")
    vectors, query_row = Neighbours.prepare(np.concatenate(rows), wanted)
    similarity = vectors @ query_row[0]
    order = np.argsort(-similarity, kind="stable")[:top]
    names = data.files
    found = [
        Found(names[clips[i]], clips[i], float(similarity[i])) for i in order
    ]
    return SearchResult(found, len(clips), skipped)


def opened(data: Any, where: Any) -> AudioDataset:
    """The data set that is meant, of whole clips."""
    if isinstance(data, AudioDataset):
        return data
    if os.path.isdir(data):
        if where:
            raise ValueError(
                f"`where` needs a manifest as `data`. Received: {data}"
            )
        return from_folder(data, batch_size=1)
    return from_manifest(data, batch_size=1, where=where)
