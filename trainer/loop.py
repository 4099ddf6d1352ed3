"""The training loop. There is one, for every objective: it is never subclassed.

A step reads top to bottom in `Trainer.train_step`: fetch the micro-batches, agree on the counts that the losses are
averaged over, one forward and one backward a micro-batch, one optimizer step. What happens is emitted as events.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

from models.objectives.base import Outputs
from shards.batch.loader import Loader
from shards.batch.reader import Reader
from shards.batch.types import StreamBatch
from shards.errors import InputError
from shards.format.index import Corpus
from trainer.checkpoint.checkpoints import Checkpoints
from trainer.checkpoint.directory import TrainState, read_state
from trainer.checkpoint.sharded_state import restore
from trainer.contract import Contract
from trainer.distributed import PeerError, sum_over_ranks, together
from trainer.engine import casts, loss_scale
from trainer.events import (
    Logged,
    MixtureChanged,
    Notice,
    Observers,
    PhaseBegan,
    RolledBack,
    StepSkipped,
    StepTaken,
    TrainingEnded,
)
from trainer.liveness.stop import StopSignal
from trainer.own_state import OwnState
from trainer.ranks import Ranks
from trainer.recipe import Recipe
from trainer.recovery import SkippedSteps, UnreadableExamples
from trainer.schedule import dropout_seed, learning_rate
from trainer.telemetry.measurements import Measurements
from trainer.validation import Validation


def total_loss(outputs: Outputs, counts: Mapping[str, float]) -> torch.Tensor:
    """Return J of one micro-batch: every term's sum over the *global* count, so that micro-batches and ranks add up.

    A term that nothing in the global batch contributes to has count 0 and sum 0.
    """
    terms = outputs.terms.items()
    return torch.stack([term.weight * term.sum / max(counts[name], 1.0) for name, term in terms]).sum()


def agree(
    batches: Sequence[StreamBatch], own_counts: Sequence[Mapping[str, float]], stop: bool, device: torch.device
) -> tuple[dict[str, float], bool, int]:
    """Return what each term is averaged over in the whole global batch, True if any rank is to stop, and placeholders.

    own_counts: of each of `batches`, this rank's.  All ranks call this together.
    """
    local = {name: sum(counts[name] for counts in own_counts) for name in own_counts[0]}
    others = [float(stop), float(sum(len(batch.unreadable) for batch in batches))]
    *values, stops, unreadable = sum_over_ranks(
        torch.tensor([*local.values(), *others], dtype=torch.float64, device=device)
    ).tolist()
    return dict(zip(local, values, strict=True)), stops > 0, round(unreadable)


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """Parts that a training computes with. `open_loader(attempt)` returns a loader that reads from there on."""

    recipe: Recipe
    corpus: Corpus
    ranks: Ranks
    device: torch.device
    engine: Any
    reader: Reader
    open_loader: Callable[[int], Loader]
    validation: Validation
    checkpoints: Checkpoints


class Trainer:
    """Train from `state` to the recipe's last step, validating and saving on the way. All ranks run it in step.

    step: optimizer steps taken.  attempts: steps taken or skipped; the stream's position and dropout follow from it.
    """

    def __init__(self, parts: Parts, state: TrainState, observers: Observers, stop: StopSignal) -> None:
        self.recipe, self.ranks, self.engine = parts.recipe, parts.ranks, parts.engine
        self.checkpoints = parts.checkpoints
        self.loader = parts.open_loader(state.attempts)
        self.step, self.attempts = state.step, state.attempts
        self.measurements = Measurements(
            parts.engine.module, parts.reader, len(parts.corpus.languages), parts.ranks, parts.device
        )
        self.own_state = OwnState(parts.engine.module, parts.device)
        self._parts = parts
        self.emit, self._stop = observers.emit, stop
        repeats, recipe = not casts(parts.engine), parts.recipe
        self._contract = Contract(parts.engine.module, recipe.objective.name, repeats=repeats, needs=recipe.needs)
        self._skips = SkippedSteps(parts.engine, parts.recipe, parts.ranks, observers.emit)
        self._unreadable = UnreadableExamples(parts.recipe, parts.ranks, state.unreadable, observers.emit)

    def train(self) -> bool:
        """Run to the end. True when the last step was taken, False when a signal stopped the run before."""
        training = self.recipe.training
        if self.step % training.validate_every == 0 or self.step == training.steps:
            # At the beginning, or where a signal came before it.
            self._parts.validation.run(self.engine.module, self.step)
        while self.step < training.steps:
            before = self.step
            stopped = self.train_step()
            advanced, last = self.step > before, self.step == training.steps
            if advanced and (last or self.step % training.log_every == 0):
                self.log()
            if stopped:
                self.save_now()
                return False
            if advanced and (last or self.step % training.validate_every == 0):
                self._parts.validation.run(self.engine.module, self.step)
            if advanced and (last or self.step % self.recipe.checkpoint.every == 0):
                self.save()
            self.checkpoints.report()
        self.save_now()
        return True

    def close(self) -> None:
        """Stop the loader's threads, once the save that is under way has ended."""
        self.checkpoints.close()
        self.loader.close()
        self._parts.reader.close()
        self.emit(TrainingEnded(step=self.step))

    def train_step(self) -> bool:
        """Attempt one optimizer step. True when any rank was asked to stop."""
        self.emit(PhaseBegan(phase="step", detail=f"step {self.step + 1}"))
        self._announce_mixture()
        began = time.perf_counter()
        try:
            batches, data_wait = self.fetch()
            self.measurements.waited(data_wait)
            self._contract.check_fields(batches)
            own_counts = [self.engine.module.counts(batch) for batch in batches]
            self._contract.check_counts(own_counts)
            counts, stopped, unreadable = agree(batches, own_counts, self._stop.received, self._parts.device)
            if unreadable:
                self._unreadable.check(batches, unreadable, self.step + 1, self._first_slot(self.attempts + 1))
        except (InputError, PeerError) as problem:
            self._save_and_end(problem)
        rate = learning_rate(self.step + 1, self.recipe)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        for micro_step, (batch, own) in enumerate(zip(batches, own_counts, strict=True)):
            number = micro_step * self.ranks.world_size + self.ranks.rank  # as shards.stream.partition deals them
            seed = dropout_seed(self.recipe.training.seed, self.attempts, number)
            self._contract.rehearse(batch, self.step, own, seed)
            torch.manual_seed(seed)
            with self.measurements.forward():
                outputs: Outputs = self.engine(batch, self.step, own)
            self._contract.check_outputs(outputs, own)
            # DeepSpeed averages gradients over ranks; the counts are global already, so that is undone.
            loss = total_loss(outputs, counts)
            self.engine.backward(self.ranks.world_size * loss, scale_wrt_gas=False)
            self.engine.step()  # the optimizer steps at the last micro-batch only
            self.measurements.add(outputs, batch, loss)
            self.own_state.add(outputs, batch)
        self._conclude(began, data_wait)
        if self._skips.too_many:
            self.checkpoints.wait()
            self.restore(self._skips.checkpoint_to_return_to(self._first_slot(self.attempts)))
        return stopped

    def _announce_mixture(self) -> None:
        for change in self.recipe.mixture.changes:
            if change.from_step == self.attempts:
                mixture = change.model_dump(mode="json", exclude={"from_step"})
                self.emit(MixtureChanged(step=self.step + 1, mixture=mixture))

    def fetch(self) -> tuple[list[StreamBatch], float]:
        """Return this rank's micro-batches of the step, and the seconds it waited for them; raise as `together`."""
        began = time.perf_counter()
        with together():
            batches = [next(self.loader) for _ in range(self.engine.gradient_accumulation_steps())]
            waited = time.perf_counter() - began  # from here on for the other ranks
        return batches, waited

    def _conclude(self, began: float, data_wait: float) -> None:
        """Count the step, or its being skipped, which DeepSpeed decided over all ranks before the optimizer."""
        self.attempts += 1
        self._contract.step_ended()
        taken = not self.engine.optimizer.overflow
        self.step += taken
        self.own_state.step_ended(taken=taken, step=self.step)
        seconds = time.perf_counter() - began
        self.measurements.step_ended(taken=taken, seconds=seconds)
        times = {"seconds": seconds, "data_wait_seconds": data_wait}
        if taken:
            self._skips.reset()
            self.emit(StepTaken(step=self.step, skipped=self.attempts - self.step, **times))
            return
        self.emit(
            StepSkipped(
                step=self.step,
                skipped=self.attempts - self.step,
                slots=(self._first_slot(self.attempts - 1), self._first_slot(self.attempts) - 1),
                loss_scale=loss_scale(self.engine),
                diverged=self._skips.skipped(),
                **times,
            )
        )

    def restore(self, checkpoint: Path) -> None:
        """Go on from `checkpoint` as a new start would (all ranks call this)."""
        restore(self.engine, checkpoint)
        left, state = self.step, read_state(checkpoint)
        self.step, self.attempts, self._unreadable.count = state.step, state.attempts, state.unreadable
        self.loader.close()
        self.loader = self._parts.open_loader(state.attempts)
        self._skips.reset()
        self.measurements.forget()
        self.checkpoints.returned_to(checkpoint, state)
        self._parts.validation.resume(state)
        self.emit(RolledBack(step=state.step, from_step=left, skipped=state.attempts - state.step))

    def _save_and_end(self, problem: InputError | PeerError) -> NoReturn:
        """End the run on all ranks for a reason that must not be lost where the state cannot be saved either."""
        try:
            self.save_now()
        except InputError as unsaved:
            self.emit(Notice(text=str(unsaved)))
        except PeerError:
            pass
        raise problem

    def _first_slot(self, attempt: int) -> int:
        return attempt * self.recipe.batch.groups_per_step * self.recipe.batch.group_size

    def log(self) -> None:
        """Report the steps since the last call, if any was taken (all ranks call this)."""
        if (interval := self.measurements.reduce()) is None:
            return
        norm = self.engine.get_global_grad_norm()
        self.emit(
            Logged(
                step=self.step,
                interval=interval,
                skipped=self.attempts - self.step,
                learning_rate=learning_rate(self.step, self.recipe),
                gradient_norm=float(norm) if norm is not None else 0.0,
                loss_scale=loss_scale(self.engine),
                scalars={**self.measurements.scalars, **interval.watched},
                idle=self.measurements.idle,
                unreadable=self._unreadable.count,
                groups=self.attempts * self.recipe.batch.groups_per_step,
            )
        )

    def state(self) -> TrainState:
        """Return the state of this step, as a checkpoint holds it."""
        return TrainState(
            step=self.step,
            attempts=self.attempts,
            seed=self.recipe.training.seed,
            slot=self._first_slot(self.attempts),
            world_size=self.ranks.world_size,
            corpus=self._parts.corpus.content_hash,
            unreadable=self._unreadable.count,
            validation=self._parts.validation.nll(self.step),
        )

    def save(self) -> None:
        """Begin a checkpoint of this step; training goes on while it is written."""
        self.log()  # what is counted so far outlives a return to this checkpoint
        self.checkpoints.save(self.state())

    def save_now(self) -> None:
        """Save a checkpoint of this step, whole when this returns. Raises `InputError` where it cannot be written."""
        self.log()
        self.checkpoints.save_now(self.state())
