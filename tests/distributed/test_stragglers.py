"""Find the rank that the others wait for: by its data, by its forward pass, and where that cannot be told."""

from pathlib import Path
from typing import Any

import pytest

from shards.format.index import Corpus
from tests.support.harness import run_job
from tests.support.tiny import tiny_overrides

SLOW = 0.3  # seconds, far above what a step of the tiny network takes


def facts(corpus: Corpus, tmp_path: Path, *words: str, **slow: Any) -> list[dict[str, float]]:
    """Return what both ranks know of rank 0 and rank 1, added up over the steps but the first."""
    overrides = [*tiny_overrides(corpus.directory, tmp_path / "run"), "batch.groups_per_micro_batch=2", *words]
    results = run_job(tmp_path / "job", world_size=2, overrides=overrides, steps=4, **slow)
    assert results[0]["facts"] == results[1]["facts"]
    return [
        {name: sum(interval[rank][name] for interval in results[0]["facts"][1:]) for name in of_rank}
        for rank, of_rank in enumerate(results[0]["facts"][0])
    ]


def test_a_rank_that_waits_for_its_data(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """The other one waits for it in a collective, which is no waiting for data."""
    quick, slow = facts(tiny_corpus, tmp_path, slow_loader=(1, SLOW))
    assert slow["data_wait_seconds"] > 3 * SLOW
    assert quick["data_wait_seconds"] < slow["data_wait_seconds"] / 2
    assert quick["busy_seconds"] < slow["busy_seconds"] / 2


def test_a_rank_whose_forward_pass_is_slow(tiny_corpus: Corpus, tmp_path: Path) -> None:
    quick, slow = facts(tiny_corpus, tmp_path, slow_forward=(0, SLOW))[::-1]
    assert slow["busy_seconds"] > 3 * SLOW
    assert quick["busy_seconds"] < slow["busy_seconds"] / 2
    assert slow["data_wait_seconds"] < SLOW


def test_a_forward_pass_that_exchanges_something_tells_nothing(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """Both spend as long in it: then only data are counted, and nobody is accused."""
    found = facts(tiny_corpus, tmp_path, "objective.negatives=global", slow_forward=(0, SLOW))
    for rank in found:
        assert rank["busy_seconds"] == pytest.approx(rank["data_wait_seconds"])
        assert rank["resident_bytes"] > 1e7
