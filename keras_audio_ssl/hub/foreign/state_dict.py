"""The tensors of a checkpoint, and the rules that make variables of them."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from keras_audio_ssl.hub.foreign.report import ImportReport
from keras_audio_ssl.hub.untrusted.checkpoint import tensors_of
from keras_audio_ssl.hub.untrusted.errors import CheckpointError

# What wraps a state dict, in the file or in the names of its tensors.
WRAPPERS = {"body", "model", "module", "state_dict"}
# Of a network: several times as many as the deepest that was published has.
MOST_LAYERS = 100


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
        """The numbers, sorted, for which a name fits: `"rnns.{}.bias"`.

        Raises:
            CheckpointError: They are more than layers of any network: each
                would be built before it can be missed that it is not whole.
        """
        start, end = pattern.split("{}")
        found = [
            name[len(start) : len(name) - len(end)]
            for name in self.arrays
            if name.startswith(start) and name.endswith(end)
        ]
        if len(found) > MOST_LAYERS:
            raise self.error(
                f"it has {len(found)} tensors like {pattern.format(0)}, and "
                f"may have {MOST_LAYERS}"
            )
        return sorted(int(n) for n in found if n.isascii() and n.isdigit())

    def require(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuses the file, before anything is built of it.

        Args:
            shapes: Of the tensors that a network needs, by name.

        Raises:
            CheckpointError: One is missing, or has another shape.
        """
        for name, shape in shapes.items():
            if name not in self or self.arrays[name].shape != shape:
                self._miss(name, shape)
        self._refuse_missing()

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
        self._refuse_missing()

    def error(self, text: str) -> CheckpointError:
        """An error that names the file and carries the report."""
        error = CheckpointError(
            f"{self.report.path} is no {self.report.format} file: {text}"
        )
        error.report = self.report
        return error

    def _refuse_missing(self) -> None:
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

    def _use(self, name: str) -> None:
        self.unused.pop(self.originals[name], None)

    def _miss(self, name: str, shape: Sequence[int] | None) -> None:
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
