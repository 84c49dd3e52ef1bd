"""Where the real recordings lie that some tests and benchmarks read."""

import os
from pathlib import Path


def data_folder() -> Path | None:
    """The folder of real audio, or `None` where there is none.

    `KERAS_AUDIO_SSL_DATA` names it; without that variable it is
    `../shared/data` beside the checkout or the working folder.
    """
    named = os.environ.get("KERAS_AUDIO_SSL_DATA")
    if named:
        return Path(named) if Path(named).is_dir() else None
    for base in (Path(__file__).resolve().parents[1], Path.cwd()):
        folder = base.parent / "shared" / "data"
        if folder.is_dir():
            return folder
    return None
