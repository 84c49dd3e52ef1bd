"""Strangers' files are read by a child process that may cost so much."""

import io
import json
import os
import signal
import sys
import tempfile
import threading
import zipfile

import h5py
import keras
import numpy as np
import pytest

import keras_audio_ssl as kas
from keras_audio_ssl._files import FileError
from keras_audio_ssl.callbacks.resume import last_checkpoint
from keras_audio_ssl.encoders import AudioNTT
from keras_audio_ssl.encoders import Encoder
from keras_audio_ssl.features import recipe
from keras_audio_ssl.hub import encoder_files
from keras_audio_ssl.hub import load_encoder
from keras_audio_ssl.hub import load_model
from keras_audio_ssl.hub import read_checkpoint
from keras_audio_ssl.hub import save_encoder
from keras_audio_ssl.hub.untrusted import keras_file
from keras_audio_ssl.hub.untrusted import reading_child
from keras_audio_ssl.hub.untrusted import reading_parent
from tests.contract import batch


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    frontend = recipe("byol_a", n_mels=16, mean=-7.0, std=4.0)
    encoder = Encoder(frontend, AudioNTT(16, dim=6, conv_channels=3))
    path = tmp_path_factory.mktemp("saved") / "encoder.keras"
    encoder.save(path)
    return encoder, path


@pytest.fixture
def npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.ones(3))
    return path


def rezipped(path, target, **changed):
    """A copy of an archive with other members, its checksums right."""
    with (
        zipfile.ZipFile(path) as source,
        zipfile.ZipFile(target, "w") as file,
    ):
        for name in source.namelist():
            change = changed.get(name.split(".")[0], lambda content: content)
            file.writestr(name, change(source.read(name)))
    return target


@pytest.mark.parametrize(
    ("limit", "words"),
    [("SECONDS", "takes more than .* of the processor"), ("MEMORY", "memory")],
)
@pytest.mark.no_backend
def test_a_file_that_costs_too_much_is_named(
    tmp_path, npz, monkeypatch, limit, words
):
    path = tmp_path / "large.npz"
    np.savez_compressed(path, a=np.zeros(60 << 20, "u1"))
    with monkeypatch.context() as patch:
        patch.setattr(
            reading_parent, limit, {"SECONDS": 0.02, "MEMORY": 0}[limit]
        )
        patch.setattr(reading_parent, "MEMORY_PER_BYTE", 0)
        with pytest.raises(FileError, match=words) as caught:
            read_checkpoint(path)
    assert str(path) in str(caught.value)
    # The next file has nothing to do with it.
    assert read_checkpoint(npz)["a"].tolist() == [1, 1, 1]


@pytest.mark.no_backend
def test_a_child_that_is_gone_is_replaced(npz):
    read_checkpoint(npz)
    (child,) = reading_parent._idle
    os.kill(child._process.pid, signal.SIGKILL)
    child._process.wait()
    assert read_checkpoint(npz)["a"].tolist() == [1, 1, 1]


@pytest.mark.no_backend
def test_a_reader_that_crashes_is_an_error_of_the_file(npz, monkeypatch):
    def killed(*args):
        # As a decoder that overwrites memory would, before any answer.
        raise reading_parent._Dead(
            "the reader crashed (signal SIGSEGV): refused."
        )

    with monkeypatch.context() as patch:
        patch.setattr(reading_parent._Child, "_hear", killed)
        with pytest.raises(FileError, match=r"a\.npz: the reader crashed"):
            read_checkpoint(npz)
    assert read_checkpoint(npz)["a"].tolist() == [1, 1, 1]


@pytest.mark.no_backend
@pytest.mark.parametrize(
    "told",
    [
        {},
        {"rows": [], "root": [0], "storages": []},
        {"rows": [["list", [[0]]]], "root": [0], "storages": []},
        {"rows": [["tensor", 0, 0, [9], [1]]], "root": [0],
         "storages": [["<f4", 8]]},
        {"rows": [["tensor", 0, 0, [2], [-1]]], "root": [0],
         "storages": [["<f4", 8]]},
        {"rows": [["tensor", 0, 0, [2**40], [0]]], "root": [0],
         "storages": [["<f4", 8]]},
        {"rows": [], "root": None, "storages": [["|O", 8]]},
        {"rows": [], "root": None, "storages": [["<f4", 2**40]]},
    ],
    ids=str,
)  # fmt: skip
def test_what_a_child_tells_is_not_trusted(npz, monkeypatch, told):
    # A file that has taken its reader over may tell anything.
    answers = [
        (reading_child.FOUND, json.dumps(told).encode()),
    ]
    child = reading_parent._Child()
    monkeypatch.setattr(reading_parent, "_take", lambda: child)
    monkeypatch.setattr(child, "_hear", lambda: answers.pop())
    monkeypatch.setattr(child, "_read", lambda size: np.zeros(size, "u1"))
    with pytest.raises(FileError, match=r"a\.npz"):
        read_checkpoint(npz)
    reading_parent._idle[:] = [
        c for c in reading_parent._idle if c is not child
    ]
    child.end()


@pytest.mark.no_backend
def test_an_answer_has_a_bounded_size(npz, monkeypatch):
    child = reading_parent._Child()
    monkeypatch.setattr(reading_parent, "_take", lambda: child)
    head = reading_child.ANSWER.pack(
        reading_child.FOUND, reading_parent.MAX_TOLD + 1
    )
    monkeypatch.setattr(
        child, "_read", lambda size: np.frombuffer(head[:size], "u1")
    )
    with pytest.raises(FileError, match="impossible answer"):
        read_checkpoint(npz)


@pytest.mark.no_backend
def test_files_are_read_side_by_side(npz):
    wrong = []

    def read():
        try:
            for _ in range(5):
                assert read_checkpoint(npz)["a"].sum() == 3
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    # Not one more than were needed, and all of them still there.
    assert 1 <= len(reading_parent._idle) <= 4
    assert all(child.alive for child in reading_parent._idle)


def test_the_parent_opens_no_strangers_file(saved, monkeypatch):
    encoder, path = saved
    opened = []
    for module, name in ((h5py, "File"), (zipfile, "ZipFile")):
        real = getattr(module, name)

        def noted(file, *args, real=real, **kwargs):
            opened.append(str(file))
            return real(file, *args, **kwargs)

        monkeypatch.setattr(module, name, noted)
    again = load_encoder(path)
    assert opened and str(path) not in opened
    for a, b in zip(encoder.weights, again.weights, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b)
        )


def test_files_that_are_ours_or_trusted_need_no_child(
    saved, tmp_path, monkeypatch
):
    encoder, path = saved
    own = save_encoder(encoder, tmp_path / "own.keras")
    monkeypatch.setattr(encoder_files, "told_of", None)
    assert load_encoder(path, trusted=True).dim == 6
    assert load_encoder(own).dim == 6
    # Changed, or put in its place, it is a stranger's.
    os.utime(own)
    with pytest.raises(FileError, match="cannot be opened"):
        load_encoder(own)
    os.replace(rezipped(path, tmp_path / "b.keras"), own)
    with pytest.raises(FileError, match="cannot be opened"):
        load_encoder(own)


def test_what_is_no_fault_of_the_file_is_not_said_of_it(
    saved, tmp_path, monkeypatch
):
    """A full folder for copies must not let a resume pass a checkpoint over."""
    path = tmp_path / "step_000000003.keras"
    path.write_bytes(saved[1].read_bytes())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(OSError, match="gone"):
        last_checkpoint(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(reading_parent, "_idle", [])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    for door in (load_encoder, read_checkpoint):
        with pytest.raises(OSError, match="no python"):
            door(path)


@pytest.mark.no_backend
def test_one_large_array_is_read_in_the_memory_of_its_file(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(reading_parent, "MEMORY", 16 << 20)
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file["a"] = np.arange(8 << 20, dtype="f4")
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", '{"class_name": "a"}')
        file.writestr("metadata.json", "{}")
        file.writestr("model.weights.h5", out.getvalue())
    with reading_parent.told_of(reading_child.KERAS, path) as found:
        assert found.told["arrays"] == [["a", "float32", [8 << 20]]]
        assert found.array("float32", (8 << 20,))[-1] == (8 << 20) - 1


def test_trusted_files_are_looked_at_for_what_they_name(saved, tmp_path):
    def hostile(content):
        config = json.loads(content)
        config["config"]["backbone"]["class_name"] = "Lambda"
        return json.dumps(config)

    path = rezipped(saved[1], tmp_path / "a.keras", config=hostile)
    with pytest.raises(FileError, match="Lambda.*refused"):
        load_encoder(path, trusted=True)


def test_compile_settings_are_for_checkpoints_alone(tmp_path, monkeypatch):
    model = kas.COLA(preset="tiny")
    model.compile("adam")
    model.save(tmp_path / "a.keras")

    def muon(content):
        config = json.loads(content)
        config["compile_config"]["optimizer"] = {
            "module": "keras.optimizers",
            "class_name": "Muon",
            "config": {"exclude_layers": ["(a+)+$"]},
            "registered_name": None,
        }
        return json.dumps(config)

    path = rezipped(tmp_path / "a.keras", tmp_path / "b.keras", config=muon)
    monkeypatch.setattr(keras.Model, "compile", None)
    assert load_encoder(path).dim == model.encoder.dim
    with pytest.raises(FileError, match=r"b\.keras: exclude_layers of its opt"):
        load_model(path)


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.SGD(
            keras.optimizers.schedules.PiecewiseConstantDecay(
                [10, 20], [0.1, 0.01, 0.001]
            ),
            momentum=0.9,
        ),
        keras.optimizers.Muon(0.01),
        keras.optimizers.LossScaleOptimizer(keras.optimizers.Lion(0.01)),
        keras.optimizers.Adam(0.01, clipnorm=1.0, use_ema=True),
    ],
    ids=lambda optimizer: type(optimizer).__name__,
)
def test_optimizers_of_keras_are_admitted(tmp_path, optimizer):
    model = kas.COLA(preset="tiny")
    model.compile(type(optimizer).from_config(optimizer.get_config()))
    model.optimizer.build(model.trainable_variables)
    path = tmp_path / "a.keras"
    model.save(path)
    again = load_model(path)
    want = keras.saving.load_model(path)
    assert again.optimizer.get_config() == want.optimizer.get_config()


def test_weights_that_are_damaged_inside_are_passed_over(tmp_path):
    """The archive's checksum is right, and HDF5 trips over what is in it."""
    model = kas.COLA(preset="tiny")
    model.compile()
    model.train_on_batch(batch(4))
    whole = save_encoder(model, tmp_path / "step_000000003.keras")

    def damaged(content):
        content = bytearray(content)
        # The place of the root group, which so lies nowhere.
        at = content.index(b"TREE")
        content[at + 8 : at + 40] = b"\xff" * 32
        return bytes(content)

    for step, change in (
        (4, {"model": damaged}),
        (5, {"model": lambda content: content[:3000]}),
        (6, {"config": lambda content: content[:300]}),
        (7, {"metadata": lambda content: b""}),
    ):
        rezipped(whole, tmp_path / f"step_{step:09d}.keras", **change)
    lines = []
    # What is of no weight is no damage.
    assert last_checkpoint(tmp_path, lines.append)[1] == 7 and not lines
    (tmp_path / "step_000000007.keras").unlink()
    found, step = last_checkpoint(tmp_path, lines.append)
    assert step == 3 and type(found) is kas.COLA
    assert [f"step_00000000{i}" in line for i, line in zip((6, 5, 4), lines)]
    assert len(lines) == 3


@pytest.mark.no_backend
def test_members_are_read_where_they_lie(saved):
    content = saved[1].read_bytes()
    stream = io.BytesIO(content)
    members = keras_file.members_of(stream, len(content))
    with zipfile.ZipFile(stream) as file:
        for name, part in members.items():
            assert b"".join(part.pieces()) == file.read(name)
            part.seek(-5, 2)
            assert part.read() == file.read(name)[-5:]
