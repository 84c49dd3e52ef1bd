"""Where a run goes on: what it was begun with, and its last checkpoint."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from keras_audio_ssl import hub
from keras_audio_ssl._files import as_json
from keras_audio_ssl._files import drafts
from keras_audio_ssl._files import write_table
from keras_audio_ssl._text import printable
from keras_audio_ssl._types import FilePath
from keras_audio_ssl.engine import keep_metrics
from keras_audio_ssl.engine import kept_metrics
from keras_audio_ssl.engine import renamed
from keras_audio_ssl.engine import unwrapped


def record(model: Any, data: Any) -> dict[str, Any]:
    """What a run's course depends on, as plain values.

    Args:
        model: `PretextModel`, before it is trained.
        data: `AudioDataset`.

    Returns:
        Dict of `model`, its configuration, and `signature`, of the data.
    """
    found = {"model": model.get_config(), "signature": data.signature()}
    return json.loads(as_json(found))


def read_record(path: FilePath) -> dict[str, Any]:
    """What was written when a run was begun; empty where nothing was.

    Args:
        path: The JSON file.

    Raises:
        ValueError: It is damaged.
    """
    path = Path(path)
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def changes(before: Any, now: Any, table: Any, data: Any) -> list[str]:
    """What of a run's model and data is not as it was.

    Args:
        before: `record` of its beginning.
        now: `record` of what is to go on.
        table: The table of its files, as `write_contents` left it.
        data: The data that are to go on.

    Returns:
        Lines `name: old then, new now`; for files, which of them.
    """
    old, new = ({**r.get("signature", {})} for r in (before, now))
    lines = differences(
        comparable(before.get("model")), comparable(now["model"]), "model"
    )
    if old.pop("files", None) != new.pop("files", None):
        lines.append(changed_files(table, data))
    return lines + differences(old, new, "data")


def comparable(tree: Any) -> Any:
    """A configuration without names, which count the models of a process.

    Arguments that an earlier version wrote have the names of today.
    """
    if isinstance(tree, dict):
        if tree.get("class_name") == "DTypePolicy":
            # Its name is all that it says.
            return tree
        cls = keras.saving.get_registered_object(tree.get("registered_name"))
        if cls is not None and isinstance(tree.get("config"), dict):
            tree = {**tree, "config": renamed(cls, tree["config"])}
        return {k: comparable(v) for k, v in tree.items() if k != "name"}
    if isinstance(tree, (list, tuple)):
        return [comparable(v) for v in tree]
    return tree


def differences(before: Any, now: Any, name: str = "") -> list[str]:
    """What of two plain trees differs, in words.

    Returns:
        Lines, each a name, what it was then and what it is now.
    """
    if isinstance(before, dict) and isinstance(now, dict):
        lines = []
        for key in sorted(before.keys() | now.keys()):
            lines += differences(
                before.get(key), now.get(key), f"{name}.{key}".strip(".")
            )
        return lines
    return [] if before == now else [f"{name}: {before} then, {now} now"]


def write_contents(path: FilePath, data: Any) -> None:
    """Writes the table of the files that a run reads, and their bytes.

    Args:
        path: The CSV file.
        data: `AudioDataset`.
    """
    write_table(path, ("file", "bytes"), data.contents(), "surrogateescape")


def changed_files(path: FilePath, data: Any) -> str:
    """What of a run's files is not as it was, in words.

    Args:
        path: The table that `write_contents` wrote.
        data: `AudioDataset`.
    """
    if not Path(path).exists():
        return "other files"
    with open(
        path, newline="", encoding="utf-8", errors="surrogateescape"
    ) as file:
        before = {r["file"]: int(r["bytes"]) for r in csv.DictReader(file)}
    changed: dict[str, list[str]] = {
        "new": [],
        "gone or unreadable": [],
        "of another size": [],
    }
    for name, size in data.contents():
        # What is left in the end is gone.
        was = before.pop(name, None)
        if was != size:
            changed["new" if was is None else "of another size"].append(name)
    changed["gone or unreadable"] = list(before)
    parts = []
    for change, names in changed.items():
        if names:
            some = ", ".join(map(printable, sorted(names)[:3]))
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts.append(f"{len(names)} files {change}: {some}{more}")
    return "; ".join(parts) or "other parts of the files"


def checkpoints(folder: FilePath) -> list[Path]:
    """The complete checkpoints of a folder, oldest first."""
    return sorted(Path(folder).glob("step_*.keras"))


def last_checkpoint(folder: FilePath, say: Callable[[str], Any] = print) -> Any:
    """Opens the newest checkpoint that is whole.

    Drafts that a killed process left are deleted; a file that was damaged
    later, by the disk, say, is named and passed over. Files are read as
    data, as `load_encoder` does.

    Args:
        folder: Of a `Checkpoint`.
        say: Called with words about what is passed over.

    Returns:
        `(model, steps done)`, or `(None, 0)`: there is none.
    """
    for draft in drafts(folder) if Path(folder).is_dir() else ():
        draft.unlink(missing_ok=True)
    for path in reversed(checkpoints(folder)):
        try:
            return hub.load_model(path), int(path.stem[5:])
        except ValueError as error:
            say(f"passed over: {error}")
    return None, 0


def copy_state(source: Any, target: Any) -> None:
    """Gives a compiled model the weights, optimizer and generators of one.

    Its metrics go on where an epoch does: see `go_on_with_metrics`.

    Args:
        source: What `last_checkpoint` opened.
        target: A model of the same settings, with its own optimizer.

    Raises:
        ValueError: They are not of the same kind.
    """
    for model in (source, target):
        model.optimizer.build(model.trainable_variables)
    olds, news = state_of(source), state_of(target)
    if [(v.shape, v.dtype) for v in olds] != [(v.shape, v.dtype) for v in news]:
        raise ValueError(
            f"The checkpoint's variables are not those of this "
            f"{type(target).__name__}: was it compiled with another optimizer?"
        )
    for old, new in zip(olds, news, strict=True):
        new.assign(old.numpy())
    keep_metrics(target, kept_metrics(source))


def state_of(model: Any) -> Any:
    """All variables of a compiled model but the metrics'."""
    metrics = {id(v) for v in model.metrics_variables}
    own = [v for v in model.variables if id(v) not in metrics]
    return own + unwrapped(model.optimizer).variables
