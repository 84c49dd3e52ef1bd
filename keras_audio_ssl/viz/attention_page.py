"""The page of `keras-audio-ssl attention`: every head of a clip, to explore."""

import base64
from typing import Any

import numpy as np

from keras_audio_ssl._text import printable
from keras_audio_ssl._types import Size
from keras_audio_ssl.viz.charts import columns
from keras_audio_ssl.viz.charts import scatter
from keras_audio_ssl.viz.kit import render
from keras_audio_ssl.viz.pictures import MAGMA
from keras_audio_ssl.viz.pictures import frame_shades
from keras_audio_ssl.viz.pictures import wav_uri

BANDS = 64  # of the spectrogram on the axes
CATEGORIES = {
    "global": "attend to nearly all frames alike",
    "vertical": "pick the same frames for every query",
    "diagonal": "look at their neighbours",
}
BLANK = -32768  # of the relation of phonemes, where there is none
WORDS = {
    "Query, key": "the frame that looks, and the frame it looks at. The "
    "weights of a query add up to 1.",
    "Globalness": "mean entropy of a query's weights, in nats: at most the "
    "logarithm of the number of frames, for uniform attention.",
    "Verticality": "minus the entropy of the mean weights, in nats: 0 where "
    "every query looks at one and the same frame.",
    "Diagonality": "minus the mean distance of query and key, as a share of "
    "the clip: 0 where each frame looks at itself.",
    "Category": "the list, of global, vertical and diagonal heads, in which a "
    "head stands best.",
    "Largest weight": "of a query, on average.",
    "Reach": "the smallest distance of query and key within which 90 % of the "
    "weight lies.",
    "Span": "weights further from the query are cut, and the rest "
    "renormalised.",
    "Relation of phones": "weight from the frames of one phone to those of "
    "another, over what uniform attention would give, less 1: 0 as uniform, "
    "-1 never.",
}


def attention_page(clip: Any, when: str = "") -> str:
    """Draws the maps of a clip as one HTML file.

    Args:
        clip: `keras_audio_ssl.evaluation.ClipAttention`.
        when: Date and time, in words.

    Returns:
        The page's text; it grows with heads x frames x frames, 4 bytes for 3
        weights.
    """
    layers, heads, frames, _ = clip.maps.shape
    rows = clip.rows()
    names = [name_of(row) for row in rows]
    categories = [row["category"] for row in rows]
    numbers = {
        "Length": f"{clip.shown_seconds:.2f} s",
        "Frames": f"{frames:,}",
        "Layers": f"{layers:,}",
        "Heads": f"{len(rows):,}",
        **{
            category.capitalize(): f"{categories.count(category):,}"
            for category in CATEGORIES
        },
    }
    if clip.phones:
        numbers["Phones"] = f"{len(clip.phones):,}"
    lead = f"What {layers} x {heads} heads of {clip.encoder} look at."
    return render(
        "attention.html",
        script="attention.js",
        generator="keras-audio-ssl attention",
        title=f"{clip.name}: attention of {clip.encoder}",
        name=clip.name,
        lead=lead,
        cut=clip.cut,
        numbers=numbers,
        categories=CATEGORIES,
        charts=charts(rows, names, categories, frames),
        rows=rows,
        player=wav_uri(clip.wave, clip.sample_rate),
        data=data(clip, rows, names),
        has_relation=bool(clip.study.phonemes),
        words=WORDS,
        when=when,
    )


def name_of(row: Any) -> str:
    """A head in words, counted from 1."""
    return f"layer {row['layer'] + 1}, head {row['head'] + 1}"


def charts(rows: Any, names: Any, categories: Any, frames: Size) -> list[Any]:
    """The metrics of all heads, each between what it can be."""
    values = {
        key: np.array([row[key] for row in rows])
        for key in ("globalness", "verticality", "diagonality")
    }
    most = np.log(frames) or 1.0
    # Uniform attention has a mean distance of a third.
    least = min(-1 / 3, values["diagonality"].min())
    return [
        columns("Globalness", values["globalness"], 0.0, most, names,
                categories,
                "How evenly a query looks; the top is uniform.", "nats"),
        columns("Verticality", values["verticality"], -most, 0.0, names,
                categories,
                "How much all queries look at the same; the top is one frame.",
                "nats"),
        columns("Diagonality", values["diagonality"], least, 0.0, names,
                categories,
                "How near a query looks; the top is at itself."),
        scatter("Global or diagonal", values["globalness"],
                values["diagonality"], "globalness", "diagonality", names,
                categories),
    ]  # fmt: skip


def data(clip: Any, rows: Any, names: Any) -> dict[str, Any]:
    """What the page's script reads, plain values."""
    maps = clip.maps.reshape(-1, *clip.maps.shape[2:])
    packed, scales = zip(*map(pack, maps), strict=True)
    frames = maps.shape[-1]
    shades = frame_shades(
        clip.wave, clip.sample_rate, frames, clip.frame_rate, BANDS
    )
    return {
        "layers": clip.maps.shape[0],
        "heads": clip.maps.shape[1],
        "frames": frames,
        "rate": clip.frame_rate,
        "seconds": clip.shown_seconds,
        "maps": packed,
        "scales": scales,
        "rows": rows,
        "names": names,
        "categories": list(CATEGORIES.items()),
        "phones": [[a, b, printable(name)] for a, b, name in clip.phones],
        "bands": BANDS,
        "spectrogram": coded(shades),
        "magma": MAGMA.astype(int).tolist(),
        "phonemes": [printable(name) for name in clip.study.phonemes],
        "relation": relations(clip.study),
    }


def pack(weights: Any) -> Any:
    """A map in 8 bits: square roots, so that small weights are kept too.

    Args:
        weights: `(frames, frames)`.

    Returns:
        `(base64, scale)`: a weight is `scale * (byte / 255) ** 2`.
    """
    scale = float(weights.max()) or 1.0
    return coded(np.rint(255 * np.sqrt(weights / scale)).astype("uint8")), scale


def relations(study: Any) -> list[Any]:
    """Relations of phonemes in hundredths, 16 bits, base64, for each head."""
    if not study.phonemes:
        return []
    whole = np.clip(np.rint(100 * study.relative), -100, 32767)
    whole = np.where(np.isnan(whole), BLANK, whole).astype("<i2")
    return [coded(one) for one in whole]


def coded(array: Any) -> str:
    """An array's bytes in base64, which a page's script decodes."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
