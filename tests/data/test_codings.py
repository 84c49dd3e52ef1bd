import struct

import numpy as np
import pytest
import soundfile

from keras_audio_ssl.data import from_folder
from keras_audio_ssl.data import read_audio
from keras_audio_ssl.data.audio import AudioError
from keras_audio_ssl.data.audio import AudioFile
from keras_audio_ssl.data.audio import file as audio_file
from tests.broken import kinds

pytestmark = pytest.mark.no_backend

FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG",
           "MP3")  # fmt: skip
# libsndfile says that it can seek in this one, and cannot.
UNSEEKABLE = ("DWVW_12", "DWVW_16", "DWVW_24", "DWVW_N")


def write(path, format, subtype, channels):
    """A file of this coding; `None` if libsndfile does not write it."""
    rng = np.random.default_rng(0)
    rate = 48000 if subtype == "OPUS" else 8000
    wave = kinds.tone(rng, 1.2, rate, channels)
    try:
        soundfile.write(path, wave, rate, format=format, subtype=subtype)
    except (soundfile.LibsndfileError, ValueError):
        return None
    return path


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_part_is_that_part_of_the_whole(tmp_path, format, as_bytes):
    """In all codings, also those in which nobody can seek."""
    rng = np.random.default_rng(1)
    tried = 0
    for subtype in soundfile.available_subtypes(format):
        for channels in (1, 2):
            path = write(tmp_path / "a", format, subtype, channels)
            if path is None or subtype in UNSEEKABLE:
                continue
            file = path.read_bytes() if as_bytes else path
            with AudioFile(file) as sound:
                frames = sound.frames
                whole = sound.read(0, frames)
                for start in (*rng.integers(0, frames - 1, 6), 5, frames - 9):
                    size = min(int(rng.integers(1, 3000)), frames - start)
                    part = sound.read(int(start), int(size))
                    np.testing.assert_allclose(
                        part, whole[start : start + size], atol=1e-6,
                        err_msg=f"{subtype}, {channels} channels, {start}",
                    )  # fmt: skip
            tried += 1
    assert tried


def test_a_coding_that_is_refused_is_so_with_a_reason(tmp_path):
    path = write(tmp_path / "a", "AIFF", "DWVW_16", 1)
    with (
        AudioFile(path) as sound,
        pytest.raises(AudioError, match="decoding fails from 0.12 s"),
    ):
        sound.read(1000, 10)


@pytest.mark.parametrize("frames", [1 << 24, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_bogus_count_of_an_mp3_takes_no_memory(tmp_path, monkeypatch, frames):
    path = write(tmp_path / "a", "MP3", "MPEG_LAYER_III", 1)
    content = bytearray(path.read_bytes())
    at = max(content.find(b"Xing"), content.find(b"Info"))
    assert at > 0 and content[at + 7] & 1
    content[at + 8 : at + 12] = struct.pack(">I", frames)
    path.write_bytes(content)
    asked = []
    read = audio_file.Sound.read

    def watched(sound, samples):
        asked.append(samples)
        return read(sound, samples)

    monkeypatch.setattr(audio_file.Sound, "read", watched)
    with pytest.raises(AudioError, match="truncated: the header announces"):
        AudioFile(path)
    assert asked and max(asked) <= audio_file.BLOCK


def test_a_read_after_one_that_failed_begins_where_it_should(
    tmp_path, monkeypatch
):
    path = write(tmp_path / "a", "WAV", "PCM_16", 1)

    def failing(sound, samples):
        raise soundfile.LibsndfileError(1)

    with AudioFile(path) as sound:
        whole = sound.read(0, sound.frames)
        sound.read(0, 100)
        with monkeypatch.context() as patch, pytest.raises(AudioError):
            patch.setattr(audio_file.Sound, "read", failing)
            sound.read(5000, 10)
        np.testing.assert_array_equal(sound.read(100, 500), whole[100:600])


@pytest.mark.parametrize("lost", [1, 10, 200, 600])
@pytest.mark.parametrize("tag", [b"", b"ID3\4\0\0\0\0\1\0" + bytes(128)])
def test_an_mp3_that_lacks_its_last_frames_is_cut(tmp_path, lost, tag):
    path = write(tmp_path / "a", "MP3", "MPEG_LAYER_III", 1)
    content = tag + path.read_bytes()
    path.write_bytes(content)
    with AudioFile(path) as sound:
        frames = sound.frames
    path.write_bytes(content[:-lost])
    try:
        with AudioFile(path) as sound:
            # What is lost was padding.
            assert sound.frames == frames and lost < 200
    except AudioError as error:
        assert error.reason.startswith("truncated")


def test_a_file_that_becomes_another_is_looked_at_again(tmp_path):
    """The end of an Ogg is found by what was known of a WAV otherwise."""
    path = write(tmp_path / "a.wav", "WAV", "PCM_16", 1)
    data = from_folder(
        tmp_path, 0.3, 1, sample_rate=8000, crops_per_clip=8, workers=0
    )
    write(path, "OGG", "VORBIS", 1)
    whole = read_audio(path)
    for step in range(len(data)):
        (wave,) = data.batch(0, step)["waveform"]
        starts = np.flatnonzero(np.abs(whole - wave[0]) < 1e-6)
        assert any(
            np.allclose(whole[s : s + len(wave)], wave, atol=1e-6)
            for s in starts
            if s + len(wave) <= len(whole)
        )


def test_a_file_that_is_cut_later_is_named_as_such(tmp_path):
    path = write(tmp_path / "a.wav", "WAV", "PCM_16", 1)
    write(tmp_path / "b.wav", "WAV", "PCM_16", 1)
    data = from_folder(tmp_path, 0.3, 2, sample_rate=8000)
    path.write_bytes(path.read_bytes()[:5000])
    data.batch(0, 0)
    (name, reason), *others = data.skipped
    assert name == str(path) and not others
    assert reason.startswith("truncated: the header announces 19200 bytes")


def test_each_sample_of_many_small_float_files_is_looked_at(
    tmp_path, monkeypatch
):
    """How many files there are is no reason to overlook one."""
    rng = np.random.default_rng(0)
    for i in range(1200):
        kinds.put(
            tmp_path / f"{i:04}", ".wav", kinds.wav(bytes(400), bits=32, code=3)
        )
    path, _ = kinds.not_finite(np.nan)(tmp_path / "nan", rng)
    data = from_folder(tmp_path, 0.01, 4)
    assert [name for name, _ in data.skipped] == [str(path)]
    monkeypatch.setattr("keras_audio_ssl.data.checks.CHECK_BYTES", 1200 * 400)
    assert not from_folder(tmp_path, 0.01, 4).skipped
