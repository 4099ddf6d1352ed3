"""A table of scores and the forms it takes: terminal, Markdown, LaTeX, HTML."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from launcher.pages.page import escape, page, table
from shards.errors import InputError
from shards.files.write import check_output, write_output
from shards.printable import one_line
from trainer import markdown
from trainer.terminal.text import Console

Format = Literal["text", "markdown", "latex", "html"]

#: What is proposed for a file that cannot be written.
_INSTEAD = "name another file, or leave --out out for standard output"

#: Columns of the widest table that is printed to a file or a pipe.
_WIDEST = 10_000

STYLE = """
.sheet td b { font-weight: 700; } .sheet .rule td { border-top: 2px solid var(--soft); }
.sheet td.own { background: var(--panel); } .sheet .label { text-align: left; }
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A score in a cell. mark: of its significance. best: of those it stands beside."""

    text: str
    mark: str = ""
    best: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """Scores with strokes between them. own: a monolingual direction's, which pages show shaded."""

    parts: tuple[Part, ...]
    own: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """head: a text a column, the first `labels` of which hold words and no scores.

    rules: numbers of the rows that begin a new block. details: (heading, head, rows) of a second table, for pages.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str
    labels: int = 1
    rules: frozenset[int] = frozenset()
    details: tuple[str, tuple[str, ...], tuple[tuple[str, ...], ...]] | None = None


def words(text: str) -> Cell:
    """A cell of words."""
    return Cell(parts=(Part(text=text),))


def as_markdown(sheet: Sheet) -> str:
    """Write a table of GitHub's Markdown."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    def spelled(part: Part) -> str:
        text = markdown.as_text(part.text)
        return (f"**{text}**" if part.best else text) + markdown.as_text(part.mark)

    rule = ["---"] * sheet.labels + ["---:"] * (len(sheet.head) - sheet.labels)
    rows = [line(_spelled(row, spelled)) for row in sheet.rows]
    head = [markdown.as_text(text) for text in sheet.head]
    return "\n".join([line(head), line(rule), *rows, "", markdown.as_text(sheet.note)]) + "\n"


def as_latex(sheet: Sheet) -> str:
    """A tabular, for a document with the package booktabs."""

    def spelled(part: Part) -> str:
        text = rf"\textbf{{{_tex(part.text)}}}" if part.best else _tex(part.text)
        return text + _tex(part.mark)

    columns = "l" * sheet.labels + "r" * (len(sheet.head) - sheet.labels)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", " & ".join(map(_tex, sheet.head)) + r" \\", r"\midrule"]
    for number, row in enumerate(sheet.rows):
        if number and number in sheet.rules:
            lines.append(r"\midrule")
        lines.append(" & ".join(_spelled(row, spelled)) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", f"% {one_line(sheet.note)}"]) + "\n"


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special.update({sign: f"\\{sign}" for sign in "&%$#_{}"})
    special.update(
        {
            ">": r"$\rightarrow$",
            "→": r"$\rightarrow$",
            "↓": r"$\downarrow$",
            "*": r"$^{*}$",
            "²": r"$^{2}$",
            "±": r"$\pm$",
        }
    )
    # Behind the end of a row a bracket would begin an argument of it.
    special.update({"[": "{[}", "]": "{]}", "<": r"\textless{}", "|": r"\textbar{}"})
    return "".join(special.get(sign, sign) for sign in one_line(text))


def as_html(sheet: Sheet) -> str:
    """A table element; the page that holds it wants `STYLE`."""

    def spelled(part: Part) -> str:
        text = f"<b>{escape(part.text)}</b>" if part.best else escape(part.text)
        return text + (f"<sup>{escape(part.mark)}</sup>" if part.mark else "")

    rows = []
    for number, row in enumerate(sheet.rows):
        cells = "".join(
            f"<td{' class=own' if cell.own else ' class=label' if place < sheet.labels else ''}>{text}</td>"
            for place, (cell, text) in enumerate(zip(row, _spelled(row, spelled), strict=True))
        )
        rows.append(f"<tr{' class=rule' if number and number in sheet.rules else ''}>{cells}</tr>")
    head = "".join(
        f"<th{' class=label' if place < sheet.labels else ''}>{escape(text)}</th>"
        for place, text in enumerate(sheet.head)
    )
    return f'<div class="wide"><table class="sheet"><tr>{head}</tr>{"".join(rows)}</table></div>'


def as_page(sheet: Sheet) -> str:
    """A whole page, with the details."""
    body = (
        f'<h1>{escape(sheet.title)}</h1><p class="soft">{escape(sheet.note)}</p><style>{STYLE}</style>{as_html(sheet)}'
    )
    if sheet.details is not None:
        heading, head, rows = sheet.details
        body += f"<h2>{escape(heading)}</h2>{table(head, rows)}"
    return page(sheet.title, body, STYLE)


def as_text(sheet: Sheet) -> Table:
    """For the terminal."""
    shown = Table(caption=sheet.note, caption_justify="left")
    for place, column in enumerate(sheet.head):
        is_label = place < sheet.labels  # scores may fold, names may not be cut
        shown.add_column(column, justify="left" if is_label else "right", no_wrap=is_label, overflow="fold")
    for number, row in enumerate(sheet.rows):
        if number and number in sheet.rules:
            shown.add_section()
        shown.add_row(*(_as_rich(cell) for cell in row))
    return shown


def _print(shown: Table) -> None:
    """Print a table; a terminal has no more columns than it has, a file or a pipe has as many as the table wants."""
    console = Console()
    if not console.is_terminal:
        wanted = Measurement.get(console, console.options.update(max_width=_WIDEST), shown).maximum
        console = Console(width=max(console.width, wanted))
    console.print(shown)


def _as_rich(cell: Cell) -> Text:
    strokes = Text(" / ")
    return strokes.join(Text(part.text + part.mark, style="bold" if part.best else "") for part in cell.parts)


def _spelled(row: Sequence[Cell], spell: Callable[[Part], str]) -> list[str]:
    return [" / ".join(map(spell, cell.parts)) for cell in row]


def check_out(form: Format, out: Path | None) -> None:
    """Raise now the `InputError` with which `show` would end after the work."""
    if form == "html" and out is None:
        raise InputError("--format html wants --out FILE")
    check_output(out, _INSTEAD)


def show(sheet: Sheet, form: Format, out: Path | None) -> None:
    """Print a table, or write it to a file. Raises `InputError` where that cannot be written."""
    check_out(form, out)
    if form == "html" and out is not None:
        write_output(out, as_page(sheet), _INSTEAD)
        return
    if form == "text" and out is None:
        _print(as_text(sheet))
        return
    text = as_latex(sheet) if form == "latex" else as_markdown(sheet)
    if out is None:
        print(text, end="")
        return
    write_output(out, text, _INSTEAD)
