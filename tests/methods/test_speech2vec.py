import functools
import itertools

import keras
import numpy as np
import pytest
from keras import ops

import keras_audio_ssl as kas
from keras_audio_ssl.data.synthetic.sounds import HOP
from keras_audio_ssl.data.synthetic.speech import VOICES
from keras_audio_ssl.data.synthetic.speech import speak
from keras_audio_ssl.methods.speech2vec import neighbours
from tests.contract import batch
from tests.gradients import gradients

BINS, FRAMES = 5, 6
TASKS = pytest.mark.parametrize("task", ["skipgram", "cbow"])
INPUTS = pytest.mark.parametrize("feed", ["embedding", "teacher", "free"])


def array(x):
    return np.asarray(ops.convert_to_numpy(x))


def value(x):
    return float(array(x))


def small(task="skipgram", **kwargs):
    """A small model, of which no bias is zero."""
    keras.utils.set_random_seed(0)
    encoder = {"units": 4, "n_mels": 8, "n_mfcc": BINS, "hop_length": 320}
    settings = {"window": 2, "max_frames": FRAMES, **kwargs}
    model = kas.Speech2Vec(task, encoder, **settings)
    rng = np.random.default_rng(0)
    for v in model.trainable_variables:
        v.assign(rng.normal(0, 0.4, v.shape))
    return model


def words(clips=3, count=5, seed=0):
    """Features of words, and their lengths; one has no frame."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((clips, count, FRAMES, BINS)).astype("float32")
    lengths = rng.integers(1, FRAMES + 1, (clips, count)).astype("int32")
    lengths[0, 3:] = 0
    lengths[-1, 0] = FRAMES
    return x, lengths


def predict(model, x, lengths, **kwargs):
    return model.predict_words(
        ops.convert_to_tensor(x), ops.convert_to_tensor(lengths), **kwargs
    )


def loss_of(model, x, lengths):
    return value(model.pretext_loss(predict(model, x, lengths), None))


def count(variables):
    return sum(int(np.prod(v.shape)) for v in variables)


def test_the_paper_is_the_default():
    model = kas.Speech2Vec()
    assert count(model.encoder.backbone.weights) == 7_800
    assert count(model.decoders[0].weights) == 20_200 + 663
    assert (model.task, model.window, model.encoder.dim) == ("skipgram", 3, 50)
    frontend = model.encoder.frontend
    assert (frontend.n_mfcc, frontend.n_mels, frontend.hop_length) == (
        13,
        40,
        160,
    )
    assert int(frontend.frame_lengths(model.samples)) == 100
    tiny = kas.Speech2Vec("cbow", preset="tiny")
    assert count(tiny.encoder.backbone.weights) == 3_840
    assert count(tiny.decoders[0].weights) == 8_749
    assert int(tiny.encoder.frontend.frame_lengths(tiny.samples)) == 40
    optimizer = tiny.default_optimizer()
    assert value(optimizer.learning_rate) == pytest.approx(3e-3)
    assert optimizer.global_clipnorm == 5.0
    for feed in ("teacher", "free"):
        other = kas.Speech2Vec(decoder_input=feed)
        assert count(other.decoders[0].weights) == 22_800 + 663
    many = kas.Speech2Vec(decoder="per_position")
    assert [count(d.weights) for d in many.decoders] == [20_863] * 6


# The networks.


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_step(layer, x, h, c):
    kernel, recurrent, bias = (w.numpy() for w in layer.weights)
    i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def read_loop(model, word):
    """The vector of one word `(frames, bins)`, frame by frame."""
    ends = []
    layer = model.encoder.backbone.layers[0]
    for cell, frames in ((layer.ahead, word), (layer.back, word[::-1])):
        h = c = np.zeros(cell.units)
        for x in frames:
            h, c = lstm_step(cell, x, h, c)
        ends.append(h)
    return np.concatenate(ends)


def write_loop(decoder, feed, z, target):
    """What is written from a vector, frame by frame."""
    kernel, bias = (w.numpy() for w in decoder.out.weights)
    h, c, before = np.tanh(z), np.zeros(len(z)), np.zeros(target.shape[-1])
    out = []
    for t in range(len(target)):
        x = z if feed == "embedding" else np.concatenate([z, before])
        h, c = lstm_step(decoder.lstm, x, h, c)
        out.append(h @ kernel + bias)
        before = target[t] if feed == "teacher" else out[-1]
    return np.stack(out)


def loss_loop(model, x, lengths):
    """The loss, one centre and one neighbour after the other."""
    total = frames = 0
    k, feed = model.window, model.decoder_input
    for clip, valid in zip(x.astype("float64"), lengths, strict=True):
        z = [read_loop(model, w[:n]) if n else None
             for w, n in zip(clip, valid, strict=True)]  # fmt: skip
        for centre in range(len(clip)):
            places = [
                (place, centre + i)
                for place, i in enumerate(i for i in range(-k, k + 1) if i)
                if 0 <= centre + i < len(clip) and valid[centre + i]
            ]
            if not valid[centre] or not places:
                continue
            if model.task == "cbow":
                vector = sum(z[n] for _, n in places)
                if model.combine == "mean":
                    vector = vector / len(places)
                pairs = [(0, vector, centre)]
            else:
                pairs = [(place, z[centre], n) for place, n in places]
            for place, vector, n in pairs:
                shared = model.decoder == "shared"
                decoder = model.decoders[0 if shared else place]
                written = write_loop(decoder, feed, vector, clip[n])
                error = (written - clip[n])[: valid[n]]
                total += (error**2).mean(-1).sum()
                frames += valid[n]
    return total / frames


@INPUTS
@pytest.mark.parametrize(
    "settings",
    [{}, {"decoder": "per_position"}, {"task": "cbow"},
     {"task": "cbow", "combine": "mean"}],
    ids=["skipgram", "per_position", "sum", "mean"],
)  # fmt: skip
def test_the_loss_is_that_of_a_slow_loop(settings, feed):
    model, (x, lengths) = small(decoder_input=feed, **settings), words()
    # What stands past the end of a word is nobody's business.
    want = loss_loop(model, x, lengths)
    assert loss_of(model, x, lengths) == pytest.approx(want, rel=1e-5)


@TASKS
@INPUTS
def test_padding_changes_neither_vectors_nor_loss_nor_gradients(task, feed):
    model, (x, lengths) = small(task, decoder_input=feed), words()
    garbage = x.copy()
    past = np.arange(FRAMES) >= lengths[..., None]
    garbage[past] = 1e3
    garbage[0, 4] = np.nan  # no word at all
    found = []
    for features in (x, garbage):
        outputs = predict(model, features, lengths)
        loss, grads = gradients(
            functools.partial(
                lambda f: model.pretext_loss(predict(model, f, lengths), None),
                features,
            ),
            model.trainable_variables,
        )
        found.append([array(outputs["embedding"]), loss, *grads])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)
    # More room for words, and for frames, changes nothing either.
    wide = np.pad(x, ((0, 0), (0, 2), (0, 0), (0, 0)))
    more = np.pad(lengths, ((0, 0), (0, 2)))
    assert loss_of(model, wide, more) == pytest.approx(found[0][1], rel=1e-6)


def seen(model, x, lengths, centre, of):
    """For each word, whether a centre's prediction has a gradient there."""
    variable = keras.Variable(x)

    def loss():
        y = predict(model, variable, lengths)[of][1, centre]
        weights = np.random.default_rng(0).normal(size=y.shape)
        return ops.sum(y * ops.convert_to_tensor(weights.astype("float32")))

    _, (grads,) = gradients(loss, [variable])
    assert not grads[[0, 2]].any()  # never across utterances
    return np.abs(grads[1]).max((1, 2)) > 0


@INPUTS
@pytest.mark.parametrize("decoder", ["shared", "per_position"])
def test_a_skipgram_sees_its_centre_alone(feed, decoder):
    model = small(decoder=decoder, decoder_input=feed)
    x, lengths = words(count=6)
    lengths[1] = FRAMES
    found = seen(model, x, lengths, 2, "prediction")
    want = np.arange(6) == 2
    if feed == "teacher":
        want = np.arange(6) < 5  # the past of those it writes
    np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize("feed", ["embedding", "free"])
def test_a_cbow_does_not_see_its_centre(feed):
    model, (x, lengths) = small("cbow", decoder_input=feed), words(count=6)
    lengths[1] = FRAMES
    found = seen(model, x, lengths, 2, "prediction")
    np.testing.assert_array_equal(found, [1, 1, 0, 1, 1, 0])


def test_teaching_shows_the_frames_before_and_no_later_one():
    model, (x, lengths) = small(decoder_input="teacher"), words()
    lengths[1] = FRAMES
    before = array(predict(model, x, lengths)["prediction"])
    x[1, 2, 4] += 1
    after = array(predict(model, x, lengths)["prediction"])
    # Of the neighbour at place 1, before centre 3.
    moved = np.abs(after - before)[1, 3, 1].max(-1)
    assert not moved[:5].any() and moved[5] > 0


def test_the_order_of_neighbours_does_not_matter_to_cbow():
    model, (x, lengths) = small("cbow"), words(count=5)
    want = array(predict(model, x, lengths)["prediction"])[1, 2]
    order = [4, 0, 2, 1, 3]
    got = predict(model, x[:, order], lengths[:, order])["prediction"]
    np.testing.assert_allclose(array(got)[1, 2], want, atol=1e-5)


def test_one_decoder_writes_the_same_for_every_neighbour():
    x, lengths = words()
    shared = predict(small(), x, lengths)
    assert shared["prediction"].shape == (3, 5, 1, FRAMES, BINS)
    assert shared["target"].shape == (3, 5, 4, FRAMES, BINS)
    many = array(
        predict(small(decoder="per_position"), x, lengths)["prediction"]
    )
    assert many.shape == (3, 5, 4, FRAMES, BINS)
    assert np.abs(many[:, :, 0] - many[:, :, 1]).min() > 0


def test_neighbours_are_those_around_in_their_order():
    x = np.arange(1, 5)[None]
    np.testing.assert_array_equal(
        array(neighbours(ops.convert_to_tensor(x), 2))[0],
        [[0, 0, 2, 3], [0, 1, 3, 4], [1, 2, 4, 0], [2, 3, 0, 0]],
    )


@TASKS
def test_a_word_alone_teaches_nothing(task):
    model, (x, lengths) = small(task), words()
    lengths[:, 1:] = 0
    assert loss_of(model, x, lengths) == 0
    lengths[:] = 0
    assert loss_of(model, x, lengths) == 0


# What is to be beaten.


def test_the_mean_trajectory_is_that_of_what_was_seen_in_training():
    model, (x, lengths) = small(), words()
    assert model.baseline == "trajectory_mse"
    predict(model, x, lengths, training=True)
    target, mask = (
        array(predict(model, x, lengths)[k]) for k in ("target", "mask")
    )
    mean = (target * mask[..., None]).sum((0, 1, 2))
    mean /= np.maximum(mask.sum((0, 1, 2)), 1)[:, None]
    outputs = predict(model, x, lengths)
    np.testing.assert_allclose(
        array(outputs["reference"])[1, 0, 0], mean, atol=1e-5
    )
    model.pretext_loss(outputs, None)
    error = ((target - mean) ** 2).mean(-1) * mask
    want = error.sum() / mask.sum()
    assert value(model.nothing.result()) == pytest.approx(want, rel=1e-5)


def test_with_a_teacher_it_is_the_frame_before():
    model, (x, lengths) = small("cbow", decoder_input="teacher"), words()
    assert model.baseline == "copy_mse"
    outputs = predict(model, x, lengths)
    model.pretext_loss(outputs, None)
    mask = array(outputs["mask"])[:, :, 0]
    before = np.pad(x[:, :, :-1], ((0, 0), (0, 0), (1, 0), (0, 0)))
    error = ((x - before) ** 2).mean(-1) * mask
    want = error.sum() / mask.sum()
    assert value(model.nothing.result()) == pytest.approx(want, rel=1e-5)


def test_the_spread_of_vectors_leaves_out_what_is_no_word():
    model, (x, lengths) = small(), words()
    outputs = predict(model, x, lengths)
    model.pretext_loss(outputs, None)
    z = array(outputs["embedding"])[lengths > 0]
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    want = z.std(0).mean()
    assert value(model.spread.result()) == pytest.approx(want, rel=1e-4)


# From waveforms.


def test_what_lies_around_a_word_does_not_reach_its_vector():
    model, x = small(max_frames=40), batch(4)
    want = array(model(x)["embedding"])
    other = {k: v.copy() for k, v in x.items()}
    x["segments"][:, :, 1] -= 900
    want = array(model(x)["embedding"])
    for wave, segments in zip(other["waveform"], x["segments"], strict=True):
        keep = np.zeros(len(wave), bool)
        for start, end in segments:
            keep[start:end] = True
        wave[~keep] = 0.5
    other["segments"] = x["segments"]
    np.testing.assert_array_equal(array(model(other)["embedding"]), want)


def test_the_encoder_of_a_word_alone_gives_its_vector():
    model, x = small(max_frames=40), batch(2)
    x["segments"][1, 2, 1] = x["segments"][1, 2, 0] + 50  # far below 25 ms
    x["segments"][1, 3] = 0
    outputs = model(x)
    z = array(outputs["embedding"])
    for clip, row in itertools.product(range(2), range(4)):
        start, end = x["segments"][clip, row]
        if end == 0:
            assert not z[clip, row].any()
            continue
        word = x["waveform"][clip, start:end]
        np.testing.assert_allclose(
            model.encoder.embed(word), z[clip, row], atol=2e-5
        )
        frames = model.encoder.embed_frames(word)
        np.testing.assert_allclose(frames[-1, :4], z[clip, row, :4], atol=2e-5)
        np.testing.assert_allclose(frames[0, 4:], z[clip, row, 4:], atol=2e-5)


def test_long_words_are_cut_at_the_end():
    model, x = small(max_frames=6), batch(2)
    outputs = model(x)
    assert outputs["target"].shape[-2] == 6
    x["waveform"][0, x["segments"][0, 0, 0] + model.samples :] = 0
    x["waveform"][0, x["segments"][0, 1, 0] :] = 0
    np.testing.assert_array_equal(
        array(model(x)["embedding"])[0, 0], array(outputs["embedding"])[0, 0]
    )


def test_statistics_are_of_words_alone():
    model, x = small(), batch(8)
    x["segments"][:, 2:] = 0
    words = model.clips(x)
    assert words["waveform"].shape == (16, model.samples)
    loud = {k: v.copy() for k, v in x.items()}
    loud["waveform"][:, x["segments"][:, 1, 1].max() :] = 0.9
    np.testing.assert_array_equal(
        model.clips(loud)["waveform"], words["waveform"]
    )


def test_what_is_no_batch_of_words_is_refused():
    model, x = small(), batch(4)
    del x["segments"]
    for given in (x, x["waveform"]):
        with pytest.raises(ValueError, match=r"'segments'.*from_alignments"):
            model.fit(given, verbose=0)
    with pytest.raises(ValueError, match=r"\(batch, words, 2\).*\(4, 3\)"):
        model({**x, "segments": np.zeros((4, 3), "int32")})
    for wrong, message in (
        ({"task": "bow"}, "`task`"),
        ({"window": 0}, "`window`"),
        ({"max_frames": 0}, "`max_frames`"),
        ({"decoder": "many"}, "`decoder`"),
        ({"decoder_input": "zeros"}, "`feed`|`decoder_input`"),
        ({"combine": "max"}, "`combine`"),
        ({"task": "cbow", "decoder": "per_position"}, "one word"),
    ):
        with pytest.raises(ValueError, match=message):
            small(**wrong)


def test_raw_features_are_warned_of():
    frontend = kas.features.recipe("speech2vec", normalize=None)
    encoder = kas.encoders.Encoder(
        frontend, kas.encoders.BidirectionalStack(13, 4)
    )
    model, x = kas.Speech2Vec(encoder=encoder, window=1), batch(2)
    model.compile()
    with pytest.warns(UserWarning, match="swamp the loss"):
        model.fit({**x, "waveform": 0.01 * x["waveform"]}, verbose=0)


@pytest.mark.parametrize("name", ["speech2vec_cbow", "speech2vec_skipgram"])
def test_both_names_make_their_task(name):
    model = kas.methods.make_method(name, preset="tiny")
    assert f"speech2vec_{model.task}" == name
    again = kas.Speech2Vec.from_config(model.get_config())
    assert again.task == model.task


# Words, after training.


def test_a_vector_for_each_word(tmp_path):
    model = small(max_frames=40)
    waves = list(batch(6)["waveform"])
    labels = ["b", "a", "b", "new york", "b", "a"]
    found = model.embed_types(waves, labels)
    assert found.words == ["b", "a", "new york"]
    np.testing.assert_array_equal(found.counts, [3, 2, 1])
    z = model.encoder.embed(waves)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    mean = z[[1, 5]].mean(0)
    np.testing.assert_allclose(
        found["a"], mean / np.linalg.norm(mean), atol=1e-5
    )
    names, cosines = zip(*found.nearest("a"), strict=True)
    assert set(names) == {"b", "new york"}
    assert cosines[0] >= cosines[1]
    want = found["a"] @ found[names[0]]
    assert cosines[0] == pytest.approx(want, abs=1e-5)
    assert found.nearest(found["a"], 1)[0][0] == "a"
    path = tmp_path / "words.txt"
    found.save_word2vec(path)
    head, *lines = path.read_text().splitlines()
    assert head == "3 8"
    assert [line.split(" ")[0] for line in lines] == ["b", "a", "new_york"]
    numbers = np.array([line.split(" ")[1:] for line in lines], "float32")
    np.testing.assert_allclose(numbers, found.vectors, rtol=1e-6)
    with pytest.raises(ValueError, match="a label for each"):
        model.embed_types(waves, labels[:-1])
    with pytest.raises(ValueError, match="a label for each"):
        model.embed_types(waves[:-1], labels)
    with pytest.raises(ValueError, match="empty"):
        model.embed_types([], [])
    with pytest.raises(KeyError, match="'c' is none of 3"):
        found["c"]


# The task with a known answer: ten syllables in two classes that no sound
# tells, sentences of one class each.

TYPES = ("ba", "gi", "sa", "de", "mo", "le", "bi", "nu", "gu", "do")
ONE = (0, 3, 4, 7, 9)


def recordings(seed=0):
    """`(types, voices)` waveforms `(samples,)`, each of a quarter second."""
    rng, found = np.random.default_rng(seed), []
    for consonant, vowel in TYPES:
        of_type = []
        for voice in VOICES:
            said = [("sil", 8), (consonant, int(rng.integers(16, 22))),
                    (vowel, int(rng.integers(26, 44))), ("sil", 8)]  # fmt: skip
            samples = sum(frames for _, frames in said) * HOP
            x = speak(rng, samples, said, voice)[8 * HOP : -8 * HOP]
            of_type.append((0.1 * x).astype("float32"))
        found.append(of_type)
    return found


def sentences(spoken, voices, count=400, seed=0):
    """Batches for `fit`: five words of one class, each by any voice."""
    rng = np.random.default_rng(seed)
    classes = [ONE, [t for t in range(len(TYPES)) if t not in ONE]]
    x = np.zeros((count, 5 * 4500), "float32")
    segments = np.zeros((count, 5, 2), "int32")
    for row in range(count):
        at = 0
        for place in range(5):
            word = rng.choice(classes[row % 2])
            wave = spoken[word][rng.choice(voices)]
            x[row, at : at + len(wave)] = wave
            segments[row, place] = at, at + len(wave)
            at += len(wave)
    return {"waveform": x, "segments": segments}


def class_rank(vectors):
    """Of the true split among all in two fives, by cosines of its types."""
    x = vectors - vectors.mean(0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    cosines = x @ x.T
    scores = {}
    for rest in itertools.combinations(range(1, 10), 4):
        inside = np.isin(np.arange(10), (0, *rest))
        same = inside[:, None] == inside
        apart = cosines[~same].mean()
        np.fill_diagonal(same, False)
        scores[(0, *rest)] = cosines[same].mean() - apart
    return 1 + sum(score > scores[ONE] for score in scores.values())


@TASKS
def test_what_keeps_company_comes_to_lie_together(task):
    keras.utils.set_random_seed(1)
    spoken = [a + b for a, b in zip(recordings(0), recordings(1), strict=True)]
    turns = np.arange(len(spoken[0]))
    heard, unheard = turns[turns % 4 > 0], turns[turns % 4 == 0]
    waves = [of_type[i] for of_type in spoken for i in unheard]
    labels = [name for name in TYPES for _ in unheard]
    model = kas.Speech2Vec(task, max_frames=16, preset="tiny")
    # New sentences all the time: others would be learnt by heart.
    parts = [sentences(spoken, heard, 400, seed) for seed in range(6)]
    model.encoder.frontend.adapt([model.clips(parts[0])])

    def rank():
        types = model.embed_types(waves, labels)
        return class_rank(np.stack([types[name] for name in TYPES]))

    assert rank() > 10
    fall = keras.optimizers.schedules.CosineDecay(0.01, 150)
    model.compile(keras.optimizers.Adam(fall, global_clipnorm=5.0))
    for part in parts:
        model.fit(part, batch_size=16, verbose=0)
    assert rank() == 1
    unseen = sentences(spoken, unheard, 128, seed=9)
    logs = model.evaluate(unseen, batch_size=64, verbose=0, return_dict=True)
    assert logs["loss"] < 0.995 * logs["trajectory_mse"]
