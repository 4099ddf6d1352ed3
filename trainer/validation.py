"""Validate a training on held-out examples, once a step."""

import time
from collections.abc import Callable

import torch

from models.objectives.base import Objective
from trainer.checkpoint.directory import TrainState
from trainer.evaluation.heldout import HeldOut
from trainer.events import Event, PhaseBegan, Validated


class Validation:
    """Held-out NLL by kind and what the objective measures beside it. All ranks make the same calls."""

    def __init__(
        self, held_out: HeldOut, device: torch.device, state: TrainState, emit: Callable[[Event], None]
    ) -> None:
        self._held_out, self._device, self._emit = held_out, device, emit
        self.resume(state)

    def resume(self, state: TrainState) -> None:
        """Go on from `state`, which may hold a validation of its step."""
        self._step, self._nll = state.step, state.validation

    def nll(self, step: int) -> dict[str, float] | None:
        """Return held-out NLL by kind (nats a target token), None where `step` was not validated."""
        return self._nll if step == self._step else None

    def run(self, objective: Objective, step: int) -> None:
        """Validate `step`, unless it was before."""
        if self.nll(step) is not None:
            return
        began = time.perf_counter()
        found = {}
        if objective.branches:
            found = self._held_out.nll(objective.product, self._device, self._begin_batch, objective.reads)
        measured = self._held_out.measure(objective, self._device, self._begin_batch)
        self._step, self._nll = step, {kind: of_kind.nll for kind, of_kind in found.items()}
        self._emit(
            Validated(
                step=step,
                nll=self._nll,
                by_target={kind: of_kind.by_target for kind, of_kind in found.items()},
                measured=measured,
                unreadable=sum(of_kind.unreadable for of_kind in found.values()),
                seconds=time.perf_counter() - began,
            )
        )

    def _begin_batch(self) -> None:
        self._emit(PhaseBegan(phase="evaluation"))
