"""Recipes of classification for tests, and the network that they begin with, without a training."""

from pathlib import Path

from shards.format.index import Corpus
from tests.support.checkpoints import write_checkpoint
from tests.support.tiny import tiny_overrides
from trainer.recipe import load_recipe

#: Of `tiny_overrides`, keys that these objectives lack.
_OTHERS = ("objective.alpha_steps", "objective.label_smoothing")


def words_for(corpus: Corpus, run: Path, *more: str) -> list[str]:
    """Return overrides of `rc3_classification` for a tiny network that begins with a checkpoint beside `run`."""
    words = [word for word in tiny_overrides(corpus.directory, run) if not word.startswith(_OTHERS)]
    words += [word for word in more if word.startswith("network.")]
    before = run.with_name("rc3")
    if not before.exists():
        write_checkpoint(load_recipe("rc3_roi", [*words, f"run={before}"]), corpus)
    return [*words, "corpus.tokenizer=", f"references.pretrained.model={before}", *more]
