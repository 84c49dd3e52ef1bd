"""Lengths that a header announces, or that are guessed, bound nothing."""

import io
import struct
import time

import numpy as np
import pytest
import soundfile

from keras_audio_ssl.data import from_folder
from keras_audio_ssl.data import read_audio_native
from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.audio import AudioFile
from keras_audio_ssl.data.audio import containers
from keras_audio_ssl.data.isolation import IsolatedFile
from tests.broken import kinds

pytestmark = pytest.mark.no_backend


def voice(seconds, rate, channels=1, seed=0):
    """Bursts of noise between silences: frames of many sizes."""
    rng = np.random.default_rng(seed)
    size = int(seconds * rate)
    wave = 0.3 * rng.standard_normal((size, channels))
    loud = np.sin(np.arange(size) / rate * 7) > 0
    return (wave * loud[:, None]).clip(-1, 1)


def encoded(wave, rate=16000, format="WAV", **options):
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=format, **options)
    return file.getvalue()


def mp3(seconds, rate, channels=1, level=0.9, headed=True, **options):
    options = {"bitrate_mode": "VARIABLE", **options}
    whole = encoded(
        voice(seconds, rate, channels), rate, "MP3",
        compression_level=level, **options,
    )  # fmt: skip
    if headed:
        return whole
    # A dump of a stream has no frame with counts.
    size = containers.mpeg_frame(whole).size
    counts = b"Xing" in whole[:size] or b"Info" in whole[:size]
    return whole[size:] if counts else whole


def bits(*fields):
    """Bytes of `(value, bits)` fields."""
    text = "".join(f"{value:0{size}b}" for value, size in fields)
    text += "0" * (-len(text) % 8)
    return bytes(int(text[k : k + 8], 2) for k in range(0, len(text), 8))


def layer_one(frames, rng):
    """MPEG audio of layer I at 44.1 kHz: three bits a sample, by chance."""
    for _ in range(frames):
        fields = [(2, 4)] * 32 + [(int(k), 6) for k in rng.integers(8, 40, 32)]
        fields += [(int(k), 3) for k in rng.integers(0, 7, 32 * 12)]
        yield (b"\xff\xff\xe0\xc0" + bits(*fields)).ljust(484, b"\0")


def layer_two(frames, rng):
    """MPEG audio of layer II at 44.1 kHz: three levels in eleven bands."""
    for _ in range(frames):
        fields = [(1, 4)] * 11 + [(0, 3)] * 12 + [(0, 2)] * 4 + [(0, 2)] * 11
        fields += [(int(k), 6) for k in rng.integers(8, 40, 33)]
        fields += [(int(k), 5) for k in rng.integers(0, 27, 11 * 12)]
        yield (b"\xff\xfd\x80\xc0" + bits(*fields)).ljust(417, b"\0")


def same_parts(content, count=6):
    with AudioFile(content) as audio:
        whole, facts = audio.read_channels(0, audio.frames), audio.facts
    rng = np.random.default_rng(0)
    size = len(whole) // 8
    for start in rng.integers(0, len(whole) - size, count):
        # Opened anew, as a data set does.
        with AudioFile(content, facts=facts) as audio:
            part = audio.read_channels(int(start), size)
        expected = whole[start : start + size]
        np.testing.assert_allclose(part, expected, rtol=0, atol=1e-6)
    assert np.abs(whole).max() > 0.01
    return whole


@pytest.mark.parametrize("headed", [True, False])
@pytest.mark.parametrize(
    "rate", [8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000]
)
def test_a_crop_of_an_mp3_is_that_part_of_the_whole(rate, headed):
    for channels, mode in ((1, "VARIABLE"), (2, "VARIABLE"), (1, "CONSTANT")):
        content = mp3(2.0, rate, channels, 0.95, headed, bitrate_mode=mode)
        whole = same_parts(content, 4)
        assert abs(len(whole) / rate - 2) < 0.2


@pytest.mark.parametrize("make", [layer_one, layer_two])
def test_a_crop_of_older_layers_is_too(make):
    content = b"".join(make(60, np.random.default_rng(0)))
    samples = 384 if make is layer_one else 1152
    assert len(same_parts(content)) == 60 * samples


def test_the_preroll_holds_all_that_a_frame_may_refer_to():
    # At 24 kHz and 8 kbit/s a stereo frame has room for three bytes.
    assert containers.mpeg_preroll(24000, 2, 3) == (85 + 2) * 576
    assert containers.mpeg_preroll(44100, 1, 3) == (7 + 2) * 1152
    assert containers.mpeg_preroll(44100, 1, 2) == 2 * 1152


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("tag", [b"", b"ID3\4\0\0\0\0\1\0" + bytes(128)])
def test_a_dump_of_a_stream_is_read_to_its_end(tmp_path, rate, tag):
    wave = voice(30.0, rate)
    # The first frame is large: a guess by it comes to a part of the file.
    wave[4 * rate :] *= 1e-4
    whole = encoded(wave, rate, "MP3", bitrate_mode="VARIABLE",
                    compression_level=0.5)  # fmt: skip
    with AudioFile(whole) as audio:
        expected = audio.frames
    dump = whole[containers.mpeg_frame(whole).size :]
    guessed = soundfile.info(io.BytesIO(dump)).frames
    assert guessed < 0.8 * expected
    path = tmp_path / "dump.mp3"
    path.write_bytes(tag + dump + b"TAG" + bytes(125))
    for file in (path, path.read_bytes()):
        with AudioFile(file) as audio:
            assert abs(audio.frames - expected) < 3 * 1152
            facts = audio.facts
    # Known from an earlier look, in a child, and in a folder.
    with AudioFile(path, facts=facts) as audio:
        late = audio.read(facts[0] - 2000, 2000)
    with IsolatedFile(path, facts=facts) as audio:
        np.testing.assert_array_equal(audio.read(facts[0] - 2000, 2000), late)
    np.testing.assert_allclose(
        late, read_audio_native(path)[0][-2000:], atol=1e-6
    )
    data = from_folder(tmp_path, batch_size=1)
    assert data.skipped == [] and abs(data.hours - 30 / 3600) < 1e-4


def test_two_mp3_in_one_file_are_named():
    one = mp3(3.0, 16000)
    with pytest.raises(AudioError, match=r"about 3.* s lie behind the end"):
        AudioFile(one + one)
    # Tags at the end are no sound.
    for tag in (b"TAG" + bytes(125), ape_tag(5000)):
        with AudioFile(one + tag) as audio, AudioFile(one) as plain:
            assert audio.frames == plain.frames


def ape_tag(size):
    """A tag with its footer, as long as covers are."""
    footer = struct.pack("<8sIIII8x", b"APETAGEX", 2000, size, 1, 0)
    return bytes(size - 32) + footer


def test_a_flac_that_announces_too_little_is_read_whole():
    wave = kinds.tone(np.random.default_rng(0), 8.0)
    content = bytearray(encoded(wave, format="FLAC"))
    content[22:26] = struct.pack(">I", 1000)
    whole = same_parts(bytes(content))
    np.testing.assert_allclose(whole[:, 0], wave, atol=1e-4)


def test_a_chain_of_flac_files_is_named(tmp_path):
    waves = [kinds.tone(np.random.default_rng(k), 3.0) for k in range(3)]
    one, other = (encoded(w, format="FLAC") for w in waves[:2])
    stereo = encoded(np.stack(waves[1:], 1), 44100, "FLAC")
    for chain in (one + one, one + other, one + other + one):
        with pytest.raises(AudioError, match="FLAC files one after the other"):
            AudioFile(chain)
    for single in (one, other, stereo, one + b"TAG" + bytes(125)):
        assert containers.flac_streams(containers.Content(single)) == 1
        same_parts(single)


@pytest.mark.parametrize("number", [0, 127, 128, 70_000, 1 << 20, 1 << 33])
def test_the_number_of_a_flac_frame(number):
    # Of a header with the least of everything else, as the format has it.
    if number < 128:
        text = bytes([number])
    else:
        size = next(k for k in range(2, 8) if number < 1 << (5 * k + 1))
        tail = [0x80 | number >> 6 * k & 0x3F for k in range(size - 1)][::-1]
        lead = (0xFF00 >> size & 0xFF) | number >> 6 * (size - 1)
        text = bytes([lead, *tail])
    head = b"\xff\xf8\xc9\x08" + text
    check = 0
    for byte in head:
        for k in range(7, -1, -1):
            top = check >> 7 ^ byte >> k & 1
            check = (check << 1 & 0xFF) ^ (7 if top else 0)
    whole = (head + bytes([check])).ljust(16, b"\0")
    assert containers.flac_number(whole) == number
    wrong = head + bytes([check ^ 1])
    assert containers.flac_number(wrong.ljust(16, b"\0")) is None


def ogg(seconds, subtype="VORBIS", seed=0):
    wave = kinds.tone(np.random.default_rng(seed), seconds)
    return encoded(wave, format="OGG", subtype=subtype)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_chain_of_ogg_streams_is_named(tmp_path, subtype):
    one, other = ogg(3.0, subtype), ogg(1.0, subtype, 1)
    for chain in (one + one, one + other, other + one, other + one + other):
        with pytest.raises(AudioError, match="Ogg streams one after the other"):
            AudioFile(chain)
    with AudioFile(one) as audio:
        assert audio.frames == 48000
    (tmp_path / "chain.ogg").write_bytes(one + other)
    (tmp_path / "one.ogg").write_bytes(one)
    data = from_folder(tmp_path, batch_size=1)
    [(file, reason)] = data.skipped
    assert file == str(tmp_path / "chain.ogg") and "2 Ogg streams" in reason


def test_a_long_ogg_is_looked_at_in_places(monkeypatch):
    monkeypatch.setattr(containers, "PLACE_BYTES", 5000)
    monkeypatch.setattr(containers, "PLACES", 6)
    one, other = ogg(12.0), ogg(2.0, seed=1)
    count = lambda content: containers.ogg_streams(containers.Content(content))
    assert len(one) > 8 * 5000 and count(one) == 1
    for chain in (one + one, one + other, other + one):
        assert count(chain) > 1


@pytest.mark.parametrize("riff", [0, 36, 8, None])
def test_a_wav_that_was_never_finished_is_read_to_its_end(tmp_path, riff):
    wave = kinds.tone(np.random.default_rng(0), 1.0)
    wave[:200] = 0  # silence looks like padding
    content = bytearray(encoded(wave))
    content[40:44] = bytes(4)
    if riff is not None:
        content[4:8] = struct.pack("<I", riff)
    (tmp_path / "a.wav").write_bytes(content)
    for file in (bytes(content), tmp_path / "a.wav"):
        whole = same_parts(file)
        np.testing.assert_array_equal(whole[:, 0], wave.astype("float32"))


@pytest.mark.parametrize("format", ["AU", "RF64", "CAF"])
def test_other_headers_that_were_never_finished_are_said(format):
    content = bytearray(encoded(np.full(16000, 0.1), format=format))
    at = content.find(b"data")
    if format == "AU":
        content[8:12] = bytes(4)
    elif format == "RF64":
        at = content.find(b"ds64")
        content[at + 8 : at + 32] = bytes(24)
    else:
        content[at + 4 : at + 12] = struct.pack(">q", 4)
    with pytest.raises(AudioError, match="never finished"):
        AudioFile(bytes(content))


def test_sound_behind_the_announced_end_of_a_wav():
    wave = kinds.tone(np.random.default_rng(0), 10.0)
    whole = encoded(wave)
    content = bytearray(whole)
    content[40:44] = struct.pack("<I", 32000)
    with pytest.raises(AudioError, match=r"announces 1.00 s and 288000 bytes"):
        AudioFile(bytes(content))
    chunk = b"LIST" + struct.pack("<I", 90000) + b"x" * 90000
    for more in (bytes(90000), b"ID3" + b"x" * 90000, chunk, b"\1\2" * 99):
        with AudioFile(whole + more) as audio:
            assert audio.frames == 160000
    # No samples, and chunks behind them.
    empty = encoded(np.zeros(0))
    with pytest.raises(AudioError, match="no samples"):
        AudioFile(empty + chunk)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * (30 << 20),
        (b"ID3\4\0\0\0\0\0\0") * (1 << 20),
        b"APETAGEX" * (1 << 20),
        (b"TAG" + bytes(125)) * (1 << 18),
        b"fLaC" + bytes(16 << 20),
        b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * (1 << 21),
        b"RIFF\0\0\0\0WAVEdata\0\0\0\0" + b"junk\0\0\0\0" * (1 << 21),
        b"OggS\0" * (4 << 20),
        b"",
        b"\xff\xfb",
    ],
    ids=lambda content: f"{content[:3].hex()}-{len(content)}",
)
def test_nothing_keeps_a_look_busy(content):
    content = containers.Content(content)
    began = time.perf_counter()
    containers.mpeg_counts(content)
    containers.mpeg_end(content)
    containers.mpeg_samples(content, 0, content.size)
    containers.mpeg_head(content, 1 << 40)
    containers.flac_streams(content)
    containers.flac_head(content)
    containers.ogg_streams(content)
    containers.wav_head(content)
    containers.wav_behind(content, 1.0)
    assert time.perf_counter() - began < 5


def test_what_libsndfile_reads_is_read_and_what_it_does_not_is_named(tmp_path):
    wave = np.full(8000, 0.1)
    formats = {"a.sph": "NIST", "b.aifc": "AIFF", "c.snd": "AU",
               "d.bwf": "WAV", "e.voc": "VOC"}  # fmt: skip
    for name, format in formats.items():
        (tmp_path / name).write_bytes(encoded(wave, format=format))
    rng = np.random.default_rng(0)
    (tmp_path / "f.mp2").write_bytes(b"".join(layer_two(20, rng)))
    foreign = ["g.mkv", "h.mov", "i.m4b", "j.AVI", "k.spx"]
    for name in foreign:
        (tmp_path / name).write_bytes(b"x" * 100)
    data = from_folder(tmp_path, batch_size=1)
    assert data.num_clips == 6
    named = {str(tmp_path / name) for name in foreign}
    assert {file for file, _ in data.skipped} == named
    assert all("cannot be decoded" in why for _, why in data.skipped)
