"""Write a table of scores for a terminal, in Markdown, LaTeX or HTML."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from launcher.pages.sheet import Cell, Part, Sheet, as_page
from shards.errors import InputError
from shards.files.write import check_output, write_output
from shards.printable import one_line
from trainer import markdown
from trainer.terminal.text import Console

Format = Literal["text", "markdown", "latex", "html"]

#: The advice for a file that cannot be written.
_INSTEAD = "name another file, or leave --out out for standard output"

#: Columns of the widest table that is printed to a file or a pipe.
_WIDEST = 10_000


def as_markdown(sheet: Sheet) -> str:
    """Return a table of GitHub's Markdown."""

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
    """Return a tabular, for a document with the package booktabs."""

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


def as_text(sheet: Sheet) -> Table:
    """Return a table for the terminal."""
    shown = Table(caption=sheet.note, caption_justify="left")
    for index, column in enumerate(sheet.head):
        is_label = index < sheet.labels  # scores may fold, names may not be cut
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


def check_out(form: Format, out: Path | None, reads: Iterable[Path] = ()) -> None:
    """Raise now the `InputError` with which `show` would end after the work.  reads: as of `check_output`."""
    if form == "html" and out is None:
        raise InputError("--format html wants --out FILE")
    check_output(out, _INSTEAD, reads=reads)


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
