"""Print a finished evaluation to a terminal or a log."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from models.objectives.amid_config import COLUMNS
from trainer.evaluation.baseline_names import LABELS
from trainer.evaluation.baselines.report import baseline_means, has_baselines, losses
from trainer.evaluation.describe import (
    BELOW,
    BELOW_BY_CHANCE,
    describe_alignment,
    describe_baselines,
    describe_classification,
    describe_representation,
    describe_retrieval,
    describe_rouge,
    describe_similarity,
    describe_translation,
    profile_in,
    without_images,
)
from trainer.evaluation.kept import evaluation_folder
from trainer.evaluation.scoring.neighbours import FIGURES
from trainer.evaluation.scoring.recall import RECALLED
from trainer.evaluation.scoring.rouge import TYPES
from trainer.evaluation.scoring.similarity import SIMILARITY
from trainer.terminal.text import Console

#: Head of a column -> measure beside ROUGE. Those of models are shown where they were scored.
BESIDE = {
    "chrF": "chrf",
    "BLEU": "bleu",
    "LaSE": "lase",
    "BERTScore": "bertscore",
    "USE": SIMILARITY,
    "wrong": "wrong_language",
    "(refs.)": "wrong_language_reference",
    "new": "novelty2",
    "repeated": "repetition2",
}
#: Characters of a system's name in a table of 80 columns.
_LONGEST_NAME = 30
BESIDE_MEANS = "wrong: in another language; new, repeated: pairs of words"


def print_report(report: dict[str, Any], validations: Sequence[Mapping[str, float]], run: Path) -> None:
    """Print the scores beside those of the baselines, and where the files lie. run: or its `evaluation/<label>`."""
    console = Console(soft_wrap=True)
    for task, (table, describe) in _OF_TASKS.items():
        if task in report:
            console.print(table(report))
            for line in describe(report):
                console.print(line, markup=False)
            console.print(f"the figures lie in {evaluation_folder(run)}")
            return
    of_kinds = report["by_kind"]
    if report["nll"]:  # predictions that came in a file have none
        console.print(_losses_and_rouge(report, validations))
    if has_baselines(report):
        console.print(_beside_baselines(report))
        for line in describe_baselines(report):
            console.print(line)
    scored = {head: name for head, name in BESIDE.items() if any(name in scores for scores in of_kinds.values())}
    if scored:  # an earlier release scored ROUGE alone
        beside = _table(f"in per cent; {BESIDE_MEANS}", ("kind", *scored))
        spell = dict.fromkeys(("chrF", "BLEU", "LaSE", "BERTScore", "USE"), _two)
        for kind, scores in of_kinds.items():
            beside.add_row(kind.upper(), *(spell.get(head, _one)(scores.get(name)) for head, name in scored.items()))
        console.print(beside)
    for line in (*describe_translation(report), *describe_rouge(report)):
        console.print(line, markup=False)
    if similarity := describe_similarity(report):
        console.print(similarity)
    if alignment := describe_alignment(report):
        console.print(alignment)
    unreadable = f", {report['unreadable']} examples unreadable" if report["unreadable"] else ""
    if without := without_images(report):
        console.print(without)
    done = "summaries decoded" if "step" in report else "predictions scored"
    console.print(f"{report['examples']} {done}{unreadable}; they lie in {evaluation_folder(run)}")


def _losses_and_rouge(report: Mapping[str, Any], validations: Sequence[Mapping[str, float]]) -> Table:
    profile = profile_in(report)
    product = f", {report['product']}" if "product" in report else ""
    title = f"held-out stories, step {report['step']}{product}; NLL in nats a token, ROUGE (R, {profile}) in %"
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
    """Return the model's and the baselines' scores on the same examples, a block a kind."""
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


def _classification(report: Mapping[str, Any]) -> Table:
    """Return accuracies: the means, then each language."""
    found = report["classification"]
    names = {"trained": "trained on", "zero_shot": "zero-shot"}
    rows = {f"{names[kind]} ({of['languages']})": of for kind, of in found["means"].items()} | found["by_language"]
    table = _table(
        f"classification of {report['data']} into {found['classes']:,} labels, step {report['step']}; in per cent",
        ("language", "examples", "accuracy", "majority", "of"),
    )
    for name, of in rows.items():
        label = str(of.get("majority_label", ""))
        table.add_row(name, str(of.get("examples", "")), _two(of["accuracy"]), _two(of["majority"]), label)
    return table


def _retrieval(report: Mapping[str, Any]) -> Table:
    """Return recall@k of either direction: the means, then each language."""
    found = report["retrieval"]
    names = {"trained": "trained on", "zero_shot": "zero-shot"}
    rows = {f"{names[kind]} ({of['languages']})": of for kind, of in found["means"].items()} | found["by_language"]
    table = _table(
        f"retrieval, step {report['step']}; recall@k in per cent, image → name and name → image",
        ("language", *(f"{side}{k}" for side in ("i→n@", "n→i@") for k in RECALLED), "mean@1"),
    )
    for name, of in rows.items():
        cells = [of[side][f"recall{k}"] for side in ("image_to_text", "text_to_image") for k in RECALLED]
        table.add_row(name, *map(_one, cells), _one(of["mean"]["recall1"]))
    return table


def _representation(report: Mapping[str, Any]) -> Table:
    """Return accuracy, under the name of the model, and R@k of student and teacher: the means, then each language."""
    found = report["representation"]
    names = {"trained": "trained on", "zero_shot": "zero-shot"}
    rows = {f"{names[kind]} ({of['languages']})": of for kind, of in found["means"].items()} | found["by_language"]
    table = _table(
        f"{found['classes']:,} classes of {report['data']} by {found['target']} (student) and by both, step "
        f"{report['step']}; accuracy and R@k in per cent",
        ("language", "examples", *(name for column in COLUMNS for name in (column, "R@1", "R@5"))),
    )
    for name, of in rows.items():
        cells = [_one(of[column][figure]) for column in COLUMNS for figure in FIGURES]
        table.add_row(name, str(of.get("examples", "")), *cells)
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column in ("kind", "system", "language") else "right", no_wrap=True)
    return table


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _one(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


#: Part of a report that a task writes in place of scores -> its table, and what else is said of it.
_OF_TASKS: Mapping[str, tuple[Callable[[Mapping[str, Any]], Table], Callable[[Mapping[str, Any]], list[str]]]] = {
    "retrieval": (_retrieval, describe_retrieval),
    "classification": (_classification, describe_classification),
    "representation": (_representation, describe_representation),
}
