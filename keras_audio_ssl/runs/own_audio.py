"""What an encoder makes of the audio it was trained on, without labels."""

from typing import Any

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.runs.arguments import Arguments
from keras_audio_ssl.runs.beside import mean_and_range
from keras_audio_ssl.runs.beside import rows_beside
from keras_audio_ssl.runs.beside import vectors_beside
from keras_audio_ssl.runs.progress import Progress

# Clips that are looked at, and seconds of a half of one.
CLIPS, SECONDS = 128, 5.0


def look_at_own_audio(
    encoder: Any, data: Any, arguments: Arguments
) -> dict[str, Any] | None:
    """Effective rank and nearest neighbours, beside the encoder untrained.

    Each clip is cut in two: the nearest of all other halves should be its
    own.

    Args:
        encoder: Trained.
        data: `AudioDataset`.
        arguments: Those of the run.

    Returns:
        Dict of `clips` and `dim`; for `trained`, for each of the
        `untrained_draws` of random weights, and for `untrained`, their mean,
        a dict of `effective_rank` and `own_half_nearest`, a share; None where
        fewer than four clips can be halved.
    """
    import numpy as np

    from keras_audio_ssl.evaluation import geometry

    halves = read_halves(data, encoder)
    if len(halves) < 4:
        return None
    clips = len(halves)
    waves = [half for pair in zip(*halves, strict=True) for half in pair]
    same = np.tile(np.arange(clips), 2)
    rows = [row for row in rows_beside(encoder) if row != "log_mel"]
    found: dict[str, list[dict[str, float]]] = {}
    work = len(rows) * len(waves)
    with Progress(
        "looking", work, not arguments.progress, arguments.say
    ) as progress:
        for row, x in vectors_beside(encoder, waves, rows, progress.advance):
            if not np.isfinite(x).all():
                return None
            one = {
                "effective_rank": geometry.effective_rank(x[:clips]),
                "own_half_nearest": geometry.neighbour_accuracy(x, same),
            }
            found.setdefault(row, []).append(one)
    trained, draws = found["clip"][0], found["clip_untrained"]
    return {
        "clips": clips,
        "dim": encoder.dim,
        "trained": trained,
        "untrained": {
            name: sum(draw[name] for draw in draws) / len(draws)
            for name in trained
        },
        "untrained_draws": draws,
    }


def read_halves(data: Any, encoder: Any) -> list[tuple[Tensor, Tensor]]:
    """Both halves of some clips, `[(wave, wave)]`, from all over the data."""
    import numpy as np

    from keras_audio_ssl.data import AudioError

    count = data.num_clips
    some = np.unique(np.linspace(0, count - 1, min(count, CLIPS)).astype(int))
    most = round(SECONDS * encoder.sample_rate)
    halves = []
    for clip in some.tolist():
        try:
            wave = data.read_clip(clip, encoder.sample_rate, 2 * SECONDS)
        except AudioError:
            continue
        half = min(len(wave) // 2, most)
        if half >= min(encoder.min_samples, most):
            halves.append((wave[:half], wave[half : 2 * half]))
    return halves


def own_audio_in_words(found: dict[str, Any]) -> list[str]:
    """Lines on what `look_at_own_audio` has found."""
    from keras_audio_ssl.evaluation import comparison

    chance = 1 / (2 * found["clips"] - 1)
    lines = [
        f"{found['clips']} of your clips, each cut in two: how often the "
        f"nearest of all halves is its own (chance {chance:.3f}), and the "
        f"effective rank (of {found['dim']})"
    ]
    # Runs of before have one draw alone.
    trained = found["trained"]
    draws = found.get("untrained_draws", [found["untrained"]])
    shares, ranks = (
        [draw[name] for draw in draws]
        for name in ("own_half_nearest", "effective_rank")
    )
    # By clips, not by halves: where one half finds the other, the other is
    # likely to find it.
    word = comparison.differ(
        trained["own_half_nearest"], shares, found["clips"]
    )
    return [
        *lines,
        f"  {'this encoder':<20}  {trained['own_half_nearest']:<20.3f}"
        f"{trained['effective_rank']:.1f}",
        f"  {'the same, untrained':<20}  {mean_and_range(shares):<20}"
        f"{mean_and_range(ranks, 1)}",
        f"own half nearest: {comparison.in_words(word)}",
        comparison.draws_in_words(len(draws)),
    ]
