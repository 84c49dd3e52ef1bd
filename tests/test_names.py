"""Names that editors, type checkers and `keras.saving` find."""

import re
import subprocess
import sys

import pytest

import keras_audio_ssl as kas
from keras_audio_ssl import methods


def test_every_method_has_a_name_that_can_be_seen():
    here = {cls for f, cls, _ in methods.METHODS.values() if "." not in f}
    assert here | {"METHODS", "PretextModel"} == set(methods.__all__)
    assert here <= set(dir(kas))
    for name in dir(kas):
        getattr(kas, name)
    with pytest.raises(AttributeError, match="no attribute 'BYOLAA'"):
        kas.BYOLAA  # noqa: B018


@pytest.mark.no_backend
def test_a_type_checker_knows_them_and_their_errors(tmp_path):
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    names = sorted(set(dir(kas)) - {"__version__"})
    lines = [f"kas.{name}" for name in names]
    good.write_text("\n".join(["import keras_audio_ssl as kas", *lines]))
    bad.write_text(
        "import keras_audio_ssl as kas\n"
        "kas.BYOLAA\nkas.methods.X\nkas.hub.Y\nkas.runs.Z\n"
        "kas.COLA(seconds='one')\nkas.losses.soft_rank([1.0], 'much')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-incremental", good, bad],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    wrong = re.findall(r"(\w+)\.py:\d+: error: .*", done.stdout)
    assert wrong == ["bad"] * 6, done.stdout
    for name in ("BYOLAA", "X", "Y", "Z"):
        assert f'no attribute "{name}"' in done.stdout
    assert done.stdout.count('has incompatible type "str"') == 2


OPEN = """
import keras_audio_ssl
import keras
for path in PATHS:
    print(type(keras.saving.load_model(path)).__name__)
"""


@pytest.mark.any_backend
@pytest.mark.parametrize("way", ["script", "module", "keras first"])
def test_any_process_opens_every_class(way, tmp_path):

    model = kas.COLA(preset="tiny")
    classifier = kas.Classifier(model.encoder, 3)
    things = [model, model.encoder, kas.Readout(model.encoder), classifier]
    paths = []
    for i, thing in enumerate(things):
        paths.append(str(tmp_path / f"{i}.keras"))
        thing.save(paths[-1])
    code = OPEN.replace("PATHS", repr(paths))
    if way == "keras first":
        code = "import keras\n" + code
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "module.py").write_text(code)
    argv = ["-m", "package.module"] if way == "module" else ["-c", code]
    done = subprocess.run(
        [sys.executable, *argv], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.split() == [
        "COLA", "Encoder", "Readout", "Classifier",
    ], done.stderr  # fmt: skip
