"""Say in words what a measure of an evaluation could not score. Imports no torch, and reads reports of any release."""

from collections.abc import Mapping
from typing import Any

from trainer.evaluation.scoring.similarity import SIMILARITY


def similarity_in_words(report: Mapping[str, Any]) -> str | None:
    """Return the sentence that stands beside the scores; None for a report without the measure."""
    facts = report.get(SIMILARITY)
    if not isinstance(facts, dict):
        return None
    languages, unscored = facts.get("languages"), facts.get("unscored")
    scored = ", ".join(map(str, languages)) if isinstance(languages, list) else ""
    told = f"USE: {facts.get('model')}, targets in {scored or 'no language that it knows'}"
    if isinstance(unscored, dict) and unscored:
        left = ", ".join(f"{language} {count}" for language, count in unscored.items())
        told += f"; not scored (a language that it does not know, or an empty reference): {left}"
    return told
