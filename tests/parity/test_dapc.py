"""DAPC against the code of its authors, the estimator against float64.

Tolerances: latents 1e-5, covariances 1e-5 of the largest entry, predictive
information 1e-4 in float32 and 1e-9 in float64, losses 1e-4 relative,
gradients 1e-3 of each array's largest entry, Toeplitz 1e-5.
"""

import keras
import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.hub import import_checkpoint
from keras_audio_ssl.hub.foreign.dapc import decoder_rules
from keras_audio_ssl.hub.foreign.dapc import rules
from keras_audio_ssl.losses import block_toeplitz
from keras_audio_ssl.losses import orthogonality
from keras_audio_ssl.losses import predictive_information
from keras_audio_ssl.losses import window_covariance
from tests.gradients import gradients
from tests.gradients import numpy

GOLDEN = "dapc"
KINDS = (("plain", False), ("toeplitz", True))
every = pytest.mark.parametrize("kind, toeplitz", KINDS)


@pytest.fixture
def model(golden, tmp_path):
    weights = golden.group("sd")
    if not weights:
        pytest.skip("the folder holds no weights")
    path = tmp_path / "dapc.npz"
    np.savez(path, **weights)
    config = golden.config
    model, report = import_checkpoint(
        "dapc_official", path, whole=True, window=config["window"]
    )
    model.diagonal = config["diagonal"]
    model.ortho_weight = config["ortho_weight"]
    model.reconstruction_weight = config["reconstruction_weight"]
    model.distance = "mse"
    assert not report.missing and not report.unexplained
    sizes = report.settings
    for name in ("layers", "units"):
        assert sizes[name] == config[name]
    assert sizes["dim"] == config["latent"]
    return model


def outputs(golden, model):
    features = golden["in/features"]
    outputs = model.components(
        ops.convert_to_tensor(features),
        ops.convert_to_tensor(features * golden["in/mask_in"]),
        ops.convert_to_tensor(golden["in/mask_out"] > 0),
        ops.convert_to_tensor(golden["in/lengths"].astype("int32")),
    )
    return outputs


def valid(golden):
    frames = np.arange(golden["in/features"].shape[1])
    return frames < golden["in/lengths"][:, None]


def test_latents_and_reconstruction(golden, model):
    got = outputs(golden, model)
    where = np.broadcast_to(valid(golden)[..., None], got["latent"].shape)
    golden.close(numpy(got["latent"]), "out/latent", 1e-5, where=where)
    seen = model.encoder.backbone(
        golden["in/features"] * golden["in/mask_in"],
        lengths=golden["in/lengths"].astype("int32"),
    )["hidden"][-1]
    golden.close(numpy(seen), "out/latent_masked_input", 1e-5, where=where)
    rebuilt = numpy(got["prediction"])
    where = np.broadcast_to(valid(golden)[..., None], rebuilt.shape)
    golden.close(rebuilt, "out/reconstruction", 1e-5, where=where)


@every
def test_covariances_and_totals(golden, model, kind, toeplitz):
    got, config = outputs(golden, model), golden.config
    sigma = window_covariance(
        got["latent"], got["lengths"], 2 * config["window"], toeplitz
    )
    sigma = numpy(sigma) + config["diagonal"] * np.eye(sigma.shape[0])
    want = golden[f"out/{kind}_cov"]
    golden.near(sigma, want, 1e-5 * np.abs(want).max())
    information = predictive_information(
        got["latent"], got["lengths"], config["window"], toeplitz,
        config["diagonal"],
    )  # fmt: skip
    golden.close(numpy(information), f"out/{kind}_pi", 1e-4)
    model.toeplitz = toeplitz
    total = numpy(model.pretext_loss(got, None))
    golden.close(total, f"out/{kind}_total", rtol=1e-4)


def test_orthogonality(golden, model):
    got = outputs(golden, model)
    sigma = window_covariance(got["latent"], got["lengths"], 1, False)
    want = golden["out/frame_cov"]
    golden.near(numpy(sigma), want, 1e-5 * np.abs(want).max())
    penalty = orthogonality(got["latent"], got["lengths"])
    golden.close(numpy(penalty), "out/ortho", rtol=1e-4)


def test_reconstruction_errors(golden, model):
    got = outputs(golden, model)
    for distance in ("mse", "l1"):
        model.distance = distance
        error = numpy(model.reconstruction_error(got))
        golden.close(error, f"out/recon_{distance}", rtol=1e-4)
    # Where nothing is hidden, the decoder reads the whole input's latents.
    features = ops.convert_to_tensor(golden["in/features"])
    model.masked = False
    whole = model.components(features, features, None, got["lengths"])
    error = numpy(model.reconstruction_error(whole))
    golden.close(error, "out/full_recon_sum_sq_per_frame", rtol=1e-4)


@every
def test_gradients(golden, model, kind, toeplitz):
    grads = golden.group(f"grad_{kind}")
    model.toeplitz = toeplitz
    plan = [*rules(model.encoder.backbone), *decoder_rules(model)]
    _, got = gradients(
        lambda: model.pretext_loss(outputs(golden, model), None),
        [rule.variable for rule in plan],
    )
    assert {name for rule in plan for name in rule.sources} == set(grads)
    for rule, gradient in zip(plan, got, strict=True):
        arrays = [grads[name] for name in rule.sources]
        scale = [np.abs(array).max() for array in arrays]
        want = rule.convert(*arrays)
        rows = zip(gradient, want) if len(scale) > 1 else [(gradient, want)]
        for (a, b), largest in zip(rows, scale, strict=True):
            golden.near(a, b, 1e-3 * largest, what=rule.sources[0])


@every
def test_the_estimator(golden, kind, toeplitz):
    window, lengths = int(golden["pi/T"]), golden["pi/lengths"].astype("int32")
    wide = keras.backend.backend() != "jax"  # has no float64 unless told
    for dtype, atol in (("float32", 1e-4), ("float64", 1e-9)):
        if dtype == "float64" and not wide:
            continue
        latent = ops.convert_to_tensor(golden["pi/latent"].astype(dtype))
        value = predictive_information(latent, lengths, window, toeplitz, 1e-6)
        golden.close(ops.convert_to_numpy(value), f"f64/pi_{kind}", atol)
        sigma = window_covariance(latent, lengths, 2 * window, toeplitz)
        sigma = ops.convert_to_numpy(sigma).astype("float64")
        sigma += 1e-6 * np.eye(len(sigma))
        want = golden[f"f64/pi_{kind}_cov"]
        bound = 1e-5 if dtype == "float32" else 1e-12
        golden.near(sigma, want, bound * np.abs(want).max())
        if dtype == "float32":
            golden.close(numpy(value), f"pi/{kind}_value_f32", 1e-4)


@every
def test_the_estimators_gradient(golden, kind, toeplitz):
    latent = keras.Variable(golden["pi/latent"])
    lengths = ops.convert_to_tensor(golden["pi/lengths"].astype("int32"))
    _, (got,) = gradients(
        lambda: predictive_information(
            ops.convert_to_tensor(latent), lengths, int(golden["pi/T"]),
            toeplitz, 1e-6,
        ),
        [latent],
    )  # fmt: skip
    want = golden[f"pi/{kind}_grad"]
    golden.near(got, want, 1e-3 * np.abs(want).max())


def test_toeplitz(golden):
    matrix = ops.convert_to_tensor(golden["toep/in"])
    for key in sorted(golden.keys):
        if key.startswith("toep/out_blocks"):
            blocks = int(key.removeprefix("toep/out_blocks").split("_")[0])
            golden.close(numpy(block_toeplitz(matrix, blocks)), key, 1e-5)
