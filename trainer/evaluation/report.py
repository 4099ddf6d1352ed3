"""The report of an evaluation, evaluation/<split>.json: what it is of, and how it is read. Imports no torch."""

from pathlib import Path
from typing import Any

from shards.errors import InputError
from shards.files.read import read_json
from trainer.checkpoint.directory import identity
from trainer.evaluation.kept import evaluation_folder
from trainer.recipe import Recipe


def facts_of(recipe: Recipe, checkpoint: Path, corpus: str) -> dict[str, Any]:
    """Return what an evaluation by `recipe` is of, as its report has it. corpus: the content hash."""
    languages = recipe.mixture.languages
    return {
        "checkpoint": identity(checkpoint),
        "settings": recipe.evaluation.model_dump(mode="json"),
        "languages": None if languages is None else list(languages),
        "lengths": recipe.lengths.model_dump(),
        "corpus": corpus,
        "images": recipe.corpus.images,
    }


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
    """Return True if the parts of a report that every release writes are of their types."""
    if not isinstance(report, dict):
        return False
    tables = [report.get(key, {}) for key in ("by_kind", "by_target", "nll")]
    return all(
        isinstance(table, dict)
        and all(isinstance(scores, dict) for scores in table.values())
        and all(type(value) in (int, float) for scores in table.values() for value in scores.values())
        for table in tables
    ) and all(isinstance(report.get(key, {}), dict) for key in ("settings", "macro", "directions"))
