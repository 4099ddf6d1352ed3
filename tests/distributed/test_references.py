"""Ranks read one frozen network, and a run that holds it goes on with another number of them."""

from pathlib import Path

import pytest
import torch

from models.objectives import OBJECTIVES
from shards.format.index import Corpus
from tests.support.checkpoints import recipe_in, write_checkpoint
from tests.support.harness import run_ranks
from tests.support.referring import ReferringConfig, referring_recipe


def test_all_ranks_hold_the_reference_as_it_was(
    tmp_path: Path, tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OBJECTIVES, "referring", ReferringConfig)
    model, trained = write_checkpoint(recipe_in(tmp_path / "mls", tiny_corpus), tiny_corpus)
    words = [f"references.mls.model={model}", "references.mls.initialises=true", "batch.groups_per_micro_batch=2"]
    recipe = write_recipe(tmp_path, tiny_corpus, *words)
    wanted = trained.network.state_dict()
    for world_size, step in ((2, 2), (1, 4)):
        spec = {"recipe": str(recipe), "steps": 2}
        ranks = run_ranks(
            tmp_path / f"of-{world_size}", "tests.distributed.references_job", world_size=world_size, spec=spec
        )
        for rank in ranks:
            assert rank["step"] == step
            assert all(torch.equal(rank["reference"][name], wanted[name]) for name in wanted)
            assert all(torch.equal(rank["network"][name], ranks[0]["network"][name]) for name in wanted)


def test_a_reference_has_the_precision_of_the_engine(
    tmp_path: Path, tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OBJECTIVES, "referring", ReferringConfig)
    model, _ = write_checkpoint(recipe_in(tmp_path / "mls", tiny_corpus), tiny_corpus)
    recipe = write_recipe(tmp_path, tiny_corpus, f"references.mls.model={model}", "training.precision=bf16")
    spec = {"recipe": str(recipe), "steps": 1}
    (rank,) = run_ranks(tmp_path / "job", "tests.distributed.references_job", world_size=1, spec=spec)
    for name in ("reference", "network"):
        assert {tensor.dtype for tensor in rank[name].values()} == {torch.bfloat16}, name


def write_recipe(folder: Path, corpus: Corpus, *words: str) -> Path:
    recipe = folder / "recipe.yaml"
    recipe.write_text(referring_recipe(folder, corpus, *words).dump())
    return recipe
