"""Hold what the tasks of trainer/evaluation/tasks evaluate a network by: a recipe, a corpus, the ranks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shards.batch.collate import Collator
from shards.batch.reader import Reader
from shards.batch.transforms import Transform
from shards.directions import Direction, by_kind, parse_directions
from shards.errors import InputError
from shards.format.index import Corpus
from shards.stream.sampler import Groups
from shards.text.tokenizer import Tokenizer
from trainer.evaluation.heldout import choose_examples, concatenate
from trainer.evaluation.report import facts_of
from trainer.ranks import Ranks
from trainer.recipe import Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluator:
    """Hold what every task evaluates a network by. All ranks build one.

    collator: returns one whose articles go through transforms (perturbations; none: as they are).
    begin_batch: called before every batch, for the watchdog.  kept_in: the directory of the results,
    `<run>/evaluation/<label>` (trainer/evaluation/kept.py); None: the run's own.  product: the name of the network,
    where the objective trains several.
    """

    recipe: Recipe
    corpus: Corpus
    reader: Reader
    tokenizer: Tokenizer
    collator: Callable[[Sequence[Transform]], Collator]
    ranks: Ranks
    device: torch.device
    begin_batch: Callable[[], None]
    kept_in: Path | None = None
    product: str | None = None

    @property
    def where(self) -> Path:
        """Return the directory that names the results: the run, or `kept_in`."""
        return self.kept_in or self.recipe.run

    def directions(self) -> list[Direction]:
        """Return the recipe's directions."""
        of = self.recipe.evaluation.directions
        return parse_directions(of, self.corpus.languages, self.recipe.mixture.languages)

    def choose(self, split: str) -> Groups:
        """Return the examples of `split` that the recipe asks for, numbered. `InputError` where there is none."""
        settings = self.recipe.evaluation
        chosen = [
            choose_examples(self.corpus, split, of_kind, total=settings.examples_per_kind)
            for of_kind in by_kind(self.directions()).values()
        ]
        if not any(len(part.number) for part in chosen):
            raise InputError(f"evaluation.directions={settings.directions}: the {split} split has no such example")
        return concatenate(chosen)

    def facts(self, checkpoint: Path) -> dict[str, Any]:
        """Return all that the predictions depend on beside the split, as the report has it."""
        return facts_of(self.recipe, checkpoint, self.corpus.content_hash, self.product)
