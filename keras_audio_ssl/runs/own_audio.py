"""What an encoder makes of the audio it was trained on, without labels."""

from typing import Any

from keras_audio_ssl._types import Tensor
from keras_audio_ssl.runs.arguments import Arguments
from keras_audio_ssl.runs.progress import Progress

# Clips that are looked at, and seconds of a half of one.
CLIPS, SECONDS = 128, 5.0
BLOCK = 32


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
        Dict of `clips`, and for `trained` and `untrained` dicts of
        `effective_rank` and `own_half_nearest`, a share; None where fewer
        than four clips can be halved.
    """
    import numpy as np

    from keras_audio_ssl import evaluation
    from keras_audio_ssl.evaluation import geometry

    halves = read_halves(data, encoder)
    if len(halves) < 4:
        return None
    clips = len(halves)
    waves = [half for pair in zip(*halves, strict=True) for half in pair]
    out = {"clips": clips, "dim": encoder.dim}
    rows = {"trained": encoder, "untrained": evaluation.untrained(encoder)}
    work = len(rows) * len(waves)
    with Progress(
        "looking", work, not arguments.progress, arguments.say
    ) as progress:
        for name, one in rows.items():
            parts = []
            for at in range(0, len(waves), BLOCK):
                parts.append(one.embed(waves[at : at + BLOCK]))
                progress.advance(len(parts[-1]))
            x = np.concatenate(parts)
            if not np.isfinite(x).all():
                return None
            same = np.tile(np.arange(clips), 2)
            out[name] = {
                "effective_rank": geometry.effective_rank(x[:clips]),
                "own_half_nearest": geometry.neighbour_accuracy(x, same),
            }
    return out


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
    chance = 1 / (2 * found["clips"] - 1)
    lines = [
        f"{found['clips']} of your clips, each cut in two: how often the "
        f"nearest of all halves is its own (chance {chance:.3f}), and the "
        f"effective rank (of {found['dim']})"
    ]
    for name, title in (
        ("trained", "this encoder"),
        ("untrained", "the same, untrained"),
    ):
        row = found[name]
        lines.append(
            f"  {title:<20}  {row['own_half_nearest']:.3f}   "
            f"{row['effective_rank']:.1f}"
        )
    return lines
