"""Valid files changed at random, decoded one after the other."""

import collections
import struct
import time

import numpy as np

from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.audio.file import UNKNOWN_LENGTH
from keras_audio_ssl.data.isolation import IsolatedFile
from keras_audio_ssl.data.isolation import parent
from tests.broken.kinds import RATE
from tests.broken.kinds import encoded
from tests.broken.kinds import repair_pages
from tests.broken.kinds import tone

# Containers and codings, as libsndfile has code of its own for each.
SEEDS = (
    ("WAV", "PCM_16", 1), ("WAV", "PCM_24", 2), ("WAV", "FLOAT", 1),
    ("WAV", "IMA_ADPCM", 2), ("WAV", "MS_ADPCM", 1), ("WAV", "GSM610", 1),
    ("WAV", "ULAW", 1), ("FLAC", "PCM_16", 1), ("FLAC", "PCM_24", 2),
    ("OGG", "VORBIS", 1), ("OGG", "VORBIS", 2), ("OGG", "OPUS", 1),
    ("MP3", "MPEG_LAYER_III", 1), ("MP3", "MPEG_LAYER_III", 2),
)  # fmt: skip
ENDINGS = {"WAV": ".wav", "FLAC": ".flac", "OGG": ".ogg", "MP3": ".mp3"}
# libsndfile goes by the first bytes, not by the name: under any name, a file
# comes to the code for these, too.
OTHERS = (
    ("AIFF", "PCM_16", 2), ("AIFF", "DWVW_16", 1), ("AU", "G723_40", 1),
    ("CAF", "ALAC_16", 2), ("CAF", "PCM_24", 1), ("W64", "FLOAT", 1),
    ("RF64", "PCM_16", 1), ("NIST", "PCM_16", 1), ("VOC", "PCM_16", 2),
    ("IRCAM", "FLOAT", 1), ("PVF", "PCM_16", 1), ("MAT4", "DOUBLE", 1),
    ("MAT5", "PCM_16", 2), ("XI", "DPCM_16", 1), ("SVX", "PCM_16", 1),
    ("HTK", "PCM_16", 1), ("AVR", "PCM_16", 1), ("MPC2K", "PCM_16", 1),
    ("PAF", "PCM_24", 1),
)  # fmt: skip
# Values at the edges of what fields of headers hold.
EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000,
         0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)  # fmt: skip
OUTCOMES = ("read", "refused", "crashed", "too long", "memory", "wrong")
# At most so many samples of a mutant are read.
MOST = 1 << 18


def seeds(seconds=1.0):
    """Files to start from, `(format, ending, bytes)`: usual ones and others."""
    rng = np.random.default_rng(0)
    usual, others = [], []
    for format, subtype, channels in SEEDS + OTHERS:
        rate = {"GSM610": 8000, "OPUS": 48000}.get(subtype, 16000)
        wave = tone(rng, seconds, rate, channels)
        content = encoded(wave, format, rate, subtype)
        if format in ENDINGS:
            usual.append((format, ENDINGS[format], content))
        else:
            others.append(("other", ".wav", content))
    return usual, others


def flip_bits(content, rng, others):
    for at in rng.integers(len(content), size=int(rng.integers(1, 20))):
        content[at] ^= 1 << int(rng.integers(8))


def set_bytes(content, rng, others):
    at = int(rng.integers(len(content)))
    size = int(rng.integers(1, 9))
    content[at : at + size] = rng.bytes(size)


def edit_head(content, rng, others):
    """A field of the header, where most decisions are made."""
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(min(len(content), 120)))
        size = int(rng.choice([1, 2, 4]))
        value = int(rng.choice(EDGES)) & (256**size - 1)
        order = "<" if rng.integers(2) else ">"
        field = struct.pack(order + {1: "B", 2: "H", 4: "I"}[size], value)
        content[at : at + size] = field


def cut_off(content, rng, others):
    del content[int(rng.integers(1, len(content))) :]


def drop(content, rng, others):
    at, size = place(content, rng)
    del content[at : at + size]


def repeat(content, rng, others):
    at, size = place(content, rng)
    times = int(rng.integers(2, 6))
    content[at:at] = content[at : at + size] * times


def splice(content, rng, others):
    """The rest is another file's, of this format or another."""
    other = others[int(rng.integers(len(others)))][2]
    at = int(rng.integers(1, len(content)))
    content[at:] = other[int(rng.integers(len(other))) :]


def insert(content, rng, others):
    """A piece of another file."""
    other = others[int(rng.integers(len(others)))][2]
    start, size = place(other, rng)
    at = int(rng.integers(len(content)))
    content[at:at] = other[start : start + size]


def blank(content, rng, others):
    at, size = place(content, rng)
    content[at : at + size] = bytes([int(rng.choice([0, 255]))]) * size


def place(content, rng):
    """Where a piece begins, and its size: small ones and large."""
    size = int(2 ** rng.uniform(0, np.log2(max(2, len(content)))))
    return int(rng.integers(len(content))), size


MUTATIONS = (flip_bits, set_bytes, edit_head, cut_off, drop, repeat, splice,
             insert, blank)  # fmt: skip


def mutant(number, seed, files):
    """File `number` of a series: its seed's format and ending, its bytes."""
    rng = np.random.default_rng((seed, number))
    usual, others = files
    kind = others if number % 5 == 4 else usual
    place = (number // 5 * 4 + number % 5) % len(kind)
    format, ending, content = kind[place]
    content = bytearray(content)
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        mutate = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
        mutate(content, rng, usual + others)
        if len(content) < 16:
            break
    if format == "OGG" and rng.integers(2):
        repair_pages(content)
    return format, ending, bytes(content)


def decode(path, opener=IsolatedFile):
    """Reads a part in the middle, and from the start; what came of it.

    A file that is refused at first sight is read all the same, as one is that
    has changed since then: its samples are to pass the decoder too.

    Returns:
        An outcome of `OUTCOMES`, and the reason if there is one.

    Raises:
        AssertionError: What came is no audio, and no `AudioError` either.
    """
    try:
        read(path, opener)
    except AudioError as error:
        reason = error.reason
        if outcome_of(reason) == "refused":
            try:
                read(path, opener, facts=(RATE, UNKNOWN_LENGTH))
            except AudioError as second:
                if outcome_of(second.reason) != "refused":
                    reason = second.reason
        return outcome_of(reason), reason
    return "read", ""


def read(path, opener, **options):
    with opener(path, **options) as audio:
        assert audio.rate > 0 and audio.frames > 0
        most = max(1, MOST // audio.channels)
        for start, frames in (
            (0, min(audio.frames, most)),
            (audio.frames // 2, min(audio.frames // 4 + 1, most)),
        ):
            frames = min(frames, audio.frames - start)
            wave = audio.read(start, frames)
            assert wave.dtype == "float32" and wave.shape == (frames,)
            assert np.isfinite(wave).all()


def outcome_of(reason):
    for word, outcome in (
        ("crashed", "crashed"),
        ("takes too long", "too long"),
        ("memory", "memory"),
        ("too many", "memory"),
        ("allocate", "memory"),
    ):
        if word in reason:
            return outcome
    return "refused"


def fuzz(count, folder, seed=0, say=None, seconds=10.0):
    """Decodes so many mutants in child processes.

    Args:
        count: how many.
        folder: where they are written, one at a time; those of which the
            decoder died stay there.
        seed: of the mutations.
        say: called with a line of text now and then.
        seconds: given to a child for each request.

    Returns:
        Counts of `(format, outcome)`, and a list of `(mutant, reason)` of
        those that crashed, took too long, needed too much memory or gave
        something else than audio.
    """
    files = seeds()
    counts, bad = collections.Counter(), []
    before, parent.SECONDS = parent.SECONDS, seconds
    begin = time.monotonic()
    try:
        for number in range(count):
            format, ending, content = mutant(number, seed, files)
            path = folder / f"mutant_{number}{ending}"
            path.write_bytes(content)
            try:
                outcome, reason = decode(path)
            except Exception as error:
                outcome, reason = "wrong", f"{type(error).__name__}: {error}"
            counts[format, outcome] += 1
            if outcome in ("read", "refused"):
                path.unlink()
            else:
                bad.append((path.name, outcome, reason))
            if say and (number + 1) % 2000 == 0:
                total = collections.Counter()
                for (_, outcome), n in counts.items():
                    total[outcome] += n
                speed = (number + 1) / (time.monotonic() - begin)
                say(f"{number + 1} mutants, {speed:.0f}/s: {dict(total)}")
    finally:
        parent.SECONDS = before
    return counts, bad
