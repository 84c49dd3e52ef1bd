"""What the pages are built on: templates, one style, one way to escape.

A page is one HTML file that needs no other and loads nothing. Its template
extends `page.html` and takes its pieces from `kit.html`, both beside
`style.css` in `templates/`.
"""

import base64
import functools
import hashlib
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from keras_audio_ssl._text import printable

TEMPLATES = Path(__file__).with_name("templates")
# Lets a page from anywhere load nothing, and run no script but its own.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
POLICY += "media-src data:"


def asset(name: str) -> Markup:
    """A style or a script as it stands in `templates/`."""
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def shown(value: Any) -> Any:
    """What `{{ }}` writes, before it is escaped."""
    return value if isinstance(value, Markup) else printable(value)


@functools.cache
def environment() -> jinja2.Environment:
    """The templates, in which whatever is no HTML of ours is escaped."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["asset"] = asset
    made.filters["count"] = lambda number: f"{number:,}"
    made.filters["zip"] = zip
    return made


def render(template: str, script: str = "", **context: Any) -> str:
    """A page.

    Args:
        template: Its file in `templates/`.
        script: The page's script, in `templates/`; the browser is told to run
            no other.
        **context: What the template writes. Every text is made printable and
            escaped.

    Returns:
        HTML.
    """
    policy, code = POLICY, asset(script) if script else Markup("")
    if code:
        digest = hashlib.sha256(code.encode("utf-8")).digest()
        coded = base64.b64encode(digest).decode("ascii")
        policy += f"; script-src 'sha256-{coded}'"
    made = environment().get_template(template)
    return made.render(policy=Markup(policy), script=code, **context)


def piece(name: str, *args: Any, **kwargs: Any) -> Markup:
    """What a macro of `kit.html` gives, for one piece of a page alone."""
    macros: Any = environment().get_template("kit.html").module
    return getattr(macros, name)(*args, **kwargs)
