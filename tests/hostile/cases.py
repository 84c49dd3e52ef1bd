"""The collection: hostile files, each named for the weakness it is about."""

import copy
import functools
import io
import json
import os
import pickle
import struct
import subprocess
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np


class Case(NamedTuple):
    """A file and the door that it is brought to.

    `door` is `encoder` (`load_encoder`), `model` (resume) or `import`.
    """

    name: str
    door: str
    content: bytes
    suffix: str = ".keras"


def entry(module, name, config=None, registered=None):
    return {
        "module": module,
        "class_name": name,
        "config": {} if config is None else config,
        "registered_name": registered,
    }


def gadgets(canary):
    """What a configuration must not name: label and object.

    CVE-2024-3660 (Lambda), CVE-2025-1550 (any module), CVE-2025-8747
    (functions of Keras that fetch files), CVE-2025-9906 (safe mode switched
    off from the configuration), CVE-2025-12058 (vocabularies of any path),
    CVE-2025-49655 (pickles in TorchModuleWrapper).
    """
    touch = f"touch {canary}"
    code = {"class_name": "__lambda__", "config": {"code": "x"}}
    yield "lambda", entry("keras.layers", "Lambda", {"function": code})
    yield "lambda_plain", entry("keras.layers", "Lambda", {"function": "x"})
    yield (
        "lambda_private",
        entry("keras.src.layers.core.lambda_layer", "Lambda"),
    )
    yield "lambda_value", entry(None, "__lambda__", {"value": "x"})
    yield "typespec", entry(None, "__typespec__")
    yield (
        "safe_mode_off",
        entry("keras.config", "function", "enable_unsafe_deserialization",
              "function"),
    )  # fmt: skip
    yield (
        "safe_mode_off_private",
        entry("keras.src.saving.serialization_lib",
              "enable_unsafe_deserialization"),
    )  # fmt: skip
    yield (
        "savedmodel",
        entry("keras.layers", "TFSMLayer", {"filepath": str(canary)}),
    )
    yield (
        "torch_module",
        entry("keras.layers", "TorchModuleWrapper", {"module": "gASV"}),
    )
    yield "jax_layer", entry("keras.layers", "JaxLayer", {"call_fn": "x"})
    yield "flax_layer", entry("keras.layers", "FlaxLayer", {"module": "x"})
    for name in ("StringLookup", "IntegerLookup", "TextVectorization"):
        yield (
            f"vocabulary_{name}",
            entry("keras.layers", name, {"vocabulary": "/etc/passwd"}),
        )
    for name in ("get_file", "extract_archive", "get_source_inputs"):
        yield f"utils_{name}", entry("keras.utils", name)
        yield (
            f"utils_function_{name}",
            entry("keras.utils", "function", name, name),
        )
    for module, name, given in (
        ("os", "system", touch),
        ("posix", "system", touch),
        ("subprocess", "Popen", {"args": touch, "shell": True}),
        ("builtins", "eval", f"open({str(canary)!r}, 'w')"),
        ("builtins", "exec", f"open({str(canary)!r}, 'w')"),
        ("builtins", "open", {"file": str(canary), "mode": "w"}),
        ("functools", "partial", {}),
        ("pickle", "loads", {}),
        ("numpy", "load", {"file": str(canary)}),
        ("importlib", "import_module", {"name": "antigravity"}),
        ("shutil", "rmtree", {"path": str(canary)}),
        ("keras.saving", "load_model", {"filepath": str(canary)}),
        ("keras.models", "model_from_json", {}),
        ("keras.models", "clone_model", {}),
        ("keras.src.ops.numpy", "np", {}),
        ("keras.initializers", "deserialize", {}),
        ("keras.layers", "Layer", {}),
        ("keras.callbacks", "ModelCheckpoint", {"filepath": str(canary)}),
        ("keras_audio_ssl.data", "AudioDataset", {}),
        ("keras_audio_ssl.hub.encoder_files", "load_encoder", str(canary)),
        ("keras_audio_ssl.encoders.encoder", "os", {}),
        ("keras_audio_ssl._files", "write_text", {}),
    ):
        yield f"class_{module}.{name}", entry(module, name, given)
        yield (
            f"function_{module}.{name}",
            entry(module, "function", name, "function"),
        )
    yield "no_module", entry(None, "Dense")
    yield "module_list", entry(["keras.layers"], "Dense")
    for registered in (
        "keras_hub>Backbone",
        "keras_audio_ssl>Encoder",
        "builtins>eval",
    ):
        yield (
            f"registered_{registered}",
            entry("keras.layers", "Dense", registered=registered),
        )


def parts(content):
    """Members of an archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive(members, compression=zipfile.ZIP_STORED):
    """Bytes of a zip of `(name, content)` pairs."""
    out = io.BytesIO()
    with (
        warnings.catch_warnings(),
        zipfile.ZipFile(out, "w", compression) as file,
    ):
        warnings.filterwarnings("ignore", "Duplicate name")
        for name, content in (
            members.items() if isinstance(members, dict) else members
        ):
            file.writestr(name, content)
    return out.getvalue()


def with_config(valid, config):
    members = parts(valid)
    text = config if isinstance(config, bytes) else json.dumps(config).encode()
    return archive({**members, "config.json": text})


def configurations(valid, canary, door):
    """A valid file whose configuration names what it must not."""
    config = json.loads(parts(valid)["config.json"])
    for number, (label, hostile) in enumerate(gadgets(canary)):
        places = {"top": hostile, "inside": copy.deepcopy(config)}
        places["inside"]["config"]["extra"] = [{"deep": hostile}]
        if door == "model":
            if number % 4:
                # The other door looks at them with the same eyes.
                places.clear()
            places["compile"] = copy.deepcopy(config)
            places["compile"]["compile_config"] = {"loss": hostile}
        elif number % 9 == 0:
            # Nobody compiles an encoder: it opens without.
            places["dropped"] = copy.deepcopy(config)
            places["dropped"]["compile_config"] = {"loss": hostile}
            inner = places["dropped"]["config"]["backbone"]
            inner["compile_config"] = {"optimizer": hostile, "loss": hostile}
        for place, changed in places.items():
            yield Case(f"{label}_{place}", door, with_config(valid, changed))
    for label, text in {
        "deep": b"[" * 100_000,
        "deep_objects": b'{"class_name": "x", "config": ' * 20_000,
        "no_object": b"[]",
        "number": b"1",
        "bytes": b"\xff\xfe",
        "cut": parts(valid)["config.json"][:100],
        "name_is_number": b'{"class_name": 3, "config": {}}',
        "many": json.dumps(
            {**config, "x": [entry("keras.layers", "Dense")] * 20_000}
        ).encode(),
        "endless": b"[" + b"1," * (9 * 2**20) + b"1]",
    }.items():
        yield Case(f"json_{label}", door, with_config(valid, text))


def paths_of_numbers(node, at=()):
    """Where whole numbers stand in a tree."""
    items = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    for key, value in items:
        if type(value) is int:
            yield (*at, key)
        else:
            yield from paths_of_numbers(value, (*at, key))


def shape_bombs(valid, door):
    """A valid file that asks for sizes its weights have not."""
    config = json.loads(parts(valid)["config.json"])
    for path in paths_of_numbers(config):
        if any("seed" in str(key) or "version" in str(key) for key in path):
            continue
        for size in (3_000_000, 2**31 - 1, 10**12):
            changed = copy.deepcopy(config)
            node = changed
            for key in path[:-1]:
                node = node[key]
            node[path[-1]] = size
            label = ".".join(map(str, path))
            yield Case(
                f"shape_{label}_{size}", door, with_config(valid, changed)
            )


def weights(valid, change):
    """A valid file whose weights were changed by `change(h5py.File)`."""
    members = parts(valid)
    content = io.BytesIO(members["model.weights.h5"])
    with h5py.File(content, "r+") as file:
        change(file)
    return archive({**members, "model.weights.h5": content.getvalue()})


def first_dataset(file):
    found = []
    file.visititems(
        lambda name, node: (
            found.append(name)
            if isinstance(node, h5py.Dataset) and node.ndim
            else None
        )
    )
    return found[0]


def replaced(make):
    """A change of weights: `make` takes the place of their first array."""

    def change(file):
        name = first_dataset(file)
        del file[name]
        make(file, name)

    return change


def hdf5(valid, canary, door):
    """Weights that are more, or less, than numbers (CVE-2026-style links)."""
    huge = (1 << 40,)

    def external(file, name):
        file[name] = h5py.ExternalLink("/etc/passwd", "/")

    def soft(file, name):
        file[name] = h5py.SoftLink("/_layer_checkpoint_dependencies")

    def stored(file, name):
        file.create_dataset(
            name, (10,), "u1", external=[("/etc/passwd", 0, 10)]
        )

    def virtual(file, name):
        layout = h5py.VirtualLayout((10,), "f4")
        layout[:] = h5py.VirtualSource("/etc/passwd", "x", (10,))
        file.create_virtual_dataset(name, layout)

    def claimed(file, name):
        file.create_dataset(name, huge, "f4", chunks=(1 << 20,))

    def zipped(file, name):
        file.create_dataset(
            name, data=np.zeros(1 << 22, "f4"), compression="gzip"
        )

    def words(file, name):
        file.create_dataset(name, data=["x"], dtype=h5py.string_dtype())

    def reference(file, name):
        data = file.create_dataset(name, (1,), h5py.ref_dtype)
        data[0] = file.ref

    def cycle(file, name):
        file[name] = file["/"]

    def deep(file, name):
        for i in range(200):
            file = file.create_group(f"g{i}")

    def empty(file, name):
        file.create_dataset(name, data=h5py.Empty("f4"))

    for make in (external, soft, stored, virtual, claimed, zipped, words,
                 reference, cycle, deep, empty):  # fmt: skip
        yield Case(
            f"hdf5_{make.__name__}", door, weights(valid, replaced(make))
        )

    members = parts(valid)
    for label, content in {
        "shared_place": shared_place(),
        "many_groups": many_groups(),
        "none": b"",
        "text": b"no weights",
        "cut": members["model.weights.h5"][:900],
        "zeros": bytes(4096),
    }.items():
        yield Case(
            f"hdf5_{label}",
            door,
            archive({**members, "model.weights.h5": content}),
        )
    yield Case("hdf5_model", door, members["model.weights.h5"])
    yield Case("h5_model", door, members["model.weights.h5"], ".h5")
    yield Case("h5_name", door, valid, ".hdf5")


def long_attribute(valid, door):
    """Weights of which one array is described by many words."""

    def attribute(file, name):
        words = ["B" * 100_000, *("s" * i for i in range(100))]
        kind = h5py.string_dtype()
        data = file.create_dataset(name, data=np.zeros(3, "f4"))
        data.attrs.create("dtype", words, dtype=kind)

    yield Case("hdf5_attribute", door, weights(valid, replaced(attribute)))


def keras_layer(name, config, module="keras.layers", **more):
    return {**entry(module, name, config), **more}


def network(layers, **more):
    """A sequential network on 128 frames of 32 bins."""
    first = keras_layer("InputLayer", {"batch_shape": [None, 128, 32]})
    config = {"name": "s", "layers": [first, *layers]}
    return keras_layer("Sequential", config, "keras", **more)


def wide(count=3):
    """Dense layers of 200 million numbers each."""
    return [
        keras_layer(
            "Dense",
            {"units": 14000, "name": f"d{i}", "kernel_initializer": "zeros"},
        )
        for i in range(count)
    ]


def costly(valid):
    """Small encoders that cost much before, or beside, their variables."""
    import keras

    plain = json.loads(parts(valid)["config.json"])

    def ours(name, config):
        full = f"keras_audio_ssl>{name}"
        module = keras.saving.get_registered_object(full).__module__
        return entry(module, name, config, full)

    def with_backbone(network):
        config = copy.deepcopy(plain)
        config["config"]["backbone"] = ours(
            "KerasBackbone", {"network": network, "n_features": 32}
        )
        return config

    def with_value(value):
        config = copy.deepcopy(plain)
        config["config"] = {"seed": value, **config["config"]}
        return config

    def constant(layer, size):
        value = entry(None, "__numpy__", {"value": size, "dtype": "float32"})
        first = keras_layer("InputLayer", {"batch_shape": [None, 128, 32]})
        layers = [
            {**first, "name": "i", "inbound_nodes": []},
            {**layer, "name": "r",
             "inbound_nodes": [{"args": [value], "kwargs": {}}]},
        ]  # fmt: skip
        return keras_layer(
            "Functional",
            {"name": "f", "layers": layers, "input_layers": [["i", 0, 0]],
             "output_layers": [["i", 0, 0]]},
            "keras.src.models.functional",
        )  # fmt: skip

    for dtype in ("S1500000000", "U400000000", "object", "V1000000000"):
        value = {"value": ["a"], "dtype": dtype}
        yield f"numpy_{dtype}", with_value(entry(None, "__numpy__", value))
    thresholds = {"num_thresholds": 30_000_000}
    yield (
        "list",
        with_value(keras_layer("AUC", thresholds, "keras.metrics")),
    )
    for bad in (float("nan"), -(2**31), 1.5):
        sizes = {"equation": "abc,cde->abde", "name": "p",
                 "output_shape": [None, bad, 2**20]}  # fmt: skip
        poison = network(
            [keras_layer("EinsumDense", sizes)],
            build_config={"input_shape": [1, 128, 32]},
        )
        config = with_backbone(network(wide()))
        config["config"] = {"seed": poison, **config["config"]}
        yield f"budget_{bad}", config
    yield "wide", with_backbone(network(wide()))
    padding = keras_layer("ZeroPadding1D", {"padding": [10**6, 1]})
    yield "constant", with_backbone(constant(padding, [[[1.0]]]))
    many = [
        keras_layer("Dense", {"units": 1, "name": f"d{i}"}) for i in range(9000)
    ]
    yield "layers", with_backbone(network(many))
    deep = copy.deepcopy(plain)
    deep["config"]["backbone"] = ours(
        "RecurrentStack", {"units": 1, "layers": 3000, "n_features": 32}
    )
    yield "recurrent", deep
    claimed = network([])
    claimed["config"]["layers"] = [
        keras_layer("InputLayer", {"batch_shape": [None, 4000, 1000]}),
        ours("MLPHead", {"input_dim": 3, "hidden_dim": 2, "output_dim": 2}),
    ]
    yield "input", with_backbone(claimed)
    text = json.dumps(plain)[:-1].encode()
    yield "values", text + b', "x": [' + b"[[]]," * 10**6 + b"0]}"


@functools.cache
def shared_place(count=2000, size=500_000):
    """Weights of many arrays that all lie at one place of the file."""
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file.create_dataset("a", data=np.zeros(size, "i1"))
        for i in range(count):
            file.create_dataset(f"b{i}", (size,), "i1")
        place = file["a"].id.get_offset()
    nowhere = b"\xff" * 8 + struct.pack("<Q", size)
    there = struct.pack("<QQ", place, size)
    return out.getvalue().replace(nowhere, there)


@functools.cache
def many_groups(count=90_000):
    out = io.BytesIO()
    with h5py.File(out, "w", libver="latest") as file:
        group = file.create_group("g")
        for i in range(count):
            # `create_group` takes twice as long.
            h5py.h5g.create(group.id, str(i).encode())
    return out.getvalue()


def archives(valid, door):
    """Zips with more, other, or larger members than Keras writes."""
    members = parts(valid)
    config = members["config.json"]
    for name in (
        "../evil.py",
        "/etc/cron.d/evil",
        "..\\evil.py",
        "assets/vocabulary.txt",
        "_self/../../evil",
        "evil.py",
        "config.json/",
    ):
        yield Case(
            f"zip_member_{name!r}".replace("/", "|"),
            door,
            archive([*members.items(), (name, b"x")]),
        )
    for name in members:
        rest = {k: v for k, v in members.items() if k != name}
        yield Case(f"zip_without_{name}", door, archive(rest))
        if name != "metadata.json":
            yield Case(
                f"zip_twice_{name}",
                door,
                archive([*members.items(), (name, config)]),
            )
    bomb = {**members, "model.weights.h5": bytes(1 << 28)}
    yield Case("zip_bomb", door, archive(bomb, zipfile.ZIP_DEFLATED))
    bomb = {**members, "config.json": b'{"class_name":"' + b"a" * (1 << 26)}
    yield Case("zip_bomb_config", door, archive(bomb, zipfile.ZIP_DEFLATED))
    encrypted = bytearray(valid)
    at = encrypted.find(b"PK\x01\x02")
    while at >= 0:
        encrypted[at + 8] |= 1
        at = encrypted.find(b"PK\x01\x02", at + 4)
    yield Case("zip_encrypted", door, bytes(encrypted))
    lying = bytearray(valid)
    at = lying.find(b"PK\x01\x02")
    lying[at + 20 : at + 28] = struct.pack("<II", 1 << 31, 1 << 31)
    yield Case("zip_lying_size", door, bytes(lying))
    yield Case("zip_no_end", door, valid[:-22])
    yield Case("zip_empty", door, archive({}))
    yield Case("empty", door, b"")
    yield Case("zeros", door, bytes(5000))
    yield Case("tar", door, b"config.json".ljust(512, b"\0") + bytes(512))
    yield Case("text", door, b"a model")


class Evil:
    """Pickled, it is a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def torch_file(content, root="archive"):
    """What `torch.save` wraps a pickle in."""
    return archive(
        {f"{root}/data.pkl": content, f"{root}/version": b"3\n",
         f"{root}/data/0": struct.pack("<2f", 0, 1)}
    )  # fmt: skip


def storage(kind="FloatStorage", key="0", size=2):
    """Opcodes of a persistent storage."""
    return (
        b"(X\x07\x00\x00\x00storage"
        + f"ctorch\n{kind}\n".encode()
        + b"X" + struct.pack("<I", len(key)) + key.encode()
        + b"X\x03\x00\x00\x00cpu"
        + b"\x8a\x08" + struct.pack("<q", size)
        + b"tQ"
    )  # fmt: skip


def tensor(stored, offset, shape, strides):
    """Opcodes of a tensor, sizes as they are given."""

    def numbers(values):
        return b"(" + b"".join(
            b"\x8a\x08" + struct.pack("<q", n) for n in values
        ) + b"t"  # fmt: skip

    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + stored
        + b"\x8a\x08" + struct.pack("<q", offset)
        + numbers(shape) + numbers(strides) + b"\x89N"
        + b"tR"
    )  # fmt: skip


DAG = b")" + b"2\x86" * 60


def pickles(canary):
    """Pickles that call, claim or never end."""
    touch = f"touch {canary}"
    for label, *call in (
        ("system", os.system, touch),
        ("eval", eval, f"open({str(canary)!r}, 'w')"),
        ("check_call", subprocess.check_call, ["touch", str(canary)]),
        ("open", open, str(canary), "w"),
        ("getattr", getattr, "", "join"),
        ("import", __import__, "antigravity"),
        ("unlink", os.unlink, str(canary)),
        ("loads", pickle.loads, b"N."),
    ):
        for protocol in range(6):
            value = {"weight": Evil(*call)}
            yield f"{label}_{protocol}", pickle.dumps(value, protocol)
    good = tensor(storage(), 0, (2,), (1,))
    yield from {
        "globals": b"ccollections\nOrderedDict.__init__.__globals__\n.",
        "torch_globals": b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
        "torch_load": b"ctorch.serialization\nload\n.",
        "torch_hub": b"ctorch.hub\nload\n.",
        "torch_jit": b"ctorch.jit\nload\n.",
        "numpy_load": b"cnumpy\nload\n.",
        "numpy_reconstruct": b"cnumpy.core.multiarray\n_reconstruct\n.",
        "builtin_2": b"c__builtin__\neval\n.",
        "inst": b"(S'x'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS'x'\no.",
        "ext": b"\x82\x01.",
        "stack_global": b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        "newobj_ex": b"cos\nsystem\n(tR}\x92.",
        "persistent": b"X\x05\x00\x00\x00/etc/Q.",
        "byte_array": b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
        "long_string": b"X\xff\xff\xff\x7f.",
        "long_bytes": b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        "no_end": b"(" * 1000,
        "memo": b"]q\x00" + b"(h\x00h\x00e" * 40 + b".",
        "many_steps": b"N0" * 2_000_000 + b".",
        "beyond": tensor(storage(), 0, (3,), (1,)) + b".",
        "huge": tensor(storage(), 0, (1 << 40,), (1,)) + b".",
        "huge_stride": tensor(storage(), 0, (2,), (1 << 40,)) + b".",
        "negative": tensor(storage(), -1, (1,), (1,)) + b".",
        "backwards": tensor(storage(), 1, (2,), (-1,)) + b".",
        "claimed": tensor(storage(size=1 << 40), 0, (1 << 30,), (1,)) + b".",
        "no_storage": tensor(storage(key="9"), 0, (2,), (1,)) + b".",
        "path_key": tensor(storage(key="../../x"), 0, (2,), (1,)) + b".",
        "kind": tensor(storage("UntypedStorage"), 0, (2,), (1,)) + b".",
        "repeated": tensor(storage(), 0, (14000, 14000), (0, 0)) + b".",
        "state": b"}" + good + b"b.",
        # Tuples of themselves twice over: to look at one takes 2**60.
        "dag_metadata": b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage() + b"K\x00(K\x02t(K\x01t\x89N" + DAG + b"tR.",
        "dag_persistent": b"(X\x01\x00\x00\x00xctorch\nFloatStorage\n"
        + DAG + b"NNtQ.",
        "dag_device": b"ctorch\ndevice\n(" + DAG + b"tR.",
        "dag_key": b"}" + DAG + b"Ns.",
        "dag_global": DAG + b"\x8c\x01x\x93.",
        "dag_ordered": b"ccollections\nOrderedDict\n((" + DAG + b"Ntt\x85R.",
    }.items()  # fmt: skip


def checkpoints(canary):
    """Files of PyTorch, numpy and safetensors."""
    for label, content in pickles(canary):
        yield Case(f"pickle_{label}", "import", torch_file(content), ".pt")
        head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
        head += pickle.dumps({"little_endian": True}, 2)
        tail = pickle.dumps([], 2)
        yield Case(f"legacy_{label}", "import", head + content + tail, ".pth")
    tail = b"](" + DAG + DAG + b"e."
    yield Case("legacy_dag_keys", "import", head + b"N." + tail, ".pth")
    for label, array in {
        "objects": np.array([Evil(os.system, f"touch {canary}")], object),
        "structure": np.zeros(2, [("a", "f4")]),
    }.items():
        out = io.BytesIO()
        np.savez(out, a=array)
        yield Case(f"npz_{label}", "import", out.getvalue(), ".npz")
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s,), }"
    for label, text in {
        "claims": header % (1 << 40),
        "code": f"__import__('os').system('touch {canary}')",
        "object": header.replace("<f4", "|O") % 1,
        "negative": header % -1,
    }.items():
        text = text.encode().ljust(117) + b"\n"
        npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
        yield Case(f"npz_{label}", "import", archive({"a.npy": npy}), ".npz")
    bomb = archive({"a.npy": bytes(1 << 28)}, zipfile.ZIP_DEFLATED)
    mixed = archive(
        {"a.npy": bytes(1 << 27), "b.npy": os.urandom(1 << 20)},
        zipfile.ZIP_DEFLATED,
    )
    yield Case("npz_mixed_bomb", "import", mixed, ".npz")
    yield Case("npz_bomb", "import", bomb, ".npz")
    for label, head in {
        "offsets": {"a": {"dtype": "F32", "shape": [2],
                          "data_offsets": [0, 9]}},
        "shape": {"a": {"dtype": "F32", "shape": [1 << 40],
                        "data_offsets": [0, 8]}},
        "negative": {"a": {"dtype": "F32", "shape": [-2],
                           "data_offsets": [0, 8]}},
        "type": {"a": {"dtype": "OBJ", "shape": [2], "data_offsets": [0, 8]}},
        "missing": {"a": {"dtype": "F32"}},
        "overlap": {"a": {"dtype": "F32", "shape": [2],
                          "data_offsets": [8, 0]}},
    }.items():  # fmt: skip
        text = json.dumps(head).encode()
        content = struct.pack("<Q", len(text)) + text + bytes(8)
        yield Case(f"safetensors_{label}", "import", content, ".safetensors")
    yield Case(
        "safetensors_length",
        "import",
        struct.pack("<Q", 1 << 62) + b"{}",
        ".safetensors",
    )
    for label, content in {
        "tar": b"storages".ljust(512, b"\0") + bytes(1024),
        "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "script": archive({"m/constants.pkl": b"N.", "m/data.pkl": b"N."}),
        "compressed": archive(
            {"m/data.pkl": b"N" * 9999 + b"."}, zipfile.ZIP_DEFLATED
        ),
        "empty": b"",
    }.items():
        yield Case(f"pt_{label}", "import", content, ".pt")


def mutants(valid, door, suffix, rng, label):
    """Valid files with damage, without end: flips, cuts, splices."""
    size = len(valid)
    number = 0
    while True:
        content = bytearray(valid)
        kind = ("flip", "cut", "splice", "zero")[number % 4]
        at, other = sorted(rng.integers(0, size, 2).tolist())
        if kind == "flip":
            for place in rng.integers(0, size, int(rng.integers(1, 9))):
                content[place] ^= 1 << int(rng.integers(8))
        elif kind == "cut":
            content = content[: max(1, other)]
        elif kind == "splice":
            content[at : at + 64] = valid[other : other + 64]
            content[other:other] = valid[at : at + 16]
        else:
            content[at : at + 256] = bytes(min(256, size - at))
        if content != valid:
            yield Case(f"mutant_{label}_{number}", door, bytes(content), suffix)
        number += 1


def valid_files(folder):
    """An encoder, a model with its optimizer, three kinds of checkpoint."""
    import keras

    import keras_audio_ssl as kas
    from tests.contract import batch

    keras.utils.set_random_seed(0)
    folder = Path(folder)
    model = kas.COLA(preset="tiny")
    model.compile()
    model.train_on_batch(batch(4))
    model.save(folder / "model.keras")
    model.encoder.save(folder / "encoder.keras")
    pickled = b"}(X\x06\x00\x00\x00weight" + tensor(
        storage(), 0, (2,), (1,)
    ) + b"u."  # fmt: skip
    out = io.BytesIO()
    np.savez(out, weight=np.ones(64, "f4"))
    head = json.dumps(
        {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    ).encode()
    return {
        "encoder": (folder / "encoder.keras").read_bytes(),
        "model": (folder / "model.keras").read_bytes(),
        ".pt": torch_file(pickled),
        ".npz": out.getvalue(),
        ".safetensors": struct.pack("<Q", len(head)) + head + bytes(8),
    }


def named(valid, canary):
    """All cases but the mutants and the bombs."""
    yield from asking(valid, canary)
    for door in ("encoder", "model"):
        yield from hdf5(valid[door], canary, door)
        yield from archives(valid[door], door)
    yield from checkpoints(canary)


def asking(valid, canary):
    """Those that can be read, and ask for what they should not have."""
    for door in ("encoder", "model"):
        file = valid[door]
        yield from configurations(file, canary, door)
        yield from shape_bombs(file, door)
        yield from long_attribute(file, door)
    for label, config in costly(valid["encoder"]):
        content = with_config(valid["encoder"], config)
        yield Case(f"costly_{label}", "encoder", content)


def all_mutants(valid, seed=0):
    """Mutants of each kind of file in turn, without end."""
    rng = np.random.default_rng(seed)
    streams = [
        mutants(valid["encoder"], "encoder", ".keras", rng, "encoder"),
        mutants(valid["model"], "model", ".keras", rng, "model"),
        *(
            mutants(valid[s], "import", s, rng, s[1:])
            for s in (".pt", ".npz", ".safetensors")
        ),
    ]
    while True:
        for stream in streams:
            yield next(stream)
