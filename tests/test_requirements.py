"""What is imported is declared, and what is declared is used."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.no_backend

ROOT = Path(__file__).parents[1]
BACKENDS = {"jax", "tensorflow", "torch"}
# Modules with another name than the distribution they come in.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "sphinxarg": "sphinx-argparse"}
# Of `dev`: what is run, and not imported.
COMMANDS = {"hatchling", "ipykernel", "mypy", "pytest-xdist", "ruff"}


def distribution(module):
    top = module.split(".")[0]
    return DISTRIBUTIONS.get(top, top.lower().replace("_", "-"))


def imported(*paths):
    """Distributions whose modules are imported, without Python's and ours."""
    found = set()
    for node in nodes(paths):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    tops = {name.split(".")[0] for name in found}
    ours = {"keras_audio_ssl", "tests"}
    return set(map(distribution, tops - ours - sys.stdlib_module_names))


def named(*paths):
    """Distributions of modules that a text in the code names."""
    return {
        distribution(node.value)
        for node in nodes(paths)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"[\w.]+", node.value)
    }


def nodes(paths):
    for path in paths:
        for file in [path] if path.is_file() else path.rglob("*.py"):
            yield from ast.walk(ast.parse(file.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def declared():
    """Distributions by extra; `""` for what everyone gets."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {
        extra: {re.match(r"[\w.-]+", line)[0].lower() for line in lines}
        for extra, lines in groups.items()
    }


def test_what_the_package_imports_is_declared(declared):
    extras = set(declared) - {"dev", "docs"}
    everything = set().union(*(declared[extra] for extra in extras))
    assert imported(ROOT / "keras_audio_ssl") <= everything


def test_what_the_package_declares_it_imports(declared):
    package = ROOT / "keras_audio_ssl"
    assert declared[""] <= imported(package)
    for extra in set(declared) - {"", "dev", "docs"}:
        assert declared[extra] <= imported(package) | named(package), extra


def test_what_the_tests_import_is_declared(declared):
    known = declared[""] | declared["dev"] | BACKENDS
    assert imported(ROOT / "tests") <= known


def test_what_is_declared_for_tests_and_documentation_is_used(declared):
    code = ROOT / "tests", ROOT / "keras_audio_ssl"
    assert declared["dev"] >= COMMANDS
    assert declared["dev"] <= imported(*code) | named(*code) | COMMANDS
    conf = ROOT / "docs" / "conf.py"
    assert declared["docs"] <= imported(conf) | named(conf)
