"""Checkpoints are read as data: equal to PyTorch's, and nothing is run."""

import argparse
import collections
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from keras_audio_ssl.hub.untrusted import torch_pickle
from keras_audio_ssl.hub.untrusted.checkpoint import read_checkpoint
from keras_audio_ssl.hub.untrusted.checkpoint import tensors_of
from keras_audio_ssl.hub.untrusted.errors import CheckpointError

pytestmark = pytest.mark.no_backend

layouts = pytest.mark.parametrize("zipped", [True, False])


def save(torch, tree, path, zipped=True):
    torch.save(tree, path, _use_new_zipfile_serialization=zipped)
    return path


def torch_archive(path, content, members=(), compression=zipfile.ZIP_STORED):
    """A file as PyTorch lays it out, around any pickle."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", content)
        for name, data in members:
            archive.writestr(name, data)
    return path


def legacy(path, content):
    """The layout before PyTorch 1.6: pickles in a row."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    parts = [pickle.dumps(part, 2) for part in head]
    path.write_bytes(b"".join(parts) + content + pickle.dumps([], 2))
    return path


def tensor_pickle(offset=0, shape=(2,), strides=(1,), size=2, key="0"):
    """A pickle of one float32 tensor, as PyTorch writes it."""

    class Global:
        def __init__(self, module, name):
            self.module, self.name = module, name

    class Call:
        def __init__(self, *arguments):
            self.arguments = arguments

    class Writer(pickle._Pickler):
        def persistent_id(self, item):
            return (
                item[1] if type(item) is tuple and item[:1] == ("!",) else None
            )

        def save(self, item, *args, **kwargs):
            if isinstance(item, Global):
                self.write(f"c{item.module}\n{item.name}\n".encode())
            elif isinstance(item, Call):
                self.save(Global("torch._utils", "_rebuild_tensor_v2"))
                self.save(item.arguments)
                self.write(b"R")
            else:
                super().save(item, *args, **kwargs)

    storage = ("storage", Global("torch", "FloatStorage"), key, "cpu", size)
    call = Call(("!", storage), offset, shape, strides, False, None)
    stream = io.BytesIO()
    Writer(stream, 2).dump({"weight": call})
    return stream.getvalue()


def same(got, want):
    """Compares a tree that was read with the one that was saved."""
    if hasattr(want, "detach"):
        want = want.detach()
        if str(want.dtype) == "torch.bfloat16":
            want = want.float()
        want = want.numpy()
        assert isinstance(got, np.ndarray) and got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
    elif isinstance(want, dict):
        assert isinstance(got, dict) and list(got) == list(want)
        for key in want:
            same(got[key], want[key])
    elif isinstance(want, (list, tuple)):
        assert len(got) == len(want)
        for a, b in zip(got, want):
            same(a, b)
    else:
        assert got == want


@layouts
def test_equals_what_pytorch_saved(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    base = torch.randn(6, 10)
    tree = {
        "plain": base,
        "transposed": base.T,
        "sliced": base[1:5:2, 3:9:2],
        "rows": base[2],
        "expanded": torch.randn(1, 3).expand(4, 3),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 5),
        "parameter": torch.nn.Parameter(torch.randn(3)),
        **{
            str(dtype): (torch.arange(6) - 2).reshape(2, 3).to(dtype)
            for dtype in (
                torch.float16,
                torch.bfloat16,
                torch.float64,
                torch.int64,
                torch.int32,
                torch.int16,
                torch.int8,
                torch.uint8,
                torch.bool,
                torch.complex64,
            )
        },
        "config": {"paras": {"units": 512, "residual": True, "rate": 0.1}},
        "list": [1, "two", None, -3.5, 2**70, (4, (5,))],
        "size": base.shape,
    }
    tree["long list"] = list(range(3000))
    read = read_checkpoint(save(torch, tree, tmp_path / "a.pt", zipped))
    same(read, tree)
    # One storage stays one piece of memory.
    assert np.shares_memory(read["plain"], read["transposed"])
    assert not read["plain"].flags.writeable


@layouts
def test_state_dict_of_a_module(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.GRU(4, 3)
    )
    state = network.state_dict()
    assert isinstance(state, collections.OrderedDict) and state._metadata
    options = argparse.Namespace(lr=1e-3, name="run")
    optimizer = torch.optim.Adam(network.parameters())
    sum(p.sum() for p in network.parameters()).backward()
    optimizer.step()
    tree = {
        "model": state,
        "optimizer": optimizer.state_dict(),
        "args": options,
        "device": torch.device("cpu"),
        "dtype": torch.float32,
    }
    read = read_checkpoint(save(torch, tree, tmp_path / "a.ckpt", zipped))
    same(read["model"], dict(state))
    same(read["optimizer"], optimizer.state_dict())
    assert read["args"] == {"lr": 1e-3, "name": "run"}
    assert read["device"] == "cpu" and read["dtype"] == "float32"
    names = tensors_of(read)
    assert {f"model.{name}" for name in state} <= set(names)
    assert names["optimizer.state.0.exp_avg"].shape == (4, 1, 3, 3)


@layouts
def test_a_pickled_module_is_refused(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    path = save(torch, torch.nn.Linear(2, 2), tmp_path / "a.pt", zipped)
    with pytest.raises(CheckpointError, match="torch.nn.modules.linear"):
        read_checkpoint(path)


def test_reading_needs_neither_pytorch_nor_keras(tmp_path):
    path = tmp_path / "a.pt"
    weight = np.arange(2, dtype="<f4").tobytes()
    torch_archive(path, tensor_pickle(), [("archive/data/0", weight)])
    code = (
        # As the command line, which loads Keras when a command needs it.
        "import sys; sys.argv[0] = 'keras-audio-ssl'; "
        "from keras_audio_ssl.hub import read_checkpoint; "
        "print(read_checkpoint(sys.argv[1])['weight'].tolist()); "
        "assert not {'torch', 'keras'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[0.0, 1.0]"


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def evil(function, *arguments):
    """Pickles that call a function, in every protocol."""
    value = {"weight": Evil(function, *arguments)}
    return [pickle.dumps(value, protocol) for protocol in range(6)]


@pytest.mark.parametrize("wrap", [torch_archive, legacy])
def test_hostile_pickles_are_refused_unrun(tmp_path, wrap):
    mark = tmp_path / "mark"
    attacks = [
        *evil(os.system, f"touch {mark}"),
        *evil(eval, f"open({str(mark)!r}, 'w')"),
        *evil(subprocess.check_call, ["touch", str(mark)]),
        *evil(open, str(mark), "w"),
        # Names that are allowed, with more behind the dot.
        b"ccollections\nOrderedDict.__init__.__globals__\n.",
        b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
        b"ctorch.serialization\nload\n.",
        b"ctorch.hub\nload\n.",
        b"cbuiltins\neval\n.",
        b"c__builtin__\neval\n.",
        # Opcodes that make instances, or look objects up elsewhere.
        b"(S'x'\nios\nsystem\n.",
        b"(cos\nsystem\nS'x'\no.",
        b"\x82\x01.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    ]
    for i, content in enumerate(attacks):
        path = wrap(tmp_path / f"{i}.pt", content)
        with pytest.raises(CheckpointError, match="refused"):
            read_checkpoint(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"N",
        b"0.",
        b"K\x01K\x02R.",  # calls a number
        b"K\x01)R.",
        b"}K\x01b.",  # sets the state of a dict
        b"K\x01K\x02b.",
        b"]K\x01K\x02s.",  # sets an item of a list
        b"}K\x01a.",  # appends to a dict
        b"}(K\x01u.",  # a key without a value
        b"t.",
        b"h\x05.",  # no such memo
        b"ccollections\nOrderedDict\nK\x05\x85R.",
        b"ctorch\nFloatStorage\n)R.",
        b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"ctorch._utils\n_rebuild_parameter\nK\x01\x85R.",
        b"}]K\x01s.",  # a list as key
        b"X\xff\xff\xff\x7f.",  # a string of 2 GB that is not there
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    ],
)
def test_damaged_pickles_are_refused(tmp_path, content):
    with pytest.raises(CheckpointError):
        read_checkpoint(torch_archive(tmp_path / "a.pt", content))


def test_memo_of_any_number_costs_nothing(tmp_path):
    # pickle.Unpickler would allocate two billion entries.
    path = torch_archive(tmp_path / "a.pt", b"Nr\xff\xff\xff\x7f.")
    assert read_checkpoint(path) is None


def test_bombs_of_references_are_refused(tmp_path, monkeypatch):
    nested = []
    for _ in range(40):
        nested = [nested, nested]
    path = torch_archive(tmp_path / "a.pt", pickle.dumps(nested, 2))
    with pytest.raises(CheckpointError, match="nests more"):
        tensors_of(read_checkpoint(path))
    endless = []
    endless.append(endless)
    path = torch_archive(tmp_path / "b.pt", pickle.dumps(endless, 2))
    with pytest.raises(CheckpointError, match="nests more"):
        read_checkpoint(path)
    monkeypatch.setattr(torch_pickle, "MAX_STEPS", 100)
    with pytest.raises(CheckpointError, match="100 steps"):
        torch_pickle.read_pickle(io.BytesIO(b"]" * 101 + b"."))


@pytest.mark.parametrize(
    "sizes",
    [
        {"offset": 1},
        {"offset": -1},
        {"shape": (3,)},
        {"shape": (-2,)},
        {"shape": (2, 2)},
        {"strides": (2,)},
        {"strides": (-1,)},
        {"strides": (1, 1)},
        {"shape": (2**61,), "strides": (1,)},
        {"shape": (1,) * 33, "strides": (1,) * 33},
        {"size": 3},
        {"size": -1},
        {"size": 2**61},
        {"size": 2.0},
        {"key": "1"},
        {"key": "../data.pkl"},
        {"key": 0},
    ],
)
def test_tensors_stay_in_their_storage(tmp_path, sizes):
    members = [("archive/data/0", b"\0" * 8)]
    path = torch_archive(tmp_path / "a.pt", tensor_pickle(**sizes), members)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


def test_byte_order_is_that_of_the_file(tmp_path):
    members = [
        ("archive/data/0", np.array([1, 2], ">f4").tobytes()),
        ("archive/byteorder", b"big"),
    ]
    path = torch_archive(tmp_path / "a.pt", tensor_pickle(), members)
    assert read_checkpoint(path)["weight"].tolist() == [1, 2]


def test_compressed_archives(tmp_path):
    members = [("archive/data/0", b"\0" * 8)]
    path = torch_archive(
        tmp_path / "a.pt", tensor_pickle(), members, zipfile.ZIP_DEFLATED
    )
    with pytest.raises(CheckpointError, match="compressed"):
        read_checkpoint(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", b"\0" * 2**28)
    with pytest.raises(CheckpointError, match="unfold"):
        read_checkpoint(path)


def test_npz(tmp_path):
    arrays = {
        "a.b": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype="int64").reshape(2, 3)),
        "half": np.ones(3, "float16"),
        "scalar": np.array(2, "float32"),
    }
    for write in (np.savez, np.savez_compressed):
        path = tmp_path / "a.npz"
        write(path, **arrays)
        read = read_checkpoint(path)
        assert list(read) == list(arrays)
        for name, array in arrays.items():
            assert read[name].dtype == array.dtype
            np.testing.assert_array_equal(read[name], array)


def test_npz_with_objects_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.array([{}], dtype=object))
    with pytest.raises(CheckpointError, match="no numbers"):
        read_checkpoint(path)


def test_npz_of_another_size_is_refused(tmp_path):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)}
    )
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", stream.getvalue() + b"\0" * 8)
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)


def safetensors(path, header, content=b""):
    header = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + content)
    return path


def test_safetensors(tmp_path):
    numpy_writer = pytest.importorskip("safetensors.numpy")
    arrays = {
        "a": np.arange(6, dtype="float32").reshape(2, 3),
        "b": np.arange(3),
        "c": np.array([True, False]),
        "d": np.ones((2, 2), "float16"),
        "e": np.zeros((0, 3)),
    }
    path = tmp_path / "a.safetensors"
    numpy_writer.save_file(arrays, path, metadata={"format": "pt"})
    read = read_checkpoint(path)
    assert sorted(read) == sorted(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_safetensors_of_bfloat16(tmp_path):
    values = np.array([1.5, -2.0], "float32")
    content = (values.view("uint32") >> 16).astype("<u2").tobytes()
    entry = {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}
    path = safetensors(tmp_path / "a.safetensors", {"a": entry}, content)
    np.testing.assert_array_equal(read_checkpoint(path)["a"], values)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [3]},
        {"shape": [-2]},
        {"shape": [2**40, 2**40]},
        {"data_offsets": [0, 12]},
        {"data_offsets": [-4, 4]},
        {"data_offsets": [8, 0]},
        {"dtype": "F8"},
        {"dtype": None},
    ],
)
def test_damaged_safetensors_are_refused(tmp_path, change):
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    path = tmp_path / "a.safetensors"
    safetensors(path, {"a": entry}, b"\0" * 8)
    assert read_checkpoint(path)["a"].tolist() == [0, 0]
    safetensors(path, {"a": {**entry, **change}}, b"\0" * 8)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


def test_other_files_are_named(tmp_path):
    path = tmp_path / "a.pt"
    with pytest.raises(CheckpointError, match="No such file"):
        read_checkpoint(path)
    for content, words in (
        (b"", "neither"),
        (b"not a checkpoint", "neither"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 20, "HDF5"),
        (pickle.dumps({"a": 1}, 2), "none that PyTorch saved"),
        (struct.pack("<Q", 2**62) + b"{}", "cut short"),
        (b"PK\x03\x04" + b"\0" * 40, "damaged"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=words):
            read_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(CheckpointError, match="of neither PyTorch"):
        read_checkpoint(path)


def test_torchscript_is_named(tmp_path):
    members = [("archive/constants.pkl", b"]."), ("archive/code/a.py", b"")]
    path = torch_archive(tmp_path / "a.pt", b"}.", members)
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_checkpoint(path)


def test_mutants_are_read_or_refused(tmp_path):
    content = tensor_pickle(shape=(2, 2), strides=(2, 1), size=4)
    path = torch_archive(
        tmp_path / "a.pt", content, [("archive/data/0", b"\1" * 16)]
    )
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for i in range(160):
        mutant = bytearray(whole)
        if i % 4 == 0:
            mutant = mutant[: rng.integers(len(mutant))]
        for _ in range(rng.integers(1, 4) if mutant else 0):
            mutant[rng.integers(len(mutant))] = rng.integers(256)
        path.write_bytes(bytes(mutant))
        try:
            tensors_of(read_checkpoint(path))
        except CheckpointError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 80


def test_legacy_file_that_is_cut_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    path = save(torch, {"a": torch.ones(100)}, tmp_path / "a.pt", False)
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_checkpoint(path)
