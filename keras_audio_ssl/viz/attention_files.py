"""What `keras-audio-ssl attention` writes: pictures, a table, a page."""

import os
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_audio_ssl._files import as_json
from keras_audio_ssl._files import write_table
from keras_audio_ssl._files import write_text
from keras_audio_ssl._files import written_whole
from keras_audio_ssl._types import FilePath
from keras_audio_ssl.viz import figures
from keras_audio_ssl.viz.attention_page import BANDS
from keras_audio_ssl.viz.attention_page import attention_page
from keras_audio_ssl.viz.pictures import frame_shades

PAGE = "attention.html"
DPI = 110


def write_attention(
    clip: Any,
    folder: FilePath,
    when: str = "",
    progress: Callable[..., Any] | None = None,
) -> Any:
    """Writes what the heads of a clip look at.

    `attention.html`, the page; `heads.csv` and `heads.json`, the table;
    `heads.png`, all maps; `metrics.png`; and a picture of each head,
    `layer_01_head_01.png` and so on, with the spectrogram on its axes.
    Pictures of other heads that are there are removed.

    Args:
        clip: `keras_audio_ssl.evaluation.ClipAttention`.
        folder: Where; it is made.
        when: Date and time, in words, for the page.
        progress: Called with (pictures done, pictures in all).

    Returns:
        Paths of what was written, the page first.
    """
    folder, rows = Path(folder), clip.rows()
    os.makedirs(folder, exist_ok=True)
    written = [folder / PAGE, folder / "heads.csv", folder / "heads.json"]
    write_text(written[0], attention_page(clip, when))
    head = tuple(rows[0])
    write_table(written[1], head, (tuple(row.values()) for row in rows))
    write_text(written[2], as_json(summary(clip, rows)))
    total = len(rows) + 2
    for name, figure in pictures(clip, rows):
        written.append(folder / name)
        with written_whole(written[-1]) as draft:
            figure.savefig(draft, dpi=DPI)
        if progress is not None:
            progress(len(written) - 3, total)
    # Of heads that another encoder had.
    for old in set(folder.glob("layer_*_head_*.png")) - set(written):
        old.unlink()
    return written


def summary(clip: Any, rows: Any = None) -> dict[str, Any]:
    """The numbers of a clip, plain values.

    Args:
        clip: `keras_audio_ssl.evaluation.ClipAttention`.
        rows: Its table, where it is there already.

    Returns:
        A dict that JSON can hold.
    """
    layers, heads, frames, _ = clip.maps.shape
    return {
        "clip": clip.name,
        "encoder": clip.encoder,
        "seconds": round(clip.seconds, 6),
        "shown_seconds": round(clip.shown_seconds, 6),
        "cut": clip.cut,
        "frame_rate": clip.frame_rate,
        "frames": frames,
        "layers": layers,
        "heads_per_layer": heads,
        "phones": clip.study.phonemes,
        "heads": clip.rows() if rows is None else rows,
    }


def pictures(clip: Any, rows: Any) -> Iterator[Any]:
    """Yields `(name of the file, figure)`."""
    yield "heads.png", figures.attention_grid(clip.maps, rows)
    yield "metrics.png", figures.metric_bars(rows)
    maps = clip.maps.reshape(-1, *clip.maps.shape[2:])
    shades = frame_shades(
        clip.wave, clip.sample_rate, maps.shape[-1], clip.frame_rate, BANDS
    )
    relative = clip.study.relative if clip.study.phonemes else None
    for i, (one, row) in enumerate(zip(maps, rows, strict=True)):
        layer, head = row["layer"] + 1, row["head"] + 1
        relation = None
        if relative is not None:
            relation = (relative[i], clip.study.phonemes)
        yield (
            f"layer_{layer:02}_head_{head:02}.png",
            figures.attention_map(
                one, shades, clip.frame_rate, clip.phones,
                f"{clip.name}: layer {layer}, head {head}, {row['category']}",
                relation,
            ),
        )  # fmt: skip
