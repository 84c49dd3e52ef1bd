"""The augmentations of contrastive methods: what they do, how often."""

import numpy as np
import pytest
from keras import ops

from keras_audio_ssl import augment
from keras_audio_ssl.augment.fade import SHAPES
from keras_audio_ssl.augment.noise import coloured
from keras_audio_ssl.augment.vocoder import revoice
from tests.augment.test_protocol import array
from tests.augment.test_protocol import generator

DRAWS = 20_000


def tensor(x, dtype="float32"):
    return ops.convert_to_tensor(np.asarray(x, dtype))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def drawn(layer, *shape, seed=0):
    return {
        k: array(v) for k, v in layer.draw(shape, seed=generator(seed)).items()
    }


def uniform_over(values, low, high):
    """Whether whole numbers are uniform from `low` to `high`."""
    counts = np.bincount(values - low, minlength=high - low + 1)
    assert values.min() >= low and len(counts) == high - low + 1
    expected = len(values) / len(counts)
    # Five deviations of a binomial count.
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def uniform_between(values, low, high):
    spread = (high - low) / np.sqrt(12 * len(values))
    assert low <= values.min() and values.max() <= high
    assert abs(values.mean() - (low + high) / 2) < 5 * spread


# Waveforms.


def ramp_by_hand(shape, length, falls):
    f = np.linspace(0, 1, length) if length else np.zeros(0)
    if falls:
        return {
            "linear": 1 - f,
            "exponential": 2.0**-f * (1 - f),
            "logarithmic": np.log10(1.1 - f) + 1,
            "quarter_sine": np.sin(np.pi * f / 2 + np.pi / 2),
            "half_sine": np.sin(np.pi * f + np.pi / 2) / 2 + 0.5,
        }[shape].clip(0, 1)
    return {
        "linear": f,
        "exponential": 2.0 ** (f - 1) * f,
        "logarithmic": np.log10(0.1 + f) + 1,
        "quarter_sine": np.sin(np.pi * f / 2),
        "half_sine": np.sin(np.pi * f - np.pi / 2) / 2 + 0.5,
    }[shape].clip(0, 1)


def test_fades_against_their_formulas():
    cases = [(7, 5), (0, 0), (1, 1), (10, 9), (2, 3)]
    x = np.ones((5, 20), "float32")
    lengths = np.array([20, 20, 18, 20, 12])
    for kind, shape in enumerate(SHAPES):
        want = np.ones((5, 20))
        for row, (rise, fall) in enumerate(cases):
            want[row, :rise] *= ramp_by_hand(shape, rise, False)
            end = lengths[row]
            want[row, end - fall : end] *= ramp_by_hand(shape, fall, True)
            want[row, end:] = 0
        got = augment.fade(
            tensor(x * (np.arange(20) < lengths[:, None])),
            tensor([kind] * 5, "int32"),
            tensor([c[0] for c in cases], "int32"),
            tensor([c[1] for c in cases], "int32"),
            lengths,
        )
        np.testing.assert_allclose(array(got), want, atol=1e-6)


def test_fades_are_drawn_as_they_should_be():
    d = drawn(augment.Fade(), DRAWS, 40)
    uniform_over(d["shape"], 0, 4)
    uniform_over(d["rise"], 0, 19)
    uniform_over(d["fall"], 0, 19)
    assert abs(np.corrcoef(d["rise"], d["fall"])[0, 1]) < 0.04


def test_white_noise_has_the_distance_it_was_given():
    layer = augment.WhiteNoise()
    d = drawn(layer, DRAWS, 4)
    uniform_over(d["snr_db"].astype(int), 0, 19)
    x, noise = (
        normal(3, 30_000) * [[0.1], [1.0], [0.0]],
        normal(3, 30_000, seed=1),
    )
    x = x.astype("float32")
    snr = np.array([0.0, 13.0, 5.0], "float32")
    lengths = np.array([30_000, 20_000, 30_000])
    x[1, 20_000:] = 0
    got = array(augment.add_noise(*map(tensor, (x, noise, snr)), lengths))
    off = got - x
    assert not off[2].any() and not off[1, 20_000:].any()
    for row, n in ((0, 30_000), (1, 20_000)):
        ratio = np.mean(x[row, :n] ** 2) / np.mean(off[row, :n] ** 2)
        assert 10 * np.log10(ratio) == pytest.approx(snr[row], abs=0.1)


def test_colours_of_noise():
    noise = array(coloured(tensor(normal(3, 1 << 14)), tensor([0.0, 1.0, 2.0])))
    np.testing.assert_allclose(np.abs(noise).max(axis=1), 1, rtol=1e-5)
    power = np.abs(np.fft.rfft(noise)) ** 2
    low, high = power[:, 100:200].mean(1), power[:, 3200:6400].mean(1)
    # A factor of 32 in frequency, to the power of -n.
    slope = np.log(low / high) / np.log(32)
    np.testing.assert_allclose(slope, [0, 1, 2], atol=0.15)


def test_mixed_noise_is_cut_but_not_rectified():
    layer, x = augment.MixedNoise(), 0.5 * normal(DRAWS, 8)
    d = layer.draw(x.shape, seed=generator())
    assert array(d["noisy"]).mean() == pytest.approx(3 / 4, abs=0.016)
    uniform_between(array(d["own"]), 0.5, 1.2)
    uniform_between(array(d["other"]), 0.0, 0.9)
    out = array(layer.apply(tensor(x), **d))
    noisy = array(d["noisy"])
    np.testing.assert_array_equal(out[~noisy], x[~noisy])
    assert np.abs(out[noisy]).max() == 1 and out[noisy].min() == -1
    only = augment.MixedNoise(("none",))
    np.testing.assert_array_equal(array(only(x, seed=generator())), x)


def test_time_masks():
    layer = augment.TimeMask()
    d = drawn(layer, DRAWS, 40)
    assert (d["width"] == 5).all()
    uniform_over(d["start"], 0, 35)
    assert d["noise"].std() == pytest.approx(0.01, rel=0.02)
    x = np.ones((3, 40), "float32")
    lengths = np.array([40, 16, 8])
    x[1, 16:] = x[2, 8:] = 0
    out = array(layer(x, lengths=lengths, seed=generator()))
    assert [int((row != 1).sum()) for row in out] == [5, 2 + 24, 1 + 32]


def test_time_shifts_go_round():
    d = drawn(augment.TimeShift(-3, 2), DRAWS, 6)
    uniform_over(d["shift"], -3, 2)
    layer = augment.TimeShift()
    x = np.arange(20, dtype="float32").reshape(2, 10) + 1
    x[1, 7:] = 0
    got = layer.apply(
        tensor(x), np.array([10, 7]), shift=tensor([13, -2], "int32")
    )
    want = np.stack(
        [np.roll(x[0], 3), np.append(np.roll(x[1, :7], -2), x[1, 7:])]
    )
    np.testing.assert_array_equal(array(got), want)
    shift = drawn(layer, DRAWS, 5)["shift"]
    assert shift.min() < -7900 and shift.max() > 7900 and shift.max() < 8000


def tone(frequency, samples=16384, rate=16000):
    t = np.arange(samples) / rate
    return np.sin(2 * np.pi * frequency * t).astype("float32")


def strongest(x, rate=16000):
    size = np.abs(np.fft.rfft(x * np.hanning(len(x))))
    return np.argmax(size) * rate / len(x)


def test_the_vocoder_at_its_own_tempo_and_pitch_is_nothing():
    x = 0.3 * normal(2, 5000) + tone(440, 5000)
    # What its interpolation can render: below half of the highest pitch.
    spectrum = np.fft.rfft(x)
    spectrum[:, 1000:] = 0
    x = np.fft.irfft(spectrum, 5000).astype("float32")
    one = tensor([1.0, 1.0])
    got = array(revoice(tensor(x), one, one))
    assert np.abs(got - x).max() < 0.02 * np.abs(x).max()


def test_pitch_shifts_move_tones_and_nothing_else():
    x = np.stack([tone(600)] * 5)
    x[4] += tone(6000)
    steps = np.array([-12, 5, 12, 0, 12])
    pitch = tensor(2.0 ** (steps / 12))
    out = array(revoice(tensor(x), ops.ones_like(pitch), pitch))
    for row, step in zip(out, steps, strict=True):
        assert strongest(row) == pytest.approx(600 * 2 ** (step / 12), abs=2)
        middle = row[2000:-2000]
        assert np.sqrt(np.mean(middle**2)) == pytest.approx(
            np.sqrt(0.5), rel=0.05
        )
    # 12 kHz would be folded back to 4.
    size = np.abs(np.fft.rfft(out[4] * np.hanning(len(out[4]))))
    place = round(4000 * len(out[4]) / 16000)
    assert size[place - 20 : place + 20].max() < 0.01 * size.max()
    shift = np.log2(drawn(augment.PitchShift(), DRAWS, 4)["pitch"]) * 12
    uniform_over(np.round(shift).astype(int), -15, 14)


def test_stretching_keeps_the_pitch_and_moves_clicks():
    x = np.stack([tone(600)] * 2)
    tempo = tensor([0.5, 1.5])
    out = array(augment.TimeStretch().apply(tensor(x), tempo=tempo))
    for row in out:
        assert strongest(row[2000:8000]) == pytest.approx(600, abs=3)
    assert np.abs(out[0, -500:]).max() > 0.5
    end = int(16384 / 1.5)
    assert (
        not out[1, end:].any() and np.abs(out[1, end - 900 : end]).max() > 0.3
    )
    click = np.zeros((2, 16384), "float32")
    click[:, 6000:6040] = 1
    out = array(augment.TimeStretch().apply(tensor(click), tempo=tempo))
    places = np.abs(out).argmax(axis=1)
    np.testing.assert_allclose(places, [12_000, 4000], atol=600)
    uniform_between(drawn(augment.TimeStretch(), DRAWS, 4)["tempo"], 0.5, 1.5)


def test_gain_and_compression():
    uniform_between(drawn(augment.Gain(), DRAWS, 4)["factor"], 0.8, 1.2)
    uniform_between(
        drawn(augment.Compression(), DRAWS, 4, 2)["factor"], 0.75, 1
    )
    x = normal(3, 4, 5)
    got = augment.Compression().apply(tensor(x), factor=tensor([0.8, 0.9, 1.0]))
    np.testing.assert_allclose(
        array(got), x * np.array([0.8, 0.9, 1.0])[:, None, None], rtol=1e-6
    )


def test_waveforms_are_mixed_with_others():
    layer = augment.WaveformMix()
    d = drawn(layer, DRAWS, 4)
    assert d["share"].mean() == pytest.approx(5 / 7, abs=0.01)
    assert d["share"].var() == pytest.approx(10 / (49 * 8), rel=0.05)
    assert (d["source"] != np.arange(DRAWS)).all()
    x = normal(2, 6)
    got = layer.apply(
        tensor(x), share=tensor([0.7, 1.0]), source=tensor([1, 0], "int32")
    )
    want = np.stack([0.7 * x[0] + 0.3 * x[1], x[1]])
    np.testing.assert_allclose(array(got), want, atol=1e-6)
    np.testing.assert_array_equal(array(layer(x[:1], seed=generator())), x[:1])


# Features.


def decibel_free(x):
    return 10.0 ** x.astype("float64")


def test_mix_back_keeps_the_energy_whatever_the_background():
    fore, back = normal(3, 6, 5) - 4, normal(3, 6, 5, seed=1)
    alpha = np.array([0.0, 0.02, 0.5], "float32")
    got = array(augment.mix_back(*map(tensor, (fore, back, alpha))))
    f, b, a = decibel_free(fore), decibel_free(back), alpha[:, None, None]
    e_f, e_b = (v.sum((1, 2), keepdims=True) for v in (f, b))
    want = np.log10((1 - a) * f + a * e_f / e_b * b)
    np.testing.assert_allclose(got, want, atol=2e-6)
    np.testing.assert_allclose(got[0], fore[0], atol=1e-6)
    energy = decibel_free(got).sum((1, 2))
    np.testing.assert_allclose(energy, e_f[:, 0, 0], rtol=3e-6)
    # Any gain of the background is of no account, 140 dB as well.
    for gain in (-7.0, 7.0, 30.0):
        louder = augment.mix_back(*map(tensor, (fore, back + gain, alpha)))
        np.testing.assert_allclose(array(louder), got, atol=1e-5)
    natural = augment.mix_back(
        *map(tensor, (fore * np.log(10), back * np.log(10), alpha)), np.e
    )
    np.testing.assert_allclose(array(natural), got * np.log(10), atol=1e-5)


def test_silence_is_mixed_without_nan():
    silent = np.full((1, 6, 5), np.log10(1.1e-8), "float32")
    loud, alpha = normal(1, 6, 5), np.array([0.05], "float32")
    for fore, back in ((silent, loud), (loud, silent), (silent, silent)):
        got = array(augment.mix_back(*map(tensor, (fore, back, alpha))))
        assert np.isfinite(got).all()
        assert got.max() <= fore.max() + 1


def test_views_share_alpha_and_have_different_backgrounds():
    layer = augment.MixBack(0.05, views=2)
    for clips in (1, 2, 3, 8):
        seen = set()
        for seed in range(20):
            d = drawn(layer, 2 * clips, 2, 2, seed=seed)
            first, second = np.split(d["alpha"], 2)
            np.testing.assert_array_equal(first, second)
            one, two = d["source"][:clips], d["source"][clips:] - clips
            assert set(one) == set(two) == set(range(clips))
            if clips > 1:
                assert (one != np.arange(clips)).all()
                assert (two != np.arange(clips)).all()
            if clips > 2:
                assert (one != two).all()
            seen.add((int(one[0]), int(two[0])))
        assert len(seen) >= min(clips - 1, 5)
    alpha = drawn(augment.MixBack(), DRAWS, 2, 2)["alpha"]
    uniform_between(alpha, 0, 0.05)
    np.testing.assert_allclose(
        array(layer(normal(2, 3, 4)[:1].repeat(2, 0), seed=generator())),
        normal(2, 3, 4)[:1].repeat(2, 0),
        atol=1e-6,
    )


def resized_by_loops(x, box):
    top, left, height, width = box
    part = x[top : top + height, left : left + width].astype("float64")
    for axis, size in enumerate(x.shape):
        length = part.shape[axis]
        place = (np.arange(size) + 0.5) * length / size - 0.5
        place = place.clip(0, length - 1)
        below = np.floor(place).astype(int)
        above = np.minimum(below + 1, length - 1)
        share = (place - below).reshape((-1, 1) if axis == 0 else (1, -1))
        part = np.take(part, below, axis) * (1 - share) + share * np.take(
            part, above, axis
        )
    return part


def test_resized_crops_against_loops():
    x = normal(4, 12, 9)
    boxes = [(0, 0, 12, 9), (2, 1, 7, 5), (11, 8, 1, 1), (0, 3, 12, 2)]
    got = array(augment.cut_and_resize(tensor(x), tensor(boxes, "int32")))
    for row, clip, box in zip(got, x, boxes, strict=True):
        np.testing.assert_allclose(row, resized_by_loops(clip, box), atol=1e-5)


def test_resized_crops_are_parts_of_the_map():
    layer = augment.RandomResizedCrop()
    boxes = drawn(layer, DRAWS, 101, 96)["boxes"]
    area = boxes[:, 2] * boxes[:, 3] / (101 * 96)
    ratio = boxes[:, 3] / boxes[:, 2]
    assert 0.79 < area.min() and area.max() <= 1
    assert 0.74 < ratio.min() and ratio.max() < 1.35
    assert (boxes[:, 0] + boxes[:, 2] <= 101).all() and (boxes >= 0).all()
    assert (boxes[:, 1] + boxes[:, 3] <= 96).all()
    # None fits a narrow map: the largest part of an allowed aspect, amid.
    narrow = drawn(layer, 50, 40, 10)["boxes"]
    assert (narrow == [[13, 0, 13, 10]]).all()
    low = drawn(layer, 50, 10, 40)["boxes"]
    assert (low == [[0, 13, 10, 13]]).all()


def test_feature_noise_has_a_deviation_for_each_clip():
    noise = drawn(augment.FeatureNoise(), 2000, 30, 20)["noise"]
    spread = noise.std((1, 2))
    assert spread.max() < 0.0107
    assert spread.mean() == pytest.approx(0.005, abs=3e-4)


def test_spec_augment_fills_with_the_smallest_value():
    layer = augment.SpecAugment()
    d = drawn(layer, DRAWS, 101, 96)
    # Two bands of 0 to 19 frames: 19 together, a little less as they overlap.
    for key, size in (("frames", 101), ("bins", 96)):
        assert d[key].shape == (DRAWS, size)
        hidden = d[key].sum(1)
        assert hidden.max() <= 38 and 17 < hidden.mean() < 19
        assert (hidden == 0).mean() == pytest.approx(1 / 400, abs=0.002)
    x = normal(2, 10, 8)
    frames, bins = np.zeros((2, 10), bool), np.zeros((2, 8), bool)
    frames[0, 3:5], bins[1, 6:] = True, True
    got = array(augment.fill_bands(tensor(x), frames, bins))
    want = x.copy()
    want[0, 3:5], want[1, :, 6:] = x[0].min(), x[1].min()
    np.testing.assert_array_equal(got, want)


def test_features_are_moved_along_both_axes():
    x = normal(2, 6, 5)
    shift = tensor([2, -1], "int32")
    got = array(augment.FrameShift().apply(tensor(x), shift=shift))
    want = np.stack([np.roll(x[0], 2, 0), np.roll(x[1], -1, 0)])
    np.testing.assert_array_equal(got, want)
    uniform_over(drawn(augment.FrameShift(), DRAWS, 40, 2)["shift"], 1, 29)
    got = array(augment.shift_bins(tensor(x), shift))
    want = np.stack([np.roll(x[0], 2, 1), np.roll(x[1], -1, 1)])
    np.testing.assert_array_equal(got, want)
    got = array(augment.shift_bins(tensor(x), shift, "min"))
    want[0, :, :2], want[1, :, -1] = x[0].min(), x[1].min()
    np.testing.assert_array_equal(got, want)
    uniform_over(drawn(augment.FrequencyShift(), DRAWS, 2, 30)["shift"], 1, 9)
