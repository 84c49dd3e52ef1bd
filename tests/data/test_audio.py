import os
import threading

import numpy as np
import pytest
import soundfile
import soxr

from keras_audio_ssl.data import AudioError
from keras_audio_ssl.data import read_audio
from keras_audio_ssl.data import read_audio_native
from keras_audio_ssl.data import resample
from keras_audio_ssl.data.audio import AudioArray
from keras_audio_ssl.data.audio import AudioFile
from keras_audio_ssl.data.audio import read_part
from tests.data_folder import data_folder

pytestmark = pytest.mark.no_backend

FORMATS = {
    "pcm.wav": {"subtype": "PCM_16"},
    "float.wav": {"subtype": "FLOAT"},
    "a.flac": {},
    "a.ogg": {},
    "a.opus": {"format": "OGG", "subtype": "OPUS"},
    "a.mp3": {},
    "vbr.mp3": {"bitrate_mode": "VARIABLE", "compression_level": 0.6},
    "a.aiff": {},
}


def sound(samples, seed=0, channels=1):
    """Noise with a spectrum that lossy formats keep, in [-0.5, 0.5]."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, channels))
    kernel = np.hanning(40)
    x = np.stack([np.convolve(c, kernel, "same") for c in x.T], axis=1)
    return (x / np.abs(x).max() / 2).astype("float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    for name, options in FORMATS.items():
        rate = 48000 if name == "a.opus" else 44100
        soundfile.write(folder / name, sound(4 * rate + 123), rate, **options)
    return folder


@pytest.mark.parametrize("name", ["pcm.wav", "float.wav", "a.flac", "a.aiff"])
def test_lossless_formats(folder, name):
    wave, rate = read_audio_native(folder / name)
    assert rate == 44100 and wave.dtype == np.float32
    np.testing.assert_allclose(wave, sound(len(wave))[:, 0], atol=1e-4)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("rate", [16000, 22050, 48000, 44100])
def test_a_part_equals_that_part_of_the_whole(folder, name, rate):
    whole = read_audio(folder / name, rate)
    rng = np.random.default_rng(1)
    starts = [0, len(whole) - 5000, *rng.integers(0, len(whole) - 5000, 4)]
    for start in starts:
        # opened anew, as a dataset does: a seek depends on what came before
        with AudioFile(folder / name) as audio:
            part = read_part(audio, rate, int(start), 5000)
        assert part.shape == (5000,)
        np.testing.assert_allclose(part, whole[start : start + 5000], atol=1e-3)


@pytest.mark.parametrize("rate", [11025, 12345, 192000])
def test_parts_at_odd_rates(tmp_path, rate):
    path = tmp_path / "a.wav"
    soundfile.write(path, sound(2 * rate + 7), rate, subtype="FLOAT")
    x = soundfile.read(path, dtype="float32")[0]
    expected = soxr.resample(x, rate, 16000, quality="HQ")
    whole = read_audio(path, 16000)
    assert abs(len(whole) - len(expected)) <= 1
    for start in (0, 1, 7777, len(whole) - 900):
        part = read_audio(path, 16000, start / 16000, 900 / 16000)
        assert len(part) == 900
        np.testing.assert_allclose(
            part, expected[start : start + 900], atol=1e-3
        )


@pytest.mark.parametrize(
    "corpus", ["esc10", "philharmonia", "librispeech_mini", "fsdd", "emodb"]
)
def test_parts_of_real_recordings(corpus):
    data = data_folder()
    if data is None:
        pytest.skip("no real audio: see KERAS_AUDIO_SSL_DATA")
    endings = (".wav", ".flac", ".ogg", ".mp3")
    files = sorted(
        path for path in (data / corpus).rglob("*") if path.suffix in endings
    )
    rng = np.random.default_rng(0)
    for path in rng.choice(files, 12, replace=False):
        whole = read_audio(path, 16000)
        size = min(4000, len(whole) // 2)
        for start in (len(whole) - size, rng.integers(len(whole) - size)):
            with AudioFile(path) as audio:
                part = read_part(audio, 16000, int(start), size)
            np.testing.assert_allclose(
                part, whole[start : start + size], atol=1e-3
            )


def test_only_the_part_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "long.flac"
    soundfile.write(path, sound(44100 * 20), 44100)
    read = []
    decode = AudioFile._decode

    def counted(self, start, frames):
        wave = decode(self, start, frames)
        read.append(len(wave))
        return wave

    monkeypatch.setattr(AudioFile, "_decode", counted)
    read_audio(path, 16000, start=9.0, seconds=1.0)
    assert 44100 < sum(read) < 1.1 * 44100


def test_channels_are_averaged(tmp_path):
    x = sound(9000, channels=8)
    soundfile.write(tmp_path / "a.wav", x, 192000, subtype="FLOAT")
    wave, rate = read_audio_native(tmp_path / "a.wav")
    assert rate == 192000
    np.testing.assert_allclose(wave, x.mean(axis=1), atol=1e-6)


def test_start_and_seconds(folder):
    whole, rate = read_audio_native(folder / "pcm.wav")
    part, _ = read_audio_native(folder / "pcm.wav", 1.5, 0.25)
    np.testing.assert_array_equal(part, whole[66150 : 66150 + 11025])
    rest = read_audio(folder / "pcm.wav", start=3.5, seconds=9.0)
    np.testing.assert_array_equal(rest, whole[154350:])


@pytest.mark.parametrize(
    "name", ["plain name.wav", "na\nme.wav", "é音.WAV", "a,b\"c'.wav", "-r.wav"]
)
def test_odd_names(tmp_path, name):
    soundfile.write(str(tmp_path / "a.wav"), sound(100), 16000)
    os.rename(tmp_path / "a.wav", tmp_path / name)
    assert read_audio(tmp_path / name, 16000).shape == (100,)


def test_a_name_that_is_not_unicode(tmp_path):
    soundfile.write(str(tmp_path / "a.wav"), sound(100), 16000)
    name = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    try:
        os.rename(tmp_path / "a.wav", name)
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    assert read_audio(os.fsdecode(name), 16000).shape == (100,)


def test_streams_of_unknown_length(tmp_path):
    x = sound(30000)
    soundfile.write(tmp_path / "a.wav", x, 16000)
    wav = bytearray((tmp_path / "a.wav").read_bytes())
    at = wav.index(b"data") + 4
    wav[at : at + 4] = b"\xff" * 4  # as ffmpeg writes into a pipe
    (tmp_path / "a.wav").write_bytes(wav)
    assert read_audio(tmp_path / "a.wav").shape == (30000,)
    soundfile.write(tmp_path / "a.flac", x, 16000)
    flac = bytearray((tmp_path / "a.flac").read_bytes())
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)  # the count of samples in STREAMINFO
    (tmp_path / "a.flac").write_bytes(flac)
    whole = read_audio(tmp_path / "a.flac")
    np.testing.assert_allclose(whole, x[:, 0], atol=1e-4)
    part = read_audio(tmp_path / "a.flac", start=1.5)
    np.testing.assert_array_equal(part, whole[24000:])


def cut(path, part):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])


def broken(folder, kind):
    """Makes a file that is broken in one way."""
    form, _, way = kind.partition("-")
    path = folder / f"{way}.{form}"
    if way == "cut":
        soundfile.write(path, sound(60000), 16000)
        cut(path, 0.6)
    elif way == "cut_at_the_end":
        soundfile.write(path, sound(60000), 16000)
        path.write_bytes(path.read_bytes()[:-1])
    elif way == "header_only":
        soundfile.write(path, sound(60000), 16000)
        path.write_bytes(path.read_bytes()[:30])
    elif way == "no_samples":
        soundfile.write(path, np.zeros(0), 16000)
    elif way == "empty":
        path.write_bytes(b"")
    elif way == "zeros":
        path.write_bytes(bytes(10000))
    elif way == "text":
        path.write_text("This is not a sound.\n" * 500)
    elif way == "noise":
        rng = np.random.default_rng(0)
        path.write_bytes(rng.bytes(20000))
    elif way in ("nan", "inf"):
        x = sound(60000)
        x[48000] = float(way)
        soundfile.write(path, x, 16000, subtype="FLOAT")
    elif way == "folder":
        path.mkdir()
    elif way == "link":
        path.symlink_to(folder / "gone.wav")
    elif way == "loop":
        path.symlink_to(path)
    elif way == "pipe":
        os.mkfifo(path)
    elif way == "middle":
        soundfile.write(path, sound(60000), 16000)
        data = bytearray(path.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 20000] = bytes(20000)
        path.write_bytes(data)
    elif way == "rate":
        soundfile.write(path, sound(60000), 16000)
        data = bytearray(path.read_bytes())
        data[24:28] = bytes(4)
        path.write_bytes(data)
    return path


REASONS = {
    "wav-cut": "truncated",
    "wav-cut_at_the_end": "truncated",
    "flac-cut": "truncated",
    "flac-cut_at_the_end": "truncated",
    "ogg-cut": "truncated",
    "ogg-cut_at_the_end": "truncated",
    "mp3-cut": "truncated",
    "aiff-cut": "truncated",
    "wav-header_only": "no",
    "flac-header_only": "not readable",
    "ogg-header_only": "not readable",
    "wav-no_samples": "no samples",
    "wav-empty": "empty file",
    "mp3-empty": "empty file",
    "wav-zeros": "zero bytes",
    "mp3-zeros": "zero bytes",
    "wav-text": "not readable",
    "flac-text": "not readable",
    "mp3-text": "no",
    "wav-noise": "not readable",
    "wav-nan": "NaN or infinite sample at 3.00 s",
    "wav-inf": "NaN or infinite sample at 3.00 s",
    "wav-folder": "a folder",
    "wav-link": "broken link",
    "wav-loop": "broken link",
    "wav-pipe": "not a regular file",
    "wav-missing": "No such file",
    "flac-middle": "deco",
    "wav-rate": "",
}


@pytest.mark.parametrize("kind", REASONS)
def test_broken_files(tmp_path, kind):
    path = broken(tmp_path, kind)
    with pytest.raises(AudioError) as caught:
        read_audio(path, 16000)
    assert caught.value.file == str(path)
    assert REASONS[kind] in caught.value.reason
    assert caught.value.reason and str(path) not in caught.value.reason
    assert str(path) in str(caught.value)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0,
    reason="root may read everything",
)
def test_no_permission(tmp_path):
    soundfile.write(tmp_path / "a.wav", sound(100), 16000)
    (tmp_path / "a.wav").chmod(0)
    with pytest.raises(AudioError, match="Permission denied"):
        read_audio(tmp_path / "a.wav")


def test_a_flac_that_claims_years(tmp_path):
    soundfile.write(tmp_path / "a.flac", sound(20000), 16000)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[21] |= 0x0F
    (tmp_path / "a.flac").write_bytes(data)
    with pytest.raises(AudioError, match="truncated"):
        read_audio(tmp_path / "a.flac")


def test_start_after_the_end(folder):
    with pytest.raises(AudioError, match=r"ends at 4\.00 s, asked for 9\.00"):
        read_audio(folder / "a.ogg", start=9.0)


@pytest.mark.parametrize(
    "options", [{"sample_rate": 0}, {"start": -1.0}, {"seconds": 0.0}]
)
def test_wrong_arguments(folder, options):
    (name, value), *_ = options.items()
    with pytest.raises(ValueError, match=f"`{name}`.*{name}={value}"):
        read_audio(folder / "a.ogg", **options)


def test_bytes(folder):
    data = (folder / "a.ogg").read_bytes()
    with AudioFile(data, name="row 3") as audio:
        part = read_part(audio, 16000, 30000, 5000)
    whole = read_audio(folder / "a.ogg", 16000)
    np.testing.assert_allclose(part, whole[30000:35000], atol=1e-3)
    with pytest.raises(AudioError, match="row 3: truncated"):
        AudioFile(data[: len(data) // 2], name="row 3")


def test_error_crosses_processes():
    import pickle

    error = pickle.loads(pickle.dumps(AudioError("a.wav", "empty")))
    assert (error.file, error.reason) == ("a.wav", "empty")
    assert isinstance(error, ValueError) and str(error) == "a.wav: empty"


def test_arrays():
    x = sound(1000, channels=2)
    for given in (x, x.T):
        audio = AudioArray(given, 16000, "a")
        np.testing.assert_allclose(audio.read(0, 1000), x.mean(1), atol=1e-7)
    ints = np.array([-32768, 0, 16384], "int16")
    np.testing.assert_array_equal(
        AudioArray(ints, 8000, "a").read(0, 3), [-1, 0, 0.5]
    )
    bytes8 = np.array([0, 128, 192], "uint8")
    np.testing.assert_array_equal(
        AudioArray(bytes8, 8000, "a").read(0, 3), [-1, 0, 0.5]
    )
    with pytest.raises(AudioError, match="no samples"):
        AudioArray([], 8000, "a")
    with pytest.raises(AudioError, match=r"<U1 \(2,\)"):
        AudioArray(["a", "b"], 8000, "a")


def test_resample():
    t = np.arange(44100) / 44100
    x = np.sin(2 * np.pi * 440 * t).astype("float32")
    y = resample(x, 44100, 16000)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y[500:-500], expected[500:-500], atol=1e-3)
    assert resample(x, 44100, 44100) is x
    with pytest.raises(ValueError, match="`rate_out`.*rate_out=0"):
        resample(x, 44100, 0)


def test_threads(folder):
    expected = read_audio(folder / "a.ogg", 16000, 1.0, 1.0)
    wrong = []

    def work():
        for _ in range(10):
            got = read_audio(folder / "a.ogg", 16000, 1.0, 1.0)
            if not np.array_equal(got, expected):
                wrong.append(got)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(expected) == 16000
