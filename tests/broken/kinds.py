"""A collection of broken files, each kind made by a small function.

A function takes the path without its ending and a random generator, makes
the file and returns its path and, where the file is to be used, what is heard
in it: float32 `(samples,)` at the file's own rate.
"""

import functools
import io
import os
import re
import socket
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

RATE = 16000
# What must become of a file: a reason in `skipped.csv`; samples, the right
# ones; or one of both, where the file itself does not tell that it is broken.
SKIPPED, USED, EITHER = "skipped", "used", "either"
ODD_NAMES = (
    b"a line\nand another", b"\xff\xfe not UTF-8", "🎧 été".encode(),
    b'quote" and, comma', b"back\\slash \\x41", b"  blanks  ", b"%s {0}",
    b"-option", b"x" * 200, b"tab\t\x1b[31mred", b"\r",
)  # fmt: skip


class Kind(NamedTuple):
    """A kind of breakage.

    Attributes:
        make: function of path and generator, which makes one file.
        fate: `SKIPPED`, `USED` or `EITHER`.
    """

    make: object
    fate: str


def tone(rng, seconds=1.5, rate=RATE, channels=1):
    """A tone in noise, on the steps of 16-bit integers."""
    t = np.arange(round(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * rng.uniform(200, 3000) * t)
    wave = wave[:, None] + 0.01 * rng.standard_normal((len(t), channels))
    wave = np.round(wave * 32768) / 32768
    return wave[:, 0] if channels == 1 else wave


def encoded(wave, format, rate=RATE, subtype=None):
    """A file's bytes, always the same."""
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=format, subtype=subtype)
    content = bytearray(file.getvalue())
    if (at := content.find(b"PEAK")) >= 0 and format == "WAV":
        content[at + 12 : at + 16] = bytes(4)  # when it was written
    if format == "MAT5":
        date = rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
        content = bytearray(
            re.sub(date, b"2000-01-01 00:00:00", content, count=1)
        )
    if format == "OGG":
        # A stream's number is drawn by chance.
        number, at = content[14:18], -1
        while (at := content.find(b"OggS", at + 1)) >= 0:
            if content[at + 14 : at + 18] == number:
                content[at + 14 : at + 18] = bytes(4)
        repair_pages(content)
    return bytes(content)


def repair_pages(content):
    """Writes the checksums of Ogg pages anew, so that damage gets by them."""
    at = content.find(b"OggS")
    while 0 <= at <= len(content) - 27:
        table = at + 27 + content[at + 26]
        end = table + sum(content[at + 27 : table])
        content[at + 22 : at + 26] = bytes(4)
        content[at + 22 : at + 26] = struct.pack("<I", crc(content[at:end]))
        at = content.find(b"OggS", at + 4)


def crc_table():
    for value in range(256):
        value <<= 24
        for _ in range(8):
            value = value << 1 ^ (0x104C11DB7 if value >> 31 else 0)
        yield value


CRC = tuple(crc_table())


def crc(content):
    value = 0
    for byte in content:
        value = value << 8 & 0xFFFFFFFF ^ CRC[value >> 24 ^ byte]
    return value


def wav(data, rate=RATE, channels=1, bits=16, code=1, size=None, riff=None):
    """A WAV file of any header over any data."""
    align = channels * bits // 8
    form = struct.pack(
        "<HHIIHH", code, channels, rate, rate * align & 0xFFFFFFFF,
        align & 0xFFFF, bits,
    )  # fmt: skip
    size = len(data) if size is None else size
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    body += b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", riff or len(body)) + body


def pcm(wave):
    return np.round(wave * 32768).astype("<i2").tobytes()


def put(stem, ending, content):
    path = Path(f"{stem}{ending}")
    path.write_bytes(content)
    return path


def heard(wave):
    return np.asarray(wave, "float32")


def cut(format, ending):
    """A file that ends somewhere in its second half."""

    def make(stem, rng):
        whole = encoded(tone(rng), format)
        keep = int(len(whole) * rng.uniform(0.5, 0.95))
        return put(stem, ending, whole[:keep]), None

    return make


def cut_head(stem, rng):
    form, ending = [("WAV", ".wav"), ("FLAC", ".flac"), ("OGG", ".ogg")][
        int(rng.integers(3))
    ]
    whole = encoded(tone(rng), form)
    return put(stem, ending, whole[: int(rng.integers(4, 40))]), None


def empty(stem, rng):
    return put(stem, str(rng.choice([".wav", ".flac", ".mp3"])), b""), None


def zeros(stem, rng):
    return put(stem, ".wav", bytes(int(rng.integers(1, 50_000)))), None


def text(stem, rng):
    return put(stem, ".wav", words(rng).encode()), None


def web_page(stem, rng):
    page = f"<!DOCTYPE html><html><body>404 {words(rng)}</body></html>"
    return put(stem, ".mp3", page.encode()), None


def fake_header(stem, rng):
    size = struct.pack("<I", 60_000)
    return put(
        stem, ".wav", b"RIFF" + size + b"WAVE" + words(rng).encode()
    ), None


def fake_flac(stem, rng):
    return put(stem, ".flac", b"fLaC\0\0\0\x22" + words(rng).encode()), None


def text_as_samples(stem, rng):
    """A sound header over text: noise, as far as the file tells."""
    return put(stem, ".wav", wav(words(rng).encode() * 20)), None


def random_bytes(stem, rng):
    ending = str(rng.choice([".wav", ".flac", ".ogg", ".mp3", ".aiff"]))
    return put(stem, ending, rng.bytes(int(rng.integers(100, 20_000)))), None


def headless(stem, rng):
    """Samples without a header; zeros first, so that it looks like none."""
    return put(stem, ".wav", b"\0\1" + pcm(tone(rng))), None


def size_too_large(stem, rng):
    data = pcm(tone(rng))
    size = len(data) + 2 * int(rng.integers(2000, 2_000_000))
    return put(stem, ".wav", wav(data, size=size, riff=size + 36)), None


def size_too_small(stem, rng):
    """What lies beyond the announced end is no sound."""
    wave = tone(rng)
    keep = int(rng.integers(RATE, len(wave)))
    content = wav(pcm(wave), size=2 * keep)
    return put(stem, ".wav", content), heard(wave[:keep])


def size_unknown(stem, rng):
    """What recorders write into a pipe."""
    wave = tone(rng)
    content = wav(pcm(wave), size=0xFFFFFFFF, riff=0xFFFFFFFF)
    return put(stem, ".wav", content), heard(wave)


def no_rate(stem, rng):
    return put(stem, ".wav", wav(pcm(tone(rng)), rate=0)), None


def mad_rate(stem, rng):
    """Gigahertz: some of 1.5 seconds' samples are none at 16 kHz."""
    rate = int(rng.choice([0x7FFFFFFF, 0xFFFFFFFF, 0x80000000]))
    return put(stem, ".wav", wav(pcm(tone(rng)), rate=rate)), None


def slow_rate(stem, rng):
    """Hours at 1 Hz."""
    return put(stem, ".wav", wav(pcm(tone(rng)), rate=1)), None


def wrong_rate(stem, rng):
    rate = int(rng.choice([4000, 11025, 48000, 96000]))
    wave = tone(rng, 8.0)
    return put(stem, ".wav", wav(pcm(wave), rate=rate)), heard(wave)


def no_channels(stem, rng):
    return put(stem, ".wav", wav(pcm(tone(rng)), channels=0)), None


def no_bits(stem, rng):
    return put(stem, ".wav", wav(pcm(tone(rng)), bits=0)), None


def unknown_coding(stem, rng):
    return put(stem, ".wav", wav(pcm(tone(rng)), code=0x1234)), None


def not_finite(value):
    """One sample somewhere that is no number."""

    def make(stem, rng):
        wave = tone(rng).astype("float32")
        wave[int(rng.integers(len(wave)))] = value
        return put(stem, ".wav", encoded(wave, "WAV", subtype="FLOAT")), None

    return make


def channels_64(stem, rng):
    wave = tone(rng, channels=64)
    content = encoded(wave, "WAV", subtype="PCM_16")
    return put(stem, ".wav", content), heard(heard(wave).mean(axis=1))


def studio(stem, rng):
    """Eight channels at 192 kHz."""
    wave = tone(rng, rate=192_000, channels=8)
    content = encoded(wave, "FLAC", 192_000, "PCM_16")
    return put(stem, ".flac", content), heard(heard(wave).mean(axis=1))


def flac_announcing_hours(stem, rng):
    content = bytearray(encoded(tone(rng), "FLAC"))
    return put(stem, ".flac", flac_length(content, 16000 * 3600 * 9)), None


def flac_without_length(stem, rng):
    """What an encoder writes into a pipe."""
    wave = tone(rng)
    content = bytearray(encoded(wave, "FLAC", subtype="PCM_16"))
    return put(stem, ".flac", flac_length(content, 0)), heard(wave)


def flac_length(content, samples):
    """Writes the number of samples into a FLAC's header."""
    field = int.from_bytes(content[18:26], "big")
    field = field & ~((1 << 36) - 1) | samples
    content[18:26] = field.to_bytes(8, "big")
    return bytes(content)


@functools.cache
def hours_of_silence(hours=3, rate=8000):
    """A bomb: some 250 KB that are 330 MB of samples."""
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", rate, 1, format="FLAC", subtype="PCM_16"
    ) as sound:
        silence = np.zeros(3600 * rate, "int16")
        for _ in range(hours):
            sound.write(silence)
    return file.getvalue()


def flac_of_hours(stem, rng):
    return put(stem, ".flac", hours_of_silence()), np.zeros(
        3 * 3600 * 8000, "float32"
    )


def hurt(format, ending):
    """A few bytes in the middle that are others."""

    def make(stem, rng):
        content = bytearray(encoded(tone(rng), format))
        for at in rng.integers(len(content) // 3, len(content), 5):
            content[at] ^= int(rng.integers(1, 256))
        return put(stem, ending, bytes(content)), None

    return make


def too_short(stem, rng):
    samples = int(rng.integers(1, 20))
    return put(stem, ".wav", wav(pcm(tone(rng)[:samples]))), None


def no_samples(stem, rng):
    return put(stem, ".wav", wav(b"")), None


def no_data(stem, rng):
    """A header without the chunk that holds the samples."""
    return put(stem, ".wav", wav(b"")[:-8]), None


def trailing_rubbish(stem, rng):
    wave = tone(rng)
    content = wav(pcm(wave)) + rng.bytes(int(rng.integers(1, 5000)))
    return put(stem, ".wav", content), heard(wave)


def foreign(stem, rng):
    ending = str(rng.choice([".m4a", ".wma", ".aac", ".webm"]))
    return put(stem, ending, rng.bytes(2000)), None


def broken_link(stem, rng):
    path = Path(f"{stem}.wav")
    path.symlink_to(f"{path.name}.gone")
    return path, None


def link_loop(stem, rng):
    path = Path(f"{stem}.wav")
    path.symlink_to(path.name)
    return path, None


def link_to_device(stem, rng):
    path = Path(f"{stem}.wav")
    path.symlink_to("/dev/zero")
    return path, None


def folder(stem, rng):
    path = Path(f"{stem}.wav")
    path.mkdir()
    return path, None


def named_pipe(stem, rng):
    path = Path(f"{stem}.wav")
    os.mkfifo(path)
    return path, None


def network_socket(stem, rng):
    path = Path(f"{stem}.wav")
    # A socket's path is short: made by its name in its folder.
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(here)
    return path, None


def no_permission(stem, rng):
    path = put(stem, ".wav", wav(pcm(tone(rng))))
    path.chmod(0)
    return path, None


def odd_name(stem, rng):
    """A good file whose name is not easy to write down."""
    wave = tone(rng)
    return put_oddly(stem, rng, wav(pcm(wave))), heard(wave)


def odd_name_cut(stem, rng):
    content = wav(pcm(tone(rng)))
    return put_oddly(stem, rng, content[: len(content) // 2]), None


def put_oddly(stem, rng, content):
    stem = os.fsencode(stem)
    odd = ODD_NAMES[int(rng.integers(len(ODD_NAMES)))]
    path = os.path.join(os.path.dirname(stem), odd + os.path.basename(stem))
    return put(os.fsdecode(path), ".wav", content)


def good(stem, rng):
    """Not broken, until something happens to it."""
    wave = tone(rng)
    return put(stem, ".wav", wav(pcm(wave))), None


# What happens to good files while a run reads them.


def vanish(path, rng):
    path.unlink()


def shrink(path, rng):
    os.truncate(path, int(rng.integers(0, 2000)))


def turn_into_text(path, rng):
    path.write_text(words(rng))


def turn_into_nan(path, rng):
    wave = np.full(int(1.5 * RATE), np.nan, "float32")
    path.write_bytes(encoded(wave, "WAV", subtype="FLOAT"))


def words(rng):
    letters = rng.integers(97, 123, 1500).astype("uint8").tobytes()
    return "This is no sound. " + letters.decode()


KINDS = {
    "cut WAV": Kind(cut("WAV", ".wav"), SKIPPED),
    "cut FLAC": Kind(cut("FLAC", ".flac"), SKIPPED),
    "cut OGG": Kind(cut("OGG", ".ogg"), SKIPPED),
    "cut MP3": Kind(cut("MP3", ".mp3"), SKIPPED),
    "cut AIFF": Kind(cut("AIFF", ".aiff"), SKIPPED),
    "cut in the header": Kind(cut_head, SKIPPED),
    "empty": Kind(empty, SKIPPED),
    "zero bytes only": Kind(zeros, SKIPPED),
    "text": Kind(text, SKIPPED),
    "web page": Kind(web_page, SKIPPED),
    "RIFF and text": Kind(fake_header, SKIPPED),
    "fLaC and text": Kind(fake_flac, SKIPPED),
    "header over text": Kind(text_as_samples, EITHER),
    "random bytes": Kind(random_bytes, EITHER),
    "without a header": Kind(headless, SKIPPED),
    "size too large": Kind(size_too_large, SKIPPED),
    "size too small": Kind(size_too_small, USED),
    "size 0xFFFFFFFF": Kind(size_unknown, USED),
    "0 Hz": Kind(no_rate, SKIPPED),
    "gigahertz": Kind(mad_rate, SKIPPED),
    "1 Hz": Kind(slow_rate, EITHER),
    "wrong rate": Kind(wrong_rate, USED),
    "0 channels": Kind(no_channels, SKIPPED),
    "0 bits": Kind(no_bits, SKIPPED),
    "unknown coding": Kind(unknown_coding, SKIPPED),
    "NaN": Kind(not_finite(np.nan), SKIPPED),
    "Inf": Kind(not_finite(-np.inf), SKIPPED),
    "64 channels": Kind(channels_64, USED),
    "8 channels, 192 kHz": Kind(studio, USED),
    "FLAC announcing hours": Kind(flac_announcing_hours, SKIPPED),
    "FLAC without length": Kind(flac_without_length, USED),
    "FLAC of hours": Kind(flac_of_hours, USED),
    "hurt WAV": Kind(hurt("WAV", ".wav"), EITHER),
    "hurt FLAC": Kind(hurt("FLAC", ".flac"), EITHER),
    "hurt OGG": Kind(hurt("OGG", ".ogg"), EITHER),
    "hurt MP3": Kind(hurt("MP3", ".mp3"), EITHER),
    "too short": Kind(too_short, SKIPPED),
    "no samples": Kind(no_samples, SKIPPED),
    "no data chunk": Kind(no_data, SKIPPED),
    "rubbish at the end": Kind(trailing_rubbish, USED),
    "foreign format": Kind(foreign, SKIPPED),
    "broken link": Kind(broken_link, SKIPPED),
    "link loop": Kind(link_loop, SKIPPED),
    "link to a device": Kind(link_to_device, SKIPPED),
    "folder": Kind(folder, SKIPPED),
    "named pipe": Kind(named_pipe, SKIPPED),
    "socket": Kind(network_socket, SKIPPED),
    "no permission": Kind(no_permission, SKIPPED),
    "odd name": Kind(odd_name, USED),
    "odd name, cut": Kind(odd_name_cut, SKIPPED),
}
DURING = {
    "vanishes": vanish,
    "shrinks": shrink,
    "becomes text": turn_into_text,
    "becomes NaN": turn_into_nan,
}


class Made(NamedTuple):
    """A file of the collection.

    Attributes:
        kind: its key in `KINDS` or `DURING`, or `"good"`.
        path: where it is.
        fate: what must become of it.
        wave: what is heard in it, if it must be used.
    """

    kind: str
    path: Path
    fate: str
    wave: object


def make(root, files, seed=0, kinds=None, goods=20):
    """Makes a collection: so many files of each kind, and good ones.

    Args:
        root: folder to make it in.
        files: of each kind.
        seed: of all random choices.
        kinds: keys of `KINDS` and `DURING`; all by default.
        goods: files without a fault.

    Returns:
        List of `Made`.
    """
    made = []
    every = {
        **KINDS,
        **dict.fromkeys(DURING, Kind(good, SKIPPED)),
        "good": Kind(good, USED),
    }
    for number, (name, kind) in enumerate(every.items()):
        if kinds is not None and name not in (*kinds, "good"):
            continue
        place = Path(root) / name.replace(" ", "_").replace(",", "")
        place.mkdir(parents=True)
        for i in range(goods if name == "good" else files):
            rng = np.random.default_rng((seed, number, i))
            path, wave = kind.make(place / f"{i:03}", rng)
            made.append(Made(name, path, kind.fate, wave))
    return made


def disturb(made, seed=0):
    """Does to files of the kinds in `DURING` what is done while they run."""
    rng = np.random.default_rng(seed)
    for item in made:
        if item.kind in DURING:
            DURING[item.kind](item.path, rng)


def named(path):
    """How `skipped.csv` writes a path."""
    return str(path).encode("utf-8", "backslashreplace").decode()
