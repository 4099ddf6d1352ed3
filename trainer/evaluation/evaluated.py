"""A finished evaluation, for what is shown of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.format.index import Corpus
from trainer.recipe import Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """A finished evaluation and what it was of.

    where: what names it: the run, or `<run>/evaluation/<label>` (trainer/evaluation/kept.py).
    robustness: what perturbations cost, where they were asked for.
    """

    recipe: Recipe
    where: Path
    corpus: Corpus
    report: dict[str, Any]
    robustness: dict[str, Any] | None = None
