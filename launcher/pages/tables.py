"""Hold the cells of a page's table."""

from collections.abc import Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """Cells of text; groups: (text, columns) above the heading."""

    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    groups: Sequence[tuple[str, int]] = ()
