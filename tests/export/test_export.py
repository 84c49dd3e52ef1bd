"""Encoders as files of other formats."""

import importlib.util
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_audio_ssl as kas
from keras_audio_ssl import export
from keras_audio_ssl.blocks import GRU
from keras_audio_ssl.blocks import LSTM
from keras_audio_ssl.cli import export as cli_export
from keras_audio_ssl.cli import main
from keras_audio_ssl.export import FORMATS
from keras_audio_ssl.export import ExportError
from keras_audio_ssl.export import checks
from keras_audio_ssl.export import write
from keras_audio_ssl.features import LogMel
from keras_audio_ssl.features.spectrum import Spectrum
from tests.encoders.tiny import array
from tests.encoders.tiny import noise
from tests.export import families

BACKEND = keras.backend.backend()
# The quick ones of each kind: `python -m tests.export.families` has all.
SETTINGS = {
    "byol_a": {"encoder": {"n_mels": 16, "conv_channels": 4, "dim": 16}},
    "apc": {"encoder": {"n_mels": 16, "units": 8, "layers": 1}},
    "tera": {"encoder": {"n_mels": 16, "units": 8, "layers": 1, "heads": 2}},
}


def tiny(name="byol_a"):
    keras.utils.set_random_seed(0)
    return families.of_method(name, **SETTINGS.get(name, {}))


def need(name):
    """Skips where a package that the format takes is missing."""
    for module in FORMATS[name].packages:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{FORMATS[name].title} needs {module}")


# What the exporters of PyTorch and TensorFlow say of themselves.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name, family",
    [
        *[("onnx", family) for family in SETTINGS],
        ("litert", "byol_a"),
        ("litert", "apc"),
        ("tf_saved_model", "tera"),
    ],
)
def test_a_file_gives_what_keras_does(name, family, tmp_path):
    need(name)
    if FORMATS[name].backend != BACKEND:
        pytest.skip(f"{name} is written on {FORMATS[name].backend}")
    families.check(tiny(family), name, tmp_path)


def test_a_process_of_its_own_writes_onnx(tmp_path):
    need("onnx")
    if BACKEND == "torch":
        pytest.skip("the tests above write it on torch")
    import onnxruntime

    encoder = tiny()
    path = tmp_path / "folder" / "encoder.onnx"
    assert encoder.export(path) == path
    session = onnxruntime.InferenceSession(str(path))
    meta = session.get_modelmeta().custom_metadata_map
    assert meta["sample_rate"] == "16000"
    assert meta["min_samples"] == str(encoder.min_samples)
    x = 0.1 * noise(2, 9001)
    clip, frames = session.run(["clip", "frames"], {"waveform": x})
    wanted = encoder(x)
    np.testing.assert_allclose(clip, array(wanted["clip"]), atol=1e-4)
    np.testing.assert_allclose(frames, array(wanted["frames"]), atol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layer", [GRU, LSTM])
def test_recurrences_have_a_name_in_onnx(layer, tmp_path):
    need("onnx")
    if BACKEND != "torch":
        pytest.skip("ONNX is written on torch")
    from keras_audio_ssl.export import to_onnx

    recurrence = layer(5)
    recurrence.build((None, None, 1))
    rng = np.random.default_rng(0)
    recurrence.set_weights(
        [rng.standard_normal(w.shape) for w in recurrence.get_weights()]
    )

    class Network(keras.Model):
        def call(self, x, training=False):
            return recurrence(x[..., None])

    model, path = Network(), tmp_path / "x.onnx"
    to_onnx.write(model, path, "onnx", None, None, 9, {})
    clips = [noise(2, 7), noise(3, 20)]
    for clip, found in zip(
        clips, to_onnx.run(path, "onnx", clips), strict=True
    ):
        np.testing.assert_allclose(
            found["output"], array(recurrence(clip[..., None])), atol=1e-5
        )
    kinds = importlib.import_module("onnx").load(path).graph.node
    assert layer.__name__ in {node.op_type for node in kinds}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"n_fft": 500, "win_length": 300, "center": False},
        {"n_fft": 401, "win_length": 401},
        {"window": "povey", "preemphasis": 0.97, "remove_dc": True},
        {"window": "hamming_symmetric", "preemphasis": 0.5, "center": False},
    ],
)
def test_products_are_the_transform(settings):
    import keras_audio_ssl.backend as backend

    spectrum = Spectrum(
        **{"n_fft": 512, "win_length": 400, "hop_length": 160, **settings}
    )
    x = keras.ops.convert_to_tensor(noise(2, 1234))
    want = array(spectrum(x))
    with backend.for_export(transforms=False):
        assert not backend.has_transforms()
        got = array(spectrum(x))
    assert backend.has_transforms() and not backend.is_for_export()
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4 * want.max())


class Fixed(keras.Model):
    """A model of vectors that are given."""

    def __init__(self, vectors):
        super().__init__()
        self.vectors = vectors

    def call(self, x, training=False):
        return {"clip": keras.ops.convert_to_tensor(self.vectors)}


@pytest.mark.parametrize(
    "found, words",
    [
        (np.full((1, 3), 2e-4), "off by 0.0002, where 0.0001"),
        (np.full((1, 3), np.nan), "off by nan"),
        (np.zeros((1, 4)), r"gives `clip` \(1, 4\) of 9 samples"),
        (np.full((1, 3), 5e-5), None),
    ],
)
def test_a_file_that_differs_is_refused(found, words):
    model, clips = Fixed(np.zeros((1, 3), "float32")), [noise(1, 9)]
    if words is None:
        checks.compare(model, clips, [{"clip": found}], "ONNX")
        return
    with pytest.raises(ExportError, match=words):
        checks.compare(model, clips, [{"clip": found}], "ONNX")


def test_lengths_are_three_unless_there_is_one():
    encoder = tiny()
    shapes = [clip.shape for clip in checks.clips_for(encoder)]
    # And some between, of every remainder of its strides.
    between, shapes = shapes[:-3], shapes[-3:]
    assert len({samples // 160 % 8 for _, samples in between}) >= 6
    assert [batch for batch, _ in shapes] == [1, 3, 2]
    lengths = [samples for _, samples in shapes]
    assert lengths[0] == encoder.min_samples < lengths[1] < lengths[2]
    fixed = [clip.shape[1] for clip in checks.clips_for(encoder, 8000)]
    assert fixed == [8000] * 3


class Odd(keras.layers.Layer):
    def call(self, x):
        return x


@pytest.mark.no_backend
class TestWhatIsRefused:
    """Before any work, and without a trace."""

    @pytest.mark.parametrize(
        "path, format, words",
        [
            ("a.keras", None, "ends in .onnx"),
            ("a.onnx", "litert", "ends in .tflite"),
            ("a.onnx", "tf_saved_model", "is a folder"),
            ("a.onnx", "openvino", "must be one of onnx"),
            ("folder", "onnx", "ends in .onnx"),
        ],
    )
    def test_paths_and_formats(self, path, format, words):
        with pytest.raises(ValueError, match=words):
            export.format_of(path, format)

    def test_what_the_ending_says(self):
        for path, name in (
            ("a.onnx", "onnx"), ("b/a.TFLITE", "litert"),
            ("a", "tf_saved_model"),
        ):  # fmt: skip
            assert export.format_of(path) == name
        assert export.format_of("byol.v2", "tf_saved_model")

    @pytest.mark.parametrize(
        "name, missing, extras",
        [
            ("onnx", {"onnxruntime"}, r"\[export\]"),
            ("onnx", {"torch", "onnx"}, r"\[export,torch\]"),
            ("litert", {"tensorflow"}, r"\[tensorflow\]"),
        ],
    )
    def test_missing_packages(self, name, missing, extras, monkeypatch):
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda m: None if m in missing else m
        )
        path = f"a{FORMATS[name].suffix}"
        with pytest.raises(ImportError, match=extras) as caught:
            # Nothing is asked of the model.
            export.export_model(None, path)
        needed = str(caught.value).partition(": pip install")[0]
        assert missing == set(re.findall(r"\w+", needed)[3:])

    def test_places(self, tmp_path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.txt").touch()
        with pytest.raises(ValueError, match="no SavedModel"):
            write.check_place(tmp_path / "mine", "tf_saved_model")
        with pytest.raises(ValueError, match="is a folder"):
            write.check_place(tmp_path / "mine", "onnx")
        write.check_place(tmp_path / "new", "tf_saved_model")

    def test_a_saved_model_takes_the_place_of_one(self, tmp_path):
        for text in ("old", "new"):
            draft = tmp_path / "draft"
            draft.mkdir(exist_ok=True)
            (draft / "saved_model.pb").write_text(text)
            (draft / text).touch()
            write.check_place(tmp_path / "out", "tf_saved_model")
            write.put_in_place(draft, tmp_path / "out")
            (draft / text).unlink()
        found = sorted(p.name for p in (tmp_path / "out").iterdir())
        assert found == ["new", "saved_model.pb"]
        assert sorted(p.name for p in tmp_path.iterdir()) == ["draft", "out"]

    def test_commands(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "a.onnx").write_text("before")
        for argv, words in (
            (["cola"], "give --format"),
            (["cola", "a.pt"], ".onnx (ONNX)"),
            (["cola", "a.onnx"], "--overwrite"),
            (["cola", "a.onnx", "--format", "litert"], ".tflite"),
        ):
            assert main(["export", *argv]) == 2
            assert words in capsys.readouterr().err
        assert (tmp_path / "a.onnx").read_text() == "before"


def test_a_failed_export_leaves_what_was_there(tmp_path, monkeypatch, capsys):
    # As if all were installed.
    for module in (write, cli_export):
        monkeypatch.setattr(module, "check_installed", lambda name: None)
    path = tmp_path / "a.onnx"
    path.write_text("before")
    encoder = tiny()
    with pytest.raises(ValueError, match="at least"):
        encoder.export(path, samples=10)

    def child(*command, env, **kwargs):
        assert env["KERAS_BACKEND"] == "torch"
        folder = Path(command[0][-1])
        request = json.loads((folder / "request.json").read_text())
        assert request["format"] == "onnx" and not request["classes"]
        (folder / "x.onnx").touch()
        (folder / "result.json").write_text('{"refused": "It differs."}')

    monkeypatch.setattr(write.subprocess, "run", child)
    with pytest.raises(ExportError, match="It differs"):
        encoder.export(path)
    encoder.save(tmp_path / "a.keras")
    argv = ["export", str(tmp_path / "a.keras"), str(path), "--overwrite"]
    assert main(argv) == 1
    assert "It differs." in capsys.readouterr().err
    assert path.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 2


def test_classes_of_the_users_are_named_to_the_process(monkeypatch):
    encoder = kas.encoders.make_encoder(Odd(), LogMel(n_mels=8))
    assert write.own_classes(encoder) == [(Odd.__module__, "Odd")]
    monkeypatch.setattr(Odd, "__module__", "__main__")
    with pytest.raises(ExportError, match="Odd is defined in the running"):
        write.own_classes(encoder)
