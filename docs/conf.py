"""The documentation site: `python -m sphinx -W docs build/docs`.

It needs the extra `docs` and a backend, since the reference is made of the
docstrings.
"""

import importlib
import inspect
import re
import sys
from pathlib import Path

from sphinx.util.inspect import signature
from sphinx.util.inspect import stringify_signature

# The checkout that the pages lie in, whatever else is installed.
sys.path.insert(0, str(Path(__file__).parents[1]))

import keras_audio_ssl

project = "keras_audio_ssl"
author = "the keras_audio_ssl authors"
release = version = keras_audio_ssl.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinxarg.ext",
]
templates_path = ["_templates"]
exclude_patterns = ["_static", "_templates"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_title = f"keras_audio_ssl {version}"
html_show_copyright = html_show_sphinx = False
copybutton_exclude = ".linenos, .gp, .go"
# `--name` stays so.
smartquotes = False
# `weights/README.md` has no second level; the command line has no roles.
suppress_warnings = ["myst.header", "myst.domains"]
# Headings of the pages can be linked to, as on GitHub.
myst_heading_anchors = 4

# A docstring's `name` is code.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Call arguments", "params_style")]
autosummary_imported_members = True
autosummary_ignore_module_all = False
autodoc_default_options = {"members": True, "show-inheritance": True}
# A method's `call` has no docstring of its own, and is Keras'.
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True

# The rooms that the reference has pages of.
ROOMS = re.findall(
    r"^ +(keras_audio_ssl\.\w+)$",
    (Path(__file__).parent / "reference/index.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


def shown_bases(cls):
    """A class's bases that a page shows, or those above what none shows."""
    for base in cls.__bases__:
        room = ".".join(base.__module__.split(".")[:2])
        if base.__module__.startswith("keras.src"):
            shown = keras_name(base) is not None
        elif base.__module__.startswith("keras_audio_ssl."):
            shown = room in ROOMS and base.__name__ in public_names(room)
        else:
            shown = True
        if shown:
            yield base
        else:
            yield from shown_bases(base)


def public_names(room):
    """What a room offers, as `autosummary` lists it."""
    module = importlib.import_module(room)
    return getattr(module, "__all__", dir(module))


def show_bases(app, name, obj, options, bases):
    """Bases that users know; Keras' classes by the names they have there."""
    shown = dict.fromkeys(shown_bases(obj))
    if len(shown) > 1:
        shown.pop(object, None)
    bases[:] = [
        f"``{keras_name(base)}``"
        if base.__module__.startswith("keras.src")
        else base
        for base in shown
    ]


def keras_name(cls):
    """Where Keras offers one of its classes; None for those it keeps."""
    names = vars(cls).get("_api_export_path")
    return names[0] if isinstance(names, list) else names


def sign(app, what, name, obj, options, text, returned):
    """A class has the arguments of its constructor, not Keras' `__new__`."""
    if what == "class" and inspect.isfunction(obj.__init__):
        found = signature(obj.__init__, bound_method=True)
        return stringify_signature(found, show_annotation=False), None
    return None


def link_pages(app, name, content):
    """Files outside of the site that one of its pages shows."""
    content[0] = content[0].replace("(../weights/README.md)", "(weights.md)")


def setup(app):
    app.connect("source-read", link_pages)
    app.connect("autodoc-process-signature", sign)
    app.connect("autodoc-process-bases", show_bases)
