"""Build what all pages share: the frame, the style, and text that cannot break out of either."""

import base64
import hashlib
import html
from collections.abc import Sequence
from pathlib import Path

from shards.files.write import write_output
from shards.format.pixels import suffix_of

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --line: #d1d9e0; --page: #ffffff;
  --panel: #f6f8fa; --none: #eef1f4; --accent: #0969da; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --page: #0d1117;
  --panel: #151b23; --none: #1a2129; --accent: #58a6ff; } }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, "Noto Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; } a { color: var(--accent); }
.soft { color: var(--soft); } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .5rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { color: var(--soft); font-weight: 600; }
svg { display: block; } svg text { fill: var(--ink); font: 11px system-ui, "Noto Sans", sans-serif; }
svg .number { fill: var(--soft); }
"""

#: Even a page that was tampered with loads nothing: its images are in it.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

#: Control characters as pictures of themselves: a browser would drop them or take them for something else. Halves of
#: surrogate pairs, which JSON and names of files may hold, have no bytes.
_CONTROLS = (
    {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"}
    | {127: 0x2421}
    | dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)
)


def visible(text: str) -> str:
    """Replace the characters that a page cannot hold, or that a browser would not show, by pictures of them."""
    return text.translate(_CONTROLS)


def escape(text: str) -> str:
    """Text as it stands between tags or in a quoted attribute."""
    return html.escape(visible(text), quote=True)


def page(title: str, body: str, style: str = "", script: str = "") -> str:
    """A whole document around `body`, which is HTML already.

    script: our own, and the only one that the page can run, held by its hash. Without it, none can.
    """
    policy = _POLICY
    if script:
        assert "</script" not in script
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{digest}'"
        body += f"\n<script>{script}</script>"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def data_uri(image: bytes) -> str:
    """An image file of a corpus, PNG or JPEG, as the address of itself."""
    suffix = suffix_of(image)
    assert suffix is not None  # nothing else is stored
    kind = "jpeg" if suffix == "jpg" else suffix
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def table(heading: Sequence[str], rows: Sequence[Sequence[str]], groups: Sequence[tuple[str, int]] = ()) -> str:
    """Cells are text; numbers stand to the right, the first column to the left.

    groups: a line above the heading, (text, how many columns it stands over).
    """
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in heading)
    if groups:
        above = "".join(f'<th scope="colgroup" colspan="{span}">{escape(text)}</th>' for text, span in groups)
        head = f"{above}</tr><tr>{head}"
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def write_page(path: Path, text: str) -> None:
    """Write the page `text` to `path` as `write_output` does, which raises `InputError`."""
    write_output(path, text)
