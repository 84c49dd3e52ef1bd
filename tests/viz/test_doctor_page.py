"""The pieces of the page: pictures, sounds, histograms, escaped text."""

import base64
import io
import re
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile

from keras_audio_ssl.viz.doctor_page import MAGMA
from keras_audio_ssl.viz.doctor_page import SHOWN
from keras_audio_ssl.viz.doctor_page import doctor_page
from keras_audio_ssl.viz.doctor_page import histogram
from keras_audio_ssl.viz.doctor_page import png_uri
from keras_audio_ssl.viz.doctor_page import printable
from keras_audio_ssl.viz.doctor_page import spectrogram_png
from keras_audio_ssl.viz.doctor_page import wav_uri

pytestmark = pytest.mark.no_backend

NASTY = "<script>alert('x')</script>&\"\x1b[2J\u202e\udcff.wav"
VOID = {"meta", "img", "link", "br"}


class Page(HTMLParser):
    """Elements and attributes of a page; fails where tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def png_pixels(uri):
    """Palette and indices of a PNG, decoded here by hand."""
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        crc = int.from_bytes(data[at + 8 + size : at + 12 + size], "big")
        assert zlib.crc32(kind + body) == crc
        chunks[kind] = body
        at += 12 + size
    width, height = np.frombuffer(chunks[b"IHDR"][:8], ">u4")
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), "uint8")
    lines = lines.reshape(height, width + 1)
    assert not lines[:, 0].any()
    palette = np.frombuffer(chunks[b"PLTE"], "uint8").reshape(256, 3)
    return palette, lines[:, 1:]


def test_a_png_holds_its_picture():
    shades = np.arange(12, dtype="uint8").reshape(3, 4) * 20
    palette, pixels = png_pixels(png_uri(shades))
    np.testing.assert_array_equal(pixels, shades)
    np.testing.assert_array_equal(palette[[0, 255]], MAGMA[[0, -1]])


def test_a_spectrogram_shows_a_tone_where_it_is():
    rate = 16000
    t = np.arange(2 * rate) / rate
    wave = np.where(t < 1, 0.3 * np.sin(2 * np.pi * 1000 * t), 0)
    pixels = png_pixels(spectrogram_png(wave, rate))[1].astype(int)
    top = 2595 * np.log10(1 + 8000 / 700)
    band = 2595 * np.log10(1 + 1000 / 700) / top * 81 - 1
    loudest = 79 - pixels[:, 20].argmax()
    assert abs(loudest - band) < 1.5
    assert pixels[:, 20].max() > 240 and pixels[:, -20:].max() == 0


@pytest.mark.parametrize("samples", [1, 10, 5000])
def test_silence_is_black(samples):
    assert png_pixels(spectrogram_png(np.zeros(samples), 44100))[1].max() == 0


def test_a_player_plays_the_wave():
    wave = np.sin(np.arange(3000) / 7) * 1.5
    data = wav_uri(wave, 16000).removeprefix("data:audio/wav;base64,")
    read, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
    assert rate == 16000
    np.testing.assert_allclose(read, np.clip(wave, -1, 1), atol=1e-4)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "values",
    [
        np.r_[0.01, np.random.default_rng(0).lognormal(size=5000), 4000.0],
        np.array([2.0]),
        np.array([0.0, 0.0, 0.0]),
        np.array([-60.0, -3.0]),
        np.array([1e-9, 1e-8]),
    ],
)
def test_a_histogram_counts_every_value_once(values, log):
    figure = histogram("Length", values, "s", "some words", log)
    Page(figure)
    counts = re.findall(r": ([\d,]+)</title>", figure)
    assert sum(int(c.replace(",", "")) for c in counts) == len(values)
    boxes = re.findall(r'x="([-\d.]+)" y="([-\d.]+)" width', figure)
    assert all(0 <= float(x) <= 340 and 17 < float(y) for x, y in boxes)


def summary(files):
    findings = [
        {"level": level, "title": f"{level} {NASTY}", "advice": NASTY,
         "files": [{"file": f"{NASTY}{k}", "detail": NASTY}
                   for k in range(files)]}
        for level in ("skipped", "check", "note")
    ]  # fmt: skip
    return {
        "source": NASTY,
        "headline": {"Files": NASTY},
        "findings": findings,
        "rates": {"16 kHz": 3},
        "channels": {},
        "formats": {NASTY: 2},
        "classes": {f"{NASTY}{k}": k + 1 for k in range(40)},
        "folds": {NASTY: {"": 1, "1": 2}},
        "advice": [{"text": NASTY, "command": NASTY}],
    }


def test_names_from_strangers_stay_text():
    wave = np.zeros(1000, "float32")
    clip = {"name": NASTY, "level": "check", "title": NASTY, "text": NASTY,
            "wave": wave, "rate": 8000, "sound": wave,
            "sound_rate": 16000}  # fmt: skip
    shape = {"title": NASTY, "values": np.ones(3), "unit": NASTY,
             "text": NASTY}  # fmt: skip
    text = doctor_page(summary(3), [shape], [clip], NASTY)
    text.encode("utf-8")
    for bad in ("\x1b", "\u202e", "\udcff"):
        assert bad not in text
    page = Page(text)
    tags = {tag for tag, _ in page.tags}
    assert "script" not in tags and {"audio", "img", "svg"} <= tags
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href"):
            if name in attributes:
                assert attributes[name].startswith("data:")
    # Thirteen values of texts, all of them seen as text.
    assert sum("alert('x')" in t for t in page.texts) >= 13
    assert "default-src 'none'" in text


def test_a_page_does_not_grow_with_the_number_of_files():
    small = len(doctor_page(summary(SHOWN), [], []))
    text = doctor_page(summary(20000), [], [])
    assert len(text) < small + 1000
    assert f"{20000 - SHOWN:,} more" in text and "28 more values" in text


def test_printable_keeps_letters_of_all_scripts():
    assert printable("Vögel 鳥 птицы.wav") == "Vögel 鳥 птицы.wav"
    assert printable("a\nb\x1b\udc80") == "a\\nb\\x1b\\udc80"
