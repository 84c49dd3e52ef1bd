"""Small files that cost much: each a plain one of ours around what costs.

So that what looks only at the outside lets them in.
"""

import io
import json
import math
import struct
import zipfile

import h5py
import numpy as np

from tests.hostile.cases import Case
from tests.hostile.cases import archive
from tests.hostile.cases import entry
from tests.hostile.cases import keras_layer
from tests.hostile.cases import network
from tests.hostile.cases import parts
from tests.hostile.cases import torch_file
from tests.hostile.cases import with_config
from tests.hub import test_importers as importers

MB = 1 << 20
LONG = b"X" + struct.pack("<I", MB) + b"a" * MB + b"q\x00"


def packed(valid):
    """Archives whose members are compressed, or lie about their size."""
    members = parts(valid)
    text = json.loads(members["config.json"])
    long = json.dumps({**text, "x": " " * (8 * MB)}).encode()
    for label, method in (
        ("deflate", zipfile.ZIP_DEFLATED),
        ("bzip2", zipfile.ZIP_BZIP2),
        ("lzma", zipfile.ZIP_LZMA),
    ):
        weights = {**members, "model.weights.h5": bytes(8 * MB)}
        for part, changed in (
            ("weights", weights),
            ("config", {**members, "config.json": long}),
            ("all", members),
        ):
            content = archive(changed, method)
            yield Case(f"packed_{label}_{part}", "encoder", content)
            short = shortened(content)
            yield Case(f"packed_{label}_{part}_lying", "encoder", short)
        for name, suffix in (("a.npy", ".npz"), ("archive/data/0", ".pt")):
            other = {} if suffix == ".npz" else parts(torch_file(b"}."))
            content = archive({**other, name: npy(8 * MB)}, method)
            if method != zipfile.ZIP_DEFLATED or suffix == ".pt":
                yield Case(f"packed_{label}", "import", content, suffix)
            # More than an archive may unfold to.
            content = archive({**other, name: npy(72 * MB)}, method)
            yield Case(f"packed_{label}_large", "import", content, suffix)
            short = shortened(content)
            yield Case(f"packed_{label}_lying", "import", short, suffix)
    for name, size in (("config.json", 100), ("model.weights.h5", 1 << 31)):
        yield Case(f"packed_size_{name}", "encoder", resized(valid, name, size))


def npy(size):
    """A numpy file of zeros."""
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size},), }}"
    text = head.encode().ljust(117) + b"\n"
    return (
        b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(size)
    )


def resized(content, name, size):
    """An archive that says that a member is as long as it is not."""
    out, at = bytearray(content), content.find(b"PK\x01\x02")
    while at >= 0:
        length = struct.unpack_from("<H", out, at + 28)[0]
        if name in (None, out[at + 46 : at + 46 + length].decode()):
            struct.pack_into("<I", out, at + 24, size)
        at = content.find(b"PK\x01\x02", at + 4)
    return bytes(out)


def shortened(content):
    """An archive that says that all its members are short."""
    return resized(content, None, 1000)


def copies():
    """Pickles that copy what they remember."""
    word, pair = b"X\x01\x00\x00\x00a", b"h\x00h\x00\x86"
    long_list = b"(" + b"K\x01" * 100_000 + b"tq\x00"
    yield "string_size", LONG + many(b"ctorch\nSize\n(h\x00tR")
    yield "list_size", long_list + many(b"ctorch\nSize\n(h\x00tR", 10_000)
    yield "device", LONG + many(b"ctorch\ndevice\n(h\x00h\x00tR")
    yield (
        "ordered",
        b"(" + (word + b"N\x86") * 50_000 + b"lq\x00"
        + many(b"ccollections\nOrderedDict\n(h\x00tR", 10_000),
    )  # fmt: skip
    yield (
        "ordered_string",
        LONG + many(b"ccollections\nOrderedDict\n((" + pair + b"ltR"),
    )
    yield (
        "ordered_letters",
        LONG + many(b"ccollections\nOrderedDict\n(h\x00tR"),
    )
    keys = b"".join(
        b"X\x05\x00\x00\x00%05dN" % number for number in range(50_000)
    )
    yield (
        "namespace",
        b"}(" + keys + b"uq\x00"
        + many(b"cargparse\nNamespace\n)Rh\x00b", 10_000),
    )  # fmt: skip
    yield (
        "namespace_string",
        LONG + many(b"cargparse\nNamespace\n)R}" + word + b"h\x00sb"),
    )
    yield "strings", LONG + many(b"(h\x00h\x00t")
    yield (
        "tensor_axes",
        LONG
        + many(
            b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
            b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
            b"K\x02tQK\x00h\x00h\x00\x89NtR"
        ),
    )
    number = b"\x8b" + struct.pack("<I", MB) + b"\x7f" * MB + b"q\x00"
    yield "number_key", number + b"}q\x01" + b"h\x00Ns" * 130_000
    yield "number_text", b"L" + b"9" * MB + b"L\n"


def many(opcodes, count=1000):
    """So many of the values in a list."""
    return b"(" + opcodes * count + b"l"


def safetensors(tensors, size):
    head = json.dumps(tensors).encode()
    return struct.pack("<Q", len(head)) + head + bytes(size)


def overlapping():
    """Tensors that all lie at one place."""
    tensors = {
        f"t{i}": {"dtype": "U8", "shape": [MB], "data_offsets": [0, MB]}
        for i in range(5000)
    }
    yield Case("overlapping", "import", safetensors(tensors, MB),
               ".safetensors")  # fmt: skip


def one_axis(numbers=20_000):
    """Checkpoints of which one tensor's one axis is long.

    Each tensor, each axis, in a file that is whole but for that.
    """
    files = {
        "apc_official": importers.official(),
        "apc_s3prl": importers.quantized({0: (6, 4)}),
        "byol_s": importers.audio_ntt(),
        "clar_official": importers.resnet((7, 7)),
        "fonseca_official": importers.vgg(),
    }
    for format, arrays in files.items():
        shapes = {name: list(array.shape) for name, array in arrays.items()}
        for name, shape in shapes.items():
            for axis in range(len(shape)):
                rest = math.prod(shape[:axis] + shape[axis + 1 :])
                long = shape[:axis] + [numbers // rest] + shape[axis + 1 :]
                content = safetensors_of({**shapes, name: long})
                yield Case(f"axis_{name}_{axis}", f"import {format}", content,
                           ".safetensors")  # fmt: skip


def hollow(layers=100):
    """Checkpoints of a tensor a layer, whose others are missing."""
    every = range(layers)
    files = {
        "apc_official": {
            "rnns.0.weight_hh_l0": (3, 1),
            **{f"rnns.{i}.weight_ih_l0": (3, 1) for i in every},
        },
        "clar_official": {"conv1.weight": (1, 3, 7, 7)},
        "dapc_official": {
            "encoder.nbrnn.weight_hh_l0": (3, 1),
            "encoder.l_last.weight": (1, 1),
            **{f"encoder.nbrnn.weight_ih_l{i}": (3, 1) for i in every},
        },
        "fonseca_official": {
            "dense1.weight": (1, 1),
            **{f"conv{i}.conv.weight": (1, 1, 3, 3) for i in every},
        },
        "npc_official": {
            f"masked_convs.{layers - 1}.conv.weight": (1, 1, 1001),
            **{f"blocks.{i}.conv.weight": (1, 1, 3) for i in every},
        },
        "panns_res1dnet31": {
            f"resnet.layer{i}.{k}.conv1.weight": (1, 1, 3)
            for i in range(1, layers + 1)
            for k in range(10 if layers == 100 else 1)
        },
        "sincnet": {
            "CNN_model_par.conv.0.low_hz_": (1, 1),
            "CNN_model_par.ln0.gamma": (3200,),
            "CNN_model_par.conv.1.weight": (1, 1, 1),
            **{f"DNN1_model_par.wx.{i}.weight": (1, 1) for i in every},
        },
    }
    for format, shapes in files.items():
        yield Case(f"hollow_{format}_{layers}", f"import {format}",
                   safetensors_of(shapes), ".safetensors")  # fmt: skip


def safetensors_of(shapes):
    """A file of tensors of these shapes, a byte a number."""
    tensors, at = {}, 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        tensors[name] = {
            "dtype": "I8", "shape": shape, "data_offsets": [at, at + size],
        }  # fmt: skip
        at += size
    return safetensors(tensors, at)


def ours(name, config):
    import keras

    full = f"keras_audio_ssl>{name}"
    cls = keras.saving.get_registered_object(full)
    return entry(cls.__module__, name, config, full)


def around(valid, **values):
    """A valid encoder with more in its configuration."""
    config = json.loads(parts(valid)["config.json"])
    config["config"] = {**values, **config["config"]}
    return config


def with_network(valid, net, weights=None):
    config = around(valid)
    config["config"]["backbone"] = ours(
        "KerasBackbone", {"network": net, "n_features": 32}
    )
    members = parts(with_config(valid, config))
    if weights is not None:
        members["model.weights.h5"] = weights
    return archive(members)


def optimizers(model, encoder):
    """Ways to compile that cost time, or that nobody asked for."""
    muon = {"exclude_layers": ["(a+)+$"], "learning_rate": 0.1}
    words = {"learning_rate": 0.1, "beta_1": "(a+)+$"}
    nested = {
        "module": "keras.optimizers", "class_name": "Adam",
        "config": {"learning_rate": entry(
            "keras.layers", "Dense", {"units": 3})},
        "registered_name": None,
    }  # fmt: skip
    for label, optimizer in {
        "muon": entry("keras.optimizers", "Muon", muon),
        "words": entry("keras.optimizers", "Adam", words),
        "layer": nested,
        "list": entry("keras.optimizers", "Adam", {"x": [["a"]]}),
        "function": entry("keras.optimizers", "deserialize"),
        "no_dict": "adam",
    }.items():
        config = json.loads(parts(model)["config.json"])
        config["compile_config"]["optimizer"] = optimizer
        yield Case(f"optimizer_{label}", "model", with_config(model, config))
    config = json.loads(parts(model)["config.json"])
    config["compile_config"]["metrics"] = [
        entry("keras.metrics", "AUC", {"num_thresholds": MB})
    ]
    yield Case("optimizer_metrics", "model", with_config(model, config))


def graph(nodes, layer):
    """A functional network with a layer that is called so."""
    first = keras_layer("InputLayer", {"batch_shape": [None, 128, 32]})
    layers = [
        {**first, "name": "i", "inbound_nodes": []},
        {**layer, "name": "r", "inbound_nodes": nodes},
    ]
    return keras_layer(
        "Functional",
        {"name": "f", "layers": layers, "input_layers": [["i", 0, 0]],
         "output_layers": [["i", 0, 0]]},
        "keras.src.models.functional",
    )  # fmt: skip


def constants(valid):
    """Graphs with layers that are called on constants."""
    padding = keras_layer("ZeroPadding1D", {"padding": [10**6, 1]})
    value = entry(
        None, "__numpy__", {"value": [[[1.0] * 100]], "dtype": "float32"}
    )
    for label, node in {
        "name": {"args": [value], "kwargs": {"__keras_tensor__": 1}},
        "text": {"args": [value], "kwargs": {"x": "__keras_tensor__"}},
        "class": {"args": [value],
                  "kwargs": {"x": {"class_name": "__keras_tensor__"}}},
        "inside": {"args": [value], "kwargs": {"x": entry(
            "keras.layers", "Dense", {"units": entry(
                None, "__keras_tensor__", {"shape": [1], "dtype": "float32",
                                           "keras_history": ["i", 0, 0]})})}},
        "more": {"args": [value], "kwargs": {}, "x": "__keras_tensor__"},
        "old": [["i", 0, 0, {"x": "__keras_tensor__"}]],
    }.items():  # fmt: skip
        net = graph([node], padding)
        yield Case(f"constant_{label}", "encoder", with_network(valid, net))


def budgets(valid):
    """What our own layers make of settings, beside their variables."""
    mel = {"n_fft": 32768, "n_mels": 512, "f_min": 0.0, "f_max": 8000.0}
    mels = [ours("LogMel", {**mel, "name": f"m{i}"}) for i in range(60)]
    yield "mels", around(valid, seed=mels)
    mfcc = [
        ours("MFCC", {**mel, "n_mfcc": 512, "name": f"m{i}"}) for i in range(9)
    ]
    yield "mfcc", around(valid, seed=mfcc)
    # The wider layers are no layers of the file's.
    settings = [{"a": {"n_fft": 32768, "n_mels": 512}}] * 9
    yield "settings", around(valid, seed=ours("LogMel", {"x": settings}))
    dense = [
        keras_layer("Dense", {"units": 1, "name": f"d{i}"}) for i in range(499)
    ]
    yield "layers", around(valid, seed=[network(dense)] * 19)
    many = {"units": 1, "layers": 900, "n_features": 32}
    yield "stacks", around(valid, seed=[ours("RecurrentStack", many)] * 9)
    many = [entry("keras.metrics", "AUC", {"num_thresholds": MB})] * 99
    yield "metrics", around(valid, seed=many)


def chain(*layers):
    """A functional network of layers, one after another, for any time."""
    first = keras_layer("InputLayer", {"batch_shape": [None, None, 32]})
    made = [{**first, "name": "i", "inbound_nodes": []}]
    for number, (name, config) in enumerate(layers):
        before = entry(
            None, "__keras_tensor__",
            {"shape": [None, None, 32], "dtype": "float32",
             "keras_history": [made[-1]["name"], 0, 0]},
        )  # fmt: skip
        node = {"args": [before], "kwargs": {}}
        layer = keras_layer(name, {**config, "name": f"l{number}"})
        made.append({**layer, "name": f"l{number}", "inbound_nodes": [node]})
    return keras_layer(
        "Functional",
        {"name": "f", "layers": made, "input_layers": ["i", 0, 0],
         "output_layers": [made[-1]["name"], 0, 0]},
        "keras.src.models.functional",
    )  # fmt: skip


def sizes(valid):
    """Graphs whose tensors are as large, or loops as long, as they like."""
    padding = "ZeroPadding1D", {"padding": [10**6, 1]}
    growing = "UpSampling1D", {"size": MB}
    pooling = "GlobalMaxPooling1D", {}
    inside = chain(padding, ("GRU", {"units": 1}))
    for label, layers in {
        "unrolled": [padding, ("LSTM", {"units": 1, "unroll": True})],
        "recurrent": [padding, ("GRU", {"units": 1})],
        "both": [padding, ("Bidirectional", {
            "layer": keras_layer("SimpleRNN", {"units": 1, "name": "r"})})],
        "inside": [("Functional", inside["config"])],
        "grown": [growing, pooling],
        "grown_more": [growing, growing, pooling],
        "padded": [*[("ZeroPadding1D", {"padding": [MB, 0]})] * 99, pooling],
        "repeated": [pooling, ("RepeatVector", {"n": MB}), growing, pooling],
    }.items():  # fmt: skip
        net = chain(*layers)
        if label == "inside":
            net["config"]["layers"][1]["module"] = inside["module"]
        yield Case(f"graph_{label}", "encoder", with_network(valid, net))


def nested_nodes(valid):
    """Graphs in calls of layers of graphs: to look at all took a square."""
    node: dict = {}
    for _ in range(8000):
        node = {"inbound_nodes": [node], "x": "__keras_tensor__" * 4}
    text = json.dumps(around(valid))[:-1].encode()
    deep = b', "x": ' + b'{"inbound_nodes": [' * 150 + b"1" + b"]}" * 150
    wide = b', "y": [' + b",".join([deep[7:]] * 30) + b"]"
    yield with_config(valid, text + deep + b"}")
    yield with_config(valid, text + wide + b"}")
    net = graph([node], keras_layer("ReLU", {}))
    config = around(valid)
    config["config"]["backbone"] = ours("KerasBackbone", {"network": net})
    yield with_config(valid, deep_json(config))


def deep_json(config):
    """JSON of what is too deep for `json`: without it."""
    try:
        return json.dumps(config).encode()
    except RecursionError:
        return b"[" * 100_000


def wide_types(valid):
    """Small numbers in the file, for large ones in memory."""
    net = network(
        [
            keras_layer(
                "Dense",
                {"units": 25_000, "name": f"d{i}", "dtype": "float64",
                 "kernel_initializer": "zeros"},
            )
            for i in range(12)
        ],
        build_config={"input_shape": [1, 128, 32]},
    )  # fmt: skip
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        for i in range(10):
            file.create_dataset(f"a{i}", data=np.zeros(2 * MB, "i1"))
    yield Case("types_int8", "encoder",
               with_network(valid, net, out.getvalue()))  # fmt: skip


def all_bombs(valid):
    """Every family; but for graphs, all files are to be refused."""
    encoder = valid["encoder"]
    yield from packed(encoder)
    for label, content in copies():
        yield Case(f"copies_{label}", "import", torch_file(content + b"."),
                   ".pt")  # fmt: skip
    yield from overlapping()
    yield from asking(valid)


def asking(valid):
    """Those that can be read, and ask for more than they hold."""
    encoder = valid["encoder"]
    yield from one_axis()
    for layers in (100, 1000):
        yield from hollow(layers)
    yield from optimizers(valid["model"], encoder)
    yield from constants(encoder)
    yield from sizes(encoder)
    for label, config in budgets(encoder):
        yield Case(f"budget_{label}", "encoder", with_config(encoder, config))
    for i, content in enumerate(nested_nodes(encoder)):
        yield Case(f"nodes_{i}", "encoder", content)
    yield from wide_types(encoder)


def inside_hdf5(valid, rng):
    """Valid encoders with a byte or some changed inside of their weights.

    The checksums of the archive are right: without that, it is the archive
    that is refused, and HDF5 never met.
    """
    members = parts(valid)
    weights, number = members["model.weights.h5"], 0
    # Most of a file are its numbers, any of which are good.
    with h5py.File(io.BytesIO(weights), "r") as file:
        spans = []
        file.visititems(
            lambda name, node: (
                spans.append((node.id.get_offset(), node.nbytes))
                if isinstance(node, h5py.Dataset) and node.nbytes
                else None
            )
        )
    plain = np.ones(len(weights), bool)
    for start, size in spans:
        plain[start : start + size] = False
    places = np.flatnonzero(plain)
    while True:
        content = bytearray(weights)
        count = int(rng.choice([1, 1, 1, 2, 8]))
        for place in rng.choice(places, count):
            kind = int(rng.integers(4))
            if kind == 0:
                content[place] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                content[place] = int(rng.integers(256))
            elif kind == 2:
                content[place] = int(rng.choice([0, 1, 127, 128, 255]))
            else:
                length = int(rng.choice([2, 4, 8]))
                value = int(rng.choice([0, 1, -1, 1 << 30, 1 << 14]))
                content[place : place + length] = (
                    value % (1 << 8 * length)
                ).to_bytes(length, "little")
        changed = {
            **members,
            "model.weights.h5": bytes(content[: len(weights)]),
        }
        yield Case(f"mutant_inside_{number}", "encoder", archive(changed))
        number += 1
