"""Hold a table of scores, and show it as a page."""

from dataclasses import dataclass

from launcher.pages.templates import render


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A score in a cell. mark: of its significance. best: of those that it stands beside."""

    text: str
    mark: str = ""
    best: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """Scores with strokes between them. own: of a monolingual direction, which pages shade."""

    parts: tuple[Part, ...]
    own: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """A table of cells.

    head: a text a column, the first `labels` of which hold words and no scores.  rules: numbers of the rows that begin
    a new block.  details: (heading, head, rows) of a second table, on pages alone.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str
    labels: int = 1
    rules: frozenset[int] = frozenset()
    details: tuple[str, tuple[str, ...], tuple[tuple[str, ...], ...]] | None = None


def words(text: str) -> Cell:
    """Return a cell of words."""
    return Cell(parts=(Part(text=text),))


def as_page(sheet: Sheet) -> str:
    """Return a page with the table and its details."""
    return render("sheet.html.jinja", title=sheet.title, sheet=sheet)
