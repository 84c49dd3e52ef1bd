"""Scores of vectors with labels: folds, choice of C, the result."""

import dataclasses
import math
import time
import warnings
from collections import Counter
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_audio_ssl._text import LONGEST
from keras_audio_ssl._text import printable
from keras_audio_ssl._text import some_skipped
from keras_audio_ssl.evaluation.folds import Fold
from keras_audio_ssl.evaluation.folds import divide
from keras_audio_ssl.evaluation.logistic_regression import Logistic
from keras_audio_ssl.evaluation.nearest_neighbours import Neighbours

CLASSIFIERS: dict[str, Any] = {"logistic": Logistic, "knn": Neighbours}
SEEN = ("unseen", "seen unlabelled")
# C is chosen on at most so many examples, in so many parts (fewer where there
# are more examples) and steps: on frames the choice would else take ten times
# as long as the classifier itself.
CHOICE_EXAMPLES = 4000
CHOICE_PARTS = (5, 3)
CHOICE_STEPS = 200


def wilson(p: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share.

    Args:
        p: The share, 0 to 1.
        n: Of how many.

    Returns:
        Its ends.
    """
    z = 1.96
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    spread = p * (1 - p) / n + z**2 / (4 * n**2)
    half = z * math.sqrt(spread) / (1 + z**2 / n)
    return max(middle - half, 0.0), min(middle + half, 1.0)


@dataclasses.dataclass
class ProbeResult:
    """How well a simple classifier reads labels off frozen embeddings.

    Attributes:
        task: What was probed.
        accuracy: Mean over the folds, 0 to 1.
        balanced_accuracy: Mean over the classes of the share recognised, all
            folds together.
        per_fold: Accuracy of each fold.
        chosen: C (or k) chosen for each fold on its training examples.
        n: Test examples, all folds together.
        classes: Names of the classes.
        confusion: `(classes, classes)` counts, rows are the true classes.
        classifier: `"logistic"` or `"knn"`.
        dim: Values of an embedding.
        seconds: Time of the probe, without the embedding.
        embedding_seconds: Time spent reading and embedding.
        seen: `"unseen"`, `"seen unlabelled"` (the audio was part of the
            pretraining) or None where it was not said.
        skipped: `(file, reason)` of what could not be used.
        unlearnt: Test examples of a class that their fold's training
            examples lack; they count as errors.
        frame_accuracy: Of frame probes, accuracy over all frames.
        frames: Of frame probes, how many frames that is.
    """

    task: str
    accuracy: float
    balanced_accuracy: float
    per_fold: dict[str, float]
    chosen: dict[str, float]
    n: int
    classes: list[str]
    confusion: np.ndarray
    classifier: str = "logistic"
    dim: int = 0
    seconds: float = 0.0
    embedding_seconds: float = 0.0
    seen: str | None = None
    skipped: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    unlearnt: int = 0
    frame_accuracy: float | None = None
    frames: int = 0

    @property
    def chance(self) -> float:
        """Accuracy of always answering the most frequent class."""
        return float(self.confusion.sum(axis=1).max() / self.n)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy, by Wilson's formula.

        It takes the test examples as independent: where many are of one
        speaker or recording, the truth is wider.
        """
        return wilson(self.accuracy, self.n)

    def to_dict(self, confusion: bool = True) -> dict[str, Any]:
        """The result as JSON can hold it.

        Args:
            confusion: Whether to include the confusion matrix.
        """
        out = {**dataclasses.asdict(self), "chance": self.chance}
        out["interval"] = list(self.interval)
        out["confusion"] = self.confusion.tolist()
        out["skipped"] = [list(item) for item in self.skipped]
        if not confusion:
            del out["confusion"]
        return out

    def __str__(self) -> str:
        model = CLASSIFIERS[self.classifier]
        lines = [
            f"{self.task}: accuracy {self.accuracy:.3f}"
            + (
                ""
                if self.frame_accuracy is None
                else f", over all {self.frames} frames "
                f"{self.frame_accuracy:.3f}"
            ),
            f"  balanced {self.balanced_accuracy:.3f}, most frequent class "
            f"{self.chance:.3f}; {self.n} examples, "
            f"{len(self.classes)} classes",
            f"  {model.name} on {self.dim} values, "
            f"{self.seconds + self.embedding_seconds:.1f} s",
            f"  audio in pretraining: {self.seen or 'not said'}",
        ]
        if len(self.per_fold) > 1:
            lines.insert(2, "  folds: " + listed(self.per_fold, ".3f"))
        lines.insert(-2, f"  {model.symbol}: " + listed(self.chosen, "g"))
        if self.unlearnt:
            lines.append(
                f"  {self.unlearnt} examples are of classes that their "
                "training part lacks, and count as errors"
            )
        return "\n".join(lines + self.skipped_in_words())

    def skipped_in_words(self) -> list[str]:
        """Lines on what could not be used, if there is something."""
        if not self.skipped:
            return []
        lines = [f"  skipped {len(self.skipped)}: {some_skipped(self.skipped)}"]
        often = Counter(why for _, why in self.skipped).most_common(3)
        lines += [
            f"    {count} of them: {printable(why, LONGEST)}"
            for why, count in often
            if count > 1
        ]
        return lines


def score(
    x: np.ndarray,
    labels: Sequence[str],
    folds: list[Fold],
    groups: np.ndarray | None = None,
    classifier: str = "logistic",
    grid: Sequence[float] | None = None,
    seed: int = 0,
    task: str = "probe",
    progress: Callable[[int, int], None] | None = None,
) -> ProbeResult:
    """Probes vectors, fold by fold.

    Args:
        x: `(examples, dim)`.
        labels: A name for each example.
        folds: Divisions of the examples.
        groups: `(examples,)`; examples of one group stay together when the
            training part is divided for the choice of C.
        classifier: `"logistic"` or `"knn"`.
        grid: Values of C (or k); the classifier's if None.
        seed: Of the divisions.
        task: Title of the result.
        progress: Called with (parts done, parts in all): a fold has one, and
            one for each division of its training part.

    Returns:
        A `ProbeResult`.

    Raises:
        ValueError: The training part of a fold holds one class only, or there
            is no such classifier or value to choose.
    """
    began = time.perf_counter()
    model, grid = check_classifier(classifier, grid)
    classes, y = np.unique(np.asarray(labels), return_inverse=True)
    truths, answers = [], []
    per_fold, chosen, unlearnt = {}, {}, 0
    inner = len(grid) > 1 and CHOICE_PARTS[False]
    work = len(folds) * (inner + 1)
    told = progress or (lambda done, total: None)
    for number, fold in enumerate(folds):
        done = number * (inner + 1)
        told(done, work)
        if len(np.unique(y[fold.train])) < 2:
            raise ValueError(
                f"The training part of fold {fold.name!r} holds one class "
                "only, a probe needs at least 2."
            )
        train, test = model.prepare(x[fold.train], x[fold.test])
        inner_groups = None if groups is None else groups[fold.train]
        best = grid[0]
        if len(grid) > 1 and fold.inner is not None:
            learn, validate = fold.inner
            a, b = model.prepare(x[learn], x[validate])
            predicted = model.predict(a, y[learn], b, grid, CHOICE_STEPS)
            best = best_of(grid, (predicted == y[validate]).sum(axis=1))
        elif len(grid) > 1:
            best = choose(
                model, train, y[fold.train], inner_groups, grid, seed,
                lambda part, at=done: told(at + part, work),
            )  # fmt: skip
        told(done + inner, work)
        answer = model.predict(train, y[fold.train], test, [best])[0]
        true = y[fold.test]
        truths.append(true)
        answers.append(answer)
        per_fold[fold.name] = float(np.mean(answer == true))
        chosen[fold.name] = float(best)
        unlearnt += int(np.sum(~np.isin(true, y[fold.train])))
    told(work, work)
    confusion, balanced = confusion_of(
        np.concatenate(truths), np.concatenate(answers), len(classes)
    )
    return ProbeResult(
        task=task,
        accuracy=float(np.mean(list(per_fold.values()))),
        balanced_accuracy=balanced,
        per_fold=per_fold,
        chosen=chosen,
        n=int(confusion.sum()),
        classes=[str(name) for name in classes],
        confusion=confusion,
        classifier=classifier,
        dim=x.shape[1],
        seconds=time.perf_counter() - began,
        unlearnt=unlearnt,
    )


def confusion_of(
    true: np.ndarray, answer: np.ndarray, classes: int
) -> tuple[np.ndarray, float]:
    """What was taken for what.

    Args:
        true: `(examples,)`, classes by their numbers.
        answer: `(examples,)`, likewise.
        classes: How many there are.

    Returns:
        Counts `(classes, classes)`, and the mean over the true classes of the
        share recognised.
    """
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.metrics import confusion_matrix

    with warnings.catch_warnings():
        # Classes that are answered and not tested, or many for the examples.
        warnings.simplefilter("ignore", UserWarning)
        counts = confusion_matrix(true, answer, labels=np.arange(classes))
        return counts, float(balanced_accuracy_score(true, answer))


def choose(
    model: Any,
    x: np.ndarray,
    y: np.ndarray,
    groups: np.ndarray | None,
    grid: Sequence[float],
    seed: int,
    told: Callable[..., object],
) -> float:
    """The C (or k) that does best in divisions of the training examples."""
    # Not by `GridSearchCV`: it averages the folds whatever their size, which
    # chose another C on spoken digits, and fits each C anew, which took a
    # third longer.
    from sklearn.model_selection import PredefinedSplit

    kept = np.arange(len(x))
    many = len(x) > CHOICE_EXAMPLES
    if many:
        rng = np.random.default_rng(seed)
        kept = np.sort(rng.choice(len(x), CHOICE_EXAMPLES, replace=False))
    right = np.zeros(len(grid))
    groups = None if groups is None else groups[kept]
    part = divide(y[kept], groups, CHOICE_PARTS[many], seed)
    for number, sides in enumerate(PredefinedSplit(part).split(), 1):
        train, test = (kept[side] for side in sides)
        predicted = model.predict(
            x[train], y[train], x[test], grid, CHOICE_STEPS
        )
        right += (predicted == y[test]).sum(axis=1)
        told(number)
    return best_of(grid, right)


def best_of(grid: Sequence[float], right: np.ndarray) -> float:
    """The best value; of equal ones the first, which is the simplest."""
    return grid[int(np.argmax(right))]


def check_classifier(
    classifier: str, grid: Sequence[float] | None
) -> tuple[Any, list[float]]:
    """The classifier of a name, and the values to choose from, rising.

    Args:
        classifier: A key of `CLASSIFIERS`.
        grid: Values of C (or k); None for the classifier's own.

    Raises:
        ValueError: There is no such classifier, or a value is not positive.
    """
    if classifier not in CLASSIFIERS:
        raise ValueError(
            f"`classifier` must be one of {', '.join(CLASSIFIERS)}. "
            f"Received: {classifier!r}"
        )
    model = CLASSIFIERS[classifier]
    values = list(model.grid if grid is None else grid)
    if not values or any(not value > 0 for value in values):
        raise ValueError(
            f"`grid` must hold positive values of {model.symbol}. "
            f"Received: {grid}"
        )
    return model, sorted(values)


def check_seen(seen: str | None) -> None:
    """Raises `ValueError` for what is neither None nor one of `SEEN`."""
    if seen is not None and seen not in SEEN:
        raise ValueError(
            f"`seen` must be one of {', '.join(map(repr, SEEN))} or None. "
            f"Received: {seen!r}"
        )


def listed(values: dict[str, float], form: str) -> str:
    """Up to 12 values with their names, in words."""
    shown = [
        f"{printable(k, LONGEST)} {v:{form}}"
        for k, v in list(values.items())[:12]
    ]
    more = len(values) - len(shown)
    return ", ".join(shown) + (f", and {more} more" if more > 0 else "")
