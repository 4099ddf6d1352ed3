"""Print a finished evaluation to a terminal or a log."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from trainer.evaluation.kept import evaluation_folder
from trainer.evaluation.scoring.findings import lines, profile_in
from trainer.evaluation.scoring.rouge import TYPES
from trainer.terminal import Console

#: Head of a column -> measure of what stands beside ROUGE. Those with a model are there where it was given.
BESIDE = {
    "LaSE": "lase",
    "BERTScore": "bertscore",
    "wrong": "wrong_language",
    "(refs.)": "wrong_language_reference",
    "new": "novelty2",
    "repeated": "repetition2",
}
BESIDE_MEANS = "wrong: in another language; new, repeated: pairs of words"


def print_report(report: dict[str, Any], validations: Sequence[Mapping[str, float]], run: Path) -> None:
    """Print what was learned, beside the unigram model, and where the files lie. run: or its `evaluation/<label>`."""
    console = Console(soft_wrap=True)
    split, of_kinds = report["split"], report["by_kind"]
    profile = profile_in(report)
    title = f"held-out stories, step {report['step']}; NLL in nats a token, ROUGE (R, {profile}) in %"
    # Short heads and no wrapping: it fits the 80 columns of a log file.
    table = _table(title, ("kind", "validation", split, "unigram", "better", "R-1", "R-2", "R-L"))
    for kind, nll in report["nll"].items():
        course = "-"
        if validations and kind in validations[0]:
            course = f"{validations[0][kind]:.3f} → {validations[-1][kind]:.3f}"
        table.add_row(
            kind.upper(),
            course,
            f"{nll['model']:.3f}",
            f"{nll['unigram']:.3f}",
            f"{nll['better_by']:.1%}",
            *(_two(of_kinds.get(kind, {}).get(name)) for name in TYPES),
        )
    console.print(table)
    there = {head: name for head, name in BESIDE.items() if any(name in scores for scores in of_kinds.values())}
    if there:  # an earlier release scored ROUGE alone
        title = f"in per cent; {BESIDE_MEANS}"
        beside = _table(title, ("kind", *there))
        spell: dict[str, Callable[[float | None], str]] = {"LaSE": _two, "BERTScore": _two}
        for kind, scores in of_kinds.items():
            beside.add_row(kind.upper(), *(spell.get(head, _one)(scores.get(name)) for head, name in there.items()))
        console.print(beside)
    for line in lines(report):
        console.print(line, markup=False)
    unreadable = f", {report['unreadable']} examples unreadable" if report["unreadable"] else ""
    console.print(f"{report['examples']} summaries decoded{unreadable}; they lie in {evaluation_folder(run)}")


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column == "kind" else "right", no_wrap=True)
    return table


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _one(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
