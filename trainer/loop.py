"""The training loop. There is one, for every objective: it is never subclassed.

A step reads top to bottom in `Trainer.train_step`: fetch the micro-batches, agree on the counts that the
losses are averaged over, one forward and one backward a micro-batch, one optimizer step.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch

from models.objectives.base import Outputs
from shards.batch.loader import Loader
from shards.batch.reader import Reader
from shards.batch.types import Batch, StreamBatch
from shards.errors import InputError
from shards.format.index import Corpus
from trainer.checkpoint.directory import TrainState, read_state
from trainer.checkpoint.resume import newest_sound_checkpoint
from trainer.checkpoint.saver import Saver
from trainer.checkpoint.sharded_state import restore
from trainer.distributed import PeerError, raise_together, sum_over_ranks
from trainer.engine import loss_scaler
from trainer.evaluation.heldout import HeldOut
from trainer.liveness.stop import StopRequest
from trainer.liveness.watchdog import Phase, Watchdog
from trainer.ranks import Ranks
from trainer.recipe import Recipe
from trainer.schedule import learning_rate
from trainer.telemetry.ledger import gather_unreadable, too_many_unreadable
from trainer.telemetry.prometheus.endpoint import Endpoint
from trainer.telemetry.rank_meter import RankMeter
from trainer.telemetry.reporting import Reporting
from trainer.telemetry.totals import Totals

#: So many steps in a row without a finite gradient are no chance, and the loss that is shown is none.
_NO_CHANCE = 3


def total_loss(outputs: Outputs, counts: Mapping[str, float]) -> torch.Tensor:
    """J of one micro-batch: every term's sum over the *global* count, so that micro-batches and ranks add up.

    A term that nothing in the global batch contributes to has count 0 and sum 0.
    """
    terms = outputs.terms.items()
    return torch.stack([term.weight * term.sum / max(counts[name], 1.0) for name, term in terms]).sum()


#: What a log is told of a phase without a detail of its own.
_DOING: dict[Phase, str] = {"checkpoint": "waiting for the checkpoint", "evaluation": "measuring held-out examples"}


class Trainer:
    """Trains from `state` to the recipe's last step, validating and checkpointing on the way.

    All ranks run it in step. `reporting` is given on rank 0 alone. `open_loader(attempt)` reads from there on.
    """

    def __init__(
        self,
        *,
        engine: Any,
        recipe: Recipe,
        open_loader: Callable[[int], Loader],
        reader: Reader,
        corpus: Corpus,
        held_out: HeldOut,
        saver: Saver,
        state: TrainState,
        ranks: Ranks,
        device: torch.device,
        reporting: Reporting | None,
        endpoint: Endpoint,
        watchdog: Watchdog,
        stop: StopRequest,
        checkpoint: Path | None = None,
    ) -> None:
        """checkpoint: the one that `state` and the weights were read from, None of none."""
        self.engine = engine
        self.recipe = recipe
        self.reader = reader
        self.held_out = held_out
        self.ranks = ranks
        self.device = device
        self.reporting = reporting
        self.stop = stop
        self.step, self.attempts = state.step, state.attempts
        #: What holds the weights, once they are saved or where they were read.
        self.checkpoint = checkpoint
        self.loader = open_loader(state.attempts)
        self._open_loader = open_loader
        self._saver = saver
        self.endpoint = endpoint
        self._watchdog = watchdog
        self._meter = RankMeter(reader, device, count_forward=not engine.module.waits_for_ranks)
        self._state = state
        self._corpus = corpus
        self._unreadable = state.unreadable
        self._story_keys: list[str] = []  # read when the first is needed
        self._skipped_in_a_row = 0
        self._went_back_to: Path | None = None
        self._totals: Totals | None = None
        self._scalars: Mapping[str, float] = {}
        self._validated = (state.step, state.validation) if state.validation is not None else None
        self._saved_at = (state.step, state.attempts) if state.attempts else None

    def train(self) -> bool:
        """Run to the end. True when the last step was taken, False when a signal stopped the run before."""
        training = self.recipe.training
        if self.step % training.validate_every == 0 or self.step == training.steps:
            self._validate()  # at the beginning, or where a signal came before it
        while self.step < training.steps:
            before = self.step
            stopped = self.train_step()
            advanced, last = self.step > before, self.step == training.steps
            if advanced and (last or self.step % training.log_every == 0):
                self._log()
            if stopped:
                self.save_now()
                return False
            if advanced and (last or self.step % training.validate_every == 0):
                self._validate()
            if advanced and (last or self.step % self.recipe.checkpoint.every == 0):
                self._save()
            self._report_save()
        self.save_now()
        return True

    def close(self) -> None:
        """Stop the loader's threads and end the reports. The endpoint stays: an evaluation may follow."""
        self._saver.wait()
        self.loader.close()
        self.reader.close()
        if self.reporting:
            self.reporting.close()

    def train_step(self) -> bool:
        """One attempt at an optimizer step. True when any rank was asked to stop."""
        self.phase("step", f"step {self.step + 1}")
        self._note_mixture()
        began = time.perf_counter()
        batches, data_wait = self._fetch()
        self._meter.waited(data_wait)

        counts, stopped, unreadable = self._agree(batches)
        if unreadable:
            self._note_unreadable(batches, unreadable)
        rate = learning_rate(self.step + 1, self.recipe)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        for micro_step, batch in enumerate(batches):
            self._seed(micro_step)
            with self._meter.forward():
                outputs: Outputs = self.engine(batch, self.step)
            # DeepSpeed averages gradients over ranks; the counts are global already, so that is undone.
            loss = total_loss(outputs, counts)
            self.engine.backward(self.ranks.world_size * loss, scale_wrt_gas=False)
            self.engine.step()  # the optimizer steps at the last micro-batch only
            self._count(outputs, batch, loss)
        self._conclude(began, data_wait)
        if self._skipped_in_a_row >= self.recipe.training.max_skipped_steps:
            self._go_back()
        return stopped

    def _note_mixture(self) -> None:
        """Record that another mixture begins with the step that comes now."""
        for change in self.recipe.mixture.changes:
            if change.from_step == self.attempts and self.reporting:
                self.reporting.mixture(change.model_dump(mode="json", exclude={"from_step"}), self.step + 1)

    def _fetch(self) -> tuple[list[StreamBatch], float]:
        """This rank's micro-batches of the step, and the seconds it waited for them. When any rank's data is bad, all
        save and leave together."""
        began = time.perf_counter()
        try:
            batches, problem = [next(self.loader) for _ in range(self.engine.gradient_accumulation_steps())], None
        except InputError as error:
            batches, problem = [], error
        waited = time.perf_counter() - began  # from here on for the other ranks
        try:
            raise_together(problem)
        except (InputError, PeerError) as problem:
            self._save_and_end(problem)
        return batches, waited

    def _agree(self, batches: list[StreamBatch]) -> tuple[dict[str, float], bool, int]:
        """Over the whole global batch: what each term is averaged over, whether any rank wants to stop, and how
        many examples are placeholders."""
        objective = self.engine.module
        local: dict[str, float] = {}
        for batch in batches:
            for name, count in objective.counts(batch).items():
                local[name] = local.get(name, 0.0) + count
        others = [float(self.stop.wanted), float(sum(len(batch.unreadable) for batch in batches))]
        *values, wishes, unreadable = sum_over_ranks(
            torch.tensor([*local.values(), *others], dtype=torch.float64, device=self.device)
        ).tolist()
        return dict(zip(local, values, strict=True)), wishes > 0, round(unreadable)

    def _note_unreadable(self, batches: list[StreamBatch], count: int) -> None:
        """Count and list the step's placeholders; where they are too many, all ranks save and leave together."""
        found = gather_unreadable(batches)
        if self.reporting:
            self._story_keys = self._story_keys or self._corpus.story_keys()
            self.reporting.placeholders(found, self.step + 1, self._story_keys)
        slots = (self.attempts + 1) * self.recipe.batch.groups_per_step * self.recipe.batch.group_size
        share = self.recipe.loader.max_unreadable_share
        if too_many_unreadable(self._unreadable + count, slots, share):
            # Saved without this step, whose slots will come again.
            problem = InputError(
                f"{self._unreadable + count} of {slots:,} examples could not be read, more than "
                f"loader.max_unreadable_share={share:g} allows; they are listed in {self.recipe.run}/unreadable.jsonl. "
                "Look at the corpus with `d2tv verify`, or raise the share"
            )
            self._save_and_end(problem if self.ranks.is_first else PeerError())
        self._unreadable += count

    def _seed(self, micro_step: int) -> None:
        """Dropout depends on nothing but (seed, attempt, micro-step, rank), so there is no generator to save."""
        words = torch.tensor([self.recipe.training.seed, self.attempts, micro_step, self.ranks.rank], dtype=torch.int64)
        # An odd multiplier a word keeps neighbours apart; torch's generators scramble the seed themselves.
        mixed = int((words * torch.tensor([0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F])).sum())
        torch.manual_seed(mixed & 0x7FFF_FFFF_FFFF_FFFF)

    def _count(self, outputs: Outputs, batch: Batch, loss: torch.Tensor) -> None:
        if self._totals is None:
            ranks, languages = self.ranks, len(self._corpus.languages)
            self._totals = Totals(
                tuple(outputs.terms), languages, self.device, rank=ranks.rank, world_size=ranks.world_size
            )
        flops = self.engine.module.flops(batch) if self._totals.wants_flops else 0
        self._totals.add_micro_batch(outputs, batch, loss, flops)
        self._scalars = outputs.scalars

    def _conclude(self, began: float, data_wait: float) -> None:
        """Count the step, or its being skipped, which DeepSpeed decided over all ranks before the optimizer."""
        first_slot = self._first_slot()
        self.attempts += 1
        seconds = time.perf_counter() - began
        assert self._totals is not None
        if self.engine.optimizer.overflow:
            self._totals.skip_step()
            # fp16's dynamic loss scale finds its level by skipped steps, from 2^16 downwards: as long as it can
            # still fall they are no sign of bad data. At its smallest they are, so an endless row of them ends.
            scaler = loss_scaler(self.engine)
            if scaler is None or scaler.cur_scale <= scaler.min_scale:
                self._skipped_in_a_row += 1
                if self._skipped_in_a_row >= _NO_CHANCE and self.reporting:
                    self.reporting.not_finite()
            slots = f"{first_slot}..{self._first_slot() - 1}"
            scale = f"; the loss scale is {scaler.cur_scale:g} now" if scaler else ""
            self._say(f"step {self.step + 1} skipped: non-finite gradients in slots {slots}{scale}")
        else:
            self._totals.add_step(seconds=seconds)
            self._skipped_in_a_row = 0
            self.step += 1
        self._meter.step_ended(taken=not self.engine.optimizer.overflow)
        if self.endpoint.node:
            self.endpoint.node.step(seconds=seconds, data_wait_seconds=data_wait)
        if self.reporting:
            self.reporting.step(self.step, self.attempts - self.step)

    def _go_back(self) -> None:
        """Too many steps in a row were not finite: to the last checkpoint, where it may have been the machine; where
        it comes again from the same checkpoint, it was not, and the run ends (all ranks together)."""
        self.phase("checkpoint")
        self._saver.wait()
        self._report_save()
        checkpoint = newest_sound_checkpoint(self.recipe.run / "checkpoints", self.ranks)
        first = self._first_slot()
        slots_a_step = self.recipe.batch.groups_per_step * self.recipe.batch.group_size
        slots = f"{first - self._skipped_in_a_row * slots_a_step}..{first - 1}"
        what = f"{self._skipped_in_a_row} steps in a row had non-finite gradients" + (
            " at the smallest loss scale" if loss_scaler(self.engine) else ""
        )
        if checkpoint is None or checkpoint == self._went_back_to:
            again = f", again after a return to {checkpoint.name}" if checkpoint else ""
            self._end_with(f"{what}{again}, in slots {slots}: lower optimizer.learning_rate or look at that data")
        assert checkpoint is not None
        self._went_back_to = checkpoint
        self._say(f"{what}, in slots {slots}: back to {checkpoint}, once")
        self.restore(checkpoint)

    def restore(self, checkpoint: Path) -> None:
        """Go on from `checkpoint` as a new start would (all ranks call this)."""
        restore(self.engine, checkpoint)
        left, state = self.step, read_state(checkpoint)
        self.step, self.attempts, self._unreadable = state.step, state.attempts, state.unreadable
        self.loader.close()
        self.loader = self._open_loader(state.attempts)
        self._totals, self._skipped_in_a_row = None, 0
        self._meter.forget()
        self._saved_at, self.checkpoint = (state.step, state.attempts), checkpoint
        self._validated = (state.step, state.validation) if state.validation is not None else None
        if self.reporting:
            self.reporting.rollback(state.step, state.attempts - state.step, left)

    def _save_and_end(self, problem: InputError | PeerError) -> NoReturn:
        """End the run on all ranks for a reason that must not be lost where the state cannot be saved either."""
        try:
            self.save_now()
        except InputError as unsaved:
            self._say(str(unsaved))
        except PeerError:
            pass
        raise problem

    def _end_with(self, problem: str) -> NoReturn:
        """End the run on all ranks, which call it together; rank 0 says why."""
        raise InputError(problem) if self.ranks.is_first else PeerError

    def _first_slot(self) -> int:
        """The first slot that is still to come."""
        return self.attempts * self.recipe.batch.groups_per_step * self.recipe.batch.group_size

    def _log(self) -> None:
        if self._totals is None or self._totals.steps == 0:
            return
        interval = self._totals.reduce(self._meter.facts())
        if self.endpoint.node:
            self.endpoint.node.interval(interval.steps, interval.ranks)
        if self.reporting is None:
            return
        norm, scaler = self.engine.get_global_grad_norm(), loss_scaler(self.engine)
        self.reporting.interval(
            interval,
            step=self.step,
            skipped=self.attempts - self.step,
            learning_rate=learning_rate(self.step, self.recipe),
            gradient_norm=float(norm) if norm is not None else 0.0,
            loss_scale=float(scaler.cur_scale) if scaler else None,
            scalars=self._scalars,
            unreadable=self._unreadable,
            groups=self.attempts * self.recipe.batch.groups_per_step,
        )

    def _validate(self) -> None:
        if self._validated is not None and self._validated[0] == self.step:
            return
        began = time.perf_counter()
        found = self.held_out.nll(self.engine.module.network, self.device, lambda: self.phase("evaluation"))
        measured = self.held_out.measure(self.engine.module, self.device, lambda: self.phase("evaluation"))
        self._validated = self.step, {kind: of_kind.nll for kind, of_kind in found.items()}
        if self.reporting:
            self.reporting.validation(found, measured, self.step, time.perf_counter() - began)

    def _save(self) -> None:
        """Begin a checkpoint of this very step; training goes on while it is written. Not twice for one state."""
        if self._saved_at == (self.step, self.attempts):
            return
        self.phase("checkpoint")
        self._log()  # what is counted so far outlives a return to this checkpoint
        if self.reporting:
            self.reporting.directions(self.step)
        self._saver.save(
            TrainState(
                step=self.step,
                attempts=self.attempts,
                seed=self._state.seed,
                slot=self._first_slot(),
                world_size=self.ranks.world_size,
                corpus=self._state.corpus,
                unreadable=self._unreadable,
                validation=self._validated[1] if self._validated and self._validated[0] == self.step else None,
            )
        )
        self._saved_at = (self.step, self.attempts)

    def save_now(self) -> None:
        """A checkpoint of this very step, whole when this returns. Raises `InputError` where it cannot be written."""
        for _ in range(2):  # a disk that was full for a moment is given a second chance
            self._save()
            self.phase("checkpoint")
            saved = self._saver.wait()
            self._report_save()
            if saved is not None and saved.committed and saved.step == self.step:
                self.checkpoint = saved.path
            if saved is None or saved.committed or saved.step != self.step:
                return
            self._saved_at = None
        if saved is not None:
            self._end_with(f"the state of step {saved.step} is lost, no checkpoint could be written: {saved.problem}")

    def phase(self, name: Phase, detail: str = "") -> None:
        """Something was done, and now this begins: for the watchdog, and for those who watch from outside."""
        self._watchdog.phase(name, detail)
        if self.reporting:
            self.reporting.console.phase(detail or _DOING.get(name, name))
        if self.endpoint.node:
            self.endpoint.node.progress()

    def _report_save(self) -> None:
        while (saved := self._saver.news()) is not None:
            if self.reporting:
                self.reporting.saved(saved)

    def _say(self, message: str) -> None:
        if self.reporting:
            self.reporting.console.say(message)
