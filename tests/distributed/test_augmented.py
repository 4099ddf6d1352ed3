"""Optional fields and transforms, through real ranks: what the objective saw, row by row, and where a run goes on."""

from pathlib import Path
from typing import Any

import torch

from shards.format.index import Corpus
from tests.support.augmented import QUEUE
from tests.support.harness import run_job
from tests.support.tiny import tiny_overrides

ATTEMPTS, FIRST_PART = 3, 1


def train(job: Path, run: Path, corpus: Corpus, *, world_size: int, attempts: int, **more: Any) -> list[torch.Tensor]:
    """Return what the objective remembers after every attempt, alike on all ranks."""
    words = [
        *tiny_overrides(corpus.directory, run),
        "objective.name=augmented",
        "batch.groups_per_micro_batch=1",
        "training.steps=100",
        "loader.threads=2",
    ]
    module = "tests.support.augmented"
    results = run_job(job, world_size=world_size, overrides=words, steps=attempts, objective=module, **more)
    found: list[list[torch.Tensor]] = [[state["rows"] for state in result["buffers"]] for result in results]
    for other in found[1:]:
        assert all(torch.equal(one, state) for one, state in zip(found[0], other, strict=True))
    return found[0]


def test_an_objective_sees_the_same_in_every_layout_and_after_a_resume(tiny_corpus: Corpus, tmp_path: Path) -> None:
    plain = train(tmp_path / "one", tmp_path / "run-one", tiny_corpus, world_size=1, attempts=ATTEMPTS)
    assert plain[-1][:, 0].tolist() == list(range(ATTEMPTS * 16 - QUEUE, ATTEMPTS * 16))
    assert len(set(plain[-1][:, 2].tolist())) > QUEUE // 2
    run = tmp_path / "run-two"
    first = train(tmp_path / "two", run, tiny_corpus, world_size=2, attempts=FIRST_PART, save=True)
    rest = train(tmp_path / "three", run, tiny_corpus, world_size=1, attempts=ATTEMPTS - FIRST_PART)
    assert len([*first, *rest]) == len(plain)
    assert all(torch.equal(one, other) for one, other in zip([*first, *rest], plain, strict=True))
