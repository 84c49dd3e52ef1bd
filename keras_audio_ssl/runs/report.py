"""What a run has led to: files, measurements, words."""

import platform
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from keras_audio_ssl._text import with_reason
from keras_audio_ssl._types import Tensor
from keras_audio_ssl.runs.arguments import Arguments
from keras_audio_ssl.runs.beside import mean_and_range
from keras_audio_ssl.runs.beside import rows_beside
from keras_audio_ssl.runs.beside import vectors_beside
from keras_audio_ssl.runs.folder import metrics_file
from keras_audio_ssl.runs.folder import write_json
from keras_audio_ssl.runs.own_audio import look_at_own_audio
from keras_audio_ssl.runs.own_audio import own_audio_in_words
from keras_audio_ssl.runs.plan import Plan
from keras_audio_ssl.runs.progress import Progress
from keras_audio_ssl.runs.progress import duration

# Clips that the closing probe on the synthetic corpus learns from, and is
# tested on; none of them is trained on. One deviation of the score is 0.02.
PROBE_CLIPS = (480, 720)


@dataclass(frozen=True)
class Run:
    """What `pretrain` returns; `print` shows it in words.

    Args:
        encoder: The trained `Encoder`; None for an estimate.
        metrics: `steps` in all; `seconds` and `clips_per_second` of this
            training, which went on at step `resumed_at` if it is there;
            number of `skipped` files; on synthetic data, scores of a
            `probe`, on other data what `look_at_own_audio` tells; for an
            estimate its costs, as `StepCost.cost`.
        output: The encoder's file.
        folder: What lies beside it: `config.json`, `history.csv`,
            `skipped.csv`, `metrics.json`, `checkpoints/`.
        words: The same for a person.

    Example:
        What became of a folder of recordings::

            run = kas.pretrain("cola", "my_audio", "cola.keras")
            print(run)
            run.encoder.embed("clip.flac")
    """

    encoder: Any
    metrics: dict[str, Any]
    output: Path
    folder: Path
    words: str = field(default="", repr=False)

    def __str__(self) -> str:
        return self.words


def export_files(model: Any, output: Path) -> dict[Path, Any]:
    """The encoders of a model that are kept, by the file they go to."""
    return {
        output.with_name(f"{output.stem}.{name}.keras")
        if name
        else output: encoder
        for name, encoder in model.exports().items()
    }


def close(
    plan: Plan, steps_done: int, seconds: float, arguments: Arguments
) -> Run:
    """Writes the encoders and what was measured.

    Args:
        plan: `Plan`, its model trained.
        steps_done: Steps that were done before this training.
        seconds: How long this training took.
        arguments: Those of the run.

    Returns:
        `Run`.
    """
    from keras_audio_ssl.hub import save_encoder

    model, data = plan.model, plan.data
    for path, encoder in export_files(model, arguments.output).items():
        save_encoder(encoder, path)
    data.write_skipped(arguments.folder / "skipped.csv")
    metrics = {
        "steps": plan.steps,
        "seconds": seconds,
        "clips_per_second": (plan.steps - steps_done)
        * data.batch_size
        / seconds,
        "skipped": len(data.skipped),
    }
    if steps_done:
        metrics["resumed_at"] = steps_done
    if isinstance(arguments.data, str) and arguments.data == "synthetic":
        arguments.say("probing the encoder on synthetic clips it has not seen")
        metrics["probe"] = probe_synthetic(model.encoder, arguments)
    else:
        own = look_at_own_audio(model.encoder, data, arguments)
        if own is not None:
            metrics["own_audio"] = own
    write_json(metrics_file(arguments.folder), metrics)
    return finished(model.encoder, metrics, data.skipped, arguments)


def finished(
    encoder: Any,
    metrics: dict[str, Any],
    skipped: list[tuple[str, str]],
    arguments: Arguments,
) -> Run:
    """A `Run` that came to its end."""
    return Run(
        encoder,
        metrics,
        arguments.output,
        arguments.folder,
        in_words(metrics, skipped, arguments.output, arguments.folder),
    )


def probe_synthetic(encoder: Any, arguments: Arguments) -> dict[str, Any]:
    """A linear probe of this encoder, itself untrained, and log-mels.

    Args:
        encoder: Trained.
        arguments: Those of the run.

    Returns:
        Dict of the accuracies `trained`, `untrained` (the mean of the
        `untrained_draws`) and `log_mel_statistics`, of the number of
        `classes`, and of `clips` that were tested.
    """
    import numpy as np

    from keras_audio_ssl import data
    from keras_audio_ssl import evaluation

    train, test = PROBE_CLIPS
    # A seed of its own: the corpus of another seed has other clips.
    corpus = data.SyntheticCorpus(train + test, seed=arguments.seed + 10_000)
    classes = corpus.classes["label"]
    labels = [classes[i] for i in corpus.labels["label"]]
    order = np.arange(train + test)
    fold = evaluation.Fold("unseen clips", order[:train], order[train:])
    rows = rows_beside(encoder)
    scores: dict[str, list[float]] = {}
    work = len(corpus) * (1 + len(rows))
    with Progress(
        "probing", work, not arguments.progress, arguments.say
    ) as progress:

        def done(clip: Tensor) -> Tensor:
            progress.advance()
            return clip

        clips = [done(corpus[i]) for i in range(len(corpus))]
        for row, vectors in vectors_beside(
            encoder, clips, rows, progress.advance
        ):
            score = evaluation.score(
                vectors, labels, [fold],
                progress=lambda done, total: progress.advance(
                    0, f"scored {done}/{total}"
                ),
            )  # fmt: skip
            scores.setdefault(row, []).append(score.accuracy)
    draws = scores["clip_untrained"]
    return {
        "trained": scores["clip"][0],
        "untrained": sum(draws) / len(draws),
        "untrained_draws": draws,
        "log_mel_statistics": scores["log_mel"][0],
        "classes": len(classes),
        "clips": test,
    }


def probe_in_words(found: dict[str, Any]) -> list[str]:
    """Lines on what `probe_synthetic` has found."""
    from keras_audio_ssl.evaluation import comparison

    # Runs of before have one draw alone.
    draws = found.get("untrained_draws", [found["untrained"]])
    word = comparison.differ(found["trained"], draws, found["clips"])
    return [
        f"linear probe, {found['classes']} classes of sounds, unseen clips",
        f"  this encoder          {found['trained']:.3f}",
        f"  the same, untrained   {mean_and_range(draws)}",
        f"  log-mel mean and std  {found['log_mel_statistics']:.3f}",
        f"this encoder: {comparison.in_words(word)}",
        comparison.draws_in_words(len(draws)),
    ]


def in_words(
    metrics: dict[str, Any],
    skipped: list[tuple[str, str]],
    output: Path,
    folder: Path,
) -> str:
    """What a run has led to, for a person."""
    resumed = metrics.get("resumed_at", 0)
    after = f", after {resumed} before" if resumed else ""
    time_ = duration(metrics["seconds"])
    lines = [
        f"{metrics['steps'] - resumed} steps{after} in {time_}, "
        f"{metrics['clips_per_second']:.0f} clips/s"
    ]
    if skipped:
        lines.append(
            f"{len(skipped)} files were skipped, see {folder / 'skipped.csv'}:"
        )
        lines += [f"  {with_reason(*pair)}" for pair in skipped[:5]]
    if "probe" in metrics:
        lines += probe_in_words(metrics["probe"])
    if "own_audio" in metrics:
        lines += own_audio_in_words(metrics["own_audio"])
    return "\n".join([*lines, f"encoder  {output}", f"run      {folder}"])


def versions() -> dict[str, str]:
    """What the run was made with."""
    import keras
    import numpy

    import keras_audio_ssl
    import keras_audio_ssl.backend as backend

    name = backend.name()
    return {
        "keras_audio_ssl": keras_audio_ssl.__version__,
        "keras": keras.__version__,
        "backend": name,
        name: __import__(name).__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }
