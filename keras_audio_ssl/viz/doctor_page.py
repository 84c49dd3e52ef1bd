"""The page of `keras-audio-ssl doctor`: one HTML file that needs no other."""

from typing import Any

from keras_audio_ssl._text import printable as printable
from keras_audio_ssl.viz.charts import bars
from keras_audio_ssl.viz.charts import histogram
from keras_audio_ssl.viz.kit import render
from keras_audio_ssl.viz.pictures import MAGMA as MAGMA
from keras_audio_ssl.viz.pictures import png_uri as png_uri
from keras_audio_ssl.viz.pictures import spectrogram_png
from keras_audio_ssl.viz.pictures import wav_uri
from keras_audio_ssl.viz.pictures import wave_outline

SHOWN = 50  # rows of a table; the rest is in the JSON
SEVERITIES = {
    "skipped": "Skipped in training",
    "check": "Worth a look",
    "note": "Good to know",
}
WORDS = {
    "Level": "root mean square of a file after its channels are averaged, "
    "in dB below full scale (1.0).",
    "Silent": "20 ms windows below -60 dBFS.",
    "Clipped": "three or more equal samples in a row at a channel's own "
    "peak, entered or left by a step. What was clipped before a lossy "
    "coding or a change of the sample rate is not found.",
    "Bandwidth": "where the mean spectrum falls by 25 dB within a small "
    "part of an octave and stays down; half of the sample rate where it "
    "does not.",
    "Duplicates": "the decoded samples are equal: WAV and FLAC of one "
    "sound are, an MP3 of it is not.",
}


def doctor_page(
    summary: Any, histograms: Any, clips: Any, when: str = ""
) -> str:
    """Draws what was found in a folder of audio as one HTML file.

    Every text is escaped: names of files come from strangers.

    Args:
        summary: Dict with the numbers, findings and advice.
        histograms: List of dicts: `title`, `values` (an array), `unit`,
            `text` (a sentence below the title), and perhaps `log` for a
            logarithmic axis.
        clips: List of dicts: `name`, `level` and `title` (of a finding),
            `text`, `wave` (float32 `(samples,)`), `rate` (Hz), and `sound`
            and `sound_rate`, the same to be listened to.
        when: Date and time, in words.

    Returns:
        The page's text.
    """
    kinds = sum(f["level"] in SEVERITIES for f in summary["findings"])
    few = {0: "Nothing to remark.", 1: "One kind of finding."}
    charts = [histogram(**h) for h in histograms if len(h["values"])]
    counted = {
        "Sample rate": summary["rates"],
        "Channels": summary["channels"],
        "Format": summary["formats"],
        **{f"Clips by {name}": n for name, n in summary["folds"].items()},
        "Classes": summary["classes"],
    }
    charts += [bars(title, counts) for title, counts in counted.items()]
    return render(
        "doctor.html",
        generator="keras-audio-ssl doctor",
        title=f"{summary['source']}: audio check",
        lead=few.get(kinds, f"{kinds} kinds of findings."),
        summary={
            **summary,
            "advice": [{"command": "", **a} for a in summary["advice"]],
        },
        severities=SEVERITIES,
        most_rows=SHOWN,
        charts=charts,
        clips=[
            {
                **clip,
                "top": f"{clip['rate'] / 2000:g} kHz",
                "outline": wave_outline(clip["wave"]),
                "picture": spectrogram_png(clip["wave"], clip["rate"]),
                "player": wav_uri(clip["sound"], clip["sound_rate"]),
            }
            for clip in clips
        ],
        words=WORDS,
        when=when,
    )
