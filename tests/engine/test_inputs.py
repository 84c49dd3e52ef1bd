"""What Keras' `fit`, `evaluate` and `predict` take, ours take."""

import numpy as np
import pytest

import keras_audio_ssl as kas
from tests.contract import Batches
from tests.contract import waves
from tests.methods.denoising import Denoising

# Keras says so at the end of every generator.
pytestmark = pytest.mark.filterwarnings("ignore:Your input ran out of data")

CLIPS, SIZE = 8, 4


def parts(x, y=None, as_dict=False):
    """Batches as a list: of arrays or dicts, in tuples where with labels."""
    out = []
    for at in range(0, CLIPS, SIZE):
        one = x[at : at + SIZE]
        if as_dict:
            lengths = np.full(SIZE, x.shape[1], "int32")
            one = {"waveform": one, "lengths": lengths}
        out.append(one if y is None else (one, y[at : at + SIZE]))
    return out


def tf_data(x, y, as_dict):
    tf = pytest.importorskip("tensorflow")
    if as_dict:
        lengths = np.full(CLIPS, x.shape[1], "int32")
        x = {"waveform": x, "lengths": lengths}
    return tf.data.Dataset.from_tensor_slices(x if y is None else (x, y)).batch(
        SIZE
    )


def loader(x, y, as_dict):
    torch = pytest.importorskip("torch")

    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return CLIPS

        def __getitem__(self, i):
            one = x[i]
            if as_dict:
                one = {"waveform": one, "lengths": np.int32(len(one))}
            return (one,) if y is None else (one, y[i])

    return torch.utils.data.DataLoader(Rows(), batch_size=SIZE)


def numpy_dict(x, y, as_dict):
    lengths = np.full(CLIPS, x.shape[1], "int32")
    return {"waveform": x, "lengths": lengths} if as_dict else x


KINDS = {
    "arrays": numpy_dict,
    "a generator": lambda x, y, d: (b for b in parts(x, y, d)),
    "a chain": lambda x, y, d: iter(parts(x, y, d)),
    "a list of batches": lambda x, y, d: Batches(parts(x, y, d)),
    "tf.data": tf_data,
    "a DataLoader": loader,
    "ours": lambda x, y, d: kas.data.from_arrays(x, y, batch_size=SIZE),
}


@pytest.fixture(scope="module")
def model():
    model = Denoising(preset="tiny")
    model.compile()
    return model


@pytest.fixture(scope="module")
def classifier():
    classifier = kas.Classifier(Denoising(preset="tiny").encoder, classes=2)
    classifier.compile("adam")
    return classifier


@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_method(kind, as_dict, model):
    x = waves(CLIPS)
    make = lambda: KINDS[kind](x, None, as_dict)
    sizes = {"batch_size": SIZE} if kind == "arrays" else {}
    history = model.fit(
        make(),
        validation_data=(x, None) if sizes else make(),
        verbose=0,
        **sizes,
    ).history
    assert np.isfinite(history["loss"]).all()
    assert np.isfinite(history["val_loss"]).all()
    result = model.evaluate(make(), verbose=0, return_dict=True, **sizes)
    assert np.isfinite(result["loss"])
    out = model.encoder.predict(make(), verbose=0, **sizes)
    assert out["clip"].shape == (CLIPS, model.encoder.dim)


@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier(kind, as_dict, classifier):
    x, y = waves(CLIPS), np.arange(CLIPS, dtype="int32") % 2
    make = lambda: KINDS[kind](x, y, as_dict)
    more = {"y": y, "batch_size": SIZE} if kind == "arrays" else {}
    history = classifier.fit(make(), verbose=0, **more).history
    assert np.isfinite(history["loss"]).all()
    loss, accuracy = classifier.evaluate(make(), verbose=0, **more)
    assert np.isfinite(loss) and 0 <= accuracy <= 1
    logits = classifier.predict(make(), verbose=0)
    assert logits.shape == (CLIPS, 2)
