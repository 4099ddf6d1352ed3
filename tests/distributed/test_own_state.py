"""An objective's own state does not depend on the layout, changes in taken steps alone, and lies in the checkpoint."""

from pathlib import Path
from typing import Any

import pytest
import torch

from models.objectives import OBJECTIVES
from shards.format.index import Corpus
from tests.support.harness import run_job
from tests.support.own_state import QUEUE, QueueConfig
from tests.support.tiny import tiny_overrides
from trainer.checkpoint.directory import whole_checkpoints
from trainer.checkpoint.sharded_state import model_weights
from trainer.trained import open_model

#: The attempt that is poisoned on the last rank, and all of them; the second part of a run in two begins behind it.
SKIPPED, ATTEMPTS, FIRST_PART = 2, 5, 4
ROWS = 16
#: Of values that the network computed: other orders of additions.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}

State = dict[str, torch.Tensor]


def train(job: Path, run: Path, corpus: Corpus, *, world_size: int, attempts: int, **more: Any) -> list[dict[str, Any]]:
    words = [
        *tiny_overrides(corpus.directory, run),
        "objective.name=queue",
        "batch.groups_per_micro_batch=1",
        "training.steps=100",
        "optimizer.eps=1e-5",  # a gradient of rounding noise alone would become whole steps
        *(f"network.{part}.dropout=0" for part in ("text", "vision", "fusion")),
    ]
    return run_job(
        job,
        world_size=world_size,
        overrides=words,
        steps=attempts,
        objective="tests.support.own_state",
        poisoned=[(world_size - 1, SKIPPED)],
        **more,
    )


def assert_same(states: list[State], others: list[State]) -> None:
    for state, other in zip(states, others, strict=True):
        assert state.keys() == other.keys()
        for name in state:
            torch.testing.assert_close(state[name], other[name], **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")


@pytest.fixture(scope="module")
def one_rank(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> list[State]:
    """The state after every attempt of one rank with four micro-steps."""
    folder = tmp_path_factory.mktemp("one")
    return train(folder / "job", folder / "run", tiny_corpus, world_size=1, attempts=ATTEMPTS)[0]["buffers"]


def test_a_queue_holds_the_rows_of_taken_steps_in_slot_order(one_rank: list[State]) -> None:
    slots = [-1] * QUEUE
    for attempt, state in enumerate(one_rank):
        if attempt == SKIPPED:
            assert all(torch.equal(state[name], before) for name, before in one_rank[attempt - 1].items())
        else:
            slots = [*slots, *range(attempt * ROWS, (attempt + 1) * ROWS)][-QUEUE:]
        assert state["slots"].tolist() == slots
    assert int(one_rank[-1]["updates"]) == ATTEMPTS - 1
    assert float(one_rank[-1]["mean"]) > 0


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_state_does_not_depend_on_the_layout(
    tiny_corpus: Corpus, tmp_path: Path, one_rank: list[State], world_size: int
) -> None:
    results = train(tmp_path / "job", tmp_path / "run", tiny_corpus, world_size=world_size, attempts=ATTEMPTS)
    assert_same(results[0]["buffers"], one_rank)
    for result in results[1:]:
        for state, first in zip(result["buffers"], results[0]["buffers"], strict=True):
            assert all(torch.equal(state[name], first[name]) for name in first)  # bit for bit between ranks


def test_the_state_goes_on_with_other_ranks(
    tiny_corpus: Corpus, tmp_path: Path, one_rank: list[State], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    train(tmp_path / "first", run, tiny_corpus, world_size=1, attempts=FIRST_PART, save=True)
    left = ATTEMPTS - FIRST_PART
    results = train(tmp_path / "second", run, tiny_corpus, world_size=2, attempts=left, save=True)
    for result in results:
        assert_same(result["buffers"], one_rank[FIRST_PART:])
    saved = model_weights(whole_checkpoints(run / "checkpoints")[0])
    assert all(torch.equal(saved[name], buffer) for name, buffer in results[0]["buffers"][-1].items())
    monkeypatch.setitem(OBJECTIVES, "queue", QueueConfig)
    open_model(run)  # an evaluation finds a place for every tensor
