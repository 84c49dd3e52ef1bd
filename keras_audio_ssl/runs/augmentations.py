"""Each augmentation alone and each pair: what an encoder learns with them."""

import itertools
import json
from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_audio_ssl._files import as_json
from keras_audio_ssl._files import write_text
from keras_audio_ssl._types import FilePath
from keras_audio_ssl.runs.arguments import Arguments
from keras_audio_ssl.runs.plan import prepare
from keras_audio_ssl.runs.pretraining import seeded

NONE = "none"
# What a later call may have more of: accuracies are held by name and seed.
GROWING = ("augmentations", "pairs", "seeds")


class AugmentationStudy:
    """Accuracies of a probe, by the augmentations of the pretraining.

    Args:
        setting: What was the same for all, a dict.
        accuracies: Augmentations, joined by `+`, to a list of one accuracy a
            seed; `"none"` for none.
    """

    def __init__(
        self, setting: dict, accuracies: dict[str, list[float]]
    ) -> None:
        self.setting, self.accuracies = setting, accuracies

    def row(self, name: str) -> tuple[float, float]:
        """Mean accuracy of some augmentations, and half of its interval.

        95 % of the mean over seeds, by Student's distribution and a deviation
        that all augmentations have in common: two or three seeds of one tell
        nothing of their own. NaN where all have one seed.
        """
        values = np.array(self.accuracies[name])
        error, freedom = self.deviation
        if not freedom:
            return float(values.mean()), float("nan")
        from scipy.special import stdtrit

        half = stdtrit(freedom, 0.975) * error / np.sqrt(len(values))
        return float(values.mean()), float(half)

    @property
    def deviation(self) -> tuple[float, int]:
        """That of one seed from the mean of all, and degrees of freedom."""
        rows = [np.array(values) for values in self.accuracies.values()]
        squares = sum(float(np.sum((v - v.mean()) ** 2)) for v in rows)
        freedom = sum(len(v) - 1 for v in rows)
        return float(np.sqrt(squares / max(freedom, 1))), freedom

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {**self.setting, "accuracies": self.accuracies}

    def __str__(self) -> str:
        lines = []
        order = sorted(self.accuracies, key=lambda n: -self.row(n)[0])
        width = max(map(len, order))
        for name in order:
            mean, half = self.row(name)
            about = "" if np.isnan(half) else f" +- {half:.3f}"
            lines.append(f"{name:<{width}}  {mean:.3f}{about}")
        return "\n".join(lines)


def augmentation_study(
    method: str,
    data: FilePath,
    label: str,
    output: FilePath,
    *,
    augmentations: Sequence[str] | None = None,
    pairs: bool = True,
    steps: int = 300,
    seeds: int = 3,
    preset: str = "tiny",
    batch_size: int | None = None,
    where: Any = None,
    fold: str | None = None,
    split: str | None = None,
    settings: dict[str, Any] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> AugmentationStudy:
    """Pretrains with each augmentation alone and each pair, and probes.

    Each accuracy is written when it is known: the same call again goes on
    with what is missing, and one with other augmentations, pairs too or more
    seeds adds to what is there. The encoders are not kept.

    Args:
        method: Registry name of one that takes `augmentations`.
        data: Manifest (CSV) with a column `file` and one of labels.
        label: Column that is probed.
        output: JSON file to write.
        augmentations: Names; None for all that the method knows.
        pairs: Whether to try pairs too.
        steps: Of each pretraining.
        seeds: Pretrainings of each.
        preset: Of the method.
        batch_size: Clips of a step; the preset's if None.
        where: Rows to take, as for `from_manifest`.
        fold: Column, of the probe; see `evaluation.probe`.
        split: Column with train and test, of the probe.
        settings: Further arguments of the method's class.
        overwrite: Whether to begin anew where `output` is of another study.
        progress: Called with pretrainings done, all of them, and the next
            one's name.

    Returns:
        An `AugmentationStudy`.

    Raises:
        ValueError: The method takes no augmentations or not these, a number
            is not positive, or `output` holds another study.

    Example:
        With the five folds of a manifest::

            study = augmentation_study(
                "clar", "esc10/manifest.csv", "label", "clar.json", fold="fold"
            )
            print(study)
    """
    from keras_audio_ssl.methods.augmented import augmentation_names

    known = augmentation_names(method)
    names = known if augmentations is None else list(augmentations)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"`augmentations` of {method} are {', '.join(known)}. "
            f"Received: {unknown[0]!r}"
        )
    if min(steps, seeds) < 1:
        raise ValueError(
            "`steps` and `seeds` must be positive. "
            f"Received: steps={steps}, seeds={seeds}"
        )
    setting = {
        "method": method,
        "data": str(data),
        "label": label,
        "augmentations": names,
        "pairs": pairs,
        "steps": steps,
        "seeds": seeds,
        "preset": preset,
        "batch_size": batch_size,
        "where": where,
        "fold": fold,
        "split": split,
        "settings": settings or {},
    }
    found = before(Path(output), setting, overwrite)
    cells: list[tuple[str, ...]] = [(), *((n,) for n in names)]
    if pairs:
        cells += list(itertools.combinations(names, 2))
    keys = ["+".join(cell) or NONE for cell in cells]
    total = len(cells) * seeds
    done = sum(min(len(found.get(key, [])), seeds) for key in keys)
    for key, cell in zip(keys, cells, strict=True):
        for seed in range(len(found.get(key, [])), seeds):
            if progress:
                progress(done, total, key)
            score = trained_and_probed(setting, cell, seed)
            found.setdefault(key, []).append(score)
            done += 1
            study = AugmentationStudy(setting, found)
            write_text(output, as_json(study.to_dict()))
    if progress:
        progress(done, total, "")
    return AugmentationStudy(setting, found)


def before(
    output: Path, setting: dict[str, Any], overwrite: bool
) -> dict[str, list[float]]:
    """The accuracies that an earlier call has left.

    Raises:
        ValueError: They are of another study.
    """
    if overwrite or not output.exists():
        return {}
    held = json.loads(output.read_text(encoding="utf-8"))
    same = {
        k: v
        for k, v in json.loads(as_json(setting)).items()
        if k not in GROWING
    }
    if {k: held.get(k) for k in same} != same:
        raise ValueError(
            f"`output` holds another study: {output}. Give `overwrite`, or "
            "another name."
        )
    return held["accuracies"]


def trained_and_probed(
    setting: dict[str, Any], names: Sequence[str], seed: int
) -> float:
    """Accuracy after one pretraining."""
    from keras_audio_ssl import evaluation

    arguments = Arguments(
        setting["method"],
        setting["data"],
        Path("not-kept.keras"),
        preset=setting["preset"],
        steps=setting["steps"],
        batch_size=setting["batch_size"],
        seed=seed,
        where=setting["where"],
        settings={**setting["settings"], "augmentations": list(names)},
        say=lambda words: None,
    )
    with seeded(seed):
        plan = prepare(arguments)
        plan.compile_model()
        plan.model.fit(
            plan.data, steps_per_epoch=plan.steps, epochs=1, verbose=0
        )
    return evaluation.probe(
        plan.model.encoder,
        setting["data"],
        setting["label"],
        fold=setting["fold"],
        split=setting["split"],
        where=setting["where"],
        seed=seed,
        every_frame=False,
    ).accuracy
