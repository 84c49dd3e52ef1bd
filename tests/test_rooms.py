"""Who may import whom, and that nobody imports a backend at its head."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "keras_audio_ssl"
MAY = {
    "backend": set(),
    "engine": {"backend"},
    "features": {"backend", "engine"},
    "augment": {"backend", "engine"},
    "blocks": {"backend", "engine"},
    "losses": {"backend"},
    "data": set(),
    "export": {"backend"},
    "encoders": {"backend", "engine", "features", "blocks", "data", "export"},
    "methods": {
        "engine",
        "encoders",
        "augment",
        "blocks",
        "losses",
        "features",
    },
    "hub": {"engine", "encoders", "methods", "features", "blocks"},
    "evaluation": {
        "engine",
        "encoders",
        "data",
        "hub",
        "features",
        "blocks",
    },
    "callbacks": {
        "backend",
        "engine",
        "evaluation",
        "hub",
        "losses",
        "viz",
    },
    "runs": {
        "backend",
        "callbacks",
        "data",
        "encoders",
        "evaluation",
        "hub",
        "methods",
    },
    "doctor": {"data"},
    "viz": set(),
}
# The storeys of `data/`, the lowest first.
STOREYS = (
    "lengths",
    "audio",
    "isolation",
    "reading",
    "clips",
    "order",
    "loader",
    "feed",
    "checks",
    "dataset",
    "levels",
    "builders",
    "alignments",
    "synthetic",
    "__init__",
)
# What every room may use.
SHARED = {
    "_child",
    "_files",
    "_lazy",
    "_long_clips",
    "_optional",
    "_process",
    "_shapes",
    "_text",
    "_types",
}
BACKENDS = {"tensorflow", "jax", "torch", "keras_hub", "librosa"}


def imports(path, top_only=False, names=False):
    """The modules that a file imports, if asked with what it takes of them."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if names:
                yield from (f"{module}.{alias.name}" for alias in node.names)
            else:
                yield module


@pytest.mark.no_backend
@pytest.mark.parametrize("room", sorted(MAY))
def test_a_room_imports_only_what_it_may(room):
    for path in (PACKAGE / room).rglob("*.py"):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "keras_audio_ssl" and len(parts) > 1:
                assert parts[1] in MAY[room] | SHARED | {room}, (
                    f"{path}: {name}"
                )


@pytest.mark.no_backend
def test_no_storey_of_data_imports_a_higher_one():
    folder, room = PACKAGE / "data", "keras_audio_ssl.data"
    graph, paths = {}, {}
    for path in folder.rglob("*.py"):
        inner = path.relative_to(PACKAGE.parent).with_suffix("").parts
        paths[".".join(inner).removesuffix(".__init__")] = path
    for module, path in paths.items():
        graph[module] = set()
        inner = path.relative_to(folder).with_suffix("").parts
        for name in imports(path, names=True):
            while name.startswith(f"{room}.") and name not in paths:
                name = name.rpartition(".")[0]
            if name not in paths:
                continue
            assert name != room, f"{path}: import from where it is written"
            storey = name.split(".")[2]
            assert STOREYS.index(storey) <= STOREYS.index(inner[0]), (
                f"{path}: {name}"
            )
            graph[module].add(name)
    # Raises `CycleError` where files of one storey need each other.
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) > 20


@pytest.mark.no_backend
def test_what_reads_strangers_files_is_a_room_of_its_own():
    room = "keras_audio_ssl.hub.untrusted"
    shared = {f"keras_audio_ssl.{name}" for name in SHARED}
    for path in (PACKAGE / "hub" / "untrusted").glob("*.py"):
        for name in imports(path):
            if name.startswith("keras_audio_ssl"):
                own = name == room or name.startswith(f"{room}.")
                assert own or name in shared, f"{path}: {name}"


@pytest.mark.no_backend
def test_a_backend_is_imported_in_its_own_room_alone():
    for path in PACKAGE.rglob("*.py"):
        heads = {n.split(".")[0] for n in imports(path, top_only=True)}
        room, *rest = path.relative_to(PACKAGE).with_suffix("").parts
        own = {rest[0]} if room == "backend" else set()
        assert heads & BACKENDS <= own, path


@pytest.mark.no_backend
def test_only_that_room_asks_for_the_backend():
    for path in PACKAGE.rglob("*.py"):
        asks = [
            node
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith(
                ("keras.backend.backend", "config.backend")
            )
        ]
        assert not asks or path.parent == PACKAGE / "backend", path


@pytest.mark.no_backend
def test_nobody_imports_the_command_line():
    for path in PACKAGE.rglob("*.py"):
        if "cli" not in path.parts and path.name != "__main__.py":
            assert not any(
                n.startswith("keras_audio_ssl.cli") for n in imports(path)
            ), path


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )


@pytest.mark.no_backend
def test_the_command_line_answers_help_without_keras():
    code = (
        "import sys\n"
        "sys.argv[0] = '/somewhere/bin/keras-audio-ssl'\n"
        "from keras_audio_ssl.cli import make_parser\n"
        "make_parser().format_help()\n"
        "assert 'keras' not in sys.modules\n"
        "assert 'numpy' not in sys.modules\n"
    )
    result = run(code)
    assert result.returncode == 0, result.stderr


def test_other_backends_do_not_load_tensorflow():
    import keras

    if keras.backend.backend() == "tensorflow":
        pytest.skip("this is TensorFlow")
    code = (
        "import sys\n"
        "import keras_audio_ssl as kas\n"
        "kas.COLA(preset='tiny'), kas.data.from_folder, kas.load_encoder\n"
        "kas.Classifier, kas.BYOLA, kas.APC\n"
        "for name in ('tensorflow', 'librosa', 'keras_hub'):\n"
        "    assert name not in sys.modules, name\n"
    )
    result = run(code)
    assert result.returncode == 0, result.stderr
