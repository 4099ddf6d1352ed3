"""Update an objective's own state once per taken optimizer step, from the whole global batch in slot order.

A queue that `forward` filled would depend on the number of ranks and micro-steps, and would move in a skipped step.
Shape suffixes: M micro-steps of this rank, F watched figures.
"""

import torch
from torch import Tensor

from models.losses.gather import gather_rows
from models.objectives.base import Objective, Outputs, Watched
from shards.batch.types import StreamBatch

#: In place of the slot of a row that could not be read.
_PLACEHOLDER = -1


class OwnState:
    """Collect what an objective keeps of a step's micro-batches. All ranks make the same calls.

    Does nothing, and exchanges nothing, for an objective without `has_state`.
    """

    def __init__(self, objective: Objective, device: torch.device) -> None:
        self._objective, self._device = objective, device
        self._slots: list[Tensor] = []
        self._keep: list[dict[str, Tensor]] = []
        self._watched: list[dict[str, Watched]] = []

    def add(self, outputs: Outputs, batch: StreamBatch) -> None:
        """Add a micro-batch of the step. `batch` is on the host."""
        if not self._objective.has_state:
            return
        self._slots.append(torch.where(batch.weight_B > 0, batch.slot_B, _PLACEHOLDER))
        self._keep.append({name: rows.detach().to(self._device) for name, rows in outputs.keep.items()})
        self._watched.append(outputs.watched)

    @torch.no_grad()
    def step_ended(self, *, taken: bool, step: int) -> None:
        """Update the state if the step was taken; forget its micro-batches either way. step: steps taken so far."""
        slots, keep, watched = self._slots, self._keep, self._watched
        self._slots, self._keep, self._watched = [], [], []
        if not (self._objective.has_state and taken):
            return
        self._objective.after_step(step, self._means(watched), self._in_slot_order(slots, keep))

    def _in_slot_order(self, slots: list[Tensor], keep: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the real rows of all ranks, name -> (rows, ...)."""
        if not keep[0]:
            return {}
        slot = gather_rows(torch.cat(slots).to(self._device))
        order = slot.argsort()
        order = order[slot[order] != _PLACEHOLDER]
        return {name: gather_rows(torch.cat([rows[name] for rows in keep]))[order] for name in keep[0]}

    def _means(self, watched: list[dict[str, Watched]]) -> dict[str, float]:
        """Return the mean of every watched figure over the global batch, where anything was counted.

        Gathered and then added: the order of additions, and so the last bit, is the same on all ranks.
        """
        names = tuple(watched[0])
        if not names:
            return {}
        sums_MF = torch.stack([figures[name].sum.double() for figures in watched for name in names])
        sums_MF = sums_MF.view(len(watched), -1).to(self._device)
        counts_MF = torch.tensor([[f[name].count for name in names] for f in watched], dtype=torch.float64)
        totals_2F = gather_rows(torch.stack((sums_MF, counts_MF.to(self._device)), dim=1)).sum(dim=0).tolist()
        return {name: total / count for name, total, count in zip(names, *totals_2F, strict=True) if count}
