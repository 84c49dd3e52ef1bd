"""An encoder of a published checkpoint, by the importer of its format."""

import importlib
import inspect
import os
import warnings
from typing import Any

from keras_audio_ssl._files import FileError
from keras_audio_ssl._types import FilePath
from keras_audio_ssl.hub.foreign.formats import FORMATS
from keras_audio_ssl.hub.foreign.report import ImportReport
from keras_audio_ssl.hub.foreign.state_dict import StateDict
from keras_audio_ssl.hub.untrusted.checkpoint import read_checkpoint
from keras_audio_ssl.hub.untrusted.variable_limits import limited


class LicenceError(ValueError):
    """The licence of these files must be accepted by whoever imports them."""


def import_checkpoint(
    format: str,
    path: FilePath,
    accept_licence: bool = False,
    prefix: str = "",
    **settings: Any,
) -> tuple[Any, ImportReport]:
    """Makes an encoder of a published PyTorch checkpoint, without PyTorch.

    The file is read as data, see `read_checkpoint`. Sizes are read off the
    shapes of its tensors.

    Args:
        format: A key of `FORMATS`.
        path: Checkpoint that you have obtained; nothing is downloaded.
        accept_licence: Whether you have read the files' licence and it
            allows your use. BYOL-A's own files need it.
        prefix: Reads the tensors whose name begins so, for files that hold
            more than one network, e.g. `"learner.online_encoder.net."`.
        **settings: What the file does not hold, see the importer of the
            format: `mean` and `std` (BYOL-A), `normalize`, `whole`,
            `n_future` (APC), `frontend`.

    Returns:
        `(Encoder, ImportReport)`; with `whole=True`, which APC's formats
        take, the pretext model with its output layer in place of the
        encoder.

    Raises:
        LicenceError: The licence is neither free nor accepted.
        CheckpointError: The file cannot be read, tensors are missing or have
            other shapes; its attribute `report` says which.
        ValueError: Unknown format or setting; a `FileError`, a kind of it,
            where the shape of a tensor asks for more than the file holds.

    Example:
        A checkpoint that was downloaded before::

            encoder, report = import_checkpoint("apc_official", "apc.pt")
            print(report)
    """
    if format not in FORMATS:
        raise ValueError(
            f"Unknown format {format!r}. Known: {', '.join(sorted(FORMATS))}"
        )
    entry = FORMATS[format]
    if entry.restricted and not accept_licence:
        raise LicenceError(
            f"{entry.title}, are under {entry.licence}. Where you have read "
            "it and it allows what you do, pass `accept_licence=True` "
            "(--accept-licence). Files of the same layout under other terms "
            "have formats of their own, e.g. 'byol_s' (MIT)."
        )
    module = importlib.import_module(
        f"keras_audio_ssl.hub.foreign.{entry.file}"
    )
    importer = getattr(module, entry.function)
    known = [
        name
        for name, parameter in inspect.signature(importer).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ValueError(
            f"{format} takes the settings {', '.join(known)}. "
            f"Received: {', '.join(unknown)}"
        )
    report = ImportReport(format, os.fspath(path), entry.licence)
    state = StateDict(read_checkpoint(path), report, prefix)
    try:
        with limited(state.held, len(state.unused), path):
            model = importer(state, **{**entry.settings, **settings})
    except FileError:
        raise
    except ValueError as error:
        # Of a size that was read off a tensor, or of a setting.
        if settings:
            raise ValueError(f"{path}: {error}") from error
        raise state.error(str(error)) from error
    state.finish()
    if report.unexplained:
        names = report.unexplained
        more = ", ..." if len(names) > 5 else ""
        warnings.warn(
            f"{path}: {len(names)} tensors were left over: "
            f"{', '.join(names[:5])}{more}",
            stacklevel=2,
        )
    return model, report
