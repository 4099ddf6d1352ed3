"""Make, write and read the report of an evaluation, evaluation/<split>.json. Imports no torch."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from shards.batch.reader import Reader
from shards.errors import InputError
from shards.files.read import read_json
from shards.files.write import write_atomically
from shards.format.index import Corpus
from trainer.checkpoint.directory import identity
from trainer.evaluation.averages import languages_found, summarise, training_pairs
from trainer.evaluation.baselines.compute import Baselines, Example, Scorer, as_rows, compute
from trainer.evaluation.baselines.report import baselines_report
from trainer.evaluation.kept import evaluation_folder, make_room
from trainer.evaluation.predictions import write_predictions
from trainer.evaluation.scoring.measures import Pair
from trainer.evaluation.scoring.similarity import SIMILARITY, facts_of_similarity
from trainer.recipe import Recipe
from trainer.terminal.log import log


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """A finished evaluation.

    where: names it: the run, or `<run>/evaluation/<label>` (trainer/evaluation/kept.py).
    robustness: the report of perturbations, where they were asked for.
    """

    recipe: Recipe
    where: Path
    corpus: Corpus
    report: dict[str, Any]
    robustness: dict[str, Any] | None = None


def facts_of(recipe: Recipe, checkpoint: Path, corpus: str, product: str | None = None) -> dict[str, Any]:
    """Return all that the results depend on beside the split, as the report has it.

    corpus: the content hash.  product: the network's name, where the objective trains several.
    """
    languages = recipe.mixture.languages
    return {
        "checkpoint": identity(checkpoint),
        **({} if product is None else {"product": product}),
        "settings": recipe.evaluation.facts(),
        "languages": None if languages is None else list(languages),
        "lengths": recipe.lengths.model_dump(),
        "corpus": corpus,
        "images": recipe.corpus.images,
    }


def score_and_write(
    where: Path,
    head: Mapping[str, Any],
    facts: Mapping[str, Any],
    examples: Sequence[Example],
    pairs: Sequence[Pair],
    *,
    corpus: Corpus,
    reader: Reader,
    scorer: Scorer,
    nll: Mapping[str, Any],
    alignment: Mapping[str, Any] | None = None,
    further: Mapping[str, Any] = MappingProxyType({}),
    extracts: bool = True,
    after_each: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Score predictions and the baselines on the same examples, write all files, and return the report.

    The report is written last; an evaluation of something else that lies in `where` is moved away.

    head: the first keys of the report, with "split".  facts: all that the predictions depend on, with "settings".
    pairs: the texts of `examples`.  nll, alignment: the report's parts of these names; None: it has no such part.
    further: other parts.  extracts: False leaves out the baselines, which extract summaries from documents.
    after_each: called now and then, for a watchdog.

    Raises `InputError`.
    """
    scores = scorer(pairs)
    rows, measures = as_rows(examples, pairs, scores), list(scores.columns)
    trained_on = training_pairs(corpus)
    report: dict[str, Any] = {**head, **summarise(rows, measures, trained_on)}
    baselines = Baselines(rows={}, measures=[])
    if extracts:
        baselines = compute(corpus, reader, examples, scorer, profile=scores.rouge["profile"], after_each=after_each)
        report |= baselines_report(rows, baselines, trained_on)
    report |= {
        **further,
        "rouge": scores.rouge,
        "languages_found": languages_found(rows),
        "nll": nll,
    }
    if SIMILARITY in measures:
        report[SIMILARITY] = facts_of_similarity([(row.target, row.scores) for row in rows])
    if alignment is not None:
        report["alignment"] = alignment  # last: its matrices are long
    split = report["split"]

    def write_tables() -> None:
        write_predictions(where, split, rows, measures, facts)
        for name, of_baseline in baselines.rows.items():
            of = {"corpus": facts["corpus"], "baseline": name, "settings": facts["settings"]}
            if name == "lead":
                of["words"] = baselines.words
            write_predictions(where, split, of_baseline, baselines.measures, of, name)

    write_report(where, report, write_tables)
    return report


def write_report(where: Path, report: Mapping[str, Any], write_tables: Callable[[], None] = lambda: None) -> None:
    """Write <split>.json, behind the tables that belong to it. `InputError` where the directory cannot be written.

    An evaluation of something else that lies in `where` is moved away.
    """
    split, folder = report["split"], evaluation_folder(where)
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if line := make_room(where, split, report):
            log.info(line)
        write_tables()
        write_atomically(folder / f"{split}.json", text.encode())
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error}") from error


def read_report(where: Path, split: str) -> dict[str, Any] | None:
    """Read a finished evaluation of `where` (a run, or one of its `evaluation/<label>`); None where there is none.

    Raises: InputError for a damaged one.
    """
    path = evaluation_folder(where) / f"{split}.json"
    if not path.exists():
        return None
    try:
        report = read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not JSON ({error}): evaluate again with d2tv evaluate") from error
    if not _is_report(report):
        raise InputError(f"{path} is no evaluation of ours: evaluate again with d2tv evaluate")
    return dict(report)


def _is_report(report: Any) -> bool:
    """Return True if the parts of a report that every release writes have their types."""
    if not isinstance(report, dict):
        return False
    tables = [report.get(key, {}) for key in ("by_kind", "by_target", "nll")]
    return all(
        isinstance(table, dict)
        and all(isinstance(scores, dict) for scores in table.values())
        and all(type(value) in (int, float) for scores in table.values() for value in scores.values())
        for table in tables
    ) and all(isinstance(report.get(key, {}), dict) for key in ("settings", "macro", "directions"))
