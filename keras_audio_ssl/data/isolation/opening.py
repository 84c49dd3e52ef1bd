"""In which process a file is decoded: decided here, and nowhere else.

Whoever reads files hands `isolate` down to `open_audio`; `isolated` stands in
for it where it was not given.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from keras_audio_ssl.data.audio import AudioFile
from keras_audio_ssl.data.isolation.parent import IsolatedFile


def open_audio(
    file: Any,
    name: Any = None,
    facts: tuple[int, int] | None = None,
    isolate: bool = False,
) -> AudioFile | IsolatedFile:
    """Opens a file as all readers do; use it in a `with` statement.

    Args:
        file: A path, or the bytes of a file.
        name: Name used in errors; the path by default.
        facts: `facts` of an earlier look at the same file.
        isolate: `True` to decode in a child process; `False` (default) does
            so inside of `isolated` only.

    Returns:
        An `AudioFile` or an `IsolatedFile`.

    Raises:
        AudioError: If the file is missing, no audio, empty or truncated.

    Example:
        >>> with open_audio("speech.flac") as audio:
        ...     wave = audio.read(0, audio.frames)
    """
    if not (isolate or _isolating):
        return AudioFile(file, name, facts)
    return IsolatedFile(file, name, facts)


_isolating = False


@contextlib.contextmanager
def isolated(isolate: bool = True) -> Iterator[None]:
    """Inside, whatever reads audio files decodes them in child processes.

    A file that crashes the decoder then raises `AudioError` instead of
    ending the program; see `benchmarks/reading.py` for what it costs. Counts
    for the whole process, not only for this thread.

    Args:
        isolate: `False` changes nothing.

    Example:
        >>> with isolated():
        ...     vector = encoder.embed("stranger.flac")
    """
    global _isolating
    before, _isolating = _isolating, _isolating or isolate
    try:
        yield
    finally:
        _isolating = before
