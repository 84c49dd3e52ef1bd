import copy
import pickle

import numpy as np
import pytest
from keras import ops

import keras_audio_ssl.backend as backend
from keras_audio_ssl.backend import chunks
from keras_audio_ssl.features import LogMel
from keras_audio_ssl.features.spectrum import Bands
from keras_audio_ssl.features.spectrum import Spectrum
from tests.backend.kernels import BACKEND
from tests.backend.kernels import COMPILED
from tests.backend.kernels import array
from tests.backend.kernels import check
from tests.features import reference
from tests.features.helpers import compiled
from tests.features.helpers import input_gradient
from tests.features.helpers import numpy


def waves(batch, samples=4000):
    return np.stack([reference.signal(samples, seed=i) for i in range(batch)])


def pieces_of(monkeypatch, size):
    """Has pieces made of any batch, of about so many bytes."""
    where = backend.torch if BACKEND == "torch" else chunks
    monkeypatch.setattr(where, "ABOVE", 1)
    monkeypatch.setattr(where, "ABOUT", size)
    monkeypatch.setattr(chunks, "one_cpu", lambda: True)


@pytest.mark.parametrize(
    "batch, as_graph", [(1, True), (6, True), (7, True), (7, False)]
)
def test_chunks_change_nothing(monkeypatch, batch, as_graph):
    x = waves(batch)
    frontend = LogMel(n_mels=20, log_add=1e-6)
    function = compiled(lambda v: frontend(v)) if as_graph else frontend
    whole = numpy(function(ops.convert_to_tensor(x)))
    gradient = input_gradient(lambda v: ops.sum(function(v) ** 2), x)

    # A clip takes 26 frames of 512 samples.
    pieces_of(monkeypatch, 2 * 26 * 512 * 4)
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
    pieces_of(monkeypatch, 1)
    sizes = []

    def double(v):
        sizes.append(v.shape[0])
        return 2 * v

    x = np.arange(200.0, dtype="float32").reshape(100, 2)
    got = backend.in_chunks(double, ops.convert_to_tensor(x), 1000)
    np.testing.assert_array_equal(numpy(got), 2 * x)
    assert len(sizes) <= chunks.MOST_PIECES


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


@pytest.mark.parametrize("compiled", COMPILED)
@pytest.mark.parametrize("length, hop", [(400, 160), (320, 160), (60, 100)])
def test_sliding_frames_equal_the_plain_function(length, hop, compiled):
    options = {"frame_length": length, "hop_length": hop, "frames": 7}
    check("sliding_frames", [array(0, 2, 1500)], options, compiled)


def test_splitting_a_product_changes_nothing(monkeypatch):
    x, bank = array(0, 3, 5, 40), np.triu(array(1, 40, 20))
    products = []
    for split in (True, False):
        monkeypatch.setattr(backend, "splitting_pays", lambda x, s=split: s)
        products.append(numpy(Bands(bank)(ops.convert_to_tensor(x))))
    np.testing.assert_allclose(*products, rtol=1e-5, atol=1e-5)
