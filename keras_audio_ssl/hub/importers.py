"""Importers of published checkpoints: a table, and what they share."""

import importlib
import inspect
import os
import warnings
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from typing import NamedTuple

import numpy as np

from keras_audio_ssl._files import FileError
from keras_audio_ssl.hub.checkpoint import read_checkpoint
from keras_audio_ssl.hub.checkpoint import tensors_of
from keras_audio_ssl.hub.report import ImportReport
from keras_audio_ssl.hub.trust import limited
from keras_audio_ssl.hub.unpickle import CheckpointError

NTT = (
    "NTT's licence for evaluation only: internal use to test the paper's "
    "method; no distribution, no modification or translation, no disclosure "
    "to third parties"
)
THEIRS = "that of whoever published the file"


class Format(NamedTuple):
    """A line of the table: the file and function of a format's importer."""

    file: str
    function: str
    title: str
    licence: str = THEIRS
    # Whether the user must say to have read the licence.
    restricted: bool = False
    # What makes the function's importer this format's; settings override.
    settings: Mapping[str, Any] = MappingProxyType({})


FORMATS: dict[str, Format] = {
    "apc_official": Format(
        "apc", "apc_official", "APC and VQ-APC, the authors' repositories"
    ),
    "apc_s3prl": Format(
        "apc", "apc_s3prl", "APC and VQ-APC, s3prl and the NPC repository"
    ),
    "audio_albert_s3prl": Format(
        "transformer",
        "transformer_s3prl",
        "Audio ALBERT, s3prl",
        settings={"method": "audio_albert"},
    ),
    "audio_ntt2020": Format(
        "audio_ntt", "audio_ntt", "BYOL-A v1, NTT's files", NTT, True
    ),
    "audio_ntt2022": Format(
        "audio_ntt",
        "audio_ntt",
        "BYOL-A v2, NTT's files",
        NTT,
        True,
        {"version": "v2"},
    ),
    "byol_s": Format(
        "audio_ntt",
        "audio_ntt",
        "BYOL-S, files of serab-byols",
        "MIT",
        settings={"mel_scale": "htk", "win_length": 400},
    ),
    "clar_official": Format(
        "contrastive", "clar", "CLAR, the authors' repository", "MIT"
    ),
    "dapc_official": Format(
        "dapc", "dapc_official", "DAPC, the authors' repository"
    ),
    "fonseca_official": Format(
        "contrastive",
        "fonseca",
        "Fonseca et al. (uclser20), the authors' repository",
        "MIT",
    ),
    "mockingjay_s3prl": Format(
        "transformer",
        "transformer_s3prl",
        "Mockingjay, s3prl and the first release",
        settings={"method": "mockingjay"},
    ),
    "npc_official": Format("npc", "npc", "NPC, the authors' repository"),
    "npc_s3prl": Format("npc", "npc", "NPC, s3prl"),
    "panns_cnn14": Format(
        "panns", "panns_cnn", "CNN14 of PANNs, the authors' files"
    ),
    "panns_cnn6": Format(
        "panns",
        "panns_cnn",
        "CNN6 of PANNs, the authors' files",
        settings={"network": "cnn6"},
    ),
    "panns_res1dnet31": Format(
        "panns", "panns_res1dnet31", "Res1dNet31 of PANNs, the authors' files"
    ),
    "sincnet": Format(
        "sincnet", "sincnet", "SincNet, the authors' repository", "MIT"
    ),
    "tera_s3prl": Format(
        "transformer",
        "transformer_s3prl",
        "TERA, s3prl",
        settings={"method": "tera"},
    ),
}

# What wraps a state dict, in the file or in the names of its tensors.
WRAPPERS = {"body", "model", "module", "state_dict"}


class LicenceError(ValueError):
    """The licence of these files must be accepted by whoever imports them."""


def import_checkpoint(
    format: str,
    path: str | os.PathLike,
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

    >>> encoder, report = import_checkpoint("apc_official", "apc.pt")
    >>> print(report)
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
    module = importlib.import_module(f"keras_audio_ssl.hub.{entry.file}")
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


class Rule(NamedTuple):
    """How tensors of a checkpoint become one variable.

    Attributes:
        sources: Their names.
        shapes: The shape that each must have.
        variable: Keras variable.
        convert: Arrays to the variable's value.
    """

    sources: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    variable: Any
    convert: Callable[..., np.ndarray]


def reversed_axes(source: str, variable: Any) -> Rule:
    """A rule for vectors, matrices and kernels, whose axes PyTorch reverses.

    Dense `(out, in)` becomes `(in, out)`; a convolution `(out, in,
    frequency, time)` becomes `(time, frequency, in, out)`.
    """
    shape = tuple(variable.shape)[::-1]
    return Rule((source,), (shape,), variable, np.transpose)


def time_first(source: str, variable: Any) -> Rule:
    """A rule of a kernel `(out, in, time, frequency)`."""
    height, width, channels, filters = variable.shape
    shape = (filters, channels, height, width)
    return Rule(
        (source,), (shape,), variable, lambda w: np.transpose(w, (2, 3, 1, 0))
    )


class StateDict:
    """The tensors of a checkpoint by name, and what became of each.

    Names lose what wraps them (`module.`, `model.`, ...).

    Args:
        tree: What `read_checkpoint` returned.
        report: Gets an entry for each tensor.
        prefix: Only tensors with names that begin so are looked up.

    Attributes:
        held: Bytes of all tensors, of those that share them once.
    """

    def __init__(self, tree: Any, report: ImportReport, prefix: str = ""):
        self.tree, self.report = tree, report
        self.arrays: dict[str, np.ndarray] = {}
        self.originals: dict[str, str] = {}
        self.unused: dict[str, tuple[int, ...]] = {}
        self.reasons: list[tuple[Callable[[str], Any], str]] = []
        storages: dict[int, int] = {}
        for original, array in tensors_of(tree).items():
            storage = storage_of(array)
            storages[id(storage)] = storage.nbytes
            self.unused[original] = array.shape
            if not original.startswith(prefix):
                continue
            name = bare_name(original[len(prefix) :])
            if name in self.arrays:
                raise self.error(
                    f"both {self.originals[name]} and {original} may be "
                    f"{name}: say which with `prefix`"
                )
            self.arrays[name], self.originals[name] = array, original
        self.held = sum(storages.values())

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def shape(self, name: str, rank: int) -> tuple[int, ...]:
        """Shape of a tensor without which nothing can be built."""
        if name not in self.arrays:
            self._miss(name, None)
            raise self.error(f"no tensor {name}, from which sizes are read")
        shape = self.arrays[name].shape
        if len(shape) != rank or 0 in shape:
            self._miss(name, None)
            raise self.error(f"{name} has the shape {shape}, not {rank} axes")
        return shape

    def numbers(self, pattern: str) -> list[int]:
        """The numbers, sorted, for which a name fits: `"rnns.{}.bias"`."""
        start, end = pattern.split("{}")
        found = [
            name[len(start) : len(name) - len(end)]
            for name in self.arrays
            if name.startswith(start) and name.endswith(end)
        ]
        return sorted(int(n) for n in found if n.isascii() and n.isdigit())

    def load(self, rules: Iterable[Rule]) -> None:
        """Writes variables, or notes in the report why that cannot be."""
        for rule in rules:
            values = []
            for name, shape in zip(rule.sources, rule.shapes, strict=True):
                array = self.arrays.get(name)
                if array is None or array.shape != shape:
                    self._miss(name, shape)
                    continue
                value = np.asarray(array, "float32")
                if not np.isfinite(value).all():
                    raise self.error(f"{name} holds NaN or infinite numbers")
                values.append(value)
                self._use(name)
                self.report.mapped.append(
                    {
                        "source": self.originals[name],
                        "shape": list(shape),
                        "target": rule.variable.path,
                        "target_shape": list(rule.variable.shape),
                    }
                )
            if len(values) == len(rule.sources):
                rule.variable.assign(rule.convert(*values))

    def expect(self, pick: Callable[[str], Any], reason: str) -> None:
        """Says why tensors with names that `pick` picks are left over."""
        self.reasons.append((pick, reason))

    def finish(self) -> None:
        """Reports what is left over; an error where something is missing."""
        bare = {original: name for name, original in self.originals.items()}
        for original, shape in self.unused.items():
            name = bare.get(original)
            reasons = [
                reason
                for pick, reason in self.reasons
                if name is not None and pick(name)
            ]
            self.report.left_over.append(
                {
                    "source": original,
                    "shape": list(shape),
                    "reason": reasons[0] if reasons else None,
                }
            )
        self.unused = {}
        if self.report.missing:
            wrong = [
                f"{e['source']} {tuple(e['shape'])}"
                + (f" (has {tuple(e['found'])})" if e["found"] else "")
                for e in self.report.missing
            ]
            more = ", ..." if len(wrong) > 5 else ""
            raise self.error(
                f"{len(wrong)} tensors are missing or have another shape: "
                f"{', '.join(wrong[:5])}{more}"
            )

    def error(self, text: str) -> CheckpointError:
        """An error that names the file and carries the report."""
        error = CheckpointError(
            f"{self.report.path} is no {self.report.format} file: {text}"
        )
        error.report = self.report
        return error

    def _use(self, name):
        self.unused.pop(self.originals[name], None)

    def _miss(self, name, shape):
        found = None
        if name in self.arrays:
            found = list(self.arrays[name].shape)
            self._use(name)
        self.report.missing.append(
            {
                "source": name,
                "shape": None if shape is None else list(shape),
                "found": found,
            }
        )


def storage_of(array: np.ndarray) -> np.ndarray:
    """The array of which another is a view, or itself."""
    found, base = array, array.base
    while base is not None:
        found = base if isinstance(base, np.ndarray) else found
        base = getattr(base, "base", None)
    return found


def bare_name(name: str) -> str:
    """A tensor's name without what wraps the network, e.g. `module.`."""
    first, _, rest = name.partition(".")
    while rest and first in WRAPPERS:
        name = rest
        first, _, rest = name.partition(".")
    return name


def numbered_batches(name: str) -> bool:
    """Whether a name is a batch norm's counter, which Keras has none of."""
    return name.endswith("num_batches_tracked")


def note_frontend(report: ImportReport, frontend: Any) -> None:
    """Says how the front end normalises: no checkpoint holds statistics."""
    report.settings["normalize"] = frontend.normalize
    if not frontend.adapted:
        report.notes.append(
            "the checkpoint holds no statistics of the features: pass the "
            "training data's `mean` and `std`, or measure your data with "
            "`encoder.frontend.adapt(...)`. Until then it does not normalise."
        )
    elif frontend.normalize in ("scalar", "per_bin"):
        report.notes.append(
            "the front end normalises with the statistics given, the "
            "checkpoint holds none"
        )
