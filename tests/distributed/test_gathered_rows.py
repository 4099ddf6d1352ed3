"""Summaries of all ranks as candidates: every rank's part is that of one big batch, gradients included."""

from pathlib import Path
from typing import Any

import pytest
import torch

from models.losses.gather import gather_rows
from tests.distributed.contrast_job import DIM, loss_of, rows_of_all
from tests.support.harness import run_ranks

RANKS, ROWS = 3, 4


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    out: Path = tmp_path_factory.mktemp("gather") / "job"
    return run_ranks(out, "tests.distributed.contrast_job", world_size=RANKS, spec={"rows": ROWS})


def test_losses_and_gradients_are_those_of_one_big_batch(results: list[dict[str, Any]]) -> None:
    batch = rows_of_all(RANKS * ROWS)
    mix = torch.eye(DIM, dtype=torch.float64).requires_grad_()
    batch["summary"].requires_grad_()
    loss = loss_of(batch, mix)
    loss.sum().backward()
    torch.testing.assert_close(torch.cat([result["loss"] for result in results]), loss.detach())
    assert (loss > 0).sum() > RANKS
    for rank, result in enumerate(results):
        torch.testing.assert_close(result["gradient"], mix.grad)
        own = slice(rank * ROWS, (rank + 1) * ROWS)
        torch.testing.assert_close(result["summary_gradient"], batch["summary"].grad[own])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64])
def test_rows_come_in_rank_order_and_gradients_go_home(results: list[dict[str, Any]], dtype: torch.dtype) -> None:
    for rank, result in enumerate(results):
        rows, gradient = result["gathered"][dtype]
        assert rows.dtype == dtype
        assert torch.equal(rows, torch.arange(4 * RANKS).reshape(-1, 2).to(dtype))
        if dtype.is_floating_point:
            assert gradient.dtype == dtype
            wanted = torch.tensor([[2.0 * rank] * 2, [2.0 * rank + 1] * 2]) * sum(range(1, RANKS + 1))
            assert torch.equal(gradient, wanted.to(dtype))


def test_one_rank_keeps_its_own_tensor() -> None:
    rows = torch.ones(2, 3)
    assert gather_rows(rows) is rows
