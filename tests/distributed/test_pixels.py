"""Pixels of images, through real ranks: which pictures the objective saw, and what it learned of them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.harness import run_job
from tests.support.seeing import QUEUE
from tests.support.tiny import make_corpus, tiny_overrides

ATTEMPTS, FIRST_PART = 3, 1


def train(job: Path, run: Path, corpus: Path, *words: str, world_size: int, attempts: int, **more: Any) -> Any:
    """Return what the first rank saw, and check that the others remember the same."""
    overrides = [
        *tiny_overrides(corpus, run),
        *(f"network.{part}.dropout=0" for part in ("text", "vision", "fusion")),
        "objective.name=seeing",
        "batch.groups_per_micro_batch=1",
        "training.steps=100",
        "loader.threads=2",
        *words,
    ]
    module = "tests.support.seeing"
    results = run_job(job, world_size=world_size, overrides=overrides, steps=attempts, objective=module, **more)
    for other in results[1:]:
        for one, state in zip(results[0]["buffers"], other["buffers"], strict=True):
            assert torch.equal(one["rows"], state["rows"])
    return results[0]


@pytest.mark.parametrize(
    "words", [(), ("network.vision.enabled=false", "objective.contrast=false")], ids=["with features", "alone"]
)
def test_every_layout_and_a_resumed_run_see_the_same(tmp_path: Path, words: tuple[str, ...]) -> None:
    corpus, run = make_corpus(tmp_path / "corpus", pixels=True).directory, tmp_path / "run-two"
    plain = train(tmp_path / "one", tmp_path / "run-one", corpus, *words, world_size=1, attempts=ATTEMPTS)
    last = plain["buffers"][-1]["rows"]
    assert last[:, 0].tolist() == list(range(ATTEMPTS * 16 - QUEUE, ATTEMPTS * 16))
    assert len(set(last[:, 1].tolist())) > QUEUE // 3
    first = train(tmp_path / "two", run, corpus, *words, world_size=2, attempts=FIRST_PART, save=True)
    rest = train(tmp_path / "three", run, corpus, *words, world_size=1, attempts=ATTEMPTS - FIRST_PART)
    states = [*first["buffers"], *rest["buffers"]]
    assert len(states) == ATTEMPTS
    assert all(torch.equal(one["rows"], other["rows"]) for one, other in zip(states, plain["buffers"], strict=True))
    names = [name for name in plain["weights"] if name.startswith("patches.")]
    assert len(names) == 4
    for name in names:
        assert first["gradient"][name].any()
        assert torch.allclose(first["gradient"][name], plain["gradient"][name], rtol=1e-4, atol=1e-7), name
        assert torch.allclose(rest["weights"][name], plain["weights"][name], rtol=1e-3, atol=1e-5), name
