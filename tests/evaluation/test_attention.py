"""The self-attention study: metrics, phonemes, spans, heads switched off."""

import keras
import numpy as np
import pytest
import soundfile

from keras_audio_ssl.encoders import AudioNTT
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.encoders import MAMTransformer
from keras_audio_ssl.encoders import MPCTransformer
from keras_audio_ssl.encoders import Readout
from keras_audio_ssl.encoders import Transformer
from keras_audio_ssl.encoders import make_encoder
from keras_audio_ssl.evaluation import AttentionStudy
from keras_audio_ssl.evaluation import attention_maps
from keras_audio_ssl.evaluation import attention_study
from keras_audio_ssl.evaluation import clip_attention
from keras_audio_ssl.evaluation import head_metrics
from keras_audio_ssl.evaluation import head_reach
from keras_audio_ssl.evaluation import phoneme_background
from keras_audio_ssl.evaluation import phoneme_relation
from keras_audio_ssl.evaluation import probe
from keras_audio_ssl.evaluation import prune_heads
from keras_audio_ssl.evaluation import within_span
from keras_audio_ssl.evaluation.attention import prunable_copy
from tests.data_folder import data_folder

PAPER = {"backbone": "transformer", "frontend": "tera"}
SMALL = {"units": 8, "layers": 2, "heads": 2, "feed_forward": 8, "n_mels": 8}


def make(**settings):
    return make_encoder({**SMALL, **settings}, PAPER)


@pytest.fixture(scope="module")
def encoder():
    return make()


def noise(samples, seed=0):
    rng = np.random.default_rng(seed)
    return 0.1 * rng.standard_normal(samples).astype("float32")


def softmaxes(heads=3, frames=12, seed=0):
    rng = np.random.default_rng(seed)
    maps = np.exp(2 * rng.standard_normal((heads, frames, frames)))
    return maps / maps.sum(-1, keepdims=True)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Six clips of two kinds, with phones; and a file that is no audio."""
    folder = tmp_path_factory.mktemp("clips")
    t = np.arange(9600) / 16000
    rows, phones = ["file,kind"], ["file,start,end,phone"]
    for i in range(6):
        wave = noise(9600 - 500 * i, i)
        wave += (
            0.3 * np.sin(2 * np.pi * 400 * (1 + 4 * (i % 2)) * t)[: len(wave)]
        )
        soundfile.write(folder / f"{i}.wav", wave, 16000)
        rows.append(f"{i}.wav,{'ab'[i % 2]}")
        phones += [f"{i}.wav,0.05,0.2,a", f"{i}.wav,0.2,0.4,t"]
    (folder / "text.wav").write_text("no audio")
    (folder / "manifest.csv").write_text("\n".join(rows))
    (folder / "phones.csv").write_text("\n".join(phones))
    return folder


@pytest.mark.no_backend
def test_known_heads():
    frames = 30
    uniform = np.full((frames, frames), 1 / frames, "float32")
    vertical, diagonal = np.zeros((2, frames, frames))
    vertical[:, 7] = 1
    np.fill_diagonal(diagonal, 1)
    found = head_metrics([uniform, vertical, diagonal])
    log = np.log(frames)
    np.testing.assert_allclose(found["globalness"], [log, 0, 0], atol=1e-6)
    np.testing.assert_allclose(found["verticality"], [-log, 0, -log], atol=1e-6)
    assert found["diagonality"][2] == 0
    at = np.arange(frames)
    far = np.abs(at[:, None] - at).mean() / frames
    assert found["diagonality"][0] == pytest.approx(-far)
    np.testing.assert_allclose(found["mean_max_weight"], [1 / frames, 1, 1])
    study = AttentionStudy()
    study.add([uniform, vertical, diagonal])
    assert study.categories.tolist() == ["global", "vertical", "diagonal"]
    assert study.order("globalness").tolist() == [0, 1, 2]
    assert study.order("diagonality", most_first=False)[2] == 2
    row = study.rows()[2]
    assert (row["layer"], row["head"], row["diagonal_rank"]) == (0, 2, 0)


@pytest.mark.no_backend
def test_phonemes_by_loops():
    maps, labels = softmaxes(), np.array([0, 0, 1, 1, 1, 3, 3, 0, 0, 1, 3, 3])
    want = np.zeros((3, 4, 4))
    for h, q, k in np.ndindex(maps.shape):
        want[h, labels[q], labels[k]] += maps[h, q, k] / 12
    got = phoneme_relation(maps, labels, 4)
    np.testing.assert_allclose(got, want)
    np.testing.assert_allclose(got.sum((1, 2)), 1)
    ground = phoneme_background(labels, 4)
    np.testing.assert_allclose(ground.sum(1), np.bincount(labels) / 12)
    study = AttentionStudy("abcd")
    study.add(maps, labels)
    blank = np.isnan(study.relative)
    assert blank[:, 2].all() and blank[:, :, 2].all() and blank.sum() == 21
    # A frame of no phoneme has a share of none.
    labels[0] = -1
    assert phoneme_relation(maps, labels, 4).sum() < 3


@pytest.mark.no_backend
@pytest.mark.parametrize("radius", [0, 2, 11, 40])
def test_a_span_by_loops(radius):
    maps = softmaxes()
    got = within_span(maps, radius)
    for h, q in np.ndindex(3, 12):
        low, high = max(0, q - radius), q + radius + 1
        want = np.zeros(12)
        want[low:high] = maps[h, q, low:high] / maps[h, q, low:high].sum()
        np.testing.assert_allclose(got[h, q], want)
    # All was given to what is cut.
    far = np.zeros((12, 12))
    far[:, 11] = 1
    one = within_span(far, 1)
    np.testing.assert_allclose(one.sum(-1), 1)
    np.testing.assert_allclose(one[5, 4:7], 1 / 3)


@pytest.mark.no_backend
def test_the_reach_holds_the_share():
    maps = softmaxes()
    at = np.arange(12)
    far = np.abs(at[:, None] - at)
    for share in (0.3, 0.9, 1.0):
        for one, r in zip(maps, head_reach(maps, share), strict=True):
            assert one[far <= r].sum() >= share * 12 - 1e-9
            assert r == 0 or one[far < r].sum() < share * 12
    assert head_reach(np.eye(5)[None]).tolist() == [0]


@pytest.mark.no_backend
def test_what_a_study_refuses():
    study = AttentionStudy("ab")
    with pytest.raises(ValueError, match="no clip yet"):
        study.metrics  # noqa: B018
    with pytest.raises(ValueError, match=r"\(12,\)"):
        study.add(softmaxes(), [0, 1])
    study.add(softmaxes(), np.zeros(12, int))
    with pytest.raises(ValueError, match="Received: \\(1, 2\\)"):
        study.add(softmaxes(2), np.zeros(12, int))
    with pytest.raises(ValueError, match="mean_max_weight"):
        study.order("loudness")
    with pytest.raises(ValueError, match="`radius`"):
        within_span(softmaxes(), -1)
    plain = AttentionStudy()
    plain.add(softmaxes())
    with pytest.raises(ValueError, match="no phonemes"):
        plain.relation  # noqa: B018


@pytest.mark.parametrize("stack", [1, 2])
def test_maps_are_those_of_the_clip_alone(stack):
    encoder = make(stack=stack)
    wave = noise(7000)
    maps = attention_maps(encoder, wave)
    frames = len(encoder.embed_frames(wave))
    assert maps.shape == (2, 2, frames, frames)
    np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-5)
    want = encoder(wave[None], return_attention=True)["attention"]
    for got, layer in zip(maps, want, strict=True):
        np.testing.assert_allclose(
            got, keras.ops.convert_to_numpy(layer)[0], atol=1e-5
        )
    # Shorter than can be.
    assert attention_maps(encoder, noise(10)).shape == (2, 2, 1, 1)


def test_an_encoder_without_maps_is_refused(clips):
    encoder = Encoder(make().frontend, AudioNTT(8, dim=8, conv_channels=2))
    files = [clips / "0.wav"]
    for call in (
        lambda: attention_maps(encoder, noise(9000)),
        lambda: attention_study(encoder, files),
        lambda: clip_attention(encoder, files[0]),
    ):
        with pytest.raises(ValueError, match="no attention maps.*AudioNTT"):
            call()
    with pytest.raises(ValueError, match="`prunable`.*AudioNTT"):
        prune_heads(encoder, [], lambda e: 0)


def test_a_study_over_files(encoder, clips):
    files = [clips / f"{i}.wav" for i in range(6)] + [clips / "text.wav"]
    done = []
    study = attention_study(
        encoder, files, clips / "phones.csv", progress=done.append
    )
    assert study.clips == 6 and done == [1, 2, 3, 4, 5, 6, 7]
    assert [file for file, _ in study.skipped] == [str(clips / "text.wav")]
    assert study.shape == (2, 2) and study.phonemes == ["a", "t"]
    assert study.relation.shape == (4, 2, 2)
    # Frames from 0.05 to 0.4 s are labelled, 15 and 20 of them.
    ground = study.background
    assert ground[1, 1] / ground[0, 0] == pytest.approx((20 / 15) ** 2)
    means = []
    for file in files[:6]:
        maps = clip_attention(encoder, file).maps
        means.append(head_metrics(maps.reshape(4, *maps.shape[2:])))
    for name, value in study.metrics.items():
        want = np.mean([m[name] for m in means], axis=0)
        np.testing.assert_allclose(value, want, atol=1e-6)
    with pytest.raises(ValueError, match="No clip is left"):
        attention_study(encoder, files[6:])


def test_a_clip_to_look_at(encoder, clips):
    clip = clip_attention(encoder, clips / "1.wav", clips / "phones.csv")
    frames = clip.maps.shape[-1]
    assert clip.maps.shape == (2, 2, frames, frames) and not clip.cut
    assert [p[2] for p in clip.phones] == ["a", "t"]
    rows = clip.rows()
    assert [(r["layer"], r["head"]) for r in rows] == [
        (0, 0), (0, 1), (1, 0), (1, 1),
    ]  # fmt: skip
    assert all(0 <= r["reach_seconds"] <= 0.6 for r in rows)
    short = clip_attention(
        encoder, clips / "1.wav", clips / "phones.csv", most_weights=4 * 15**2
    )
    assert short.maps.size <= 1.3 * 4 * 15**2
    assert "0.6 s" in short.cut and "first 0." in short.cut
    # What begins later is not shown.
    assert [p[2] for p in short.phones] == ["a"]
    assert short.phones[0][1] <= short.shown_seconds
    with pytest.raises(ValueError, match="`seconds`"):
        clip_attention(encoder, clips / "1.wav", seconds=0)
    with pytest.raises(ValueError, match=r"no interval of .*text\.wav"):
        clip_attention(encoder, clips / "text.wav", clips / "phones.csv")


# Four heads each.
KINDS = {
    "plain": lambda: make(),
    "one layer, and read": lambda: Readout(
        make(share_layers=True), pooling=("mean",)
    ),
    "mpc": lambda: Encoder(
        make().frontend, MPCTransformer(8, 4, 8, 2, 2, 8, dropout=0.0)
    ),
    "mam": lambda: Encoder(make().frontend, MAMTransformer(8, 8, 2, 2, 8)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_heads_go_one_by_one(kind):
    encoder = KINDS[kind]()
    wave = noise(8000)
    before = encoder.embed(wave)
    vectors = list(prune_heads(encoder, [2, 0, 3, 1], lambda e: e.embed(wave)))
    assert [off for off, _ in vectors] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(vectors[0][1], before, atol=1e-6)
    for (_, a), (_, b) in zip(vectors, vectors[1:], strict=False):
        assert np.abs(a - b).max() > 1e-5
    np.testing.assert_array_equal(encoder.embed(wave), before)
    # Without any head all that is left of attention is its bias.
    copy, mask = prunable_copy(encoder)
    assert tuple(mask.shape) == (2, 2)
    mask.assign(np.zeros((2, 2)))
    np.testing.assert_allclose(copy.embed(wave), vectors[-1][1], atol=1e-6)
    for order in ([0, 0], [4], [-1]):
        with pytest.raises(ValueError, match="from 0 to 3"):
            prune_heads(encoder, order, lambda e: 0)


def test_a_mask_that_is_there_is_kept():
    encoder = make(prunable=True)
    encoder.backbone.head_mask.assign([[1, 0], [1, 1]])
    wave = noise(8000)
    [(_, vector)] = prune_heads(encoder, [], lambda e: e.embed(wave))
    np.testing.assert_allclose(vector, encoder.embed(wave), atol=1e-6)


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="PyTorch compiles nothing"
)
def test_no_head_costs_a_compilation(encoder, monkeypatch):
    traced = []
    plain = Transformer.levels

    def counted(self, *args, **kwargs):
        traced.append(self.name)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(Transformer, "levels", counted)
    wave, counts = noise(8000), []
    for _ in prune_heads(encoder, [0, 1, 2], lambda e: e.embed(wave)):
        counts.append(len(traced))
    assert counts[0] > 0 and len(set(counts)) == 1


def test_accuracy_as_heads_go(encoder, clips):
    def accuracy(encoder):
        return probe(encoder, clips / "manifest.csv", "kind").accuracy

    scores = list(prune_heads(encoder, [0, 1, 2, 3], accuracy))
    assert len(scores) == 5 and all(0 <= s <= 1 for _, s in scores)
    assert scores[0][1] == accuracy(encoder)


def test_phones_of_real_speech(encoder):
    folder = data_folder()
    if folder is None:
        pytest.skip("no real audio")
    files = sorted((folder / "emodb" / "audio").iterdir())[:3]
    table = folder / "emodb" / "phones.csv"
    study = attention_study(encoder, files, table, seconds=2.0)
    assert study.clips == 3 and len(study.phonemes) > 20
    # Pauses have no phone, all else has.
    assert (study.relation.sum((1, 2)) > 0.3).all()
    assert (study.relation.sum((1, 2)) <= 1 + 1e-9).all()
    relative = study.relative
    there = study.background > 0
    assert np.isfinite(relative[:, there]).all()
    assert (relative[:, there] >= -1).all()
    assert np.isnan(relative[:, ~there]).all()
