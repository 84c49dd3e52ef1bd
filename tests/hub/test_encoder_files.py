"""Encoders are opened by name and path, saved whole, and never trusted."""

import errno
import json
import os
import threading
import zipfile

import keras
import numpy as np
import pytest

import keras_audio_ssl as kas
from keras_audio_ssl.encoders import AudioNTT
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.encoders import Readout
from keras_audio_ssl.encoders import RecurrentStack
from keras_audio_ssl.encoders import make_encoder
from keras_audio_ssl.features import recipe
from keras_audio_ssl.hub import encoder_names
from keras_audio_ssl.hub import load_encoder
from keras_audio_ssl.hub import save_encoder

WAVE = np.random.default_rng(0).uniform(-0.1, 0.1, 8000).astype("float32")


def make():
    frontend = recipe("byol_a", n_mels=16, mean=-7.0, std=4.0)
    return Encoder(frontend, AudioNTT(16, dim=6, conv_channels=3))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """An encoder and the file that it was saved to."""
    encoder = make()
    path = tmp_path_factory.mktemp("saved") / "encoder.keras"
    return encoder, save_encoder(encoder, path)


def tamper(saved, path, change):
    """A copy of the file, its configuration changed."""
    with (
        zipfile.ZipFile(saved[1]) as source,
        zipfile.ZipFile(path, "w") as target,
    ):
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                config = json.loads(content)
                config = change(config) or config
                content = json.dumps(config)
            target.writestr(name, content)
    return path


def test_the_encoder_that_was_saved(saved):
    encoder, path = saved
    again = kas.load_encoder(path)
    assert type(again) is Encoder
    assert again.sample_rate == encoder.sample_rate and again.dim == 6
    np.testing.assert_array_equal(again.embed(WAVE), encoder.embed(WAVE))


@pytest.mark.parametrize("kind", ["readout", "recurrent", "keras", "graph"])
def test_every_kind_of_encoder(tmp_path, kind):
    frontend = recipe("apc", n_mels=12)
    if kind == "readout":
        encoder = Readout(make(), pooling=("mean", "std"))
    elif kind == "recurrent":
        encoder = Encoder(frontend, RecurrentStack(12, 4, 2, prenet_layers=1))
    elif kind == "keras":
        layers = [keras.layers.Dense(5, "relu"), keras.layers.LSTM(3)]
        encoder = make_encoder(keras.Sequential(layers), frontend)
    else:
        inputs = keras.Input((None, 12))
        x = keras.layers.Conv1D(4, 3, activation="gelu")(inputs)
        x = keras.ops.concatenate([x, keras.ops.exp(-x)], axis=-1)[..., :5]
        encoder = make_encoder(keras.Model(inputs, x), frontend)
    path = save_encoder(encoder, tmp_path / "a.keras")
    again = load_encoder(path)
    np.testing.assert_allclose(
        again.embed(WAVE), encoder.embed(WAVE), rtol=1e-6
    )


def test_a_pretext_model_gives_its_encoder(tmp_path):
    model = kas.COLA(encoder=make(), seconds=0.2, embedding_dim=4)
    model.compile()
    model.train_on_batch(np.stack([WAVE, WAVE[::-1]]))
    path = save_encoder(model, tmp_path / "cola.keras")
    encoder = load_encoder(path)
    assert type(encoder) is Encoder
    np.testing.assert_array_equal(
        encoder.embed(WAVE), model.encoder.embed(WAVE)
    )


def test_names_lie_in_a_folder(tmp_path, monkeypatch, saved):
    folder = tmp_path / "weights"
    monkeypatch.setenv("KERAS_AUDIO_SSL_WEIGHTS", str(folder))
    assert encoder_names() == []
    for name in ("one", "two"):
        save_encoder(saved[0], folder / f"{name}.keras")
    assert encoder_names() == ["one", "two"]
    assert load_encoder("one").dim == 6
    for missing in ("three", "three.keras", tmp_path / "one.keras"):
        with pytest.raises(ValueError, match="no such file.*one, two"):
            load_encoder(missing)


def test_the_default_folder_is_the_checkouts(monkeypatch):
    monkeypatch.delenv("KERAS_AUDIO_SSL_WEIGHTS", raising=False)
    from keras_audio_ssl.hub.encoder_files import weights_folder

    package = os.path.dirname(kas.__file__)
    assert (
        weights_folder() == type(weights_folder())(package).parent / "weights"
    )


def test_what_is_no_encoder(tmp_path):
    path = tmp_path / "a.keras"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(path)
    with pytest.raises(ValueError, match="holds Sequential"):
        load_encoder(path)
    for value in (None, 3, saved):
        with pytest.raises(ValueError, match="by its name or its path"):
            load_encoder(value)


def test_other_files(tmp_path, saved):
    content = saved[1].read_bytes()
    for name, data, words in (
        ("a.h5", b"", "HDF5 models are refused"),
        ("b.keras", b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "HDF5 file"),
        ("c.keras", b"text", "not a `.keras` file"),
        ("d.keras", b"", "not a `.keras` file"),
        ("e.pt", content, "keras-audio-ssl import"),
        ("f.keras", content[: len(content) // 2], "not a `.keras` file"),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ValueError, match=words):
            load_encoder(path)
    with pytest.raises(ValueError, match="no such file"):
        load_encoder(tmp_path)


def test_damaged_weights(tmp_path, saved):
    path = tmp_path / "a.keras"
    with (
        zipfile.ZipFile(saved[1]) as source,
        zipfile.ZipFile(path, "w") as target,
    ):
        for name in source.namelist():
            content = source.read(name)
            if name == "model.weights.h5":
                content = content[:2000]
            target.writestr(name, content)
    with pytest.raises(ValueError, match="damaged weights"):
        load_encoder(path)


def write_zip(path, *members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def test_archives_hold_what_keras_writes(tmp_path):
    path, config = tmp_path / "a.keras", ("config.json", "{}")
    with pytest.raises(ValueError, match="not a `.keras` file of Keras 3"):
        load_encoder(write_zip(path, ("model.txt", "")))
    for name in ("assets/vocabulary.txt", "../evil.py", "/etc/passwd"):
        with pytest.raises(ValueError, match="no encoder needs"):
            load_encoder(write_zip(path, config, (name, "")))
    rest = [("metadata.json", "{}"), ("model.weights.h5", "")]
    bomb = ("model.weights.h5", b"\0" * 2**26)
    for packed in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        write_zip(path, config, rest[0], bomb, compression=packed)
        with pytest.raises(ValueError, match="compressed"):
            load_encoder(path)
    for content in ("[]", "{}", "1", '{"class_name": 3, "config": {}}'):
        with pytest.raises(ValueError, match="names no model|no name"):
            load_encoder(write_zip(path, ("config.json", content), *rest))
    for content in ("{", b"\xff", "[" * 100_000):
        with pytest.raises(ValueError, match="damaged"):
            load_encoder(write_zip(path, ("config.json", content), *rest))
    whole = {"config.json": '{"class_name": "Encoder"}', **dict(rest)}
    for name in ("metadata.json", "model.weights.h5"):
        members = [(k, v) for k, v in whole.items() if k != name]
        with pytest.raises(ValueError, match=f"lacks {name}"):
            load_encoder(write_zip(path, *members))


def entry(module, name, config=None, registered=None):
    return {
        "module": module,
        "class_name": name,
        "config": {} if config is None else config,
        "registered_name": registered,
    }


# What must not be made of a stranger's file, each with a way to name it.
HOSTILE = [
    entry("keras.layers", "Lambda", {"function": {}}),
    entry("keras.layers", "TFSMLayer", {"filepath": "/tmp/x"}),
    entry("keras.layers", "TorchModuleWrapper", {"module": "x"}),
    entry("keras.layers", "JaxLayer"),
    entry("keras.layers", "StringLookup", {"vocabulary": "/etc/passwd"}),
    entry("keras.layers", "TextVectorization"),
    entry("keras.layers", "Layer"),
    entry("keras.utils", "get_file"),
    entry("keras.saving", "load_model"),
    entry("keras.models", "model_from_json"),
    entry("keras.src.layers.core.lambda_layer", "Lambda"),
    entry("keras.src.ops.numpy", "np"),
    entry("keras.initializers", "deserialize"),
    entry("os", "system"),
    entry("builtins", "eval"),
    entry("subprocess", "Popen"),
    entry("pickle", "loads"),
    entry("keras_audio_ssl.data", "AudioDataset"),
    entry("keras_audio_ssl.hub.encoder_files", "load_encoder"),
    entry("keras_audio_ssl.encoders.encoder", "os"),
    entry("keras_audio_ssl.encoders.encoder", "Clip"),
    entry("keras_audio_ssl.encoders.nowhere", "Encoder"),
    # A registered name wins over module and class.
    entry("keras.layers", "Dense", registered="keras_hub>Backbone"),
    entry("keras.layers", "Dense", registered="keras_audio_ssl>Encoder"),
    entry(
        "keras_audio_ssl.encoders.encoder",
        "Encoder",
        registered="keras_audio_ssl>AudioNTT",
    ),
    entry(None, "Dense"),
    entry(None, "Lambda"),
    entry(["keras.layers"], "Dense"),
    entry(None, "__lambda__", {"value": "x"}),
    entry(None, "__typespec__"),
    entry("builtins", "function", "eval", "function"),
    entry("builtins", "function", {"x": 1}, "function"),
    entry("os", "function", "system", "system"),
    entry("keras.utils", "function", "get_file", "get_file"),
    entry("keras.activations", "function", "deserialize_nothing"),
]


@pytest.mark.no_backend
@pytest.mark.parametrize(
    "hostile", HOSTILE, ids=lambda e: f"{e['module']}.{e['class_name']}"
)
def test_configurations_are_checked_before_keras(
    tmp_path, saved, hostile, monkeypatch
):
    def unreached(*args, **kwargs):
        raise AssertionError("Keras saw the file")

    monkeypatch.setattr(keras.saving, "load_model", unreached)
    path = tmp_path / "a.keras"

    def inside(config):
        config["config"]["backbone"]["config"]["deep"] = [{"a": hostile}]

    for change in (inside, lambda config: hostile):
        tamper(saved, path, change)
        with pytest.raises(ValueError, match="refused"):
            load_encoder(path)


def test_unknown_settings_are_an_error_of_the_file(tmp_path, saved):
    def change(config):
        config["config"]["backbone"]["config"]["colour"] = "red"

    path = tamper(saved, tmp_path / "a.keras", change)
    with pytest.raises(ValueError, match="cannot be opened"):
        load_encoder(path)


@keras.saving.register_keras_serializable(package="tests")
class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2 * x


def test_classes_of_the_users_are_given(tmp_path):
    encoder = make_encoder(Doubled(), recipe("apc", n_mels=12))
    path = save_encoder(encoder, tmp_path / "a.keras")
    with pytest.raises(ValueError, match="Doubled.*custom_objects"):
        load_encoder(path)
    given = {"Doubled": Doubled}
    for custom in (given, {"tests>Doubled": Doubled}):
        again = load_encoder(path, custom_objects=custom)
        np.testing.assert_array_equal(again.embed(WAVE), encoder.embed(WAVE))
    assert list(given) == ["Doubled"]
    # Another class of that name would be opened in its place.
    with pytest.raises(ValueError, match="Doubled.*custom_objects"):
        load_encoder(path, custom_objects={"Doubled": keras.layers.Identity})
    # Not registered here, as in a process that only defines it.
    registered = keras.saving.get_custom_objects()
    try:
        del registered["tests>Doubled"]
        again = load_encoder(path, custom_objects=given)
    finally:
        registered["tests>Doubled"] = Doubled
    np.testing.assert_array_equal(again.embed(WAVE), encoder.embed(WAVE))


def test_saving_is_whole_or_nothing(tmp_path, saved, monkeypatch):
    path = save_encoder(saved[0], tmp_path / "new folder" / "a.keras")
    before = path.read_bytes()

    def full(self, target, **kwargs):
        with open(target, "wb") as stream:
            stream.write(before[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Encoder, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save_encoder(saved[0], path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["a.keras"]
    assert load_encoder(path).dim == 6


def test_saving_refuses(tmp_path, saved):
    encoder, path = saved
    with pytest.raises(ValueError, match="is there already"):
        save_encoder(encoder, path, overwrite=False)
    with pytest.raises(ValueError, match="must end in"):
        save_encoder(encoder, tmp_path / "a.h5")
    with pytest.raises(ValueError, match="an Encoder or a pretext model"):
        save_encoder(encoder.backbone, tmp_path / "a.keras")
    assert not list(tmp_path.iterdir())


def test_no_module_is_imported_for_its_name(saved, tmp_path, monkeypatch):
    flag = tmp_path / "flag"
    (tmp_path / "hostile_neighbour.py").write_text(
        f"open({str(flag)!r}, 'w').close()"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for kind in ("__bytes__", "Dense", "Encoder", "function"):
        path = tamper(
            saved,
            tmp_path / "a.keras",
            lambda config: {
                "module": "hostile_neighbour",
                "class_name": kind,
                "config": {"value": "x"},
                "registered_name": None,
            },
        )
        with pytest.raises(ValueError, match=r"a\.keras"):
            load_encoder(path)
    assert not flag.exists()


def test_loads_side_by_side_leave_keras_as_it_was(saved):
    before = keras.Variable.__init__
    encoder, path = saved
    want, wrong = encoder.embed(WAVE), []

    def load():
        for _ in range(4):
            try:
                np.testing.assert_array_equal(
                    load_encoder(path).weights[0], encoder.weights[0]
                )
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert keras.Variable.__init__ is before
    # More numbers than the file's: no limit is left behind.
    keras.layers.Dense(2000).build((None, 2000))
    np.testing.assert_allclose(encoder.embed(WAVE), want)


def test_a_load_inside_of_a_load(saved, tmp_path):
    @keras.saving.register_keras_serializable(package="tests_nested")
    class Nested(Encoder):
        @classmethod
        def from_config(cls, config):
            load_encoder(saved[1])
            return super().from_config(config)

    def rename(config):
        config.update(
            module=Nested.__module__,
            class_name="Nested",
            registered_name="tests_nested>Nested",
        )

    path = tamper(saved, tmp_path / "a.keras", rename)
    again = load_encoder(path, {"tests_nested>Nested": Nested})
    np.testing.assert_array_equal(again.embed(WAVE), saved[0].embed(WAVE))


def test_an_encoder_of_bfloat16_opens(tmp_path):
    backbone = AudioNTT(32, dim=8, conv_channels=4, dtype="bfloat16")
    model = Encoder(recipe("cola", n_mels=32), backbone)
    model.save(tmp_path / "a.keras")
    again = load_encoder(tmp_path / "a.keras")
    np.testing.assert_array_equal(again.embed(WAVE), model.embed(WAVE))
    kinds = {str(v.dtype) for v in again.weights}
    assert "bfloat16" in kinds
    for a, b in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(keras.ops.cast(a, "float32")),
            keras.ops.convert_to_numpy(keras.ops.cast(b, "float32")),
        )
