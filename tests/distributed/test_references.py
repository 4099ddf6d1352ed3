"""Ranks read one frozen network, and a run that holds it goes on with another number of them."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from transformers import MT5ForConditionalGeneration

from models.objectives import OBJECTIVES
from shards.errors import InputError
from shards.format.index import Corpus
from tests.support.checkpoints import recipe_in, write_checkpoint
from tests.support.harness import FP32, run_ranks
from tests.support.huggingface import across, save_model
from tests.support.referring import ReferringConfig, referring_recipe
from trainer.assemble import assemble
from trainer.distributed import group_of_one
from trainer.plan import plan_run
from trainer.references import REFERENCES, read_references
from trainer.trained_files import find_trained


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


def test_a_run_reads_a_huggingface_directory_and_goes_on_with_no_other(tmp_path: Path, tiny_corpus: Corpus) -> None:
    mls = save_model(tmp_path / "mls", tiny_corpus.tokenizer, "mt5")
    stock = MT5ForConditionalGeneration.from_pretrained(mls).state_dict()
    recipe = across(tmp_path, tiny_corpus, mls, "batch.groups_per_micro_batch=2")
    (tmp_path / "recipe.yaml").write_text(recipe.dump())
    for world_size, step in ((2, 1), (1, 2)):
        spec = {"recipe": str(tmp_path / "recipe.yaml"), "steps": 1}
        ranks = run_ranks(
            tmp_path / f"of-{world_size}", "tests.distributed.references_job", world_size=world_size, spec=spec
        )
        for rank in ranks:
            assert rank["step"] == step
            kept = {name.removeprefix("backbone.model."): tensor for name, tensor in rank["reference"].items()}
            names = kept.keys() & stock.keys()
            assert {name.partition(".")[0] for name in names} == {"shared", "encoder", "decoder"}
            assert all(torch.equal(kept[name], stock[name]) for name in names)
            assert not any(name.startswith(("vision", "fusion")) for name in kept)
            assert any(name.startswith("vision") for name in rank["network"])

    checkpoint = find_trained(recipe.run)
    held = json.loads((checkpoint / REFERENCES).read_text())["mls"]
    assert held["path"] == str(mls)
    other = save_model(tmp_path / "other", tiny_corpus.tokenizer, "mt5", seed=1)
    shutil.copytree(mls, tmp_path / "moved")
    with group_of_one() as (alone, device):
        moved, plan = (
            plan_run(across(tmp_path, tiny_corpus, where, "batch.groups_per_micro_batch=2"), FP32, alone)
            for where in (tmp_path / "moved", other)
        )
        assert read_references(moved.references)["mls"].identity == held["identity"], "the same by its hash"
        now = str(read_references(plan.references)["mls"].identity)
        was, given = f"{mls} (sha256 {held['identity'][:16]})", f"{other} (sha256 {now[:16]})"
        message = f"{checkpoint} was trained with references.mls {was}, this run has {given}: restore it or choose anot"
        with pytest.raises(InputError, match=re.escape(message)):
            assemble(plan, device)


def test_one_of_another_kind_and_width_is_compared_by_its_words(tmp_path: Path, tiny_corpus: Corpus) -> None:
    mls = save_model(tmp_path / "mls", tiny_corpus.tokenizer, "mbart", max_position_embeddings=32)
    recipe = across(tmp_path, tiny_corpus, mls, "objective.contrast=false")
    (tmp_path / "recipe.yaml").write_text(recipe.dump())
    spec = {"recipe": str(tmp_path / "recipe.yaml"), "steps": 1}
    (rank,) = run_ranks(tmp_path / "job", "tests.distributed.references_job", world_size=1, spec=spec)
    assert rank["step"] == 1
    assert rank["reference"]["backbone.model.shared.weight"].shape[1] == 16


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
