"""Files that an earlier version wrote still open and give the same vectors."""

from pathlib import Path

import keras
import numpy as np
import pytest

import keras_audio_ssl as kas

FOLDER = Path(__file__).parent / "written_before"


@pytest.fixture(scope="module")
def vectors():
    with np.load(FOLDER / "vectors.npz") as file:
        return dict(file)


def same(got, want):
    scale = max(1.0, np.abs(want).max())
    return np.abs(got - want).max() < 1e-4 * scale


@pytest.mark.parametrize("name", ["apc", "byol_a", "cola", "readout"])
def test_encoders_of_earlier_files(name, vectors):
    encoder = kas.load_encoder(FOLDER / f"{name}.keras")
    assert same(encoder.embed(list(vectors["clips"])), vectors[name])


@pytest.mark.parametrize("name", ["apc", "byol_a", "cola"])
def test_models_of_earlier_files_train_on_and_are_saved_anew(
    name, vectors, tmp_path
):
    model = kas.hub.load_model(FOLDER / f"{name}.keras")
    assert int(model.updates) == int(model.optimizer.iterations) == 1
    # What of the arguments the encoder's file tells is told there alone.
    assert not set(model.get_config()) & set(type(model).RETIRED)
    model.fit(vectors["clips"], batch_size=2, verbose=0)
    assert int(model.updates) == 2
    model.save(tmp_path / "again.keras")
    again = kas.hub.load_model(tmp_path / "again.keras")
    a, b = (m.train_on_batch(vectors["clips"]) for m in (model, again))
    assert np.array_equal(a, b)


def test_a_classifier_of_an_earlier_file(vectors):
    classifier = keras.saving.load_model(FOLDER / "classifier.keras")
    got = classifier.probabilities(list(vectors["clips"]))
    assert same(got, vectors["classifier"])
    assert classifier.freeze and classifier.class_names == ["a", "b", "c"]
