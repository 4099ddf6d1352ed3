"""Escape text of others for GitHub's Markdown, so that names and paths never become tables, links or HTML."""

import re

from shards.printable import one_line

#: Characters with a meaning inside a line; an underscore within or after a word has none.
_SPECIAL = re.compile(r"[\\`*\[\]|~$]|(?<![0-9A-Za-z])_")


def as_text(text: str) -> str:
    """Escape a text so that it is shown literally, on one line."""
    shown = _SPECIAL.sub(lambda found: "\\" + found.group(), one_line(text))
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", re.sub(r"&(?=[#0-9A-Za-z]+;)", "&amp;", shown))


def as_code(text: str) -> str:
    """Write a text as code, in more backticks than it has in a row; safe in a table's cell."""
    shown = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    inner = f" {shown} " if shown.startswith("`") or shown.endswith("`") else shown
    return f"{fence}{inner}{fence}".replace("|", r"\|")
