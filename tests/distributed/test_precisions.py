"""Every DeepSpeed config that is shipped trains on two ranks, or is refused in one line where it cannot."""

from pathlib import Path

import pytest
import torch
from deepspeed.accelerator import get_accelerator

from shards.errors import InputError
from shards.index import Corpus
from tests.distributed.harness import ROOT, run_job
from tests.tiny import tiny_overrides
from trainer.engine import load_ds_config
from trainer.recipe import load_recipe

STEPS = 30


@pytest.mark.parametrize("name", ["zero2_cpu", "zero2_bf16", "zero2_fp16", "zero2_offload"])
def test_shipped_config_trains(tiny_corpus: Corpus, tmp_path: Path, name: str) -> None:
    path = ROOT / "ds_configs" / f"{name}.json"
    words = [*tiny_overrides(tiny_corpus.directory, tmp_path / "run"), "batch.groups_per_micro_batch=1"]
    words += [f"training.steps={STEPS}"]
    if name == "zero2_fp16" and not get_accelerator().is_fp16_supported():
        with pytest.raises(InputError, match="does not support fp16"):
            load_ds_config(path, load_recipe("d2tv", words), world_size=2)
        return
    first, second = run_job(tmp_path / "job", world_size=2, overrides=words, steps=STEPS, ds_config=path)
    losses = [step["mms"] for step in first["losses"]]
    assert all(torch.isfinite(torch.tensor(losses)))
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    # Ranks that drift apart would still show falling losses.
    assert all(torch.equal(first["weights"][weight], second["weights"][weight]) for weight in first["weights"])
