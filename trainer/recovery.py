"""Troubles of a training that it survives, up to a limit: steps without a finite gradient, unreadable examples."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist

from shards.batch.types import StreamBatch
from shards.errors import InputError
from shards.schema import Unreadable
from trainer.checkpoint.resume import newest_sound_checkpoint
from trainer.distributed import PeerError
from trainer.engine import loss_scaler
from trainer.events import Event, ExamplesUnreadable, Notice
from trainer.ranks import Ranks
from trainer.recipe import Recipe

#: So many steps in a row without a finite gradient are no chance, and the loss last logged no longer holds.
_DIVERGED = 3


class SkippedSteps:
    """Count the steps skipped in a row; too many lead back to the last checkpoint, once, and then end the run.

    The first time it may have been the machine; where the same comes again from the same checkpoint, it was not.
    """

    def __init__(self, engine: Any, recipe: Recipe, ranks: Ranks, emit: Callable[[Event], None]) -> None:
        self._engine, self._recipe, self._ranks, self._emit = engine, recipe, ranks, emit
        self._in_a_row = 0
        self._returned_to: Path | None = None

    @property
    def too_many(self) -> bool:
        return self._in_a_row >= self._recipe.training.max_skipped_steps

    def reset(self) -> None:
        """Count anew, after a step that was taken or a return to a checkpoint."""
        self._in_a_row = 0

    def skipped(self) -> bool:
        """Count a skipped step; return True if training has diverged.

        The dynamic loss scale finds its level by skipped steps, from 2^16 downwards: while it can still fall they are
        no sign of bad data. At its smallest they are.
        """
        scaler = loss_scaler(self._engine)
        if scaler is not None and scaler.cur_scale > scaler.min_scale:
            return False
        self._in_a_row += 1
        return self._in_a_row >= _DIVERGED

    def checkpoint_to_return_to(self, next_slot: int) -> Path:
        """Return the checkpoint to go back to (all ranks call this). next_slot: the first that is not read yet.

        Raises `InputError` (`PeerError` on other ranks than 0) where there is none, or training returned to it before.
        """
        checkpoint = newest_sound_checkpoint(self._recipe.run / "checkpoints", self._ranks)
        slots_a_step = self._recipe.batch.groups_per_step * self._recipe.batch.group_size
        slots = f"{next_slot - self._in_a_row * slots_a_step}..{next_slot - 1}"
        at_scale = " at the smallest loss scale" if loss_scaler(self._engine) else ""
        what = f"{self._in_a_row} steps in a row had non-finite gradients{at_scale}"
        if checkpoint is None or checkpoint == self._returned_to:
            again = f", again after a return to {checkpoint.name}" if checkpoint else ""
            raise of_all_ranks(
                f"{what}{again}, in slots {slots}: lower optimizer.learning_rate or look at that data", self._ranks
            )
        self._returned_to = checkpoint
        self._emit(Notice(text=f"{what}, in slots {slots}: back to {checkpoint}, once"))
        return checkpoint


class UnreadableExamples:
    """Count the examples of a run that had a placeholder; too many end it. count: those of earlier steps."""

    def __init__(self, recipe: Recipe, ranks: Ranks, count: int, emit: Callable[[Event], None]) -> None:
        self._recipe, self._ranks, self._emit = recipe, ranks, emit
        self.count = count

    def check(self, batches: Sequence[StreamBatch], found: int, step: int, slots: int) -> None:
        """Count and report the placeholders of `step` (all ranks call this). found: over all ranks.

        slots: that were read so far, those of this step included. Raises `InputError` (`PeerError` on other ranks than
        0) where too many of them were unreadable; then the step's are not counted, as its slots will come again.
        """
        self._emit(ExamplesUnreadable(step=step, found=gather_unreadable(batches)))
        share = self._recipe.loader.max_unreadable_share
        if too_many_unreadable(self.count + found, slots, share):
            raise of_all_ranks(
                f"{self.count + found} of {slots:,} examples could not be read, more than loader.max_unreadable_share="
                f"{share:g} allows; they are listed in {self._recipe.run}/unreadable.jsonl. Look at the "
                "corpus with `d2tv verify`, or raise the share",
                self._ranks,
            )
        self.count += found


def of_all_ranks(problem: str, ranks: Ranks) -> InputError | PeerError:
    """Return the error with which a rank leaves where all leave together: rank 0 prints the problem."""
    return InputError(problem) if ranks.is_first else PeerError()


def gather_unreadable(batches: Sequence[StreamBatch]) -> list[Unreadable]:
    """Return the placeholders of a step's micro-batches of all ranks (all ranks call this): every one, in slot order,
    on rank 0, and an empty list elsewhere."""
    mine = [one for batch in batches for one in batch.unreadable]
    gathered: list[Any] | None = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
    dist.gather_object(mine, gathered)
    return sorted((one for of_rank in gathered or () for one in of_rank), key=lambda one: one.slot)


def too_many_unreadable(unreadable: int, slots: int, share: float) -> bool:
    """Return True if more than `share` of the first `slots` slots was unreadable.

    One always may be, unless the share is 0: else an early bad record would end any run.
    """
    return unreadable > max(share * slots, 1.0 if share else 0.0)
