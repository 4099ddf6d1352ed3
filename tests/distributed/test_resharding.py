"""A run goes on with another number of ranks, and with the same number bit for bit, in every precision and stage."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from shards.format.index import Corpus
from tests.support.forkserver import ROOT
from tests.support.harness import FP32, run_job, run_ranks
from tests.support.tiny import tiny_overrides
from trainer.checkpoint.directory import read_state, whole_checkpoints
from trainer.checkpoint.sharded_state import model_weights

#: World sizes one after the other, two steps each.
CHAIN = (1, 2, 4, 1)
STEPS = 2
#: Other orders of additions between ranks; dropout, which depends on the size of micro-batches, is off.
TOLERANCE = {"rtol": 1e-4, "atol": 2e-6}


def words(corpus: Corpus, run: Path) -> list[str]:
    return [
        *tiny_overrides(corpus.directory, run),
        "batch.groups_per_micro_batch=1",
        "training.steps=100",
        # The gradient of a key's bias is zero but for noise, of which AdamW with a small eps makes whole steps.
        "optimizer.eps=1e-5",
        *(f"network.{part}.dropout=0" for part in ("text", "vision", "fusion")),
    ]


def train(job: Path, run: Path, corpus: Corpus, *, world_size: int, steps: int, **more: Any) -> list[dict[str, Any]]:
    return run_job(job, world_size=world_size, overrides=words(corpus, run), steps=steps, save=True, **more)


def test_one_two_four_and_one_rank_again_make_the_run_of_one(tiny_corpus: Corpus, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", tmp_path / "one", tiny_corpus, world_size=1, steps=STEPS * len(CHAIN))[0]
    slots: list[int] = []
    losses: list[dict[str, float]] = []
    for part, world_size in enumerate(CHAIN):
        results = train(tmp_path / f"{part}", tmp_path / "run", tiny_corpus, world_size=world_size, steps=STEPS)
        newest = whole_checkpoints(tmp_path / "run" / "checkpoints")[0]
        assert read_state(newest).world_size == world_size
        assert len(list(newest.glob("state-*.safetensors"))) == world_size
        saved = model_weights(newest)
        for result in results:
            for name, weight in result["weights"].items():
                assert torch.equal(weight, saved[name]), name  # what a checkpoint holds is what was trained
        slots += sorted(slot for result in results for batch in result["slots"] for slot in batch)
        losses += results[0]["losses"]
    assert slots == list(range(16 * STEPS * len(CHAIN)))
    assert len(losses) == len(whole["losses"])
    for mine, expected in zip(losses, whole["losses"], strict=True):
        assert mine == pytest.approx(expected, rel=1e-4)
    for name, weight in whole["weights"].items():
        torch.testing.assert_close(results[0]["weights"][name], weight, **TOLERANCE, msg=name)


def config(directory: Path, stage: int, precision: str, offload: bool) -> Path:
    values = json.loads(FP32.read_text())
    if precision == "bf16":
        values |= json.loads((ROOT / "ds_configs" / "zero2_bf16.json").read_text())
    values["zero_optimization"] |= {"stage": stage}
    if offload:
        values["zero_optimization"]["offload_optimizer"] = {"device": "cpu"}
    path = directory / "ds.json"
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize(
    ("stage", "precision", "offload"),
    [(1, "bf16", False), (2, "bf16", False), pytest.param(2, "fp32", True, marks=pytest.mark.long)],
    ids=["stage 1 bf16", "stage 2 bf16", "offloaded optimizer"],
)
def test_the_same_number_of_ranks_goes_on_bit_for_bit(
    tiny_corpus: Corpus, tmp_path: Path, stage: int, precision: str, offload: bool
) -> None:
    """In fp32 at stage 2, dropout and all: tests/system/test_survival.py.

    DeepSpeed's AdamW for the CPU goes on from a power of beta where it had a product of betas: the last bit differs.
    """
    ds_config = config(tmp_path, stage, precision, offload)
    whole = train(tmp_path / "whole", tmp_path / "one", tiny_corpus, world_size=2, steps=6, ds_config=ds_config)
    parts = [
        train(tmp_path / f"{part}", tmp_path / "run", tiny_corpus, world_size=2, steps=3, ds_config=ds_config)
        for part in range(2)
    ]
    for rank in range(2):
        losses = parts[0][rank]["losses"] + parts[1][rank]["losses"]
        assert losses[:4] == whole[rank]["losses"][:4]  # what was loaded is what was saved
        if offload:
            for mine, expected in zip(losses, whole[rank]["losses"], strict=True):
                assert mine == pytest.approx(expected, rel=1e-5)
            continue
        assert losses == whole[rank]["losses"]
        for name, weight in whole[rank]["weights"].items():
            assert torch.equal(parts[1][rank]["weights"][name], weight), name


def test_what_is_not_trained_and_what_is_shared_comes_back_as_well(tmp_path: Path) -> None:
    """A frozen matrix, buffers, one of them a scalar, and tied weights, into an engine that had others."""
    for result in run_ranks(tmp_path / "job", "tests.distributed.untrained_job", world_size=2, spec={}):
        for name, tensor in result["saved"].items():
            assert torch.equal(result["loaded"][name], tensor), name
            assert torch.equal(result["weights"][name], tensor), name
        assert result["weights"].keys() == result["saved"].keys()
        assert {"frozen.weight", "count", "table", "tied.weight"} <= result["saved"].keys()
        one, other = result["after"]  # the optimizer's state as well
        assert all(torch.equal(other[name], tensor) for name, tensor in one.items())
        assert not torch.equal(one["first.weight"], result["saved"]["first.weight"])
