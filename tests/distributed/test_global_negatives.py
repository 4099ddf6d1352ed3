"""`objective.negatives=global`: two ranks' micro-batches are one micro-batch of the negatives, to the gradient."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from shards.format.index import Corpus
from tests.distributed.test_equivalence import assert_close, overrides, train_plainly
from tests.support.harness import run_job
from trainer.telemetry.metrics import read_metrics

STEPS = 8
GLOBAL = "objective.negatives=global"


@pytest.fixture(scope="module")
def layouts(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """Four groups a step in one micro-batch, on one rank and on two."""
    results = []
    for world_size in (1, 2):
        out = tmp_path_factory.mktemp("layout") / "job"
        words = [*overrides(tiny_corpus, out / "run", 4 // world_size), GLOBAL]
        results.append(run_job(out, world_size=world_size, overrides=words, steps=STEPS))
    return results


def test_two_ranks_are_one_rank_with_the_whole_batch(layouts: list[list[dict[str, Any]]]) -> None:
    (one,), two = layouts
    for result in two:
        assert_close(one["gradient"], result["gradient"])
        for whole, part in zip(one["losses"], result["losses"], strict=True):
            assert whole == pytest.approx(part, rel=1e-5, abs=1e-6)
    assert all(torch.equal(two[0]["weights"][name], two[1]["weights"][name]) for name in two[0]["weights"])


def test_and_plain_torch_through_one_big_batch(
    layouts: list[list[dict[str, Any]]], tiny_corpus: Corpus, tmp_path: Path
) -> None:
    words = overrides(tiny_corpus, tmp_path, 4)
    plain = train_plainly(tiny_corpus, [*words, GLOBAL], STEPS)
    for result in layouts[1]:
        assert_close(plain["gradient"], result["gradient"])
        assert_close(plain["weights"], result["weights"])
    of_groups = train_plainly(tiny_corpus, words, 1)["gradient"]
    apart = max(float((of_groups[name] - gradient).abs().max()) for name, gradient in plain["gradient"].items())
    assert apart > 1e-3  # it is another loss


def test_story_batched_groups_with_negatives_of_all_ranks(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """Each target article with two sources, from the corpus to the weights: two ranks are plain torch in one batch."""
    steps = 20
    words = [*overrides(tiny_corpus, tmp_path / "run", 2), GLOBAL, "batch.sources_per_target=2"]
    results = run_job(tmp_path / "job", world_size=2, overrides=words, steps=steps)
    first, second = results
    slots = [{slot for micro_batch in result["slots"] for slot in micro_batch} for result in results]
    assert not slots[0] & slots[1]
    assert slots[0] | slots[1] == set(range(steps * 16))
    for losses in first["losses"]:
        assert all(math.isfinite(value) for value in losses.values())
    for term in ("mms", "mxls"):
        values = [losses[term] for losses in first["losses"]]
        assert sum(values[-5:]) < 0.9 * sum(values[:5])
    assert all(torch.equal(first["weights"][name], second["weights"][name]) for name in first["weights"])
    plain = train_plainly(tiny_corpus, [*words, "batch.groups_per_micro_batch=4"], steps)
    for result in results:
        assert_close(plain["gradient"], result["gradient"])
        assert_close(plain["weights"], result["weights"])
    logged = [record for record in read_metrics(tmp_path / "run" / "metrics.jsonl") if record["kind"] == "train"]
    assert len(logged) == steps
    assert all(0 < record["real_token_share"] <= 1 for record in logged)
    # It is another stream, whose targets come twice.
    unbundled = train_plainly(tiny_corpus, words[:-1], 1)["gradient"]
    apart = max(float((unbundled[name] - gradient).abs().max()) for name, gradient in plain["gradient"].items())
    assert apart > 1e-3
