"""Fill the templates of pages: every value is escaped unless it is `Markup` already."""

import base64
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from launcher.pages import colours
from launcher.pages.writing import written_in
from shards.format.pixels import suffix_of
from shards.printable import one_line
from trainer.runs.words import count, duration, figure, moment, percent

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).parent
#: Control characters as pictures of themselves: a browser would drop or misread them. Halves of surrogate pairs, which
#: JSON and file names may hold, cannot be encoded.
_CONTROLS = (
    {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"}
    | {127: 0x2421}
    | dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)
)


def visible(text: str) -> str:
    """Replace the characters that a page cannot hold, or that a browser would not show, by pictures of them."""
    return text.translate(_CONTROLS)


def data_uri(image: bytes) -> str:
    """Return the `data:` address of an image file of a corpus, PNG or JPEG."""
    kind = {"jpg": "jpeg", "png": "png"}[suffix_of(image) or ""]
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def render(template: str, /, **values: Any) -> str:
    """Return the file `template` of this directory filled with `values`."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # most commands write no page

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    environment.filters |= {
        "anchor": lambda title: title.lower().replace(" ", "-"),
        "count": count,
        "data_uri": data_uri,
        "duration": duration,
        "figure": figure,
        "fixed": lambda value, digits=1: f"{value:.{digits}f}",
        "moment": moment,
        "one_line": lambda value: one_line(str(value)),
        "share": percent,
        "written_in": lambda language: Markup(written_in(language)),  # nothing of it comes from a corpus
    }
    environment.globals["colours"] = colours
    return environment
