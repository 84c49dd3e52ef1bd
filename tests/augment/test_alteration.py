"""Alteration policies: counts, shares and places over many draws."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.augment import ChannelAlteration
from keras_audio_ssl.augment import NoiseAlteration
from keras_audio_ssl.augment import TimeAlteration

DRAWS = 3000


def array(x):
    return np.asarray(ops.convert_to_numpy(x))


def seed(n=0):
    return keras.random.SeedGenerator(n)


def drawn(layer, frames, lengths=None, draws=DRAWS):
    """A large draw of `TimeAlteration`, as arrays."""
    if lengths is None:
        lengths = np.full(draws, frames, "int32")
    lengths = ops.convert_to_tensor(np.asarray(lengths, "int32"))
    draw = layer.draw(lengths, frames, seed(5))
    return SimpleNamespace(**{k: array(v) for k, v in draw.items()})


# Shares as measured of the released code, `methods` sheet of Mockingjay.
@pytest.mark.parametrize(
    "frames, share, draws",
    [(200, 0.133, DRAWS), (500, 0.145, DRAWS), (1500, 0.140, 600)],
)
def test_the_selected_share_is_the_references(frames, share, draws):
    layer = TimeAlteration(reference=True)
    selected = drawn(layer, frames, draws=draws).selected
    assert selected.mean() == pytest.approx(share, abs=0.01)
    # The last frame is never selected there, and is here.
    assert not selected[:, -1].any()
    ours = drawn(TimeAlteration(), frames, draws=draws).selected
    assert ours[:, -1].any()
    assert ours.mean() == pytest.approx(share, abs=0.01)


def test_one_die_falls_for_a_whole_utterance():
    die = drawn(TimeAlteration(), 60).die
    shares = np.bincount(die, minlength=3) / DRAWS
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.03)


def runs_of(row):
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.r_[0, row.astype(int), 0]))
    return edges[1::2] - edges[::2]


def test_how_many_spans_and_how_long():
    """`round(0.15 * L / 7)`, half to even: 70 frames give 1.5, so two."""
    lengths = np.repeat(np.arange(24, 300), 10)
    # Here spans do not overlap, and each is whole.
    layer = TimeAlteration(overlap=False)
    counts = drawn(layer, 300, lengths).selected.sum(axis=1) / 7
    room = (lengths - 7) // 10  # where the grid has room for all of them
    want = np.array([round(0.15 * n / 7) for n in lengths.tolist()])
    np.testing.assert_array_equal(counts, np.minimum(want, room + 1))
    selected = drawn(TimeAlteration(), 300, lengths).selected
    assert (selected.sum(axis=1) <= 7 * want).all()
    assert (selected.sum(axis=1) == 7 * want).mean() > 0.4
    assert min(runs_of(row).min() for row in selected) >= 7


def test_starts_are_uniform():
    selected = drawn(TimeAlteration(span=1, proportion=0.1), 20).selected
    share = selected.mean(axis=0)
    np.testing.assert_allclose(share, 0.1, atol=0.025)
    assert (selected.sum(axis=1) == 2).all(), "starts are different"


def test_without_overlap_spans_lie_on_a_grid():
    selected = drawn(TimeAlteration(overlap=False), 200, draws=500).selected
    for row in selected:
        runs, starts = runs_of(row), np.flatnonzero(np.diff(np.r_[0, row]) == 1)
        assert (runs == 7).all() and len(starts) == 4
        # round(1.5 * 7) is 10, half to even.
        assert (np.diff(starts) % 10 == 0).all()


def test_spans_between_two_lengths():
    selected = drawn(TimeAlteration(span=(2, 4), proportion=0.04), 60).selected
    runs = np.concatenate([runs_of(row) for row in selected])
    assert runs.min() == 2
    assert {2, 3, 4} <= set(runs.tolist())


def test_short_utterances_have_one_span_and_padding_none():
    lengths = np.array([1, 3, 6, 7, 8, 23, 30])
    selected = drawn(TimeAlteration(), 30, lengths).selected
    for row, n in zip(selected, lengths, strict=True):
        assert row[:n].sum() == min(n, 7) and not row[n:].any()
    nothing = drawn(TimeAlteration(reference=True), 30, lengths).selected
    assert not nothing[:6].any() and nothing[6].sum() == 7


def test_what_replaces_a_span_is_another_of_the_same_utterance():
    layer = TimeAlteration(dice=(0.0, 1.0))
    lengths = np.repeat([80, 50], 100)
    draw = drawn(layer, 80, lengths)
    x = np.broadcast_to(np.arange(80.0)[None, :, None], (200, 80, 2))
    x = x.astype("float32")
    altered = array(layer.apply(ops.convert_to_tensor(x), **vars(draw)))
    here = draw.selected[..., None] & np.ones(2, bool)
    assert (altered[~here] == x[~here]).all()
    moved = altered[..., 0] != x[..., 0]
    assert moved[draw.selected].mean() > 0.8
    for row, n in zip(altered[..., 0], lengths, strict=True):
        assert row[:n].max() < n, "nothing comes from the padding"
    # A span is copied as one piece.
    steps = np.diff(altered[..., 0], axis=1)
    inside = draw.selected[:, 1:] & draw.selected[:, :-1]
    assert (steps[inside] == 1).mean() > 0.8
    origins = altered[..., 0][draw.selected & (lengths == 80)[:, None]]
    assert origins.min() < 5 and origins.max() > 74


def test_zero_and_leave():
    x = ops.ones((4, 50, 3))
    for dice, left in (((1.0, 0.0), False), ((0.0, 0.0), True)):
        altered, selected = TimeAlteration(dice=dice)(x, seed=seed())
        here = array(selected)
        assert here.any()
        assert (array(altered)[here] == left).all()
        assert (array(altered)[~here] == 1).all()


@pytest.mark.parametrize("reference", [False, True])
def test_widths_and_places_of_bands(reference):
    layer = ChannelAlteration(reference=reference)
    hidden = array(layer.draw(DRAWS, 80, seed(3)))[:, 0]
    width = hidden.sum(axis=1)
    share = np.bincount(width, minlength=17) / DRAWS
    assert len(share) == 17
    np.testing.assert_allclose(share, 1 / 17, atol=0.016)
    for row in hidden[width > 0]:
        assert len(runs_of(row)) == 1
    assert hidden[:, -1].any() != reference
    starts = hidden[width == 8].argmax(axis=1)
    assert starts.min() < 8 and starts.max() > 62


def test_bands_repeat_in_each_group_and_can_be_sure():
    x = ops.ones((200, 5, 240))
    layer = ChannelAlteration(groups=3, least=1)
    altered, selected = layer(x, seed=seed(1))
    hidden = array(selected)[:, 0].reshape(200, 3, 80)
    assert (hidden == hidden[:, :1]).all()
    widths = hidden[:, 0].sum(axis=1)
    assert widths.min() == 1 and widths.max() == 16
    want = np.broadcast_to(1.0 - array(selected), (200, 5, 240))
    np.testing.assert_array_equal(array(altered), want)
    with pytest.raises(ValueError, match="groups"):
        ChannelAlteration(groups=3)(ops.ones((1, 2, 80)), seed=seed())


def test_noise_is_an_utterances_and_leaves_the_padding():
    x, lengths = ops.zeros((DRAWS, 12, 8)), np.full(DRAWS, 9, "int32")
    layer = NoiseAlteration()
    got = array(layer(x, lengths=ops.convert_to_tensor(lengths), seed=seed()))
    noisy = got.any(axis=(1, 2))
    assert noisy.mean() == pytest.approx(0.15, abs=0.02)
    assert not got[:, 9:].any()
    assert got[noisy][:, :9].std() == pytest.approx(0.2, abs=0.01)


def test_the_references_noise_is_a_batchs_and_covers_the_padding():
    layer, draw = NoiseAlteration(reference=True), seed(2)
    lengths = ops.convert_to_tensor(np.array([2, 2, 2], "int32"))
    noisy = []
    for _ in range(400):
        got = array(layer(ops.zeros((3, 4, 2)), lengths=lengths, seed=draw))
        assert got.any() == got.all()
        noisy.append(got.any())
    assert np.mean(noisy) == pytest.approx(0.15, abs=0.06)


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda: TimeAlteration(span=0), "span"),
        (lambda: TimeAlteration(span=(4, 2)), "span"),
        (lambda: TimeAlteration(proportion=1.5), "proportion"),
        (lambda: ChannelAlteration(share=-0.1), "share"),
        (lambda: NoiseAlteration(probability=2), "probability"),
    ],
)
def test_arguments_are_checked(make, match):
    with pytest.raises(ValueError, match=match):
        make()
