import csv
import pickle

import numpy as np
import pytest
import soundfile
import soxr
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from keras_audio_ssl.data import from_manifest
from keras_audio_ssl.data.synthetic import SyntheticCorpus
from keras_audio_ssl.data.synthetic import synthetic
from keras_audio_ssl.data.synthetic.patches import draw_patch
from keras_audio_ssl.data.synthetic.patches import passed
from keras_audio_ssl.data.synthetic.patches import perturbed as move
from keras_audio_ssl.data.synthetic.patches import room_of
from keras_audio_ssl.data.synthetic.patches import slowly
from keras_audio_ssl.data.synthetic.patches import steps
from keras_audio_ssl.data.synthetic.sounds import RATE
from keras_audio_ssl.data.synthetic.sounds import SOUNDS
from keras_audio_ssl.data.synthetic.sounds import TABLE
from keras_audio_ssl.data.synthetic.sounds import noise
from keras_audio_ssl.data.synthetic.sounds import tract
from keras_audio_ssl.data.synthetic.speech import VOICES
from keras_audio_ssl.data.synthetic.speech import VOWELS

pytestmark = pytest.mark.no_backend

KINDS = ("sounds", "patches", "speech")


def rng(*key):
    return np.random.Generator(np.random.Philox(key=np.array(key, "uint64")))


def spectrogram(x, size=512, hop=160):
    """Power (frames, bins) under a Hann window."""
    frames = np.lib.stride_tricks.sliding_window_view(x, size)[::hop]
    return np.abs(np.fft.rfft(frames * np.hanning(size))) ** 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_depends_on_seed_and_number_alone(kind):
    long = SyntheticCorpus(40, kind=kind)
    short = SyntheticCorpus(8, kind=kind)
    backwards = [short[i] for i in reversed(range(8))][::-1]
    for i in range(8):
        np.testing.assert_array_equal(long[i], backwards[i])
    np.testing.assert_array_equal(short[-1], short[7])
    assert not np.array_equal(
        SyntheticCorpus(8, kind=kind, seed=1)[3][:4000], short[3][:4000]
    )
    turn = max(map(len, long.classes.values()), default=1)
    assert not np.array_equal(long[3 + turn][:4000], long[3][:4000])
    with pytest.raises(IndexError):
        short[8]
    assert len(list(short)) == 8


@pytest.mark.parametrize("kind", KINDS)
def test_waveforms(kind):
    corpus = SyntheticCorpus(36, seconds=1.2, kind=kind, seed=7)
    peaks, lengths = [], []
    for i, x in enumerate(corpus):
        assert x.dtype == np.float32 and x.ndim == 1
        assert np.all(np.isfinite(x))
        assert len(x) == corpus.samples(i)
        peaks.append(20 * np.log10(np.max(np.abs(x))))
        lengths.append(len(x) / 16000)
    assert -31.1 < min(peaks) < -26 and -6 < max(peaks) < 0
    assert 0.9 <= min(lengths) < 1.05 and 1.35 < max(lengths) <= 1.5


def test_short_clips():
    for kind in KINDS:
        for x in SyntheticCorpus(40, seconds=0.5, kind=kind):
            assert np.all(np.isfinite(x)) and np.max(np.abs(x)) > 0.02


def test_patches_are_of_every_kind():
    centres, flatness = [], []
    for x in SyntheticCorpus(60, kind="patches", seed=5):
        power = spectrogram(x).mean(0) + 1e-12
        centres.append(power @ np.linspace(0, 8000, 257) / power.sum())
        flatness.append(np.exp(np.log(power).mean()) / power.mean())
    # Dark and bright, tones and noise.
    assert min(centres) < 300 and max(centres) > 3000
    assert min(flatness) < 1e-3 and max(flatness) > 0.1


def test_a_perturbed_patch_is_the_nearer_the_less_it_is_moved():
    corpus = SyntheticCorpus(30, kind="patches", seed=2, sample_rate=8000)

    def colour(x):
        return np.log(spectrogram(x / np.std(x), 256, 80).mean(0) + 1e-9)

    apart = []
    for delta in (0.0, 0.01, 0.1):
        moved = [corpus.perturbed(i, delta) for i in range(30)]
        assert [len(x) for x in moved] == [corpus.samples(i) for i in range(30)]
        pairs = zip(corpus, moved, strict=True)
        apart.append(
            np.median([np.abs(colour(x) - colour(y)).mean() for x, y in pairs])
        )
    assert apart[0] == 0 < apart[1] < 0.6 * apart[2]
    others = [
        np.abs(colour(corpus[i]) - colour(corpus[i + 1])).mean()
        for i in range(29)
    ]
    assert apart[2] < np.median(others)
    one, two = (corpus.perturbed(3, turn=turn) for turn in (0, 1))
    assert not np.array_equal(one, two)
    np.testing.assert_array_equal(one, corpus.perturbed(-27))
    with pytest.raises(ValueError, match="patches"):
        SyntheticCorpus(3).perturbed(0)


def test_knobs_that_are_moved_stay_within_their_range():
    turns = draw_patch(rng(1, 0))
    for delta in (0.0, 0.3, 3.0):
        moved = move(turns, rng(2, 0), delta)
        assert moved.shape == turns.shape
        assert moved.min() >= 0 and moved.max() <= 1
    np.testing.assert_allclose(move(turns, rng(2, 0), 0.0), turns)


def test_classes_are_balanced():
    corpus = SyntheticCorpus(4 * len(SOUNDS))
    assert corpus.classes["label"] == tuple(SOUNDS) and len(SOUNDS) >= 12
    assert corpus.labels["label"].dtype == np.int32
    np.testing.assert_array_equal(np.bincount(corpus.labels["label"]), 4)
    speech = SyntheticCorpus(420, kind="speech")
    voice, syllable = speech.labels["speaker"], speech.labels["syllable"]
    np.testing.assert_array_equal(np.bincount(voice), 35)
    np.testing.assert_array_equal(np.bincount(syllable), 12)
    assert len(set(zip(voice, syllable, strict=True))) == 420


def test_other_rates_give_the_same_sounds():
    for rate in (8000, 22050):
        corpus = SyntheticCorpus(3, sample_rate=rate, seed=2)
        for i, x in enumerate(SyntheticCorpus(3, seed=2)):
            assert abs(len(corpus[i]) / rate - len(x) / 16000) < 1 / rate
            assert len(corpus[i]) == corpus.samples(i)
            expected = soxr.resample(x, 16000, rate)
            shared = min(len(expected), len(corpus[i]))
            np.testing.assert_allclose(
                corpus[i][:shared], expected[:shared], atol=1e-6
            )


def test_phones_cover_syllables():
    corpus = SyntheticCorpus(24, kind="speech", seed=3)
    for i in range(24):
        phones, syllables = corpus.phones(i), corpus.syllables(i)
        assert phones[0][0] == 0
        assert phones[-1][1] == pytest.approx(len(corpus[i]) / 16000)
        for before, after in zip(phones, phones[1:], strict=False):
            assert before[1] == after[0]
        assert all(start < end for start, end, _ in phones)
        for start, end, name in syllables:
            inside = [p for p in phones if start <= p[0] and p[1] <= end]
            assert "".join(phone for _, _, phone in inside) == name
            assert (inside[0][0], inside[-1][1]) == (start, end)
        said = sum(name != "sil" for _, _, name in phones)
        assert said == 2 * len(syllables) and len(syllables) >= 2
        first = corpus.classes["syllable"][corpus.labels["syllable"][i]]
        assert syllables[0][2] == first


def test_boundaries_are_where_the_sound_changes():
    corpus = SyntheticCorpus(60, kind="speech", seed=4)
    loud = {"vowel": [], "closure": [], "sil": []}
    hiss = {"s": [], "vowel": []}
    for i, x in enumerate(corpus):
        for start, end, phone in corpus.phones(i):
            part = x[round(start * RATE) : round(end * RATE)]
            middle = part[len(part) // 4 : -len(part) // 4]
            if len(middle) < 300:
                continue
            kind = "vowel" if phone in VOWELS else phone
            kind = "closure" if phone in "bdg" else kind
            power = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))) ** 2
            if kind in loud:
                level = 10 * np.log10(np.mean(middle**2) / np.max(x) ** 2)
                loud[kind].append(level)
            if kind in hiss:
                high = power[len(power) // 2 :].sum() / power.sum()
                hiss[kind].append(high)
    level = {kind: np.median(levels) for kind, levels in loud.items()}
    assert level["vowel"] > level["closure"] + 6
    assert level["closure"] > level["sil"]
    assert np.median(hiss["s"]) > 10 * np.median(hiss["vowel"])


def pitch(x):
    """The shortest lag at which the autocorrelation is near its highest."""
    window = np.hanning(len(x))
    match, taper = (
        np.fft.irfft(np.abs(np.fft.rfft(signal, 8192)) ** 2)[38:230]
        for signal in (x * window, window)
    )
    match = match / taper
    inner = match[1:-1]
    peak = (inner >= match[:-2]) & (inner >= match[2:])
    return RATE / (39 + np.argmax(peak & (inner > 0.93 * inner.max())))


def test_voices_differ_in_pitch():
    corpus = SyntheticCorpus(48, kind="speech", seed=5)
    found = [[] for _ in VOICES]
    for i, x in enumerate(corpus):
        for start, end, phone in corpus.phones(i):
            part = x[round(start * RATE) : round(end * RATE)]
            if phone in "aeo" and len(part) > 1200:
                found[corpus.labels["speaker"][i]].append(pitch(part))
    f0 = np.array([np.median(values) for values in found])
    expected = np.array([voice.f0 for voice in VOICES])
    assert np.all(np.abs(np.log2(f0 / expected)) < 0.35)
    assert np.corrcoef(np.log(f0), np.log(expected))[0, 1] > 0.97


def test_tract_resonates_where_it_is_told():
    x = noise(rng(0, 0), RATE)
    frames = RATE // 64
    formants = np.tile([700.0, 2500.0], (frames, 1))
    formants[frames // 2 :, 1] = 1200.0
    y = tract(x, formants, np.full_like(formants, 80.0))
    halves = spectrogram(y[:7500]).mean(0), spectrogram(y[8500:]).mean(0)
    hertz = np.arange(257) * RATE / 512
    for power, second in zip(halves, (2500, 1200), strict=True):
        assert abs(hertz[np.argmax(power)] - 700) < 60
        upper = np.where(hertz > 1000, power, 0)
        assert abs(hertz[np.argmax(upper)] - second) < 60


def beat(x):
    """How well a sound's energy matches itself a beat later, 0 to 1."""
    energy = spectrogram(x, 256, 80).sum(1) ** 0.25
    energy = energy - energy.mean()
    match = [
        np.corrcoef(energy[:-lag], energy[lag:])[0, 1] for lag in range(24, 120)
    ]
    return max(match)


def test_sounds_move_as_they_should():
    regular = [beat(SOUNDS["clock_tick"](rng(1, k), 40000)) for k in range(6)]
    random = [beat(SOUNDS["rain"](rng(1, k), 40000)) for k in range(6)]
    assert min(regular) > 0.7 > 0.4 > max(random)

    def octaves(name):
        """Range of the strongest partial's pitch."""
        spans = []
        for k in range(6):
            power = spectrogram(SOUNDS[name](rng(2, k), 40000))
            loud = power.max(1) > 0.01 * power.max()
            peaks = np.log2(np.argmax(power[:, 4:60], axis=1)[loud] + 4)
            spans.append(np.ptp(np.percentile(peaks, [10, 90])))
        return np.mean(spans)

    assert octaves("siren") > 3 * octaves("cricket")
    assert set(SOUNDS) == set(SyntheticCorpus(1).classes["label"])
    for name, make in SOUNDS.items():
        x = make(rng(3, 0), 20000)
        assert x.shape == (20000,) and np.std(x) > 0, name


def test_the_phase_that_a_pitch_has_passed():
    f = 2 ** rng(4, 0).uniform(5, 12.6, len(steps(30_000)))
    hertz = slowly(f, 30_000).astype("float64")
    gone = np.cumsum((hertz[1:] + hertz[:-1]) / 2)
    expected = np.append(0, gone) / RATE * TABLE
    off = (passed(f, 30_000) - expected) % TABLE
    assert np.max(np.minimum(off, TABLE - off)) < 0.05
    still = np.full(10, 440.0)
    turns = passed(still, 500) / TABLE
    np.testing.assert_allclose(
        np.exp(2j * np.pi * turns),
        np.exp(2j * np.pi * 440 * np.arange(500) / RATE),
        atol=1e-3,
    )


@pytest.mark.parametrize("decay", [0.04, 0.2, 0.8])
@pytest.mark.parametrize("size", [32_768, 131_072])
def test_a_room_falls_by_60_decibels_in_its_time(decay, size):
    share = decay * RATE / size
    power = np.zeros(size)
    for k in range(30):
        spectrum = room_of(rng(5, k), decay, size)
        assert abs(np.mean(np.abs(spectrum) ** 2) - 1) < 0.5
        # The band's edges ring, which the microphone does not let through.
        power += np.fft.irfft(spectrum * np.hanning(len(spectrum))) ** 2
    power = power[: size * 9 // 10]  # what rings before the first sample
    left = np.cumsum(power[::-1])[::-1] / power.sum()
    # Where a tenth and a thousandth of the energy are left: 20 dB apart.
    tenth, thousandth = (np.argmax(left < x) / size for x in (1e-1, 1e-3))
    assert share / 3 * 0.8 < thousandth - tenth < share / 3 * 1.25
    other = room_of(rng(6, 0), decay, size)
    match = np.abs(np.vdot(other, spectrum)) / size * 2
    assert match < 0.35


def test_spectral_statistics_tell_something_but_not_all():
    corpus = SyntheticCorpus(20 * len(SOUNDS), seconds=1.5, seed=11)
    edges = np.geomspace(2, 256, 33).astype(int)
    statistics = []
    for x in corpus:
        bands = np.add.reduceat(spectrogram(x)[:, :256], edges[:-1], axis=1)
        bands = np.log(bands + 1e-3)
        statistics.append(np.concatenate([bands.mean(0), bands.std(0)]))
    y = corpus.labels["label"]
    probe = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.1, max_iter=5000)
    )
    half = 14 * len(SOUNDS)
    probe.fit(statistics[:half], y[:half])
    accuracy = probe.score(statistics[half:], y[half:])
    assert 3 / len(SOUNDS) < accuracy < 0.9


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("kind", KINDS)
def test_written_corpus(kind, tmp_path):
    clips = 40 if kind == "sounds" else 36
    corpus = SyntheticCorpus(clips, 0.6, sample_rate=8000, kind=kind, seed=1)
    manifest = corpus.write(tmp_path / "new" / "folder")
    folder, rows = manifest.parent, read(manifest)
    labels = list(corpus.labels)
    tail = ["duration", "sample_rate", "split", "fold"]
    assert list(rows[0]) == ["file", *labels, *tail]
    assert len(rows) == clips
    for i, row in enumerate(rows):
        x, rate = soundfile.read(folder / row["file"], dtype="float32")
        np.testing.assert_allclose(x, corpus[i], atol=1.5 / 32768)
        assert rate == int(row["sample_rate"]) == 8000
        assert float(row["duration"]) == pytest.approx(len(x) / 8000, abs=1e-4)
        for name in labels:
            code = corpus.labels[name][i]
            assert row[name] == corpus.classes[name][code]
        assert (row["split"] == "test") == (row["fold"] == "5")
    if kind == "patches":
        assert [row["fold"] for row in rows[:6]] == list("123451")
    else:
        assert {row["fold"] for row in rows[:: clips // 3]} == set("123")
    if kind == "speech":
        for column, spans in (
            ("phone", corpus.phones),
            ("syllable", corpus.syllables),
        ):
            table = iter(read(folder / f"{column}s.csv"))
            for i, row in enumerate(rows):
                for start, end, name in spans(i):
                    found = next(table)
                    assert found["file"] == row["file"]
                    assert found[column] == name
                    assert float(found["start"]) == round(start, 4)
                    assert float(found["end"]) == round(end, 4)
            assert next(table, None) is None
    else:
        assert not (folder / "phones.csv").exists()
    data = from_manifest(
        manifest,
        batch_size=4,
        label=labels[0] if labels else None,
        sample_rate=8000,
    )
    assert data.num_clips == clips and not data.skipped


def test_memory_changes_nothing_but_time():
    plain = SyntheticCorpus(4, seconds=1.0)
    one = plain[0].nbytes
    kept = SyntheticCorpus(4, seconds=1.0, memory_mb=2.5 * one / 1e6)
    for _ in range(2):
        for i in range(4):
            x = kept[i]
            np.testing.assert_array_equal(x, plain[i])
            x[:] = 0
    assert 1 <= len(kept._made) < 4
    again = pickle.loads(pickle.dumps(kept))
    assert not again._made and again._room == int(2.5 * one)
    np.testing.assert_array_equal(again[2], plain[2])


def test_synthetic_is_a_dataset():
    data = synthetic(0.5, 17, clips=34, label="label", seed=3, shuffle=False)
    x, y = data.batch(epoch=0, step=1)
    assert x["waveform"].shape == (17, 8000)
    np.testing.assert_array_equal(x["lengths"], 8000)
    np.testing.assert_array_equal(y, np.arange(17))
    assert data.classes == list(SOUNDS)
    unlabelled = synthetic(None, 4, kind="speech", clips=8)
    waveform = unlabelled.batch(epoch=0, step=0)["waveform"]
    assert waveform.shape[1] >= 24000
    with pytest.raises(ValueError, match="'speaker', 'syllable'.*'label'"):
        synthetic(kind="speech", label="label")


@pytest.mark.parametrize(
    "wrong",
    [
        {"clips": 0},
        {"clips": 2.5},
        {"seconds": 0.1},
        {"seconds": float("nan")},
        {"sample_rate": 0},
        {"seed": -1},
        {"seed": 2**64},
        {"kind": "music"},
        {"memory_mb": -1},
    ],
)
def test_wrong_arguments(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"`{name}`.*Received"):
        SyntheticCorpus(**{"clips": 4, **wrong})


def test_only_speech_has_phones():
    with pytest.raises(ValueError, match="speech"):
        SyntheticCorpus(4).phones(0)


def paired(**options):
    options = {"clips": 6, "batch_size": 3, "seed": 4, **options}
    return synthetic(0.5, kind="patches", pairs="perturbed", **options)


def test_pairs_are_the_same_crops_of_perturbed_patches():
    batch = paired().batch(epoch=1, step=1)
    again = paired().batch(epoch=1, step=1)
    assert batch["pair"].shape == batch["waveform"].shape
    assert batch["pair"].dtype == np.float32
    np.testing.assert_array_equal(batch["pair"], again["pair"])
    same = paired(delta=0.0).batch(epoch=1, step=1)
    np.testing.assert_array_equal(same["waveform"], batch["waveform"])
    np.testing.assert_array_equal(same["pair"], same["waveform"])
    far = paired(delta=0.3).batch(epoch=1, step=1)
    off = [np.abs(b["pair"] - b["waveform"]).mean() for b in (batch, far)]
    assert 0 < off[0] < off[1]


def test_another_place_has_another_perturbation():
    data = paired(clips=1, batch_size=1, drop_last=False)
    corpus = SyntheticCorpus(1, 0.75, seed=4, kind="patches")
    clip, found = corpus[0], set()
    for epoch in range(3):
        x = data.batch(epoch=epoch, step=0)
        wave, pair = x["waveform"][0], x["pair"][0]
        windows = np.lib.stride_tricks.sliding_window_view(clip, len(wave))
        (start,) = np.flatnonzero((windows == wave).all(1))
        whole = corpus.perturbed(0, turn=int(start))
        np.testing.assert_array_equal(pair, whole[start : start + len(wave)])
        found.add(whole.tobytes())
    assert len(found) == 3


@pytest.mark.parametrize(
    "options, match",
    [
        ({"kind": "sounds"}, "kind='patches'"),
        ({"pairs": "other"}, "must be 'perturbed'"),
        ({"delta": -1.0}, "must not be negative"),
        ({"seconds": None}, "needs `seconds`"),
    ],
)
def test_wrong_pairs_are_refused(options, match):
    options = {
        "kind": "patches", "pairs": "perturbed", "seconds": 1.0, "clips": 4,
        **options,
    }  # fmt: skip
    with pytest.raises(ValueError, match=match):
        synthetic(batch_size=2, **options)
