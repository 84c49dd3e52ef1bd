import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.features import MFCC
from keras_audio_ssl.features import LogMel
from keras_audio_ssl.features import LogSpectrum
from keras_audio_ssl.features import Waveform
from keras_audio_ssl.features import recipe
from tests.features import reference
from tests.features.helpers import compiled
from tests.features.helpers import input_gradient
from tests.features.helpers import numpy


def small(**settings):
    return LogMel(
        **{
            "n_fft": 128,
            "win_length": 100,
            "hop_length": 40,
            "n_mels": 8,
            "log_add": 1e-6,
            **settings,
        }
    )


def waves(batch=3, samples=800):
    return np.stack([reference.signal(samples, seed=i) for i in range(batch)])


@pytest.mark.parametrize(
    "waveform, message",
    [
        (np.zeros(800, "float32"), r"\(800,\)"),
        (np.zeros((1, 800, 1), "float32"), r"\(1, 800, 1\)"),
        (np.zeros((2, 99), "float32"), r"100 samples.*\(2, 99\)"),
        (np.zeros((2, 800), "int16"), "int16"),
    ],
)
def test_wrong_waveforms_are_refused(waveform, message):
    frontend = small(center=False)
    with pytest.raises(ValueError, match=message):
        frontend(waveform)


def test_wrong_lengths_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 1\)"):
        small()(waves(2), lengths=np.ones((2, 1), "int32"))


@pytest.mark.parametrize("center", [False, True])
def test_frame_lengths(center):
    frontend = small(center=center)
    assert frontend.min_samples == (1 if center else 100)
    lengths = np.array([0, frontend.min_samples, 100, 139, 140, 801])
    got = frontend.frame_lengths(lengths)
    assert got.dtype == np.int32
    as_tensors = frontend.frame_lengths(ops.convert_to_tensor(lengths))
    assert keras.backend.standardize_dtype(as_tensors.dtype) == "int32"
    np.testing.assert_array_equal(numpy(as_tensors), got)
    assert [int(frontend.frame_lengths(int(n))) for n in lengths] == list(got)
    assert got[:2].tolist() == [0, 1]
    for n, frames in zip(lengths[3:], got[3:], strict=True):
        x = np.zeros((1, n), "float32")
        assert frontend(x).shape == (1, frames, 8)


def test_what_lies_past_the_end_is_not_seen():
    frontend = small(amplitude="rms", deltas=1, normalize="utterance")
    x, lengths = waves(), np.array([800, 333, 0], "int32")
    want = numpy(frontend(x, lengths=lengths))
    for rubbish in (np.nan, np.inf, 1e6):
        spoilt = x.copy()
        spoilt[1, 333:] = rubbish
        spoilt[2] = rubbish
        got = numpy(frontend(spoilt, lengths=lengths))
        np.testing.assert_array_equal(got, want)
    frames = frontend.frame_lengths(lengths)
    assert np.isfinite(want).all()
    assert want[1, : frames[1]].any()
    assert not want[1, frames[1] :].any()
    assert not want[2].any()


def test_lengths_beyond_the_waveform_mean_all_of_it():
    frontend = small()
    want = numpy(frontend(waves()))
    got = numpy(frontend(waves(), lengths=np.array([800, 900, 10**6])))
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_lengths_as_list_and_tensor():
    frontend = small()
    want = numpy(frontend(waves(), lengths=np.array([800, 333, 90])))
    for lengths in ([800, 333, 90], ops.convert_to_tensor([800, 333, 90])):
        got = numpy(frontend(waves(), lengths=lengths))
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    "settings",
    [
        {"power": 1, "log_floor": 1e-10},
        {"power": 1, "amplitude": "rms", "normalize": "utterance"},
        {"power": 2, "amplitude": "l2", "normalize": "per_bin", "deltas": 1},
        {"power": 1, "log": None},
    ],
)
def test_silence_is_finite_and_so_is_its_gradient(settings):
    frontend = small(**{"log_add": 0.0, **settings})
    x = np.zeros((2, 800), "float32")
    features = numpy(frontend(x))
    assert np.isfinite(features).all()
    if settings.get("normalize") == "utterance":
        assert not features.any()
    gradient = input_gradient(lambda v: ops.sum(frontend(v) ** 2), x)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("mode", ["scalar", "per_bin"])
def test_adapt_measures_what_numpy_measures(mode):
    frontend = small(normalize=mode, deltas=1)
    assert not frontend.adapted
    x, lengths = waves(5), np.array([800, 333, 0, 90, 800], "int32")
    raw = numpy(small(deltas=1)(x, lengths=lengths)).astype("float64")
    frames = frontend.frame_lengths(lengths)
    rows = np.concatenate([r[:n] for r, n in zip(raw, frames, strict=True)])
    frontend.adapt(
        {"waveform": x[i : i + 2], "lengths": lengths[i : i + 2]}
        for i in range(0, 5, 2)
    )
    axis = None if mode == "scalar" else 0
    assert frontend.adapted
    np.testing.assert_allclose(
        numpy(frontend.mean.value), rows.mean(axis), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        numpy(frontend.std.value), rows.std(axis), rtol=1e-5
    )
    got = numpy(frontend(x, lengths=lengths))
    rows = np.concatenate([r[:n] for r, n in zip(got, frames, strict=True)])
    np.testing.assert_allclose(rows.mean(axis), 0.0, atol=1e-4)
    np.testing.assert_allclose(rows.std(axis), 1.0, atol=1e-4)
    assert not got[1, frames[1] :].any()


def test_adapt_stops_and_takes_arrays_and_labels():
    x = waves(4)
    frontends = [small(normalize="scalar") for _ in range(3)]
    frontends[0].adapt([x[:3]])
    frontends[1].adapt([(x[:2], [0, 1]), (x[2:], [1, 0])], max_clips=3)
    frontends[2].adapt([x[:2], x[2:]])
    means = [float(numpy(f.mean.value)) for f in frontends]
    assert means[0] == pytest.approx(means[1], abs=1e-5)
    assert abs(means[0] - means[2]) > 1e-4


def test_adapt_refuses():
    with pytest.raises(ValueError, match="normalize=None"):
        small().adapt([waves()])
    with pytest.raises(ValueError, match="no frame"):
        small(normalize="scalar").adapt([])
    spoilt = waves()
    spoilt[0, 5] = np.nan
    with pytest.raises(ValueError, match="finite"):
        small(normalize="scalar").adapt([spoilt])
    with pytest.raises(ValueError, match="int16"):
        small(normalize="scalar").adapt([np.zeros((2, 800), "int16")])


def test_constant_features_do_not_blow_up():
    frontend = small(normalize="scalar")
    frontend.adapt([np.zeros((2, 800), "float32")])
    assert not numpy(frontend(np.zeros((1, 800), "float32"))).any()
    assert np.isfinite(numpy(frontend(waves()))).all()


def test_given_statistics():
    raw = numpy(small()(waves()))
    frontend = small(normalize="scalar", mean=-3.0, std=2.0)
    assert frontend.adapted
    np.testing.assert_allclose(
        numpy(frontend(waves())), (raw + 3.0) / 2.0, atol=1e-5
    )
    mean, std = raw.mean((0, 1)), raw.std((0, 1))
    frontend = small(normalize="per_bin", mean=mean, std=std)
    np.testing.assert_allclose(
        numpy(frontend(waves())), (raw - mean) / std, atol=1e-5
    )
    assert frontend.get_config()["mean"] == pytest.approx(mean.tolist())


def test_statistics_are_saved_with_a_model(tmp_path):
    frontend = small(normalize="per_bin", deltas=1)
    frontend.adapt([waves()])
    inputs = keras.Input((None,))
    model = keras.Model(inputs, frontend(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        numpy(again(waves())), numpy(frontend(waves())), atol=1e-5
    )
    assert again.layers[-1].adapted
    assert not again.trainable_weights


@pytest.mark.parametrize(
    "frontend",
    [
        LogMel(
            sample_rate=8000,
            n_mels=10,
            f_max=3000.0,
            mel_scale="slaney",
            mel_norm="slaney",
            window="povey",
            center=False,
            power=1,
            log="db",
            log_floor=1e-5,
            log_ceiling=10.0,
            preemphasis=0.9,
            remove_dc=True,
            precision="float64",
            amplitude="rms",
            deltas=2,
            normalize="utterance",
            norm_epsilon=1e-5,
            norm_ddof=0,
            name="front",
        ),
        LogMel(normalize="scalar", mean=1.0, std=3.0, log_add=1e-6),
        MFCC(n_mfcc=12, lifter=22, pad_mode="constant", log="log10"),
        LogSpectrum(n_fft=400, log_add=1e-8, normalize="utterance_mean"),
        Waveform(sample_rate=8000, amplitude="peak"),
    ],
    ids=lambda f: type(f).__name__,
)
def test_config_round_trip(frontend):
    config = keras.saving.serialize_keras_object(frontend)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(frontend)
    assert again.get_config() == frontend.get_config()
    x = waves(2, 1600)
    np.testing.assert_array_equal(numpy(again(x)), numpy(frontend(x)))


@pytest.mark.parametrize("policy", ["mixed_float16", "float16"])
def test_stays_in_float32(policy):
    want = numpy(small(normalize="utterance")(waves()))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        frontend = small(normalize="utterance")
        inputs = keras.Input((800,), dtype="float32")
        model = keras.Model(inputs, frontend(inputs))
        got = numpy(model(waves()))
    finally:
        keras.config.set_dtype_policy(before)
    assert frontend.compute_dtype == "float32"
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_symbolic_shapes():
    frontend = small(deltas=1)
    assert frontend(keras.Input((800,))).shape == (None, 21, 16)
    assert frontend(keras.Input((None,))).shape == (None, None, 16)
    assert frontend.compute_output_shape((4, 800)) == (4, 21, 16)
    lengths = keras.Input((), dtype="int32")
    inputs = keras.Input((None,))
    model = keras.Model([inputs, lengths], frontend(inputs, lengths=lengths))
    n = np.array([800, 90, 333], "int32")
    want = numpy(frontend(waves(), lengths=n))
    np.testing.assert_allclose(numpy(model([waves(), n])), want, atol=1e-6)
    with pytest.raises(ValueError, match=r"\(None, 800, 1\)"):
        frontend(keras.Input((800, 1)))


@pytest.mark.parametrize("name", ["apc", "online_logmel_delta"])
def test_compiled_equals_eager(name):
    frontend = recipe(name)
    x, n = waves(3, 3000), np.array([3000, 1700, 450], "int32")
    function = compiled(lambda v, k: frontend(v, lengths=k))
    got = function(ops.convert_to_tensor(x), ops.convert_to_tensor(n))
    want = numpy(frontend(x, lengths=n))
    np.testing.assert_allclose(numpy(got), want, atol=2e-4)


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow",
    reason="only TensorFlow's graphs have unknown sizes",
)
@pytest.mark.parametrize("name", ["apc", "byol_a", "online_logmel_delta"])
def test_graph_of_unknown_sizes(name):
    import tensorflow as tf

    frontend = recipe(name)
    function = tf.function(
        lambda v, k: (frontend(v), frontend(v, lengths=k)),
        input_signature=[
            tf.TensorSpec((None, None), "float32"),
            tf.TensorSpec((None,), "int32"),
        ],
    )
    for batch, samples in ((3, 3000), (1, 450), (2, 1777)):
        x = waves(batch, samples)
        n = np.linspace(420, samples, batch).astype("int32")
        plain, masked = function(x, n)
        want = numpy(frontend(x))
        np.testing.assert_allclose(numpy(plain), want, atol=2e-4)
        want = numpy(frontend(x, lengths=n))
        np.testing.assert_allclose(numpy(masked), want, atol=2e-4)


def test_it_has_no_weights_but_statistics():
    assert not small().weights
    frontend = small(normalize="per_bin")
    assert sorted(w.name for w in frontend.weights) == [
        "mean",
        "measured",
        "std",
    ]
    assert not frontend.trainable_weights


def test_unnormalized_and_scaled():
    frontend = small(normalize="scalar", mean=1.0, std=2.0, amplitude="l2")
    raw = numpy(small(amplitude="l2")(waves()))
    np.testing.assert_allclose(
        numpy(frontend.unnormalized(waves())), raw, atol=1e-6
    )
    scaled = waves() / np.linalg.norm(waves(), axis=1, keepdims=True)
    np.testing.assert_allclose(
        numpy(frontend(scaled, scaled=True)),
        numpy(frontend(3 * waves())),
        atol=1e-4,
    )
