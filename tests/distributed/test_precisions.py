"""Every DeepSpeed config that is shipped trains on two ranks, or is refused in one line where it cannot; so does the
recipe's key, as the file that it stands for."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from deepspeed.accelerator import get_accelerator

from shards.errors import InputError
from shards.format.index import Corpus
from tests.support.forkserver import ROOT
from tests.support.harness import run_job
from tests.support.tiny import tiny_overrides
from trainer.ds_config import load_ds_config
from trainer.recipe import load_recipe

STEPS = 20
Train = Callable[..., list[dict[str, Any]]]


def config(name: str) -> Path:
    return ROOT / "ds_configs" / f"{name}.json"


def words(corpus: Corpus, run: Path) -> list[str]:
    return [
        *tiny_overrides(corpus.directory, run),
        "batch.groups_per_micro_batch=1",
        f"training.steps={STEPS}",
    ]


@pytest.fixture(scope="module")
def train(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Trains on two ranks with a shipped config and some overrides, once each."""

    @cache
    def run(name: str, *overrides: str) -> list[dict[str, Any]]:
        out = tmp_path_factory.mktemp("run")
        all_words = [*words(tiny_corpus, out / "run"), *overrides]
        return run_job(out / "job", world_size=2, overrides=all_words, steps=STEPS, ds_config=config(name))

    return run


def assert_it_trained(results: list[dict[str, Any]]) -> None:
    first, second = results
    losses = [step["mms"] for step in first["losses"] if step["mms"]]  # fp16 skips its first ones
    assert all(torch.isfinite(torch.tensor(losses)))
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    # Ranks that drift apart would still show falling losses.
    assert all(torch.equal(first["weights"][weight], second["weights"][weight]) for weight in first["weights"])


@pytest.mark.parametrize(
    "name", ["zero2_cpu", "zero2_bf16", "zero2_fp16", pytest.param("zero2_offload", marks=pytest.mark.long)]
)
def test_shipped_config_trains(tiny_corpus: Corpus, tmp_path: Path, train: Train, name: str) -> None:
    if name == "zero2_fp16" and not get_accelerator().is_fp16_supported():
        with pytest.raises(InputError, match="does not support fp16"):
            load_ds_config(config(name), load_recipe("d2tv", words(tiny_corpus, tmp_path / "run")), world_size=2)
        return
    assert_it_trained(train(name))


def test_the_recipes_key_trains_bit_for_bit_as_the_file(train: Train) -> None:
    by_key, by_file = train("zero2_cpu", "training.precision=bf16"), train("zero2_bf16")
    assert_it_trained(by_key)
    assert by_key[0]["losses"] == by_file[0]["losses"]
    for rank, expected in zip(by_key, by_file, strict=True):
        for what in ("gradient", "weights"):
            assert all(torch.equal(rank[what][name], value) for name, value in expected[what].items())
    # Weights as they are trained with, which are bfloat16's; the same file without the key trains float32's.
    assert all(torch.equal(weight, weight.bfloat16().float()) for weight in by_key[0]["weights"].values())
    assert by_key[0]["losses"][0] != train("zero2_cpu")[0]["losses"][0]
