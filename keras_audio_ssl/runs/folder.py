"""What a run leaves beside its encoder, and who may write there."""

import shutil

from keras_audio_ssl._files import as_json
from keras_audio_ssl._files import drafts
from keras_audio_ssl._files import write_text


def claim(output, folder, resume=False, overwrite=False):
    """Refuses a second run into the same output; goes on with half a one.

    Args:
        output: The encoder to write.
        folder: The run's.
        resume: Whether a run is to be there.
        overwrite: Whether what is there may go.

    Returns:
        Whether there is a run to go on with.

    Raises:
        ValueError: Something is there, or for `resume` nothing.
    """
    if overwrite:
        return False
    begun = config_file(folder).exists()
    if resume:
        if not begun:
            raise ValueError(f"`resume=True`: there is no run in {folder}.")
    elif (
        is_finished([output], folder)
        if begun
        else output.exists() or (folder.exists() and any_in(folder))
    ):
        refuse(f"{output} or {folder}")
    return begun


def refuse(there):
    """Says that there is something, and how it may be dealt with."""
    raise ValueError(
        f"{there} exists. Go on with `resume=True`, or "
        "replace it with `overwrite=True`."
    )


def config_file(folder):
    """The settings of a run; that it is there says that there is a run."""
    return folder / "config.json"


def contents_file(folder):
    """The table of the files that a run reads."""
    return folder / "files.csv"


def metrics_file(folder):
    """What a run measured; it is the last of its files."""
    return folder / "metrics.json"


def is_finished(outputs, folder):
    """Whether a run came to its end."""
    return (
        all(path.exists() for path in outputs) and metrics_file(folder).exists()
    )


def any_in(folder):
    """Whether a folder holds more than a run leaves that never began."""
    return any(
        path.name != contents_file(folder).name
        and not path.name.startswith(".")
        for path in folder.iterdir()
    )


def empty(outputs, folder):
    """Deletes a run: its encoders and what is in its folder."""
    # What a link points to, and first what says that there is a run.
    config_file(folder).unlink(missing_ok=True)
    if folder.exists():
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    for path in outputs:
        path.unlink(missing_ok=True)


def drop_drafts(paths):
    """Deletes what killed runs left of files that they were writing."""
    for path in paths:
        for draft in drafts(path):
            draft.unlink(missing_ok=True)


def write_json(path, value):
    """Writes a value as JSON, whole or not at all."""
    write_text(path, as_json(value))
