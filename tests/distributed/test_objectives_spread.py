"""Objectives: the same over ranks and micro-steps, and resumed at another world size."""

from pathlib import Path
from typing import Any

import pytest
import torch

from shards.format.index import Corpus
from tests.support.checkpoints import write_checkpoint
from tests.support.harness import run_job
from tests.support.tiny import make_corpus, tiny_overrides
from trainer.recipe import load_recipe

#: Recipes that begin with a network that `rc3_roi` has trained.
FINE_TUNED = ("rc3_translation", "rc3_retrieval", "rc3_classification")

#: Keys of AMID, with which its discriminators learn from the second step on and are weighed anew after each.
AMID = ("objective.width=16", "objective.warmup_steps=1", "objective.epoch_steps=1")


@pytest.mark.parametrize(
    ("recipe", "changed"),
    [
        ("cat", ()),
        ("ncls_mt", ()),
        ("dkd", ("network.fusion.kind=early",)),
        ("rc3_combined", ()),
        ("rc3_translation", ()),
        ("rc3_retrieval", ()),
        ("rc3_classification", ("corpus.tokenizer=", "mixture.kinds=[mms,mxls]")),
        ("amid", AMID),
        ("amid_summary", (*AMID, "batch.group_size=4", "batch.sources_per_target=2")),
    ],
    ids=[
        *("cat", "ncls_mt", "early fusion", "rc3", "rc3 translation", "rc3 retrieval", "rc3 classification"),
        *("amid", "amid_summary"),
    ],
)
def test_it_does_not_matter_how_it_is_spread(
    labelled_corpus: Corpus, tmp_path: Path, recipe: str, changed: tuple[str, ...]
) -> None:
    """Four micro-steps on one rank, two on each of two, then again on one: masks and dropout follow from the slots."""

    def train(folder: Path, world_size: int, steps: int, **of_job: Any) -> Any:
        words = [word for word in tiny_overrides(corpus_path, folder / "run") if not word.startswith(others)]
        words += [*changed, *pretrained, "batch.groups_per_micro_batch=1", "mixture.directions=*-en,*-fr"]
        out = folder / f"job-{world_size}-{steps}"
        return run_job(out, world_size=world_size, overrides=words, steps=steps, recipe=recipe, **of_job)[0]

    corpus_path, others = labelled_corpus.directory, ("objective.alpha_steps",)
    if recipe == "rc3_combined":
        corpus_path = make_corpus(tmp_path / "corpus", pixels=True).directory
    pretrained: list[str] = []
    if recipe in (*FINE_TUNED, "amid"):
        others += ("objective.label_smoothing",)
    if recipe in FINE_TUNED:
        words = [word for word in tiny_overrides(corpus_path, tmp_path / "rc3") if not word.startswith(others)]
        checkpoint, _ = write_checkpoint(load_recipe("rc3_roi", words), labelled_corpus)
        pretrained = [f"references.pretrained.model={checkpoint}"]
    alone = train(tmp_path / "alone", 1, 4)
    spread = tmp_path / "spread"
    first = train(spread, 2, 2, save=True)
    second = train(spread, 1, 2)
    for found, expected in zip([*first["losses"], *second["losses"]], alone["losses"], strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
    for name, weight in alone["weights"].items():
        torch.testing.assert_close(second["weights"][name], weight, rtol=1e-4, atol=1e-4)
