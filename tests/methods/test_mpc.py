import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from keras_audio_ssl.augment import ChunkAlteration
from tests.contract import batch
from tests.contract import step
from tests.encoders.tiny import RoundsUp
from tests.methods.reconstruction import array
from tests.methods.reconstruction import errors_where_hidden
from tests.methods.reconstruction import features
from tests.methods.reconstruction import learn_curves
from tests.methods.reconstruction import no_prediction_sees_what_is_hidden
from tests.methods.reconstruction import padding_and_neighbours_change_nothing
from tests.methods.reconstruction import tiny

BINS = {"n_mels": 80}


@pytest.fixture(scope="module")
def model():
    return tiny("mpc", encoder=BINS)


def test_the_paper_is_the_default():
    model = kas.MPC()
    net = model.encoder.backbone
    layer = 4 * (512 * 512 + 512) + 2 * 512 * 1280 + 1280 + 512 + 4 * 512
    convolutions = 9 * 512 + 9 * 512 * 512 + 8 * 512
    front = convolutions + 5120 * 512 + 512
    assert net.count_params() == front + 12 * layer
    assert model.head.count_params() == 513 * 160
    assert model.encoder.frame_rate == 25.0 and model.encoder.dim == 512
    optimizer = model.default_optimizer()
    assert optimizer.global_clipnorm == 100.0
    rates = optimizer._learning_rate
    peak = 0.3 / 512**0.5 / 2000**0.5
    for n in (1, 500, 2000, 8000, 100_000):
        want = 0.3 * 512**-0.5 * min(n**-0.5, n * 2000**-1.5)
        assert float(array(rates(n))) == pytest.approx(want, rel=1e-5)
    # The same share of any run.
    short = model.default_optimizer(3900)._learning_rate
    assert short.rise == 20
    assert float(array(short(20))) == pytest.approx(peak, rel=1e-5)


def test_nothing_hidden_is_seen(model):
    no_prediction_sees_what_is_hidden(model)


def test_padding_and_neighbours(model):
    padding_and_neighbours_change_nothing(model)


def draws(layer, clips, frames, lengths=None, seed=0):
    lengths = np.full(clips, frames) if lengths is None else lengths
    lengths = ops.convert_to_tensor(np.asarray(lengths, "int32"))
    draw = layer.draw(lengths, frames, keras.random.SeedGenerator(seed))
    return {name: array(value) for name, value in draw.items()}


@pytest.mark.parametrize("size", [1, 3])
def test_chunks_lie_on_the_grid(size):
    layer, chunk = ChunkAlteration(chunk_size=size), 4 * size
    frames = 60 * chunk
    selected = draws(layer, 2000, frames)["selected"]
    assert selected.mean() == pytest.approx(0.15, abs=0.01)
    chunks = selected.reshape(2000, -1, chunk)
    np.testing.assert_array_equal(chunks.all(-1), chunks.any(-1))
    chunks = chunks[..., 0]
    assert chunks.any(1).all(), "an utterance without a hidden chunk"
    # Of themselves: no place and no neighbour is preferred.
    assert np.abs(chunks.mean(0) - 0.15).max() < 0.05
    both = (chunks[:, 1:] & chunks[:, :-1]).mean()
    assert both == pytest.approx(0.15**2, abs=0.006)
    assert len(np.unique(chunks, axis=0)) > 1900
    again = draws(layer, 2000, frames, seed=1)["selected"]
    assert (again != selected).any(1).mean() > 0.99


def test_short_utterances_have_a_chunk_and_the_references_may_not():
    lengths = np.tile([1, 3, 4, 7, 20], 400)
    for reference in (False, True):
        layer = ChunkAlteration(chunk_size=1, reference=reference)
        selected = draws(layer, 2000, 24, lengths)["selected"]
        assert not selected[np.arange(24) >= lengths[:, None]].any()
        none = ~selected.any(1)
        for n in (1, 20):
            share = 0.85 ** -(-n // 4) if reference else 0
            assert none[lengths == n].mean() == pytest.approx(share, abs=0.08)


def test_the_references_chunks_are_short_in_short_batches():
    for frames, chunk in ((80, 4), (84, 12)):
        layer = ChunkAlteration(chunk_size=3, reference=True)
        selected = draws(layer, 200, frames)["selected"]
        whole = selected[:, : frames // chunk * chunk].reshape(200, -1, chunk)
        assert (whole.all(-1) == whole.any(-1)).all()
        ours = whole[:, :, :1].repeat(chunk, 2).reshape(200, -1)
        thirds = ours[:, :72].reshape(200, -1, 12)
        assert (thirds.all(-1) == thirds.any(-1)).all() == (chunk == 12)


def test_words_of_bert():
    layer = ChunkAlteration(dice=(0.8, 0.1))
    lengths = np.tile([60, 38], 500)
    draw = draws(layer, 1000, 60, lengths)
    x = (
        np.arange(60, dtype="float32")[None, :, None]
        + 1
        + np.zeros((1000, 1, 1))
    )
    x = x.astype("float32")
    hidden = array(layer.apply(*(
        ops.convert_to_tensor(a)
        for a in (x, draw["selected"], draw["source"], draw["die"])
    )))[..., 0]  # fmt: skip
    selected, x = draw["selected"], x[..., 0]
    np.testing.assert_array_equal(hidden[~selected], x[~selected])
    zero, kept = selected & (hidden == 0), selected & (hidden == x)
    other = selected & ~zero & ~kept
    shares = [part.sum() / selected.sum() for part in (zero, other, kept)]
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.03)
    # A chunk in another's place: in order, on the grid, inside the clip.
    whole = other[:500, :36].reshape(-1, 4)
    rows = hidden[:500, :36].reshape(-1, 4)[whole.all(1)]
    assert len(rows) > 10
    assert ((rows[:, 0] - 1) % 4 == 0).all()
    ends = np.repeat(lengths[:500], 9)[whole.all(1)]
    assert (rows <= ends[:, None]).all()
    inside = rows[:, -1] < ends
    assert (np.diff(rows[inside], axis=1) == 1).all()


def test_steps_rebuild_their_four_frames_in_order(model):
    """A head that says its place, and a target that is a ramp."""
    kernel, bias = model.head.get_weights()
    try:
        order = np.repeat(np.arange(4.0), 80)
        model.head.set_weights([0 * kernel, order])
        got = array(model.reconstruct(features(2, 18)))
        want = np.arange(18) % 4 + np.zeros((2, 80, 1))
        np.testing.assert_array_equal(got, want.transpose(0, 2, 1))
    finally:
        model.head.set_weights([kernel, bias])


def test_the_target_is_the_frame_itself():
    model = tiny("mpc", encoder=BINS)
    x = np.arange(40, dtype="float32")[None, :, None] + np.zeros((2, 1, 80))
    outputs = model.rebuild(ops.convert_to_tensor(x.astype("float32")))
    np.testing.assert_array_equal(array(outputs["target"]), x)
    # One frame late is off by one.
    outputs["prediction"] = ops.convert_to_tensor(x.astype("float32") - 1)
    loss = float(array(model.pretext_loss(outputs, None)))
    assert loss == pytest.approx(1.0)


def test_the_reference_loss_feels_padding():
    model = tiny("mpc", encoder=BINS, reference_loss=True)
    x, loss = features(2, 40), []
    for more in (0, 40):
        wide = np.pad(x, ((0, 0), (0, more), (0, 0)))
        valid = ops.convert_to_tensor(np.array([40, 40], "int32"))
        label = np.zeros(wide.shape, bool)
        label[:, 4:8] = True
        outputs = {
            "prediction": model.reconstruct(ops.convert_to_tensor(wide), valid),
            "target": ops.convert_to_tensor(wide),
            "label": ops.convert_to_tensor(label),
        }
        loss.append(float(array(model.pretext_loss(outputs, None))))
    assert loss[1] == pytest.approx(loss[0] / 2, rel=1e-5)


def test_the_references_padding_is_seen():
    model = tiny("mpc", encoder={**BINS, "reference_padding": True})
    net, x = model.encoder.backbone, features(2, 43)
    assert net.min_frames == 4 and not net.exact_lengths
    x[:, 30:] = 0
    long = array(net(x, lengths=np.array([30, 30]))["hidden"][-1])
    assert long.shape[1] == 10, "the tail of three frames is cut off"
    short = array(net(x[:, :32], lengths=np.array([30, 30]))["hidden"][-1])
    assert np.abs(long[:, :8] - short).max() > 1e-3
    outputs = model.rebuild(ops.convert_to_tensor(x))
    assert {v.shape[1] for v in outputs.values()} == {40}
    again = kas.MPC.from_config(model.get_config())
    assert again.encoder.backbone.reference_padding


@pytest.mark.parametrize("policy", ["zero_chunks", "bert"])
def test_any_number_of_frames(policy):
    model = tiny("mpc", encoder=BINS, policy=policy)
    lengths = np.arange(1, 10)
    x = features(9, 9)
    assert array(model.encoder.backbone.level_lengths(lengths)).tolist() == [
        -(-n // 4) for n in lengths
    ]
    outputs = model.rebuild(
        ops.convert_to_tensor(x), ops.convert_to_tensor(lengths.astype("int32"))
    )
    assert outputs["prediction"].shape == x.shape
    assert np.isfinite(float(array(model.pretext_loss(outputs, None))))
    for n in (1, 2, 3, 5):
        read = model.encoder.backbone(keras.KerasTensor((1, n, 80)))
        assert read["frames"].shape == (1, -(-n // 4), 96)


def test_a_batch_without_hidden_frames_has_no_loss(model):
    x = ops.convert_to_tensor(features())
    outputs = {"prediction": x, "target": 2 * x, "label": x > 99.0}
    assert float(array(model.pretext_loss(outputs, None))) == 0.0


def test_batch_norms_do_not_see_padding():
    seen = []
    x = features(2, 40)
    for more in (0, 40):
        net = tiny("mpc", encoder=BINS).encoder.backbone
        wide = np.pad(x, ((0, 0), (0, more), (0, 0)), constant_values=7.0)
        net(wide, lengths=np.array([40, 21]), training=True)
        seen.append([array(c.norm.moving_variance) for c in net.convs])
    for a, b in zip(*seen, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_hidden_frames_are_rebuilt_better_than_copied():
    settings = {**BINS, "layers": 1, "dropout": 0.0}
    model = tiny("mpc", encoder=settings)
    got, nearest = errors_where_hidden(model, learn_curves(model))
    assert got < 0.7 * nearest


def test_deltas_may_be_channels():
    encoder = {"frontend": "kaldi_fbank240", "n_mels": 40, "channels": 3}
    model = tiny("mpc", encoder=encoder)
    net = model.encoder.backbone
    assert net.convs[0].conv.kernel.shape == (3, 3, 3, 16)
    model.compile()
    assert np.isfinite(step(model, batch(4))["loss"])
    # A map is the bins of one delta.
    x = np.zeros((1, 8, 120), "float32")
    x[..., 40:80] = 1
    kernel = net.convs[0].conv.kernel
    kernel.assign(np.zeros(kernel.shape))
    plain = array(net(x)["hidden"][0])
    value = np.zeros(kernel.shape, "float32")
    for channel, changes in ((0, False), (1, True)):
        value[:] = 0
        value[:, :, channel] = 1
        kernel.assign(value)
        moved = np.abs(array(net(x)["hidden"][0]) - plain).max() > 1e-6
        assert moved == changes


def test_other_encoders():
    model = tiny("mpc", encoder=RoundsUp(40))
    assert model.stride == 4 and model.head.units == 160
    outputs = model.rebuild(ops.convert_to_tensor(features(2, 10, 40)))
    assert outputs["prediction"].shape == outputs["target"].shape


def test_arguments_are_checked():
    for name, value in (
        ("policy", "zero"), ("proportion", 1.5), ("chunk_size", 0),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=name):
            tiny("mpc", **{name: value})
    for name, value in (("units", 7), ("layers", 0), ("channels", 3)):
        with pytest.raises(ValueError, match=name):
            tiny("mpc", encoder={name: value})
