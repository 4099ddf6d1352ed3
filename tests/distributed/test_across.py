"""ACROSS over ranks and micro-steps: queue and frozen network are the same however it is spread."""

from pathlib import Path
from typing import Any

import pytest
import torch

from shards.format.index import Corpus
from tests.support.checkpoints import recipe_in, write_checkpoint
from tests.support.harness import run_job
from tests.support.tiny import tiny_overrides


def train(folder: Path, corpus: Corpus, mls: Path, world_size: int, groups: int, steps: int, **of_job: Any) -> Any:
    """Return the first rank's results. groups: of a micro-batch, of the four of a step."""
    words = [word for word in tiny_overrides(corpus.directory, folder / "run") if "alpha_steps" not in word]
    words += [f"references.mls.model={mls}", "objective.negatives=24", "mixture.directions=*-en,*-fr"]
    words += [
        f"batch.groups_per_micro_batch={groups}",
        *(f"network.{x}.dropout=0" for x in ("text", "vision", "fusion")),
    ]
    out = folder / f"job-{world_size}-{groups}-{steps}"
    found = run_job(out, world_size=world_size, overrides=words, steps=steps, recipe="across", **of_job)
    return found[0]


@pytest.fixture(scope="module")
def mls(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(recipe_in(tmp_path_factory.mktemp("mls"), tiny_corpus), tiny_corpus)[0]


@pytest.fixture(scope="module")
def alone(tiny_corpus: Corpus, mls: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train(tmp_path_factory.mktemp("alone"), tiny_corpus, mls, 1, 4, steps=4)


def assert_same(found: Any, wanted: Any) -> None:
    for step, expected in zip(found["losses"], wanted["losses"][-len(found["losses"]) :], strict=True):
        assert step == pytest.approx(expected, rel=1e-4)
    for name, weight in wanted["weights"].items():
        torch.testing.assert_close(found["weights"][name], weight, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("world_size", "groups"), [(1, 1), (2, 1), (2, 2)])
def test_it_does_not_matter_how_it_is_spread(
    tiny_corpus: Corpus, mls: Path, tmp_path: Path, alone: Any, world_size: int, groups: int
) -> None:
    assert alone["losses"][0]["contrast"] == 0, "nothing is queued yet"
    assert alone["losses"][1]["contrast"] > 0
    assert_same(train(tmp_path, tiny_corpus, mls, world_size, groups, steps=4), alone)


def test_a_resumed_run_has_its_queue(tiny_corpus: Corpus, mls: Path, tmp_path: Path, alone: Any) -> None:
    train(tmp_path, tiny_corpus, mls, 1, 2, steps=2, save=True)
    assert_same(train(tmp_path, tiny_corpus, mls, 2, 2, steps=2), alone)
