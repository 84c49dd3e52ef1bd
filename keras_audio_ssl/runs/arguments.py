"""What a run was asked for."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from keras_audio_ssl._optional import need
from keras_audio_ssl._types import FilePath
from keras_audio_ssl.methods import METHODS


@dataclass(frozen=True)
class Arguments:
    """The arguments of `pretrain`, of which those are refused that cannot be.

    What takes Keras to know is refused later, by `prepare`. `fitted` is none
    of them: whether the preset was chosen for this machine, and the steps,
    where none are given, follow the data.

    Raises:
        ValueError: Names the argument.
        ImportError: It needs a package that is not installed.
    """

    method: str
    data: Any
    output: Path
    preset: str | None = None
    epochs: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    seconds: float | None = None
    seed: int = 0
    workers: int = 2
    init_from: FilePath | None = None
    checkpoint_every: int = 500
    resume: bool = False
    overwrite: bool = False
    tensorboard: bool = False
    where: Any = None
    alignments: FilePath | None = None
    label: str | None = None
    label_fraction: float = 1.0
    isolate: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    say: Callable[[str], object] = print
    progress: bool = True
    fitted: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(
                f"`method` must be one of {', '.join(sorted(METHODS))}. "
                f"Received: {self.method!r}"
            )
        if self.output.suffix != ".keras":
            raise ValueError(
                f"`output` must end in .keras. Received: {self.output}"
            )
        for name in ("epochs", "steps", "batch_size", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and (value != int(value) or value < 1):
                raise ValueError(
                    f"`{name}` must be a whole number, 1 or more. "
                    f"Received: {value}"
                )
        if not 0 < self.label_fraction <= 1:
            raise ValueError(
                "`label_fraction` must be more than 0, and at most 1. "
                f"Received: {self.label_fraction}"
            )
        if self.tensorboard:
            need("tensorboardX", "`tensorboard=True`")
        if self.label_fraction < 1 and self.label is None:
            raise ValueError("`label_fraction` needs a `label`.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(
                "`seed` must not be negative, and less than 2**32. "
                f"Received: {self.seed}"
            )
        for one, other, both in (
            ("`epochs`", "`steps`", self.epochs and self.steps),
            ("`resume=True`", "`overwrite=True`",
             self.resume and self.overwrite),
            ("`init_from`", '`settings["encoder"]`',
             self.init_from and "encoder" in self.settings),
            # A trained encoder computes in its own.
            ("`init_from`", '`settings["dtype"]`',
             self.init_from and "dtype" in self.settings),
        ):  # fmt: skip
            if both:
                raise ValueError(f"Give {one} or {other}, not both.")
        if not isinstance(self.data, (str, os.PathLike)):
            for name in (
                "batch_size", "seconds", "where", "label", "isolate",
                "alignments",
            ):  # fmt: skip
                if getattr(self, name):
                    raise ValueError(
                        f"`{name}` is for a folder or a manifest as `data`: "
                        "a data set that is made already has its own."
                    )

    @property
    def folder(self) -> Path:
        """What a run leaves beside its encoder."""
        return self.output.with_suffix(".run")

    @property
    def lock(self) -> Path:
        """The lock file of runs to this output."""
        return self.output.with_name(f".{self.output.stem}.lock")

    def plain(self) -> dict[str, Any]:
        """What a run that goes on must be asked for again, by name."""
        data = self.data
        return {
            "method": self.method,
            "preset": self.preset,
            "settings": self.settings,
            "data": str(getattr(data, "source", data)),
            "where": self.where,
            "alignments": self.alignments and str(self.alignments),
            "label": self.label,
            "label_fraction": self.label_fraction,
            "seed": self.seed,
            "init_from": self.init_from and str(self.init_from),
        }
