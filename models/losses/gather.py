"""Gather rows of all ranks, with gradient, for contrastive terms over the whole global micro-batch.

The only file of this package that knows of other ranks. Shape suffixes as in shards/schema.py; W ranks.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def rank_and_ranks() -> tuple[int, int]:
    """Return this rank and W; (0, 1) where no process group was joined."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def gather_rows(x_BD: Tensor) -> Tensor:
    """Return the rows of all ranks, (W*B, D), in rank order: row i of rank r is row r*B + i; `x_BD` itself on one rank.

    Collective, in forward and (where a gradient is wanted) in backward: every rank calls it at the same place with
    the same shape and dtype. A rank's gradient is the sum over ranks of what *their* losses ask of its rows, so
    that with W ranks the sum over ranks of d(loss)/d(parameters) is that of one big batch.
    """
    _, ranks = rank_and_ranks()
    if ranks == 1:
        return x_BD
    gathered: Tensor = _GatherRows.apply(x_BD)  # type: ignore[no-untyped-call]
    return gathered


class _GatherRows(torch.autograd.Function):
    """Gather, and its transpose as all_reduce and slice: gloo has neither reduce_scatter nor _AllGatherBase."""

    @staticmethod
    def forward(ctx: Any, x_BD: Tensor) -> Tensor:
        _, ranks = rank_and_ranks()
        parts = [torch.empty_like(x_BD, memory_format=torch.contiguous_format) for _ in range(ranks)]
        dist.all_gather(parts, x_BD.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient_ND,) = gradients
        rank, ranks = rank_and_ranks()
        # float32: gloo adds nothing smaller, and a sum over many ranks should not lose its small parts.
        total_ND = gradient_ND.to(torch.promote_types(gradient_ND.dtype, torch.float32), copy=True)
        total_ND = total_ND.contiguous()
        dist.all_reduce(total_ND)
        rows = len(total_ND) // ranks
        return total_ND[rank * rows : (rank + 1) * rows].to(gradient_ND.dtype)
