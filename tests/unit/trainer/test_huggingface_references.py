"""Refusals of a Hugging Face directory that a run cannot read; tests/distributed/test_references.py trains with one."""

import json
from pathlib import Path

import pytest

from shards.errors import InputError
from shards.format.index import Corpus
from tests.support.harness import FP32
from tests.support.huggingface import across, save_model
from tests.support.pretrained import save_mt5
from trainer.assemble import assemble
from trainer.distributed import group_of_one
from trainer.plan import plan_run
from trainer.ranks import Ranks

ALONE = Ranks(rank=0, local_rank=0, world_size=1)


def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path, tiny_corpus: Corpus) -> None:
    def refused(message: str, model: Path, *more: str) -> None:
        with pytest.raises(InputError, match=rf"^references\.mls{message}") as caught:
            plan_run(across(tmp_path, tiny_corpus, model, *more), FP32, ALONE)
        assert "\n" not in str(caught.value)

    own = tiny_corpus.tokenizer
    mls = save_model(tmp_path / "mls", own, "mt5")
    starts = r"\.initialises: .*/mls is a Hugging Face directory.*false, and network\.text\.pretrained=.*/mls"
    refused(starts, mls, "references.mls.initialises=true")
    refused(r"\.model: .*/few' has 40 words, the token", save_model(tmp_path / "few", own, "mt5", vocab_size=40))
    refused(r"\.model: .* has eos_token_id 3, the tok", save_model(tmp_path / "end", own, "mt5", eos_token_id=3))
    short = save_model(tmp_path / "short", own, "mbart", max_position_embeddings=20)
    refused(r": .*/short reads 20 tokens, but lengths\.\* need 32: lower them", short)
    bert = tmp_path / "bert"
    bert.mkdir()
    (bert / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 420}))
    refused(r"\.model: .*/bert' is of model type 'bert'; supported are mt5 and mbart", bert)
    (mls / "model.safetensors").rename(tmp_path / "weights")
    refused(r"\.model: .*/mls' holds no model\.safetensors or pytorch_model\.bin: give the directory", mls)
    (tmp_path / "weights").rename(mls / "recipe.yaml")
    refused(r"\.model: .*/mls is damaged: ", mls)  # an export of ours that lost files is no such directory

    words = save_mt5(tmp_path / "tokenizer")
    learned = {"task_specific_params": {"langid_map": {"english": [0, "▁<extra_id_3>"]}}}
    crosssum = save_model(tmp_path / "crosssum", words, "mt5", **learned)
    message = (
        r"\.model: .*/crosssum begins english summaries with ▁<extra_id_3>, the tokenizer with ▁.*: set corpus\.tok"
    )
    refused(message, crosssum, f"corpus.tokenizer={words}")
    assert not (tmp_path / "run").exists()


def test_damaged_weights_are_refused_once_the_ranks_have_joined(tmp_path: Path, tiny_corpus: Corpus) -> None:
    mls = save_model(tmp_path / "mls", tiny_corpus.tokenizer, "mt5")
    file = mls / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4000])
    with (
        group_of_one() as (ranks, device),
        pytest.raises(InputError, match=r"^references\.mls\.model: .*model\.safetensors cannot be read .*copy it anew"),
    ):
        assemble(plan_run(across(tmp_path, tiny_corpus, mls), FP32, ranks), device)


def test_states_of_another_width_cannot_be_contrasted(tmp_path: Path, tiny_corpus: Corpus) -> None:
    mls = save_model(tmp_path / "mls", tiny_corpus.tokenizer, "mbart", max_position_embeddings=32)
    message = (
        r"compares states of references\.mls \(16 wide\) with the network's \(32\): .*objective\.contrast to false"
    )
    with group_of_one() as (ranks, device), pytest.raises(InputError, match=message):
        assemble(plan_run(across(tmp_path, tiny_corpus, mls), FP32, ranks), device)
