import tracemalloc

import numpy as np
import pytest
import soundfile
import soxr

from keras_audio_ssl.data.audio import AudioFile
from keras_audio_ssl.doctor.facts import RECORD
from keras_audio_ssl.doctor.facts import Facts
from keras_audio_ssl.doctor.facts import examine

pytestmark = pytest.mark.no_backend

RATE = 16000


def sine(frequency, seconds=1.0, rate=RATE, level=0.5):
    t = np.arange(round(seconds * rate)) / rate
    return level * np.sin(2 * np.pi * frequency * t + 0.1)


def noise(samples, seed=0, level=0.1):
    return level * np.random.default_rng(seed).standard_normal(samples)


def look(path, wave, rate=RATE, block=None, **options):
    soundfile.write(path, wave, rate, **options)
    with AudioFile(path) as audio:
        return examine(audio) if block is None else examine(audio, block)


@pytest.fixture
def wav(tmp_path):
    return tmp_path / "a.wav"


def test_length_level_offset_and_peak(wav):
    wave = sine(440, 1.5) + 0.1
    wave[7000] = -0.9
    facts = look(wav, wave, subtype="FLOAT")
    assert (facts.frames, facts.rate, facts.channels) == (24000, 16000, 1)
    assert facts.format == "WAV FLOAT" and facts.seconds == 1.5
    assert facts.peak == pytest.approx(0.9)
    assert facts.peak_at == 7000 / 16000
    assert facts.rms == pytest.approx(np.sqrt(0.125 + 0.01), rel=1e-3)
    assert facts.dc == pytest.approx(wave.mean(), abs=1e-6)
    assert facts.nonfinite == 0 and facts.silent == 0


def plateaus(wave):
    """Samples in runs of three or more at the largest and smallest value."""
    count = 0
    for top in (wave.max(), wave.min()):
        run = 0
        for sample in [*wave, np.nan]:
            if sample == top:
                run += 1
                continue
            count += run if run >= 3 else 0
            run = 0
    return count


@pytest.mark.parametrize("level", [1.0, 0.4])
@pytest.mark.parametrize("block", [1, 2, 3, 50, 1000, 1 << 20])
def test_clipped_samples_are_counted_across_blocks(wav, level, block):
    wave = np.clip(sine(440, 0.1, level=3.0), -1, 1) * level
    facts = look(wav, wave, block=block)
    read = soundfile.read(wav)[0]
    assert facts.clipped == plateaus(read) > 100


@pytest.mark.parametrize("block", [1, 2, 3, 7, 100, 5000])
def test_runs_of_every_length_are_counted(wav, block):
    rng = np.random.default_rng(0)
    wave = np.where(rng.random(5000) < 0.7, 0.5, 0.1)
    facts = look(wav, wave, block=block, subtype="FLOAT")
    text = "".join("#" if x > 0.3 else "-" for x in wave)
    runs = [len(run) for run in text.split("-")]
    assert 3 in runs and 2 in runs
    assert facts.clipped == sum(run for run in runs if run >= 3)


@pytest.mark.parametrize(
    "wave, coding",
    [
        (sine(30, 2.0), "PCM_16"),  # flat at its peaks, once rounded
        (sine(30, 2.0, level=0.01), "PCM_16"),
        (sine(100, 1.0, level=0.2), "PCM_U8"),
        (sine(100, 1.0, level=0.2), "ULAW"),
        (np.zeros(5000), "PCM_16"),
        (np.full(5000, 0.25), "PCM_16"),
        # Silence at the top of a wave that is never positive.
        (np.r_[np.zeros(4000), -np.abs(noise(4000))], "PCM_16"),
        (np.r_[noise(4000), 0.9, 0.9, noise(4000)], "PCM_16"),  # a pair
    ],
)
def test_what_is_flat_but_not_clipped(wav, wave, coding):
    assert look(wav, wave, subtype=coding).clipped == 0


def test_only_the_channel_that_clips_counts(wav):
    cut = np.clip(sine(440, 0.1, level=3.0), -1, 1)
    facts = look(wav, np.stack([cut, 0.3 * noise(len(cut))], 1))
    assert facts.clipped == look(wav, cut).clipped > 0


@pytest.mark.parametrize("rate, low", [(44100, 8000), (16000, 8000)])
def test_bandwidth_of_what_was_upsampled(wav, rate, low):
    wave = soxr.resample(noise(3 * low), low, rate)
    facts = look(wav, wave, rate)
    assert 0.8 * low / 2 < facts.bandwidth < 1.1 * low / 2


def test_bandwidth_of_what_was_not(wav):
    # A partial above a floor of noise is no edge.
    for frequency in (500, 2000, 5000):
        tone = sine(frequency, 2.0) + noise(32000, level=0.01)
        assert look(wav, tone).bandwidth == 8000
    assert look(wav, noise(48000), 44100).bandwidth == 22050
    # Falls slowly, as dark sounds do: brown noise.
    brown = np.cumsum(noise(48000))
    brown -= np.convolve(brown, np.ones(2000) / 2000, "same")
    wave = brown / np.abs(brown).max() / 2
    assert look(wav, wave, 44100).bandwidth == 22050


@pytest.mark.parametrize(
    "name, options",
    [("a.wav", {}), ("a.flac", {}), ("a.ogg", {}), ("a.mp3", {})],
)
def test_the_size_of_blocks_does_not_matter(tmp_path, name, options):
    left = np.r_[noise(30000, 1), np.zeros(20000), sine(300, 2, level=2)]
    wave = np.clip(np.stack([left, 0.3 * left[::-1]], 1), -0.7, 0.7)
    whole = look(tmp_path / name, wave, 44100, 1 << 22, **options)
    assert whole.digest and 0.1 < whole.silent < 0.9
    for block in (999, 4096, 65536):
        with AudioFile(tmp_path / name) as audio:
            parts = examine(audio, block)
        for field, a, b in zip(Facts._fields, whole, parts, strict=True):
            want = pytest.approx(a) if isinstance(a, float) else a
            assert b == want, (field, block)


def test_spectra_are_taken_at_the_same_places_whatever_the_block(wav):
    # Three windows of 64 samples for each that is taken: a narrow one, then
    # two with all frequencies.
    rate, windows = 1000, 3 * 2048
    wave = noise(64 * windows).reshape(windows, 64)
    spectra = np.fft.rfft(wave[::3])
    spectra[:, 24:] = 0
    wave[::3] = np.fft.irfft(spectra)
    for block in (1 << 20, 6400, 1000):
        facts = look(wav, wave.ravel(), rate, block, subtype="FLOAT")
        assert 330 < facts.bandwidth < 420, block


@pytest.mark.parametrize("rate", [1, 10**9, 2**31 - 1])
def test_memory_does_not_grow_with_the_rate(wav, rate):
    soundfile.write(wav, noise(1 << 20), rate)
    with AudioFile(wav) as audio:
        tracemalloc.start()
        facts = examine(audio)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert facts.rate == rate and peak < 8e6


def test_memory_does_not_grow_with_the_channels(wav):
    soundfile.write(wav, np.tile(noise(1024), (3000, 1)), RATE)
    with AudioFile(wav) as audio:
        tracemalloc.start()
        facts = examine(audio)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert facts.channels == 1024 and peak < 6e7


def test_a_digest_is_that_of_the_sound(tmp_path):
    wave = np.rint(noise(20000) * 32767).astype("int16")
    want = look(tmp_path / "a.wav", wave).digest
    same = {
        "a.flac": (wave, {}),
        "24.flac": (wave, {"subtype": "PCM_24"}),
        "a.aiff": (wave, {}),
        "float.wav": (wave / 32768, {"subtype": "FLOAT"}),
        "both.wav": (np.stack([wave, wave], 1), {}),
    }
    for name, (samples, options) in same.items():
        found = look(tmp_path / name, samples, **options)
        assert found.digest == want, name
    with soundfile.SoundFile(tmp_path / "tag.wav", "w", RATE, 1) as file:
        file.title = "another title"
        file.write(wave)
    with AudioFile(tmp_path / "tag.wav") as audio:
        assert examine(audio).digest == want
    wave[777] += 1
    assert look(tmp_path / "b.wav", wave).digest != want
    assert look(tmp_path / "c.wav", wave[:-1]).digest != want


def test_the_sign_of_zero_is_not_heard(wav):
    wave = noise(1000)
    wave[10:20] = 0.0
    plus = look(wav, wave, subtype="FLOAT")
    wave[10:20] = -0.0
    assert look(wav, wave, subtype="FLOAT").digest == plus.digest


def test_channels_that_cancel(wav):
    a, b = noise(40000, 1), noise(40000, 2)

    def lost(*channels):
        return look(wav, np.stack(channels, 1), subtype="FLOAT").cancelled_db

    assert lost(a, -a) == np.inf
    assert lost(a, -0.98 * a) == pytest.approx(39.9, abs=0.2)
    assert lost(a, b) == pytest.approx(3.0, abs=0.1)
    assert lost(a, a) == pytest.approx(0.0, abs=1e-3)
    assert lost(a, 0 * a) == pytest.approx(3.0, abs=0.1)
    facts = look(wav, np.stack([a, -a], 1), subtype="FLOAT")
    assert facts.rms == 0 and facts.silent == 1 and facts.peak > 0.1
    assert look(wav, np.zeros((1000, 2))).cancelled_db == 0


def test_the_silent_part(wav):
    tone = sine(500, 1.0)
    assert look(wav, np.r_[tone, np.zeros(3 * RATE)]).silent == 0.75
    # -63 dBFS and -57 dBFS of a sine's root mean square
    assert look(wav, sine(500, level=0.001)).silent == 1
    assert look(wav, sine(500, level=0.002)).silent == 0


def test_nan_is_counted_and_harms_no_other_number(wav):
    wave = noise(20000)
    wave[100:103] = [np.nan, np.inf, -np.inf]
    facts = look(wav, wave, subtype="FLOAT")
    assert facts.nonfinite == 3
    wave[100:103] = 0
    rest = look(wav, wave, subtype="FLOAT")
    assert facts._replace(nonfinite=0) == rest


@pytest.mark.parametrize("samples", [1, 2, 100])
@pytest.mark.parametrize("rate", [1, 50, 8000, 192000])
def test_the_shortest_files(wav, samples, rate):
    facts = look(wav, np.full(samples, 0.5), rate)
    assert facts.frames == samples and facts.rms == pytest.approx(0.5, 1e-3)
    assert 0 <= facts.bandwidth <= rate / 2 and facts.silent == 0


def test_memory_does_not_grow_with_the_length(wav):
    soundfile.write(wav, np.tile(noise(RATE), 600), RATE)
    with AudioFile(wav) as audio:
        tracemalloc.start()
        facts = examine(audio)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert facts.seconds == 600
    # The samples alone are 38 MB.
    assert peak < 4e6


def test_facts_are_packed_and_checked(wav):
    facts = look(wav, noise(5000))
    record = facts.pack()
    assert len(record) == RECORD.size
    assert Facts.unpack(record) == facts
    for wrong in (
        record[:-1],
        facts._replace(rate=0).pack(),
        facts._replace(rms=np.nan).pack(),
        facts._replace(format="\x1b[31m").pack(),
    ):
        with pytest.raises(ValueError, match="not a record"):
            Facts.unpack(wrong)
