"""The page of `keras-audio-ssl doctor`: one HTML file that needs no other."""

import base64
import html
import math
import struct
import zlib

import numpy as np

SHOWN = 50  # rows of a table; the rest is in the JSON
BARS = 12  # values of a column that get a bar of their own
BINS = 28
WIDTH, HEIGHT = 340, 150  # of a histogram, in its own units
# Eight points of matplotlib's magma, straight lines between them.
MAGMA = np.array(
    [
        (0, 0, 4), (28, 16, 68), (79, 18, 123), (129, 37, 129),
        (181, 54, 122), (229, 80, 100), (251, 135, 97), (254, 194, 135),
        (252, 253, 191),
    ],
    "float64",
)  # fmt: skip
LEVELS = {
    "skipped": "Skipped in training",
    "check": "Worth a look",
    "note": "Good to know",
}

STYLE = """
:root { color-scheme: light dark;
  --page: #f7f6f3; --card: #ffffff; --ink: #1d1b18; --soft: #5d5850;
  --line: #e3dfd8; --bar: #35679a; --track: #eeebe5; --code: #f1eee8;
  --skipped: #a3200d; --skipped-back: #fde7e2;
  --check: #7c4a03; --check-back: #fdf0cf;
  --note: #3d4f5c; --note-back: #e8eef1; }
@media (prefers-color-scheme: dark) { :root {
  --page: #14161a; --card: #1c1f24; --ink: #ebe8e2; --soft: #aaa59b;
  --line: #32363d; --bar: #7fb0df; --track: #292d33; --code: #262a30;
  --skipped: #ffb4a5; --skipped-back: #4a1d15;
  --check: #f6cf7d; --check-back: #43300d;
  --note: #b9ccd8; --note-back: #263640; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; }
header p, .soft { color: var(--soft); }
.over { margin: 0; font-size: 14px; }
h1 { margin: 2px 0 4px; font-size: 30px; line-height: 1.2;
  letter-spacing: -0.01em; overflow-wrap: anywhere; }
.lead { margin: 0; font-size: 17px; }
h2 { margin: 44px 0 14px; font-size: 20px; letter-spacing: -0.005em; }
h3 { margin: 0; font-size: 16px; }
.grid { display: grid; gap: 16px;
  grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; padding: 16px 18px; margin: 0; min-width: 0; }
.numbers { display: flex; flex-wrap: wrap; gap: 1px; margin: 26px 0 0;
  overflow: hidden;
  background: var(--line); border: 1px solid var(--line);
  border-radius: 10px; }
.numbers div { background: var(--card); padding: 14px 18px;
  flex: 1 1 128px; }
.numbers dt { color: var(--soft); font-size: 14px; }
.numbers dd { margin: 0; font-size: 24px; font-weight: 600;
  letter-spacing: -0.01em; }
.findings { margin-bottom: 12px; padding-bottom: 6px; }
.findings h3 { margin-bottom: 6px; }
.findings details { border-top: 1px solid var(--line); }
.findings details:first-of-type { border: 0; }
.findings summary { display: flex; gap: 16px; padding: 9px 0;
  list-style: none; cursor: pointer; }
.findings summary::-webkit-details-marker { display: none; }
.findings summary::before { content: ""; flex: none; width: 7px; height: 7px;
  margin: 8px 0 0 2px; border: solid var(--soft); border-width: 0 2px 2px 0;
  transform: rotate(-45deg); }
.findings details[open] > summary::before { transform: rotate(45deg);
  margin-top: 6px; }
.findings summary strong { margin-right: 4px; }
.findings summary:hover strong { text-decoration: underline; }
.findings .scroll { margin: 2px 0 14px 25px; }
.head { display: flex; flex-wrap: wrap; align-items: baseline;
  gap: 4px 10px; }
.chip { border-radius: 999px; padding: 1px 10px; font-size: 13px;
  font-weight: 600; white-space: nowrap; }
.skipped { color: var(--skipped); background: var(--skipped-back); }
.check { color: var(--check); background: var(--check-back); }
.note { color: var(--note); background: var(--note-back); }
.count { margin-left: auto; font-weight: 600;
  font-variant-numeric: tabular-nums; }
footer summary { cursor: pointer; color: var(--bar); }
:focus-visible { outline: 2px solid var(--bar); outline-offset: 2px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px;
  font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; color: var(--soft); }
th, td { padding: 5px 14px 5px 0; vertical-align: top;
  border-bottom: 1px solid var(--line); }
td.name { overflow-wrap: anywhere; min-width: 12em; }
.bars { margin-top: 8px; table-layout: fixed; }
.bars th, .bars td { border: 0; padding: 3px 0; }
.bars th { font-weight: 400; color: var(--ink); width: 38%;
  padding-right: 10px; overflow-wrap: anywhere; }
.bars td:last-child { text-align: right; width: 5.5em; }
.track { background: var(--track); border-radius: 3px; height: 10px;
  margin-top: 6px; }
.track div { background: var(--bar); border-radius: 3px; height: 10px;
  min-width: 2px; }
figcaption { font-size: 14px; color: var(--soft); }
figcaption strong { display: block; font-size: 16px; color: var(--ink);
  font-weight: 600; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; margin-top: 10px; }
svg text { fill: var(--soft); font-size: 11.5px; }
svg .bar { fill: var(--bar); }
svg .axis { stroke: var(--line); }
.clip .head { margin-bottom: 8px; }
.clip strong { font-size: 14px; }
.clip img { display: block; width: 100%; height: 96px; border-radius: 4px;
  margin-top: 4px; }
.clip svg { margin-top: 4px; }
.clip svg path { fill: var(--bar); }
.clip audio { display: block; width: 100%; height: 40px; margin-top: 10px; }
pre { background: var(--code); border-radius: 8px; padding: 12px 14px;
  overflow-x: auto; font: 14px/1.5 ui-monospace, Menlo, Consolas, monospace;
  margin: 8px 0 0; }
code { font-family: ui-monospace, Menlo, Consolas, monospace;
  font-size: 0.92em; }
.advice { list-style: none; }
.advice li { margin-bottom: 14px; }
.advice li:last-child { margin: 0; }
footer { margin-top: 48px; color: var(--soft); font-size: 14px; }
footer dt { font-weight: 600; color: var(--ink); margin-top: 8px; }
footer dd { margin: 0; max-width: 75ch; }
@media (max-width: 560px) { main { padding: 24px 16px 48px; }
  h1 { font-size: 25px; } .numbers dd { font-size: 20px; }
  .card { padding: 14px; } .findings .scroll { margin-left: 0; } }
@media print { .card { break-inside: avoid; } audio { display: none; } }
"""
# Lets a page from anywhere run no script and load nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
POLICY += "media-src data:"
GENERATOR = "keras-audio-ssl doctor"


def doctor_page(summary, histograms, clips, when=""):
    """Draws what was found in a folder of audio as one HTML file.

    Every text is escaped: names of files come from strangers.

    Args:
        summary: dict with the numbers, findings and advice.
        histograms: list of dicts: `title`, `values` (an array), `unit`,
            `text` (a sentence below the title), and perhaps `log` for a
            logarithmic axis.
        clips: list of dicts: `name`, `level` and `title` (of a finding),
            `text`, `wave` (float32 `(samples,)`), `rate` (Hz), and `sound`
            and `sound_rate`, the same to be listened to.
        when: date and time, in words.

    Returns:
        The page's text.
    """
    found = summary["findings"]
    counts = [sum(f["level"] == level for f in found) for level in LEVELS]
    body = [
        _head(summary, sum(counts)),
        "<h2>Findings</h2>",
        _findings(found) or _nothing(),
        "<h2>Distributions</h2>",
        '<div class="grid">',
        *[histogram(**h) for h in histograms if len(h["values"])],
        _bars("Sample rate", summary["rates"]),
        _bars("Channels", summary["channels"]),
        _bars("Format", summary["formats"]),
        *[
            _bars(f"Clips by {name}", sizes)
            for name, sizes in summary["folds"].items()
        ],
        _bars("Classes", summary["classes"]),
        "</div>",
    ]
    if clips:
        body += [
            "<h2>Listen</h2>",
            '<p class="soft">A few files at random, and examples of what was '
            "found: up to four seconds around the loudest sample, channels "
            "averaged, at 16 kHz. The spectrogram reaches to half of the "
            "file's own rate.</p>",
            '<div class="grid">',
            *[_clip(clip) for clip in clips],
            "</div>",
        ]
    body += ["<h2>Next</h2>", _advice(summary["advice"]), _foot(when)]
    title = html.escape(printable(f"{summary['source']}: audio check"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="generator" content="{GENERATOR}">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n"
        "<body>\n<main>\n" + "\n".join(body) + "\n</main>\n</body>\n</html>\n"
    )


def printable(text):
    """A name without control characters, bad encoding or direction marks."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
        for c in str(text)
    )


def _safe(text):
    return html.escape(printable(text))


def _number(value):
    return f"{value:,}" if isinstance(value, int) else str(value)


def _head(summary, count):
    numbers = "".join(
        f"<div><dt>{_safe(name)}</dt><dd>{_safe(value)}</dd></div>"
        for name, value in summary["headline"].items()
    )
    kinds = {0: "Nothing to remark.", 1: "One kind of finding."}
    lead = kinds.get(count, f"{count} kinds of findings.")
    return (
        f'<header>\n<p class="over">{GENERATOR}</p>\n'
        f"<h1>{_safe(summary['source'])}</h1>\n"
        f'<p class="lead">{lead}</p>\n'
        f'</header>\n<dl class="numbers">{numbers}</dl>'
    )


def _nothing():
    return (
        '<p class="card">No file is broken, silent, clipped, too short or '
        "there twice.</p>"
    )


def _findings(findings):
    """A card for each level, a row that opens for each finding."""
    cards = []
    for level, head in LEVELS.items():
        found = [f for f in findings if f["level"] == level]
        if found:
            cards.append(
                f'<section class="card findings"><h3>'
                f'<span class="chip {level}">{head}</span></h3>'
                f"{''.join(map(_finding, found))}</section>"
            )
    return "\n".join(cards)


def _finding(finding):
    files = finding["files"]
    rows = "".join(
        f'<tr><td class="name">{_safe(f["file"])}</td>'
        f"<td>{_safe(f['detail'])}</td></tr>"
        for f in files[:SHOWN]
    )
    cut = ""
    if len(files) > SHOWN:
        cut = (
            f'<p class="soft">{len(files) - SHOWN:,} more: '
            "<code>doctor --json</code> lists all of them.</p>"
        )
    return (
        "<details><summary><span><strong>"
        f"{_safe(finding['title'])}</strong> "
        f'<span class="soft">{_safe(finding["advice"])}</span></span>'
        f'<span class="count">{len(files):,}</span></summary>'
        '<div class="scroll"><table><thead><tr><th scope="col">File</th>'
        '<th scope="col">What</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{cut}</details>"
    )


def histogram(title, values, unit, text="", log=False):
    """A histogram as inline SVG, with its title and a sentence on it.

    Args:
        title: What is counted.
        values: Array of numbers.
        unit: Of the values.
        text: A sentence below the title.
        log: Whether the axis is logarithmic.

    Returns:
        HTML, a `figure`.
    """
    values = np.asarray(values, "float64")
    low, high = float(values.min()), float(values.max())
    if low == high:
        pad = abs(low) * 0.05 or 0.5
        low, high = low - pad, high + pad
    log = log and low > 0 and high > 10 * low
    edges = (
        np.geomspace(low, high, BINS + 1)
        if log
        else np.linspace(low, high, BINS + 1)
    )
    # Rounding must not leave the largest value outside.
    edges[0], edges[-1] = low, high
    counts = np.histogram(values, edges)[0]
    left, base, top = 4, HEIGHT - 22, 18
    step = (WIDTH - 2 * left) / BINS
    most = max(1, int(counts.max()))
    parts = [
        f'<line class="axis" x1="0" x2="{WIDTH}" y1="{base}" y2="{base}"/>',
        f'<text x="{left}" y="11">{most:,}</text>',
        f'<line class="axis" x1="0" x2="{WIDTH}" y1="{top}" y2="{top}"/>',
    ]
    for k, count in enumerate(counts):
        if count:
            tall = max(2.0, (base - top) * count / most)
            span = f"{edges[k]:.3g} to {edges[k + 1]:.3g} {unit}"
            parts.append(
                f'<rect class="bar" x="{left + k * step + 0.5:.1f}" '
                f'y="{base - tall:.1f}" width="{step - 1:.1f}" '
                f'height="{tall:.1f}"><title>{_safe(span)}: {count:,}'
                "</title></rect>"
            )
    for value in _ticks(low, high, log):
        part = (
            math.log(value / low) / math.log(high / low)
            if log
            else (value - low) / (high - low)
        )
        anchor = "start" if part < 0.06 else "end" if part > 0.94 else "middle"
        parts.append(
            f'<text x="{left + part * (WIDTH - 2 * left):.1f}" '
            f'y="{HEIGHT - 6}" text-anchor="{anchor}">{value:g}</text>'
        )
    return (
        f'<figure class="card"><figcaption><strong>{_safe(title)}, '
        f"{_safe(unit)}</strong>{_safe(text)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="'
        f'{_safe(title)}: histogram. {_safe(text)}">{"".join(parts)}</svg>'
        "</figure>"
    )


def _ticks(low, high, log):
    """Round numbers in a range, three to seven of them."""
    if log:
        marks = [
            m * 10.0**e
            for e in range(math.floor(math.log10(low)), 12)
            for m in (1, 2, 5)
        ]
        marks = [m for m in marks if low <= m <= high]
        return marks[:: -(-len(marks) // 6) or 1]
    size = 10.0 ** math.floor(math.log10((high - low) / 3))
    for factor in (5, 2, 1):
        step = factor * size
        first = math.ceil(low / step - 1e-9)
        last = math.floor(high / step + 1e-9)
        if last - first >= 2:
            break
    return [round(k * step, 10) + 0.0 for k in range(first, last + 1)]


def _bars(title, counts):
    """How often each value occurs, as a table with bars."""
    if not counts:
        return ""
    items = list(counts.items())
    total, most = sum(counts.values()), max(counts.values())
    more = items[BARS:]
    rows = "".join(
        f'<tr><th scope="row">{_safe(str(name).strip() or "(empty)")}</th>'
        f'<td><div class="track"><div style="width:{100 * n / most:.1f}%">'
        f"</div></div></td><td>{n:,}</td></tr>"
        for name, n in items[:BARS]
    )
    text = f"{total:,} in all"
    if len(items) > 1:
        text = f"{len(items):,} values, {text}"
    cut = ""
    if more:
        cut = (
            f'<p class="soft">{len(more):,} more values with '
            f"{sum(n for _, n in more):,}.</p>"
        )
    return (
        f'<figure class="card"><figcaption><strong>{_safe(title)}</strong>'
        f"{text}</figcaption>"
        f'<table class="bars"><tbody>{rows}</tbody></table>{cut}</figure>'
    )


def _clip(clip):
    chip = f'<span class="chip {clip["level"]}">{_safe(clip["title"])}</span>'
    name = _safe(clip["name"])
    top = f"{clip['rate'] / 2000:g} kHz"
    return (
        f'<figure class="card clip"><div class="head"><strong>{name}</strong>'
        f"{chip}</div>"
        f"{_wave_svg(clip['wave'])}"
        f'<img alt="Mel spectrogram of {name}, up to {top}" '
        f'src="{spectrogram_png(clip["wave"], clip["rate"])}">'
        f'<audio controls preload="none" aria-label="{name}" '
        f'src="{wav_uri(clip["sound"], clip["sound_rate"])}"></audio>'
        f"<figcaption>{_safe(clip['text'])}</figcaption></figure>"
    )


def _wave_svg(wave, columns=300):
    """The outline of a waveform, between -1 and 1."""
    parts = np.array_split(wave, min(columns, len(wave)))
    high = np.clip([p.max() for p in parts], -1, 1)
    low = np.clip([p.min() for p in parts], -1, 1)
    # A line of its own where there is silence.
    high, low = np.maximum(high, low + 0.02), low
    x = np.linspace(0, columns, len(parts))
    x, y = np.r_[x, x[::-1]], np.r_[high, low[::-1]]
    points = [f"{a:.0f} {24 - 23 * b:.1f}" for a, b in zip(x, y, strict=True)]
    return (
        f'<svg viewBox="0 0 {columns} 48" preserveAspectRatio="none" '
        'height="48" aria-hidden="true">'
        f'<line class="axis" x1="0" x2="{columns}" y1="1" y2="1"/>'
        f'<line class="axis" x1="0" x2="{columns}" y1="24" y2="24"/>'
        f'<line class="axis" x1="0" x2="{columns}" y1="47" y2="47"/>'
        f'<path d="M{" L".join(points)}Z"/></svg>'
    )


def _advice(advice):
    items = []
    for entry in advice:
        text = f"<li>{_safe(entry['text'])}"
        if entry.get("command"):
            text += f"<pre><code>{_safe(entry['command'])}</code></pre>"
        items.append(f"{text}</li>")
    return f'<ul class="card advice">{"".join(items)}</ul>'


def _foot(when):
    terms = {
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
    rows = "".join(f"<dt>{t}</dt><dd>{d}</dd>" for t, d in terms.items())
    return (
        "<footer><details><summary>What the words mean</summary>"
        f"<dl>{rows}</dl></details><p>{_safe(when)}</p></footer>"
    )


def wav_uri(wave, rate):
    """A waveform as the `data:` address of a 16-bit WAV file.

    Args:
        wave: `(samples,)`; what lies beyond [-1, 1] is cut off.
        rate: Sample rate in Hz.

    Returns:
        Text.
    """
    samples = np.rint(np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes()
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF", 36 + len(samples), b"WAVE", b"fmt ", 16, 1, 1, rate,
        2 * rate, 2, 16, b"data", len(samples),
    )  # fmt: skip
    coded = base64.b64encode(head + samples).decode("ascii")
    return f"data:audio/wav;base64,{coded}"


def spectrogram_png(wave, rate, bands=80, columns=320, range_db=65):
    """A mel spectrogram as the `data:` address of a PNG picture.

    Args:
        wave: `(samples,)`.
        rate: Sample rate in Hz; the picture reaches to half of it.
        bands: Mel bands, the picture's height.
        columns: The picture's width, at most.
        range_db: From the loudest point down to black.

    Returns:
        Text.
    """
    size = 1 << min(14, max(5, math.ceil(math.log2(0.03 * rate))))
    wave = np.asarray(wave, "float64")
    if len(wave) < size:
        wave = np.pad(wave, (0, size - len(wave)))
    count = min(columns, 1 + (len(wave) - size) // max(1, rate // 200))
    starts = np.linspace(0, len(wave) - size, count).astype(int)
    frames = wave[starts[:, None] + np.arange(size)] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames)) ** 2
    level = 10 * np.log10(power @ _mel(bands, size, rate) + 1e-10)
    # A sine at full scale; silence is black, not noise at its loudest.
    most = max(float(level.max()), 20 * math.log10(size / 4) - 60)
    shade = np.clip((level - most + range_db) / range_db, 0, 1)
    return png_uri(np.rint(255 * shade.T[::-1]).astype("uint8"))


def _mel(bands, size, rate):
    """Triangles `(size // 2 + 1, bands)`, each as wide as a bin at least."""
    top = 2595 * math.log10(1 + rate / 2 / 700)
    points = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    bins = np.arange(size // 2 + 1)
    points = points * size / rate
    centre = points[1:-1]
    below = np.maximum(1, centre - points[:-2])
    above = np.maximum(1, points[2:] - centre)
    away = bins[:, None] - centre
    return np.maximum(0, 1 - np.where(away < 0, -away / below, away / above))


def png_uri(shades):
    """A picture in magma colours as the `data:` address of a PNG.

    Args:
        shades: uint8 `(height, width)`.

    Returns:
        Text.
    """
    height, width = shades.shape
    at = np.linspace(0, 255, len(MAGMA))
    colours = np.stack(
        [np.interp(np.arange(256), at, c) for c in MAGMA.T], axis=1
    )
    # Each line begins with its filter: none.
    lines = np.pad(shades, ((0, 0), (1, 0))).tobytes()
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", np.rint(colours).astype("uint8").tobytes()),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    )
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body))
        + kind
        + body
        + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
    return f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"
