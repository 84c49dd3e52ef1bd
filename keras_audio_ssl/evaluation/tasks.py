"""The standard tasks, scored in the same way everywhere."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from keras_audio_ssl._types import FilePath
from keras_audio_ssl.evaluation.embeddings import as_embeddings
from keras_audio_ssl.evaluation.probes import probe
from keras_audio_ssl.evaluation.scoring import ProbeResult


@dataclasses.dataclass(frozen=True)
class Task:
    """A data set, its labels and how its examples are divided.

    Attributes:
        title: What is recognised, and of whom.
        folder: Folder of the data set, with `manifest.csv`.
        options: Arguments of `probe`.
    """

    title: str
    folder: str
    options: dict[str, Any]


TASKS: dict[str, Task] = {
    "scene": Task(
        "scene, unseen recordings",
        "esc10",
        {"label": "label", "fold": "fold"},
    ),
    "digit": Task(
        "digit, unseen speaker",
        "fsdd",
        {"label": "label", "leave_one_out": "speaker"},
    ),
    "speaker_6": Task(
        "6 speakers, unseen digits",
        "fsdd",
        {
            "label": "speaker",
            "split": {"label": {"train": "01234", "test": "56789"}},
            "groups": "label",
        },
    ),
    "speaker_5": Task(
        "5 speakers, second half of an utterance",
        "librispeech_mini",
        {"label": "speaker", "halves": True, "where": "split=test"},
    ),
    "speaker_251": Task(
        "251 speakers, second half of an utterance",
        "librispeech_mini",
        {"label": "speaker", "halves": True, "where": "split=train"},
    ),
    "emotion": Task(
        "emotion, unseen speaker",
        "emodb",
        {"label": "emotion", "leave_one_out": "speaker"},
    ),
    "phone": Task(
        "phone, unseen speaker",
        "emodb",
        {
            "label": "phone",
            "frames": "phones.csv",
            "leave_one_out": "speaker",
        },
    ),
    "instrument": Task(
        "instrument, unseen notes",
        "philharmonia",
        {"label": "instrument", "fold": "fold"},
    ),
    "pitch": Task(
        "pitch class, unseen instrument",
        "philharmonia",
        {"label": "pitch_class", "leave_one_out": "instrument"},
    ),
}


def run_task(
    name: str | Task,
    encoder: Any,
    data_folder: FilePath | None = None,
    seen: str | None = None,
    **options: Any,
) -> ProbeResult:
    """Runs one standard task.

    Args:
        name: A key of `TASKS`, or a `Task`.
        encoder: As for `probe`; the `Embeddings` of an encoder are computed
            once for all tasks on a data set.
        data_folder: Folder of the data sets; None for the one that the
            environment variable `KERAS_AUDIO_SSL_DATA` names.
        seen: `"unseen"` or `"seen unlabelled"`, see `probe`.
        **options: Other arguments of `probe`.

    Returns:
        A `ProbeResult`.

    Raises:
        ValueError: An unknown task, or its data set is not there.

    Example:
        With the data sets in `data`::

            print(kas.evaluation.run_task("scene", encoder, "data", "unseen"))
    """
    if isinstance(name, Task):
        task = name
    elif name in TASKS:
        task = TASKS[name]
    else:
        raise ValueError(
            f"The tasks are {', '.join(TASKS)}. Received: {name!r}"
        )
    if data_folder is None:
        data_folder = os.environ.get("KERAS_AUDIO_SSL_DATA")
        if not data_folder:
            raise ValueError(
                "`data_folder` must be given, or the environment variable "
                "KERAS_AUDIO_SSL_DATA be set."
            )
    manifest = os.path.join(data_folder, task.folder, "manifest.csv")
    if not os.path.isfile(manifest):
        raise ValueError(
            f"Task {task.title!r} needs {manifest}, which is missing."
        )
    settings = {"task": task.title, **task.options, **options}
    return probe(encoder, manifest, seen=seen, **settings)


def run_tasks(
    names: Sequence[str],
    encoder: Any,
    data_folder: FilePath | None = None,
    seen: str | None = None,
    **options: Any,
) -> dict[str, ProbeResult]:
    """Runs several standard tasks, embedding each data set once.

    Args:
        names: Keys of `TASKS`.
        encoder: As for `probe`.
        data_folder: As for `run_task`.
        seen: As for `run_task`.
        **options: Other arguments of `probe`.

    Returns:
        A `ProbeResult` for each name.
    """
    embeddings = as_embeddings(encoder)
    return {
        name: run_task(name, embeddings, data_folder, seen, **options)
        for name in names
    }
