"""One rank of tests/distributed/test_gathered_rows.py: its rows of a seeded batch, and what comes back to them.

Started by `run_ranks`; it leaves its results in `<out>/rank-<r>.pt`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from models.losses.contrast import target_oriented_contrast
from models.losses.gather import gather_rows

DIM = 6


def rows_of_all(rows: int) -> dict[str, torch.Tensor]:
    """A batch with what masks must see: anchors and none, placeholders, and stories that several ranks tell."""
    generator = torch.Generator().manual_seed(7)

    def integers(high: int) -> torch.Tensor:
        return torch.randint(high, (rows,), generator=generator)

    return {
        "vision": torch.randn(rows, DIM, dtype=torch.float64, generator=generator),
        "summary": torch.randn(rows, DIM, dtype=torch.float64, generator=generator),
        "anchor": integers(4) > 0,
        "weight": (integers(5) > 0).double(),
        "group": integers(3),
        "story": integers(rows // 2),
    }


def loss_of(batch: dict[str, torch.Tensor], mix: torch.Tensor) -> torch.Tensor:
    """(B,); `mix` (DIM, DIM) stands for the parameters that all ranks share."""
    columns = (batch[name] for name in ("anchor", "weight", "group", "story"))
    return target_oriented_contrast(batch["vision"] @ mix, batch["summary"] @ mix.T, *columns, 0.1, negatives="global")


def main() -> None:
    spec: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    part = slice(rank * spec["rows"], (rank + 1) * spec["rows"])
    batch = {name: column[part] for name, column in rows_of_all(spec["rows"] * ranks).items()}
    mix = torch.eye(DIM, dtype=torch.float64).requires_grad_()
    batch["summary"].requires_grad_()
    loss = loss_of(batch, mix)
    # As the trainer does: the loss times the ranks, the gradient averaged over them.
    (ranks * loss.sum()).backward()
    gradient = mix.grad
    dist.all_reduce(gradient)
    gathered = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.int64):
        x = (torch.arange(4).reshape(2, 2) + 4 * rank).to(dtype)
        x.requires_grad_(dtype.is_floating_point)
        rows = gather_rows(x)
        if dtype.is_floating_point:
            # Rank r asks for row i with weight (r + 1) * i: a row's gradient is i * (1 + 2 + ... + W).
            (rows * torch.arange(2 * ranks)[:, None] * (rank + 1)).sum().backward()
        gathered[dtype] = (rows.detach(), x.grad)
    torch.save(
        {
            "loss": loss.detach(),
            "gradient": gradient / ranks,
            "summary_gradient": batch["summary"].grad / ranks,
            "gathered": gathered,
        },
        Path(spec["out"]) / f"rank-{rank}.pt",
    )
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
