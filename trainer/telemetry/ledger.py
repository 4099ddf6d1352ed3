"""Examples that could not be read: counted over all ranks, listed, and too many of them end the run."""

from collections.abc import Sequence
from typing import Any

import torch.distributed as dist

from shards.batch.types import StreamBatch
from shards.schema import Unreadable


def gather_unreadable(batches: Sequence[StreamBatch]) -> list[Unreadable]:
    """The placeholders of a step's micro-batches of all ranks (all ranks call this): every one, in slot order, on
    rank 0, and an empty list elsewhere."""
    mine = [one for batch in batches for one in batch.unreadable]
    gathered: list[Any] | None = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
    dist.gather_object(mine, gathered)
    return sorted((one for of_rank in gathered or () for one in of_rank), key=lambda one: one.slot)


def too_many_unreadable(unreadable: int, slots: int, share: float) -> bool:
    """Return True if more than `share` of the first `slots` slots was unreadable.

    One always may be, unless the share is 0: else an early bad record would end any run.
    """
    return unreadable > max(share * slots, 1.0 if share else 0.0)
