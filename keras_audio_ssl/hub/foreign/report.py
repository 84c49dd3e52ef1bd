"""What an importer did with each tensor of a checkpoint."""

from typing import Any


class ImportReport:
    """Names every tensor that was mapped, left over or missing.

    Its text is for people, `to_dict()` for machines.

    Attributes:
        format: Name of the checkpoint's format.
        path: The checkpoint.
        licence: Terms of the published files of this format.
        settings: Sizes that were read off the shapes, and settings given.
        mapped: Dicts of `"source"`, `"shape"`, `"target"`,
            `"target_shape"`.
        left_over: Dicts of `"source"`, `"shape"` and `"reason"`, None where
            there is no known reason.
        missing: Dicts of `"source"`, `"shape"` (expected, None where it
            cannot be known) and `"found"` (the shape in the file, None where
            it is absent).
        notes: Sentences on what the file does not hold.
    """

    def __init__(self, format: str, path: str, licence: str):
        self.format, self.path, self.licence = format, path, licence
        self.settings: dict[str, Any] = {}
        self.mapped: list[dict[str, Any]] = []
        self.left_over: list[dict[str, Any]] = []
        self.missing: list[dict[str, Any]] = []
        self.notes: list[str] = []

    @property
    def unexplained(self) -> list[str]:
        """Names of the left-over tensors that nobody expected."""
        return [e["source"] for e in self.left_over if e["reason"] is None]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as lists, dicts, numbers and strings."""
        return {
            "format": self.format,
            "path": self.path,
            "licence": self.licence,
            "settings": self.settings,
            "mapped": self.mapped,
            "left_over": self.left_over,
            "missing": self.missing,
            "notes": self.notes,
        }

    def __str__(self) -> str:
        settings = ", ".join(f"{k} {v}" for k, v in self.settings.items())
        lines = [
            f"{self.format}: {self.path}",
            f"  licence: {self.licence}",
            f"  settings: {settings}",
            f"mapped: {len(self.mapped)}",
        ]
        for entry in self.mapped:
            target = f"{entry['target']} {tuple(entry['target_shape'])}"
            lines.append(
                f"  {entry['source']} {tuple(entry['shape'])} -> {target}"
            )
        lines.append(f"left over: {len(self.left_over)}")
        for entry in self.left_over:
            reason = f": {entry['reason']}" if entry["reason"] else ""
            lines.append(f"  {entry['source']} {tuple(entry['shape'])}{reason}")
        lines.append(f"missing: {len(self.missing)}")
        for entry in self.missing:
            line = f"  {entry['source']}"
            if entry["shape"] is not None:
                line += f" {tuple(entry['shape'])}"
            if entry["found"] is not None:
                line += f": the file has {tuple(entry['found'])}"
            lines.append(line)
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)
