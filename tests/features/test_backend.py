import copy
import pickle

import numpy as np
import pytest
from keras import ops

from keras_audio_ssl.features import LogMel
from keras_audio_ssl.features import backend
from keras_audio_ssl.features.spectrum import Spectrum
from tests.features import reference
from tests.features.helpers import compiled
from tests.features.helpers import input_gradient
from tests.features.helpers import numpy


def waves(batch, samples=4000):
    return np.stack([reference.signal(samples, seed=i) for i in range(batch)])


@pytest.mark.parametrize(
    "batch, as_graph", [(1, True), (6, True), (7, True), (7, False)]
)
def test_chunks_change_nothing(monkeypatch, batch, as_graph):
    x = waves(batch)
    frontend = LogMel(n_mels=20, log_add=1e-6)
    function = compiled(lambda v: frontend(v)) if as_graph else frontend
    whole = numpy(function(ops.convert_to_tensor(x)))
    gradient = input_gradient(lambda v: ops.sum(function(v) ** 2), x)

    monkeypatch.setattr(backend, "CHUNK_ABOVE", 1)
    # A clip takes 26 frames of 512 samples.
    monkeypatch.setattr(backend, "CHUNK_BYTES", 2 * 26 * 512 * 4)
    monkeypatch.setattr(backend, "_one_cpu", lambda: True)
    frontend = LogMel(n_mels=20, log_add=1e-6)
    function = compiled(lambda v: frontend(v)) if as_graph else frontend
    sizes = []
    power = Spectrum._power

    def counted(self, x, *rest):
        sizes.append(x.shape[0])
        return power(self, x, *rest)

    monkeypatch.setattr(Spectrum, "_power", counted)
    pieces = numpy(function(ops.convert_to_tensor(x)))
    assert max(sizes) <= 2
    np.testing.assert_allclose(pieces, whole, atol=2e-6)
    got = input_gradient(lambda v: ops.sum(function(v) ** 2), x)
    scale = np.abs(gradient).max()
    np.testing.assert_allclose(got, gradient, atol=1e-5 * scale)


def test_pieces_are_limited(monkeypatch):
    monkeypatch.setattr(backend, "CHUNK_ABOVE", 1)
    monkeypatch.setattr(backend, "CHUNK_BYTES", 1)
    monkeypatch.setattr(backend, "_one_cpu", lambda: True)
    sizes = []

    def double(v):
        sizes.append(v.shape[0])
        return 2 * v

    x = np.arange(200.0, dtype="float32").reshape(100, 2)
    got = backend.in_chunks(double, ops.convert_to_tensor(x), 1000)
    np.testing.assert_array_equal(numpy(got), 2 * x)
    assert len(sizes) <= backend.MOST_PIECES


def test_float64_and_its_gradient():
    x = waves(2)
    settings = {"n_mels": 20, "log": None}
    fine = LogMel(precision="float64", **settings)
    plain = LogMel(precision="float32", **settings)
    got, want = numpy(fine(x)), numpy(plain(x))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    assert np.abs(got - want).max() > 0
    gradients = [
        input_gradient(lambda v, f=f: ops.sum(ops.sqrt(f(v) + 1e-3)), x)
        for f in (fine, plain)
    ]
    assert gradients[0].dtype == np.float32
    scale = np.abs(gradients[1]).max()
    np.testing.assert_allclose(*gradients, atol=1e-4 * scale)
    np.testing.assert_allclose(
        numpy(compiled(lambda v: fine(v))(ops.convert_to_tensor(x))),
        got,
        rtol=1e-6,
        atol=1e-8,
    )


def test_constants_can_be_copied():
    constant = backend.Constant(np.eye(3))
    like = ops.zeros((1,))
    constant(like)
    for other in (
        copy.deepcopy(constant),
        pickle.loads(pickle.dumps(constant)),
    ):
        np.testing.assert_array_equal(numpy(other(like)), np.eye(3))
