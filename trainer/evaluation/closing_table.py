"""Print a finished evaluation to a terminal or a log."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from trainer.evaluation.baselines.names import LABELS, describe_lead
from trainer.evaluation.baselines.report import baseline_means, has_baselines, lead_words, losses
from trainer.evaluation.kept import evaluation_folder
from trainer.evaluation.scoring.findings import lines, profile_in
from trainer.evaluation.scoring.rouge import TYPES
from trainer.evaluation.scoring.similarity import SIMILARITY
from trainer.evaluation.unscored import similarity_in_words
from trainer.terminal.text import Console

#: Head of a column -> measure of what stands beside ROUGE. Those with a model are there where it was given.
BESIDE = {
    "LaSE": "lase",
    "BERTScore": "bertscore",
    "USE": SIMILARITY,
    "wrong": "wrong_language",
    "(refs.)": "wrong_language_reference",
    "new": "novelty2",
    "repeated": "repetition2",
}
#: Before a score below LEAD's; the second where p >= 0.05.
BELOW, BELOW_BY_CHANCE = "↓", "(↓)"
#: Characters of a system's name in a table of 80 columns.
_LONGEST_NAME = 30
BESIDE_MEANS = "wrong: in another language; new, repeated: pairs of words"


def print_report(report: dict[str, Any], validations: Sequence[Mapping[str, float]], run: Path) -> None:
    """Print what was learned, beside the unigram model, and where the files lie. run: or its `evaluation/<label>`."""
    console = Console(soft_wrap=True)
    of_kinds = report["by_kind"]
    if report["nll"]:  # predictions that came in a file have none
        console.print(_losses_and_rouge(report, validations))
    if has_baselines(report):
        console.print(_beside_baselines(report))
        for line in told_of_baselines(report):
            console.print(line)
    there = {head: name for head, name in BESIDE.items() if any(name in scores for scores in of_kinds.values())}
    if there:  # an earlier release scored ROUGE alone
        title = f"in per cent; {BESIDE_MEANS}"
        beside = _table(title, ("kind", *there))
        spell: dict[str, Callable[[float | None], str]] = {"LaSE": _two, "BERTScore": _two, "USE": _two}
        for kind, scores in of_kinds.items():
            beside.add_row(kind.upper(), *(spell.get(head, _one)(scores.get(name)) for head, name in there.items()))
        console.print(beside)
    for line in lines(report):
        console.print(line, markup=False)
    if told := similarity_in_words(report):
        console.print(told)
    unreadable = f", {report['unreadable']} examples unreadable" if report["unreadable"] else ""
    if without := without_images(report):
        console.print(without)
    done = "summaries decoded" if "step" in report else "predictions scored"
    console.print(f"{report['examples']} {done}{unreadable}; they lie in {evaluation_folder(run)}")


def _losses_and_rouge(report: Mapping[str, Any], validations: Sequence[Mapping[str, float]]) -> Table:
    profile = profile_in(report)
    title = f"held-out stories, step {report['step']}; NLL in nats a token, ROUGE (R, {profile}) in %"
    # Short heads and no wrapping: it fits the 80 columns of a log file.
    table = _table(title, ("kind", "validation", report["split"], "unigram", "better", "R-1", "R-2", "R-L"))
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
            *(_two(report["by_kind"].get(kind, {}).get(name)) for name in TYPES),
        )
    return table


def _beside_baselines(report: Mapping[str, Any]) -> Table:
    """The model and the baselines on the same examples, a block a kind."""
    system = report.get("system")
    name = str(system.get("name"))[:_LONGEST_NAME] if isinstance(system, dict) else "model"
    table = _table(
        f"the same examples by baselines; ROUGE ({profile_in(report)}) in per cent",
        ("kind", "system", "R-1", "R-2", "R-L"),
    )
    lost = losses(report)
    for kind, scores in report["by_kind"].items():
        mark = {loss.measure: BELOW_BY_CHANCE if loss.by_chance else BELOW for loss in lost.get(kind, ())}
        cells = [f"{mark.get(measure, '')} {_two(scores.get(measure))}".strip() for measure in TYPES]
        table.add_row(kind.upper(), name, *cells)
        for baseline, label in LABELS.items():
            if means := baseline_means(report, baseline).get(kind):
                table.add_row("", label, *(_two(means.get(measure)) for measure in TYPES))
    return table


def told_of_baselines(report: Mapping[str, Any]) -> list[str]:
    """Say what LEAD is, and where the model loses to it."""
    told = []
    for kind, lost in losses(report).items():
        best = lost[0]
        names = ", ".join(f"R-{loss.measure.removeprefix('rouge')}" for loss in lost)
        chance = ", which may be chance" if all(loss.by_chance for loss in lost) else ""
        told.append(
            f"{BELOW} {kind.upper()} loses to LEAD in {names} ({best.model:.2f} against {best.lead:.2f}){chance}"
        )
    told.append(
        f"LEAD: the document's first k words, by target language's median summary: {describe_lead(lead_words(report))}"
    )
    if uncut := _counts(report["baselines"].get("lead")).get("uncut"):
        told.append(f"baselines write nothing for {uncut} examples, whose documents no segmenter cuts")
    nearest = _counts(report["baselines"].get("nearest"))
    if nearest.get("without_story"):
        told.append(f"nearest story: {nearest['without_story']} examples share no word with a training document")
    if nearest.get("unreadable"):
        told.append(f"nearest story: {nearest['unreadable']} training articles could not be read")
    if nearest.get("training_documents", 0) < nearest.get("of", 0):
        told.append(f"nearest story: of {nearest['training_documents']:,} of {nearest['of']:,} training documents")
    return told


def _counts(value: object) -> dict[str, int]:
    """The numbers of a part of a report, which may be damaged."""
    return {key: count for key, count in value.items() if type(count) is int} if isinstance(value, dict) else {}


def without_images(report: Mapping[str, Any]) -> str | None:
    """Say how many examples came without an image; None where all had one, or the model sees none."""
    counts = _counts(report.get("without_images"))
    if not any(counts.values()):
        return None
    kinds = ", ".join(f"{count} {kind.upper()}" for kind, count in counts.items() if count)
    return f"{sum(counts.values())} of {report.get('examples', '–')} examples had no image ({kinds})"


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column in ("kind", "system") else "right", no_wrap=True)
    return table


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _one(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
