"""What is imported is declared, and what is declared is used."""

import ast
import functools
import re
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.no_backend

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PACKAGE = ROOT / "keras_audio_ssl"
BACKENDS = {"jax", "tensorflow", "torch"}
# Modules with another name than the distribution they come in.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "sphinxarg": "sphinx-argparse"}
# Of `dev`: what is run, and not imported.
COMMANDS = {"hatchling", "ipykernel", "mypy", "pytest-xdist", "ruff"}


def distribution(module):
    top = module.split(".")[0]
    return DISTRIBUTIONS.get(top, top.lower().replace("_", "-"))


@functools.cache
def of_modules(path):
    """Distributions that code imports, and those that a text in it names."""
    modules, texts = set(), set()
    for file in [path] if path.is_file() else path.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module.split(".")[0])
            elif isinstance(node, ast.Constant):
                texts.add(node.value)
    ours = {"keras_audio_ssl", "tests", *sys.stdlib_module_names}
    named = (x for x in texts if re.fullmatch(r"[\w.]+", str(x)))
    return (
        {distribution(name) for name in modules - ours},
        {distribution(str(name)) for name in named},
    )


def imported(path):
    return of_modules(path)[0]


def used(path):
    return set().union(*of_modules(path))


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
    assert imported(PACKAGE) <= everything


def test_what_the_package_declares_it_uses(declared):
    assert declared[""] <= imported(PACKAGE)
    for extra in set(declared) - {"", "dev", "docs"}:
        assert declared[extra] <= used(PACKAGE), extra


def test_what_the_tests_import_is_declared(declared):
    assert imported(TESTS) <= declared[""] | declared["dev"] | BACKENDS


def test_what_is_declared_for_tests_and_documentation_is_used(declared):
    assert declared["dev"] >= COMMANDS
    assert declared["dev"] <= used(PACKAGE) | used(TESTS) | COMMANDS
    assert declared["docs"] <= used(ROOT / "docs" / "conf.py")
