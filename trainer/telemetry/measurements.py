"""Measure training between two logged steps: losses and counts of all ranks, and what this rank waits for."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch

from models.objectives.base import Outputs
from shards.batch.reader import Reader
from shards.batch.types import Batch
from trainer.interval import Interval
from trainer.ranks import Ranks
from trainer.telemetry.rank_meter import RankMeter
from trainer.telemetry.totals import Totals


class Measurements:
    """One rank's measurements. All ranks make the same calls. objective: the module that is trained."""

    def __init__(self, objective: Any, reader: Reader, languages: int, ranks: Ranks, device: torch.device) -> None:
        self.scalars: Mapping[str, float] = {}  # the objective's, of the last micro-batch
        self.idle: frozenset[str] = frozenset()  # its terms of weight 0, likewise
        self._objective, self._languages, self._ranks, self._device = objective, languages, ranks, device
        self._meter = RankMeter(reader, device, count_forward=not objective.waits_for_ranks)
        self._totals: Totals | None = None

    def waited(self, seconds: float) -> None:
        """Count the seconds that a step waited for its data."""
        self._meter.waited(seconds)

    def forward(self) -> AbstractContextManager[None]:
        """Time a forward pass."""
        return self._meter.forward()

    def add(self, outputs: Outputs, batch: Batch, loss: torch.Tensor) -> None:
        """Add a micro-batch. loss: its share of J."""
        totals = self._totals = self._totals or self._totals_of(outputs)
        flops = self._objective.flops(batch) if totals.wants_flops else 0
        totals.add_micro_batch(outputs, batch, loss, flops)
        self.scalars = outputs.scalars
        self.idle = frozenset(name for name, term in outputs.terms.items() if term.weight == 0)

    def _totals_of(self, outputs: Outputs) -> Totals:
        ranks = self._ranks
        return Totals(
            tuple(outputs.terms),
            self._objective.branches,
            self._languages,
            self._device,
            watched=tuple(outputs.watched),
            rank=ranks.rank,
            world_size=ranks.world_size,
        )

    def step_ended(self, *, taken: bool, seconds: float) -> None:
        """Keep the micro-batches added since the last step if it was taken; forget them if it was skipped."""
        assert self._totals is not None
        self._meter.step_ended(taken=taken)
        if taken:
            self._totals.add_step(seconds=seconds)
        else:
            self._totals.skip_step()

    def forget(self) -> None:
        """Drop everything since the last `reduce`: those steps will come again."""
        self._totals = None
        self._meter.forget()

    def reduce(self) -> Interval | None:
        """Return the sums over all ranks since the last call, None where no step was taken."""
        if self._totals is None or self._totals.steps == 0:
            return None
        return self._totals.reduce(self._meter.facts())
