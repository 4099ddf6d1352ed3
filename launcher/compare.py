"""`d2tv compare`: evaluations of several runs side by side, with marks where a difference is no chance."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from launcher.pages.page import escape, page, table, write_page
from shards.errors import InputError, did_you_mean
from shards.files import write_atomically
from trainer.evaluation.predictions import Key, read_scores
from trainer.evaluation.significance import Difference, holm, paired_bootstrap

By = Literal["kind", "target", "source", "direction"]
Format = Literal["text", "markdown", "latex", "html"]

_SHORT = {"rouge1": "R-1", "rouge2": "R-2", "rougeL": "R-L", "rougeLsum": "R-Lsum"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A mean, and how it differs from the baseline's: None for the baseline itself. p: corrected."""

    mean: float
    difference: Difference | None
    p: float

    @property
    def mark(self) -> str:
        """** p < 0.01, * p < 0.05."""
        return "**" if self.p < 0.01 else "*" if self.p < 0.05 else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """rows: (what it is of, examples, the runs' cells, measure after measure)."""

    names: tuple[str, ...]
    measures: tuple[str, ...]
    by: By
    rows: tuple[tuple[str, int, tuple[Cell, ...]], ...]
    note: str


def compare(
    runs: Sequence[Path], *, split: str, by: By, measures: Sequence[str], samples: int, seed: int
) -> Comparison:
    """All against the first, on the examples that all of them have. `InputError` where there are none."""
    if len(runs) < 2:
        raise InputError("name at least two runs: the first is what the others are compared with")
    if samples < 100:
        raise InputError(f"--samples {samples}: at least 100, or a p-value means nothing")
    scores = [read_scores(run, split) for run in runs]
    for run, of_run in zip(runs, scores, strict=True):
        there = set.intersection(*(set(one) for one in of_run.values())) if of_run else set()
        for measure in measures:
            if measure not in there:
                near = did_you_mean(measure, sorted(there))
                raise InputError(
                    f"{run} has no {measure}{near} for all of its predictions; it has {', '.join(sorted(there))}"
                )
    common = sorted(set.intersection(*(set(of_run) for of_run in scores)))
    if not common:
        raise InputError(
            f"{', '.join(map(str, runs))} have no example of {split} in common: evaluate the same directions"
        )
    left_out = max(len(of_run) for of_run in scores) - len(common)
    story_number = {story: number for number, story in enumerate(sorted({key[0] for key in common}))}
    tests: list[Difference] = []
    raw: list[tuple[str, int, list[tuple[float, Difference | None]]]] = []
    for name, keys in _groups(common, by):
        cells: list[tuple[float, Difference | None]] = []
        for measure in measures:
            columns = [[of_run[key][measure] for key in keys] for of_run in scores]
            for column in columns:
                difference = None
                if column is not columns[0]:
                    stories = [story_number[key[0]] for key in keys]
                    difference = paired_bootstrap(columns[0], column, stories, samples=samples, seed=seed)
                    tests.append(difference)
                cells.append((sum(column) / len(column), difference))
        raw.append((name, len(keys), cells))
    corrected = iter(holm([test.p for test in tests]).tolist())
    rows = tuple(
        (name, count, tuple(Cell(mean=m, difference=d, p=1.0 if d is None else next(corrected)) for m, d in cells))
        for name, count, cells in raw
    )
    names = _names(runs)
    note = (
        f"{len(common):,} examples of {split}, {len(story_number):,} stories"
        + (f" ({left_out:,} examples are not in all of them and left out)" if left_out else "")
        + f"; * p < 0.05, ** p < 0.01 against {names[0]}: paired bootstrap over stories, {samples:,} samples, "
        f"seed {seed}, corrected for {len(tests)} tests (Holm)"
    )
    # The least that so many samples can show, after the correction.
    if 2 / (samples + 1) * len(tests) >= 0.05:
        needed = 1000 * -(-40 * len(tests) // 1000)
        note += f"; so few samples can mark none of so many tests: --samples {needed}"
    return Comparison(names=names, measures=tuple(measures), by=by, rows=rows, note=note)


def _groups(keys: Sequence[Key], by: By) -> Iterator[tuple[str, list[Key]]]:
    name_of: Callable[[Key], str] = {
        "kind": lambda key: "MMS" if key[1] == key[2] else "MXLS",
        "target": lambda key: key[2],
        "source": lambda key: key[1],
        "direction": lambda key: f"{key[1]}>{key[2]}",
    }[by]
    groups: dict[str, list[Key]] = {}
    for key in keys:
        groups.setdefault(name_of(key), []).append(key)
    yield from sorted(groups.items())
    if len(groups) > 1:
        yield "all", list(keys)


def _names(runs: Sequence[Path]) -> tuple[str, ...]:
    """The directories' names; whole paths where two share one."""
    short = [run.resolve().name for run in runs]
    return tuple(short if len(set(short)) == len(short) else map(str, runs))


def heading(comparison: Comparison) -> list[str]:
    """Of the columns: a measure of a run each, behind the row's name and its number of examples."""
    measures = [_SHORT.get(measure, measure) for measure in comparison.measures]
    return [comparison.by, "examples", *(f"{measure} {name}" for measure in measures for name in comparison.names)]


def spelled(comparison: Comparison, mark: Callable[[str], str] = lambda mark: mark) -> list[list[str]]:
    """The cells as text, two digits as in the paper's tables."""
    return [
        [name, f"{count:,}", *(f"{cell.mean:.2f}{mark(cell.mark)}" for cell in cells)]
        for name, count, cells in comparison.rows
    ]


def as_markdown(comparison: Comparison) -> str:
    """A table of GitHub's Markdown."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

    head = heading(comparison)
    rows = [line(row) for row in spelled(comparison, lambda mark: mark.replace("*", r"\*"))]
    return "\n".join([line(head), line(["---", *["---:"] * (len(head) - 1)]), *rows, "", comparison.note]) + "\n"


def as_latex(comparison: Comparison) -> str:
    """A tabular, for a document with the package booktabs."""
    head = heading(comparison)
    rows = [" & ".join(map(_tex, row)) + r" \\" for row in spelled(comparison)]
    lines = [
        r"\begin{tabular}{l" + "r" * (len(head) - 1) + "}",
        r"\toprule",
        " & ".join(map(_tex, head)) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        f"% {comparison.note}",
    ]
    return "\n".join(lines) + "\n"


def _tex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special.update({sign: f"\\{sign}" for sign in "&%$#_{}"})
    special.update({">": r"$\rightarrow$", "*": r"$^{*}$"})
    return "".join(special.get(sign, sign) for sign in text)


def as_page(comparison: Comparison) -> str:
    """A page with the intervals of every difference."""
    lines = []
    width = len(comparison.names)
    for name, _, cells in comparison.rows:
        for place, cell in enumerate(cells):
            if cell.difference is not None:
                measure = comparison.measures[place // width]
                d = cell.difference
                whole = [name, _SHORT.get(measure, measure), comparison.names[place % width], f"{d.mean:+.2f}"]
                lines.append([*whole, f"{d.low:+.2f} to {d.high:+.2f}", f"{cell.p:.3f}{cell.mark}"])
    title = f"{', '.join(comparison.names)} – d2tv compare"
    body = (
        f'<h1>{escape(title)}</h1><p class="soft">{escape(comparison.note)}</p>'
        f"{table(heading(comparison), spelled(comparison))}<h2>Differences from {escape(comparison.names[0])}</h2>"
        f"{table([comparison.by, 'measure', 'run', 'difference', '95% of resamples', 'p, corrected'], lines)}"
    )
    return page(title, body)


def show(comparison: Comparison, form: Format, out: Path | None) -> None:
    """To the terminal, or into a file. `InputError` where that cannot be written."""
    if form == "html":
        if out is None:
            raise InputError("--format html wants --out FILE")
        write_page(out, as_page(comparison))
        return
    if form == "text" and out is None:
        shown = Table(caption=comparison.note, caption_justify="left")
        for place, column in enumerate(heading(comparison)):
            shown.add_column(column, justify="right" if place else "left")
        for row in spelled(comparison):
            shown.add_row(*row)
        Console(highlight=False, markup=False).print(shown)
        return
    text = as_latex(comparison) if form == "latex" else as_markdown(comparison)
    if out is None:
        print(text, end="")
        return
    try:
        write_atomically(out, text.encode())
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}") from error
