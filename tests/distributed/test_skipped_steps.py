"""A step that one rank poisons is skipped on all of them, in fp32, and leaves no trace but its slots."""

import math
from pathlib import Path

import torch

from shards.index import Corpus
from tests.distributed.harness import run_job
from tests.tiny import tiny_overrides

ATTEMPTS = 8
POISONED = (0, 3, 4)


def test_one_ranks_nan_skips_the_step_on_every_rank(tiny_corpus: Corpus, tmp_path: Path) -> None:
    words = [*tiny_overrides(tiny_corpus.directory, tmp_path / "run"), "batch.groups_per_micro_batch=1"]
    results = run_job(
        tmp_path / "job", world_size=2, overrides=words, steps=ATTEMPTS, poisoned=[(1, attempt) for attempt in POISONED]
    )
    for result in results:
        assert result["attempts"] == ATTEMPTS
        assert result["step"] == ATTEMPTS - len(POISONED)
        for attempt, losses in enumerate(result["losses"]):
            assert all(math.isfinite(value) for value in losses.values())
            assert (losses["mms"] == 0) == (attempt in POISONED)  # what was skipped is not counted as trained
        assert all(torch.isfinite(weight).all() for weight in result["weights"].values())
    first, second = (result["weights"] for result in results)
    assert all(torch.equal(first[name], second[name]) for name in first)
    slots = sorted(slot for result in results for micro_batch in result["slots"] for slot in micro_batch)
    assert slots == list(range(ATTEMPTS * 16))
