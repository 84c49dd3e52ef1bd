"""The encoder contract, for every encoder of the package."""

import logging

import keras
import numpy as np
import pytest
import soundfile

import keras_audio_ssl as kas
from keras_audio_ssl import _long_clips
from keras_audio_ssl.data import bucket
from keras_audio_ssl.data import read_audio
from keras_audio_ssl.data.audio import AudioFile
from keras_audio_ssl.encoders import CNN6
from keras_audio_ssl.encoders import CNN14
from keras_audio_ssl.encoders import CRNN
from keras_audio_ssl.encoders import VGG
from keras_audio_ssl.encoders import AudioNTT
from keras_audio_ssl.encoders import BidirectionalStack
from keras_audio_ssl.encoders import EfficientNetB0
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.encoders import LatentStack
from keras_audio_ssl.encoders import MAMTransformer
from keras_audio_ssl.encoders import MaskedConvStack
from keras_audio_ssl.encoders import MPCTransformer
from keras_audio_ssl.encoders import PatchCNN
from keras_audio_ssl.encoders import RecurrentStack
from keras_audio_ssl.encoders import Res1dNet31
from keras_audio_ssl.encoders import ResNet18
from keras_audio_ssl.encoders import SincNet
from keras_audio_ssl.encoders import SliceCNN
from keras_audio_ssl.encoders import Transformer
from keras_audio_ssl.encoders import WaveformConv
from keras_audio_ssl.encoders import WaveformResNet18
from keras_audio_ssl.encoders import Windowed
from keras_audio_ssl.encoders import join_encoders
from keras_audio_ssl.features import recipe
from tests.contract import names_here


def statistics():
    return {"mean": -7.0, "std": 4.0}


def build(name):
    keras.utils.set_random_seed(0)
    if name == "v1":
        net = AudioNTT(32, "v1", 24, conv_channels=8)
        return Encoder(recipe("byol_a", n_mels=32, **statistics()), net)
    if name == "v2":
        net = AudioNTT(32, "v2", 80, hidden_dim=20, conv_channels=8)
        return Encoder(recipe("byol_a", n_mels=32, **statistics()), net)
    if name == "efficientnet":
        return Encoder(recipe("cola", n_mels=32), EfficientNetB0(32))
    if name == "recurrent":
        return Encoder(recipe("apc"), RecurrentStack(80, 16, 2))
    if name == "bidirectional":
        each = {"mean": [0.0] * 13, "std": [20.0] * 13}
        return Encoder(
            recipe("speech2vec", **each), BidirectionalStack(13, 8, 2)
        )
    if name == "prenet":
        net = RecurrentStack(80, 16, 2, prenet_layers=1)
        return Encoder(recipe("apc"), net)
    if name == "transformer":
        net = Transformer(80, 16, 2, 4, 24)
        return Encoder(recipe("tera"), net)
    if name == "stacked":
        net = Transformer(40, 16, 2, 4, 24, pre_norm=True, stack=3)
        return Encoder(recipe("tera", n_mels=40), net)
    if name == "latent":
        net = LatentStack(80, units=8, layers=2, dim=4, input_context=1)
        return Encoder(recipe("dapc"), net)
    if name == "masked_conv":
        net = MaskedConvStack(40, 12, 2, 9, 3)
        return Encoder(recipe("npc", n_mels=40), net)
    if name == "bottleneck":
        net = MaskedConvStack(
            40, 12, 2, 9, 3, cross_layer=False, bottleneck=5, output="masked"
        )
        return Encoder(recipe("npc", n_mels=40), net)
    if name == "mam_transformer":
        net = MAMTransformer(21, 16, 2, 4, 24)
        return Encoder(recipe("mam", n_mels=21), net)
    if name == "mpc_transformer":
        net = MPCTransformer(20, 4, 16, 2, 4, 24)
        each = {k: [v] * 20 for k, v in statistics().items()}
        return Encoder(recipe("mpc", n_mels=20, **each), net)
    if name == "resnet18":
        net = ResNet18(32, width=4)
        return Encoder(recipe("byol_a", n_mels=32, **statistics()), net)
    if name == "three_channels":
        net = ResNet18(48, channels=3, width=4)
        return Encoder(recipe("clar", n_mels=16, n_fft=512), net)
    if name == "resnet18_1d":
        return Encoder(recipe("waveform"), WaveformResNet18(width=2))
    if name == "vgg":
        net = VGG(32, conv_channels=4, repeats=(2, 1), dim=10)
        return Encoder(recipe("byol_a", n_mels=32, **statistics()), net)
    if name in ("crnn", "crnn_last_index"):
        backward = "final" if name == "crnn" else "last_index"
        net = CRNN(40, 4, 3, crnn_backward=backward)
        return Encoder(recipe("byol_a", n_mels=40, **statistics()), net)
    if name in ("slice_cnn", "patch_cnn"):
        net = SliceCNN if name == "slice_cnn" else PatchCNN
        net = Windowed(
            net(32, channels=[4, 6], dim=5),
            24,
            inner_levels=True,
            short="refuse",
        )
        return Encoder(recipe("audio2vec", n_mels=32, **statistics()), net)
    if name in ("cnn6", "cnn14"):
        net = (CNN6 if name == "cnn6" else CNN14)(32, (4, 6, 8))
        front = recipe("multi_format", n_mels=32, **statistics())
        return Encoder(front, net)
    if name == "conv160":
        net = WaveformConv(1, 8, groups=4)
        return Encoder(recipe("multi_format_waveform"), net)
    if name == "res1dnet31":
        net = Res1dNet31(1, (4, 6, 8))
        return Encoder(recipe("multi_format_waveform"), net)
    if name == "joined":
        return join_encoders([build("conv160"), build("cnn6")])
    if name.startswith("sincnet"):
        net = SincNet(
            chunk=400, sinc=(6, 31), conv=((5, 5), (5, 5)), dense=(12,),
            norm=name.removeprefix("sincnet_"),
        )  # fmt: skip
        return Encoder(recipe("lim"), net)
    assert name == "readout"
    return kas.Readout(build("v1"))


NAMES = [
    "v1",
    "v2",
    "efficientnet",
    "recurrent",
    "bidirectional",
    "prenet",
    "transformer",
    "stacked",
    "latent",
    "masked_conv",
    "bottleneck",
    "mam_transformer",
    "mpc_transformer",
    "resnet18",
    "three_channels",
    "resnet18_1d",
    "vgg",
    "crnn",
    "crnn_last_index",
    "slice_cnn",
    "patch_cnn",
    "cnn6",
    "cnn14",
    "conv160",
    "res1dnet31",
    "joined",
    "sincnet_sincnet",
    "sincnet_time",
    "readout",
]
every = pytest.mark.parametrize("name", NAMES)


def in_turn(quality):
    return pytest.mark.parametrize("name", names_here(quality, NAMES))


def wake(encoder, seed=0):
    """Random statistics and biases, so that no mask can hide behind zeros."""
    rng = np.random.default_rng(seed)
    for v in encoder.backbone.weights:
        if v.path.endswith(("bias", "beta", "moving_mean")):
            v.assign(rng.normal(0, 0.2, v.shape))
        if v.path.endswith(("gamma", "moving_variance")):
            v.assign(rng.uniform(0.5, 1.5, v.shape))
    return encoder


def clips(lengths=(16000, 9001, 23456, 12000), seed=0):
    rng = np.random.default_rng(seed)
    return [
        (0.1 * rng.standard_normal(n) * np.hanning(n)).astype("float32")
        for n in lengths
    ]


def array(x):
    return keras.ops.convert_to_numpy(x)


def scaled(a, b):
    """Largest difference over the largest value."""
    return np.abs(a - b).max() / max(1.0, np.abs(b).max())


@every
def test_shapes_and_attributes(name):
    encoder = build(name)
    x = np.stack([c[:12000] for c in clips((16000, 16000))])
    out = encoder(x)
    frames = int(encoder.frame_lengths(np.array([12000]))[0])
    assert set(out) == {"frames", "clip"}
    assert out["frames"].shape == (2, frames, encoder.backbone.dim)
    assert out["clip"].shape == (2, encoder.dim)
    assert encoder.sample_rate == 16000
    assert frames == pytest.approx(12000 / 16000 * encoder.frame_rate, abs=2)


@every
def test_hidden_levels(name):
    encoder = build(name)
    out = encoder(clips((12000,))[0][None], return_hidden=True)
    net = encoder.backbone
    assert [h.shape[-1] for h in out["hidden"]] == net.dims
    assert len(net.strides) == len(net.dims) > 1
    wave = clips((12000,))[0][None]
    if net.has_attention:
        maps = encoder(wave, return_attention=True)["attention"]
        frames = out["frames"].shape[1]
        assert {m.shape for m in maps} == {(1, net.heads, frames, frames)}
        return
    with pytest.raises(ValueError, match="attention"):
        encoder(wave, return_attention=True)


@every
def test_padding_and_neighbours_change_nothing(name):
    encoder = wake(build(name))
    waves = clips()
    lengths = np.array([len(w) for w in waves], "int32")
    batch = np.full((4, 26000), 0.3, "float32")
    for row, wave in zip(batch, waves, strict=True):
        row[: len(wave)] = wave  # what follows is not silence on purpose
    out = encoder(batch, lengths=lengths)
    for i, wave in enumerate(waves):
        alone = encoder(wave[None])
        clip = array(alone["clip"])[0]
        frames = array(alone["frames"])[0]
        assert scaled(array(out["clip"])[i], clip) < 1e-5
        got = array(out["frames"])[i, : len(frames)]
        assert scaled(got, frames) < 1e-5


@in_turn("embed")
def test_embed_is_the_call_and_does_not_depend_on_the_batch(name):
    encoder = wake(build(name))
    waves = clips()
    together = encoder.embed(waves)
    assert together.shape == (4, encoder.dim)
    for i, wave in enumerate(waves):
        assert scaled(encoder.embed(wave), together[i]) < 1e-5
    reverse = encoder.embed(waves[::-1], batch_size=2)
    assert scaled(reverse[::-1], together) < 1e-5
    frames = encoder.embed_frames(waves)
    for wave, got in zip(waves, frames, strict=True):
        valid = int(encoder.frame_lengths(np.array([len(wave)]))[0])
        assert got.shape == (valid, encoder.backbone.dim)


@in_turn("saved")
def test_a_saved_encoder_is_the_same(name, tmp_path):
    encoder = wake(build(name))
    encoder.save(tmp_path / "encoder.keras")
    opened = kas.load_encoder(tmp_path / "encoder.keras")
    assert type(opened) is type(encoder)
    x = clips()
    np.testing.assert_array_equal(opened.embed(x), encoder.embed(x))
    assert opened.frame_rate == encoder.frame_rate


@in_turn("short")
def test_short_clips_are_padded_by_embed_and_refused_by_call(name):
    encoder = build(name)
    short = clips((max(encoder.min_samples // 2, 2),))[0]
    padded = np.zeros(max(encoder.min_samples, len(short)), "float32")
    padded[: len(short)] = short
    assert scaled(encoder.embed(short), encoder.embed(padded)) < 1e-5
    both = encoder.embed([short, clips()[0]])
    assert scaled(both[0], encoder.embed(padded)) < 1e-5
    if encoder.min_samples > 1:
        with pytest.raises(ValueError, match=str(encoder.min_samples)):
            encoder(padded[None, :-1])


def test_embed_resamples_arrays_and_reads_files(tmp_path):
    import soundfile

    encoder = build("v1")
    t = np.arange(44100) / 44100
    wave = (0.3 * np.sin(2 * np.pi * 440 * t)).astype("float32")
    soundfile.write(tmp_path / "a.wav", wave, 44100, subtype="FLOAT")
    from_file = encoder.embed(str(tmp_path / "a.wav"))
    from_array = encoder.embed(wave, sample_rate=44100)
    assert from_file.shape == (encoder.dim,)
    assert scaled(from_file, from_array) < 1e-3
    t = np.arange(16000) / 16000
    native = (0.3 * np.sin(2 * np.pi * 440 * t)).astype("float32")
    assert scaled(from_file, encoder.embed(native)) < 0.05
    listed = encoder.embed([tmp_path / "a.wav", native])
    assert listed.shape == (2, encoder.dim)


@pytest.fixture
def computed(monkeypatch):
    """Rows and samples of each batch that passes the network."""
    shapes = []
    predict = Encoder.predict_on_batch

    def watched(self, x):
        shapes.append((x["waveform"] if isinstance(x, dict) else x).shape)
        return predict(self, x)

    monkeypatch.setattr(Encoder, "predict_on_batch", watched)
    return shapes


def test_long_clips_pass_the_network_in_smaller_batches(computed):
    encoder = wake(build("v1"))
    lengths = (12000, 130000, 40000, 5000, 39000, 17000, 131000, 40500, 300000)
    waves = clips(lengths)
    vectors = encoder.embed(waves, batch_size=4)
    # Four clips of two seconds, or one clip of any length.
    assert all(n == 1 or n * m <= 4 * 32768 for n, m in computed)
    assert sum(n for n, _ in computed) < len(lengths) + 3
    for wave, vector in zip(waves, vectors, strict=True):
        assert scaled(encoder.embed(wave), vector) < 1e-5


def test_shapes_that_are_compiled_on_purpose_are_no_alarm(caplog):
    log = logging.getLogger("tensorflow")
    before = list(log.filters)
    # TensorFlow counts the shapes of all models together.
    for _ in range(3):
        encoder = wake(build("v1"))
        encoder.embed(clips((6000,)))
        encoder.embed(clips((6000, 9000)))
    assert not [r for r in caplog.records if r.name == log.name]
    assert log.filters == before


def test_an_hour_needs_no_more_of_the_network_than_a_block(
    computed, monkeypatch
):
    monkeypatch.setattr(_long_clips, "LONG_SECONDS", 2)
    monkeypatch.setattr(_long_clips, "BLOCK_SECONDS", 1)
    encoder = wake(build("v1"))
    short, long = clips((9000, 40001))  # 2.5 s: three blocks
    vectors = encoder.embed([short, long])
    assert max(samples for _, samples in computed) <= 16384
    blocks = encoder.embed([long[:13334], long[13334:26668], long[26668:]])
    assert scaled(vectors[1], blocks.mean(axis=0)) < 1e-5
    assert scaled(vectors[0], encoder.embed(short)) < 1e-5
    np.testing.assert_array_equal(encoder.embed(long).dtype, np.float32)
    # Frames may know of all of a clip.
    assert len(encoder.embed_frames(long)) > 2 * len(
        encoder.embed_frames(long[:13334])
    )


def test_a_batch_has_few_sizes(computed):
    encoder = build("v1")
    for count in range(1, 12):
        encoder.embed(clips((8000,) * count), batch_size=6)
    assert {n for n, _ in computed} == {1, 2, 4, 6}


def test_loaded_sound_is_bounded(monkeypatch):
    encoder = build("v1")
    held, most = [], []
    load, run = Encoder._read, Encoder._sorted

    def loaded(self, *args):
        wave = load(self, *args)
        held.append(len(wave))
        return wave

    def ran(self, *args):
        most.append((len(held), sum(held)))
        held.clear()
        return run(self, *args)

    monkeypatch.setattr(Encoder, "_read", loaded)
    monkeypatch.setattr(Encoder, "_sorted", ran)
    long, short = clips((300000,))[0], clips((4000,))[0]
    encoder.embed([long] * 5 + [short] * 40, batch_size=1)
    # Sixteen clips, or sixteen times two seconds and the clip that reached it.
    assert len(most) == 5 and sum(n for n, _ in most) == 45
    assert max(n for n, _ in most) == 16
    assert max(n for _, n in most) < 16 * 32768 + 300000


def test_bad_audio_is_named(tmp_path):
    encoder = build("v1")
    for bad in (
        np.zeros((2, 3, 4), "float32"),
        np.zeros(0, "float32"),
        np.array([0.0, np.nan] * 8000, "float32"),
        3,
    ):
        with pytest.raises(ValueError):
            encoder.embed(bad)
    (tmp_path / "bad.wav").write_text("not audio")
    with pytest.raises(ValueError, match="bad.wav"):
        encoder.embed(tmp_path / "bad.wav")
    with pytest.raises(ValueError, match=r"\(batch, samples\)"):
        encoder(np.zeros(16000, "float32"))


def test_the_same_sound_at_every_door(tmp_path):
    encoder = wake(build("v1"))
    wave = clips((9000,))[0]
    wave = np.round(wave / abs(wave).max() * 2**14).astype("int16")
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", wave[i:], 16000)
    want = encoder.embed(tmp_path / "0.wav")
    floats = wave / np.float32(2**15)
    for same in (
        wave,
        floats,
        floats.astype("float64"),
        floats.tolist(),
        (floats, 16000),
        (tmp_path / "0.wav").read_bytes(),
        {"array": floats, "sampling_rate": 16000},
        keras.ops.convert_to_tensor(floats),
    ):
        assert scaled(encoder.embed(same), want) < 1e-5
    assert scaled(encoder.embed(floats, sample_rate=16000.0), want) < 1e-5
    assert scaled(encoder.embed(floats[None, :, None])[0], want) < 1e-5
    # A folder and a data set: the rows are those of its files.
    data = kas.data.from_folder(tmp_path, batch_size=1)
    rows = encoder.embed(data)
    assert rows.shape == (3, encoder.dim)
    assert scaled(rows[0], want) < 1e-5
    assert scaled(rows[2], encoder.embed(data.files[2])) < 1e-5
    assert scaled(encoder.embed(tmp_path), rows) < 1e-5
    frames = encoder.embed_frames(floats)
    times = encoder.frame_times(frames)
    assert times.shape == (len(frames),)
    assert times[0] == 0.5 / encoder.frame_rate
    assert encoder.frame_times(2)[1] == 1.5 / encoder.frame_rate


def test_front_end_and_backbone_must_fit():
    with pytest.raises(ValueError, match="expects 32 features"):
        Encoder(recipe("byol_a"), AudioNTT(32, "v1", 24))
    with pytest.raises(ValueError, match="frontend"):
        Encoder(AudioNTT(32), AudioNTT(32))
    with pytest.raises(ValueError, match="backbone"):
        Encoder(recipe("byol_a"), keras.layers.Dense(3))


def test_readout_joins_levels():
    encoder = build("v1")
    readout = kas.Readout(encoder, levels=[1, -1], pooling=("mean", "std"))
    x = clips((12000,))[0]
    hidden = encoder(x[None], return_hidden=True)["hidden"]
    chosen = [array(hidden[i])[0] for i in (1, -1)]
    want = np.concatenate(
        [f(h, axis=0) for h in chosen for f in (np.mean, np.std)]
    )
    assert scaled(readout.embed(x), want) < 1e-5
    frames = readout.embed_frames(x)
    whole = chosen[0][: len(chosen[1]) * 2].reshape(len(chosen[1]), 2, -1)
    assert scaled(frames[:, : whole.shape[-1]], whole.mean(1)) < 1e-5
    assert scaled(frames[:, whole.shape[-1] :], chosen[1]) < 1e-5
    with pytest.raises(ValueError, match="levels"):
        kas.Readout(encoder, levels=[7])
    with pytest.raises(ValueError, match="Poolings"):
        kas.Readout(encoder, pooling=("median",)).embed(x)


def test_buckets_are_few_and_hold_what_they_must():
    sizes = [bucket(n, 500) for n in range(1, 40000, 7)]
    assert all(s >= max(n, 500) for s, n in zip(sizes, range(1, 40000, 7)))
    assert len(set(sizes)) < 40
    assert max(s / max(n, 500) for s, n in zip(sizes, range(1, 40000, 7))) < 1.3


def test_an_encoder_is_a_layer_of_a_functional_model():
    encoder = build("v1")
    inputs = keras.Input((None,))
    model = keras.Model(inputs, encoder(inputs)["clip"])
    x = clips((12000,))[0][None]
    assert scaled(model.predict(x, verbose=0)[0], encoder.embed(x[0])) < 1e-5


@pytest.fixture
def recording(tmp_path):
    """7.3 s of sweeping noise in stereo, at 22.05 kHz."""
    rng = np.random.default_rng(0)
    wave = rng.standard_normal((round(7.3 * 22050), 2)) * 0.1
    wave *= np.sin(np.arange(len(wave)) / 9000)[:, None]
    path = tmp_path / "long.flac"
    soundfile.write(path, wave, 22050)
    return path


@pytest.mark.parametrize("window, hop", [(1.0, 0.4), (0.8, None), (0.5, 1.1)])
def test_a_stream_is_its_windows_one_by_one(recording, window, hop):
    encoder = build("v1")
    blocks = list(encoder.embed_stream(recording, window, hop, batch_size=3))
    seconds = np.concatenate([b[0] for b in blocks])
    vectors = np.concatenate([b[1] for b in blocks])
    hop = hop or window
    np.testing.assert_allclose(seconds, hop * np.arange(len(seconds)))
    # All of it, and no window more than that takes.
    assert seconds[-1] + max(window, hop) >= 7.3 > seconds[-1]
    assert len(seconds) == 1 or seconds[-2] + window < 7.3
    for at, vector in zip(seconds, vectors, strict=True):
        alone = read_audio(recording, 16000, at, window)
        assert scaled(vector, encoder.embed(alone)) <= 1e-5


def test_a_stream_goes_on_where_it_was_left(recording):
    encoder = build("v1")
    whole = list(encoder.embed_stream(recording, 1.0, 0.5, batch_size=4))
    left = whole[1][0][-1]
    rest = list(
        encoder.embed_stream(recording, 1.0, 0.5, left + 0.5, batch_size=4)
    )
    assert len(rest) == len(whole) - 2
    for got, want in zip(rest, whole[2:], strict=True):
        assert (got[0] == want[0]).all()
        np.testing.assert_allclose(got[1], want[1], atol=1e-5)
    assert not list(encoder.embed_stream(recording, 1.0, start=8.0))
    # The window before this one reached the end.
    end = whole[-1][0][-1] + 0.5
    assert end < 7.3
    assert not list(encoder.embed_stream(recording, 1.0, 0.5, end))
    assert len(list(encoder.embed_stream(recording, 9.0))) == 1


def test_a_stream_reads_a_block_at_a_time(recording, monkeypatch):
    asked = []
    read = AudioFile.read

    def watched(self, start, frames):
        asked.append(frames)
        return read(self, start, frames)

    monkeypatch.setattr(AudioFile, "read", watched)
    encoder = build("v1")
    list(encoder.embed_stream(recording, 0.5, batch_size=2))
    assert len(asked) == 8
    # A second of sound, and the reach of the resampling filter.
    assert max(asked) < 1.3 * 22050


@pytest.mark.parametrize(
    "arguments", [{"window": 0}, {"window": 1, "hop": -1},
                  {"window": 1, "start": -2}, {"window": 1, "batch_size": 0}],
)  # fmt: skip
def test_a_stream_refuses_nonsense(recording, arguments):
    with pytest.raises(ValueError, match="must be positive.*Received"):
        list(build("v1").embed_stream(recording, **arguments))
