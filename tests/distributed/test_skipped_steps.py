"""A step that one rank poisons is skipped on all of them, in fp32, and leaves no trace but its slots; too many in a row
lead back to the last checkpoint, once."""

import json
import math
from pathlib import Path

import pytest
import torch

from shards.format.index import Corpus
from tests.support.harness import run_job
from tests.support.tiny import tiny_overrides

ATTEMPTS = 8
#: Steps taken, then the attempts that are poisoned until the limit of three.
GOOD, ROW = 4, (4, 5, 6)
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


def words(corpus: Corpus, run: Path) -> list[str]:
    few = ("batch.groups_per_micro_batch=1", "training.max_skipped_steps=3")
    return [*tiny_overrides(corpus.directory, run), *few]


def test_a_row_that_does_not_come_again_is_forgotten(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """A fault of the machine: back at the checkpoint of step 3 the run goes on as if nothing had been."""
    undisturbed = run_job(
        tmp_path / "whole", world_size=2, overrides=words(tiny_corpus, tmp_path / "one"), steps=GOOD + 2
    )
    results = run_job(
        tmp_path / "job",
        world_size=2,
        overrides=words(tiny_corpus, tmp_path / "run"),
        steps=GOOD + len(ROW) + 3,  # the good ones, the row, and step 4 again with the two after it
        poisoned=[(1, attempt) for attempt in ROW],
        poisoned_once=True,
        save_at=[GOOD - 1],
    )
    for result, expected in zip(results, undisturbed, strict=True):
        assert (result["step"], result["attempts"]) == (GOOD + 2, GOOD + 2)
        assert result["losses"][:GOOD] == expected["losses"][:GOOD]
        assert result["losses"][-3:] == expected["losses"][GOOD - 1 :]
        assert all(torch.equal(weight, expected["weights"][name]) for name, weight in result["weights"].items())
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if record["kind"] == "train"] == list(range(1, GOOD + 3))
    log = (tmp_path / "job" / "rank-0.log").read_text()
    assert "3 steps in a row had non-finite gradients, in slots 64..111: back to" in log


def test_a_row_that_comes_again_ends_the_run_with_its_slots(tiny_corpus: Corpus, tmp_path: Path) -> None:
    reason = (
        "again after a return to step-00000003, in slots 64..111: lower optimizer.learning_rate or look at that data"
    )
    with pytest.raises(AssertionError, match=reason):
        run_job(
            tmp_path / "job",
            world_size=2,
            overrides=words(tiny_corpus, tmp_path / "run"),
            steps=20,
            poisoned=[(1, attempt) for attempt in ROW],
            save_at=[GOOD - 1],
        )


def test_without_a_checkpoint_there_is_nothing_to_go_back_to(tiny_corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"3 steps in a row had non-finite gradients, in slots 0\.\.47"):
        run_job(
            tmp_path / "job",
            world_size=2,
            overrides=words(tiny_corpus, tmp_path / "run"),
            steps=20,
            poisoned=[(0, attempt) for attempt in range(3)],
        )
