"""Files that an earlier version wrote still open and give the same vectors."""

import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_audio_ssl as kas
from keras_audio_ssl.callbacks.resume import changes
from keras_audio_ssl.hub.encoder_files import weights_folder

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


def test_the_scaling_of_an_earlier_file():
    encoder = kas.load_encoder("cola")
    file = weights_folder() / "cola.keras"
    with zipfile.ZipFile(file) as archive:
        written = archive.read("config.json").decode()
    # As the file says it, and as it says nowhere.
    assert '"level": "l2"' in written and '"amplitude' not in written
    frontend = encoder.frontend
    assert (frontend.amplitude, frontend.amplitude_samples) == ("l2", 5360)
    wave = np.random.default_rng(0).normal(0, 0.1, (1, 5360))
    near, far = (
        keras.ops.convert_to_numpy(frontend(x.astype("float32")))
        for x in (wave, 30 * wave)
    )
    np.testing.assert_allclose(near, far, atol=1e-3)
    assert not set(frontend.get_config()) & set(type(frontend).RENAMED)


def test_an_earlier_configuration_by_itself_and_in_a_run():
    now = kas.COLA(preset="tiny", encoder=kas.load_encoder("cola"))
    config = json.loads(json.dumps(now.get_config()))
    frontend = config["encoder"]["config"]["frontend"]["config"]
    for old, new in kas.features.FrontEnd.RENAMED.items():
        frontend[old] = frontend.pop(new)
    again = kas.COLA.from_config(config)
    assert again.scaled and again.encoder.frontend.amplitude_samples == 5360
    runs = [{"model": c} for c in (config, now.get_config())]
    assert changes(*runs, None, None) == []


@pytest.mark.parametrize(
    "settings", [{"level": None}, {"level": "l2", "level_samples": 800}]
)
def test_earlier_settings_of_an_encoder(settings):
    wanted = {k.replace("level", "amplitude"): v for k, v in settings.items()}
    for made in (
        kas.features.recipe("cola", **settings),
        kas.COLA(preset="tiny", encoder=settings).encoder.frontend,
    ):
        for name, value in wanted.items():
            assert getattr(made, name) == value
