"""fp16 with dynamic loss scaling over two ranks: overflows are skipped, counted and halve the scale, which is saved.

The processor may have no fp16 of its own: see `fp16_anyway` in tests/distributed/job.py.
"""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from shards.format.index import Corpus
from tests.support.forkserver import ROOT
from tests.support.harness import run_job
from tests.support.tiny import tiny_overrides

SHIPPED = ROOT / "ds_configs" / "zero2_fp16.json"
ATTEMPTS = 24
#: Rank 1 alone, after the scale has found its level.
POISONED = (15, 16)


def words(corpus: Corpus, run: Path) -> list[str]:
    # A scale of 2^24 overflows at first; with two skips allowed in a row its way down would end the run if it counted.
    return [
        *tiny_overrides(corpus.directory, run),
        "batch.groups_per_micro_batch=1",
        f"training.steps={ATTEMPTS}",
        "training.max_skipped_steps=2",
    ]


def config(directory: Path, **changes: Any) -> Path:
    values = json.loads(SHIPPED.read_text())
    path = directory / "fp16.json"
    path.write_text(json.dumps(values | {"fp16": values["fp16"] | changes}))
    return path


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def undisturbed(tiny_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    directory = tmp_path_factory.mktemp("undisturbed")
    return run_job(
        directory / "job",
        world_size=2,
        overrides=words(tiny_corpus, directory / "run"),
        steps=ATTEMPTS,
        ds_config=config(directory, initial_scale_power=24),
        poisoned=[(1, attempt) for attempt in POISONED],
        fp16_anyway=True,
    )


def test_it_trains_and_ranks_agree(undisturbed: list[dict[str, Any]]) -> None:
    first, second = undisturbed
    assert_same(first["weights"], second["weights"])
    assert first["scales"] == second["scales"]
    assert all(torch.isfinite(weight).all() for weight in first["weights"].values())
    losses = [losses["mms"] for losses in first["losses"] if losses["mms"]]
    assert all(math.isfinite(value) for losses in first["losses"] for value in losses.values())
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    # The loss times ranks and scale is float32's: fp16 would have overflowed in it at steps that were taken.
    scaled = [2 * scale * losses["mms"] for scale, losses in zip(first["scales"], first["losses"], strict=True)]
    assert max(scaled) > torch.finfo(torch.float16).max


def test_an_overflow_is_skipped_counted_and_halves_the_scale(undisturbed: list[dict[str, Any]]) -> None:
    result = undisturbed[0]
    before = [2.0**24, *result["scales"]]
    skipped = [losses["mms"] == 0 for losses in result["losses"]]
    assert result["attempts"] == ATTEMPTS
    assert result["step"] == ATTEMPTS - sum(skipped)
    at_first = skipped.index(False)
    assert 3 <= at_first < POISONED[0]  # more than max_skipped_steps
    # A hysteresis of 2: the first overflow of all only warns, every later one halves, within a window of 1,000 steps.
    for attempt in range(ATTEMPTS):
        factor = 0.5 if skipped[attempt] and attempt else 1.0
        assert before[attempt + 1] == before[attempt] * factor
    assert all(skipped[attempt] for attempt in POISONED)


def test_a_resumed_run_goes_on_with_the_scale_it_had(
    undisturbed: list[dict[str, Any]], tiny_corpus: Corpus, tmp_path: Path
) -> None:
    """The scale, and all else: losses and weights are those of the run that was not stopped."""
    halves = []
    for half in ("first", "second"):
        halves += run_job(
            tmp_path / half,
            world_size=2,
            overrides=words(tiny_corpus, tmp_path / "run"),
            steps=ATTEMPTS // 2,
            ds_config=config(tmp_path, initial_scale_power=24),
            poisoned=[(1, attempt) for attempt in POISONED],
            fp16_anyway=True,
            save=half == "first",
        )
    for rank, whole in enumerate(undisturbed):
        begin, end = halves[rank], halves[2 + rank]
        assert begin["scales"] + end["scales"] == whole["scales"]
        assert begin["losses"] + end["losses"] == whole["losses"]
        assert_same(end["weights"], whole["weights"])
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    logged = [record["loss_scale"] for record in map(json.loads, lines) if record["kind"] == "train"]
    whole = undisturbed[0]
    taken = [bool(losses["mms"]) for losses in whole["losses"]]
    assert logged == [scale for scale, was_taken in zip(whole["scales"], taken, strict=True) if was_taken]


def test_an_endless_row_of_overflows_ends_the_run_with_a_reason(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """From 4 to 2 the scale may fall further; the skips at 1 are the two that are allowed."""
    reason = "2 steps in a row had non-finite gradients at the smallest loss scale, in slots 16..47"
    with pytest.raises(AssertionError, match=reason):
        run_job(
            tmp_path / "job",
            world_size=2,
            overrides=words(tiny_corpus, tmp_path / "run"),
            steps=6,
            ds_config=config(tmp_path, initial_scale_power=2, hysteresis=1),
            poisoned=[(1, attempt) for attempt in range(6)],
            fp16_anyway=True,
        )
