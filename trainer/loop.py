"""The training loop. There is one, for every objective: it is never subclassed.

A step reads top to bottom in `Trainer.train_step`: fetch the micro-batches, agree on the counts that the
losses are averaged over, one forward and one backward a micro-batch, one optimizer step.
"""

import json
import time
from collections.abc import Mapping
from typing import Any

import torch

from models.objectives.base import Outputs
from shards.changes import fingerprint
from shards.errors import InputError
from shards.index import Corpus
from shards.loader import Loader
from shards.reader import Reader
from shards.schema import Batch
from trainer.checkpoint import CORPUS, Saved, TrainState, save_checkpoint
from trainer.distributed import PeerError, raise_together, sum_over_ranks
from trainer.engine import loss_scaler
from trainer.evaluation.heldout import HeldOut
from trainer.ledger import gather_unreadable, too_many_unreadable
from trainer.metrics import Totals
from trainer.recipe import Recipe
from trainer.reporting import Reporting
from trainer.schedule import learning_rate
from trainer.stop import StopRequest


def total_loss(outputs: Outputs, counts: Mapping[str, float]) -> torch.Tensor:
    """J of one micro-batch: every term's sum over the *global* count, so that micro-batches and ranks add up.

    A term that nothing in the global batch contributes to has count 0 and sum 0.
    """
    terms = outputs.terms.items()
    return torch.stack([term.weight * term.sum / max(counts[name], 1.0) for name, term in terms]).sum()


class Trainer:
    """Trains from `state` to the recipe's last step, validating and checkpointing on the way.

    All ranks run it in step. `reporting` is given on rank 0 alone.
    """

    def __init__(
        self,
        *,
        engine: Any,
        recipe: Recipe,
        ds_config: Mapping[str, Any],
        loader: Loader,
        reader: Reader,
        corpus: Corpus,
        held_out: HeldOut,
        state: TrainState,
        rank: int,
        device: torch.device,
        reporting: Reporting | None,
    ) -> None:
        self.engine = engine
        self.recipe = recipe
        self.ds_config = ds_config
        self.loader = loader
        self.reader = reader
        self.held_out = held_out
        self.rank = rank
        self.world_size = state.world_size
        self.device = device
        self.reporting = reporting
        self.stop = StopRequest()
        self.step, self.attempts = state.step, state.attempts
        self._state = state
        self._corpus = corpus
        self._unreadable = state.unreadable
        self._story_keys: list[str] = []  # read when the first is needed
        self._skipped_in_a_row = 0
        self._retries_before = 0
        self._totals: Totals | None = None
        self._scalars: Mapping[str, float] = {}
        self._saved_at = (state.step, state.attempts) if state.attempts else None

    def train(self) -> bool:
        """Run to the end. True when the last step was taken, False when a signal stopped the run before."""
        training = self.recipe.training
        if self.step == 0:
            self._validate()
        while self.step < training.steps:
            before = self.step
            stopped = self.train_step()
            advanced, last = self.step > before, self.step == training.steps
            if advanced and (last or self.step % training.log_every == 0):
                self._log()
            if advanced and (last or self.step % training.validate_every == 0):
                self._validate()
            if stopped or (advanced and (last or self.step % self.recipe.checkpoint.every == 0)):
                self._save()
            if stopped:
                return False
        return True

    def close(self) -> None:
        """Stop the loader's threads, end the reports, give the signals back."""
        self.stop.restore()
        self.loader.close()
        self.reader.close()
        if self.reporting:
            self.reporting.close()

    def train_step(self) -> bool:
        """One attempt at an optimizer step. True when any rank was asked to stop."""
        self._note_mixture()
        began = time.perf_counter()
        batches = self._fetch()
        data_wait = time.perf_counter() - began

        counts, stopped, unreadable = self._agree(batches)
        if unreadable:
            self._note_unreadable(batches, unreadable)
        rate = learning_rate(self.step + 1, self.recipe)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        for micro_step, batch in enumerate(batches):
            self._seed(micro_step)
            outputs: Outputs = self.engine(batch, self.step)
            # DeepSpeed averages gradients over ranks; the counts are global already, so that is undone.
            loss = total_loss(outputs, counts)
            self.engine.backward(self.world_size * loss, scale_wrt_gas=False)
            self.engine.step()  # the optimizer steps at the last micro-batch only
            self._count(outputs, batch, loss)
        self._conclude(began, data_wait)
        return stopped

    def _note_mixture(self) -> None:
        """Record that another mixture begins with the step that comes now."""
        for change in self.recipe.mixture.changes:
            if change.from_step == self.attempts and self.reporting:
                mixture = change.model_dump(mode="json", exclude={"from_step"})
                self.reporting.log.write({"kind": "mixture", "step": self.step + 1, "mixture": mixture})
                self._say(f"step {self.step + 1}: the mixture changes to {json.dumps(mixture)}")

    def _fetch(self) -> list[Batch]:
        """This rank's micro-batches of the step. When any rank's data is bad, all save and leave together."""
        try:
            batches, problem = [next(self.loader) for _ in range(self.engine.gradient_accumulation_steps())], None
        except InputError as error:
            batches, problem = [], error
        try:
            raise_together(problem)
        except (InputError, PeerError):
            self._save()
            raise
        return batches

    def _agree(self, batches: list[Batch]) -> tuple[dict[str, float], bool, int]:
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

    def _note_unreadable(self, batches: list[Batch], count: int) -> None:
        """Count and list the step's placeholders; where they are too many, all ranks save and leave together."""
        found = gather_unreadable(batches)
        if self.reporting:
            self._story_keys = self._story_keys or self._corpus.story_keys()
            self.reporting.placeholders(found, self.step + 1, self._story_keys)
        slots = (self.attempts + 1) * self.recipe.batch.groups_per_step * self.recipe.batch.group_size
        share = self.recipe.loader.max_unreadable_share
        if too_many_unreadable(self._unreadable + count, slots, share):
            self._save()  # without this step, whose slots will come again
            if self.rank:
                raise PeerError
            raise InputError(
                f"{self._unreadable + count} of {slots:,} examples could not be read, more than "
                f"loader.max_unreadable_share={share:g} allows; they are listed in {self.recipe.run}/unreadable.jsonl. "
                "Look at the corpus with `d2tv verify`, or raise the share"
            )
        self._unreadable += count

    def _seed(self, micro_step: int) -> None:
        """Dropout depends on nothing but (seed, attempt, micro-step, rank), so there is no generator to save."""
        words = torch.tensor([self.recipe.training.seed, self.attempts, micro_step, self.rank], dtype=torch.int64)
        # An odd multiplier a word keeps neighbours apart; torch's generators scramble the seed themselves.
        mixed = int((words * torch.tensor([0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F])).sum())
        torch.manual_seed(mixed & 0x7FFF_FFFF_FFFF_FFFF)

    def _count(self, outputs: Outputs, batch: Batch, loss: torch.Tensor) -> None:
        if self._totals is None:
            self._totals = Totals(tuple(outputs.terms), len(self._corpus.languages), self.device)
        self._totals.add_micro_batch(outputs, batch, loss)
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
            slots = f"{first_slot}..{self._first_slot() - 1}"
            scale = f"; the loss scale is {scaler.cur_scale:g} now" if scaler else ""
            self._say(f"step {self.step + 1} skipped: non-finite gradients in slots {slots}{scale}")
            if self._skipped_in_a_row >= self.recipe.training.max_skipped_steps:
                raise InputError(
                    f"{self._skipped_in_a_row} steps in a row had non-finite gradients"
                    f"{' at the smallest loss scale' if scaler else ''}, the last in slots "
                    f"{slots}: lower optimizer.learning_rate or look at that data"
                )
        else:
            retries = self.reader.retries
            self._totals.add_step(
                seconds=seconds, data_wait_seconds=data_wait, read_retries=retries - self._retries_before
            )
            self._retries_before = retries
            self._skipped_in_a_row = 0
            self.step += 1
        if self.reporting:
            self.reporting.exporter.step(
                step=self.step, seconds=seconds, data_wait_seconds=data_wait, skipped=self.attempts - self.step
            )
            self.reporting.console.advance(self.step)

    def _first_slot(self) -> int:
        """The first slot that is still to come."""
        return self.attempts * self.recipe.batch.groups_per_step * self.recipe.batch.group_size

    def _log(self) -> None:
        if self._totals is None:
            return
        interval = self._totals.reduce(self.world_size)
        if self.reporting is None or interval.steps == 0:
            return
        norm = self.engine.get_global_grad_norm()
        gradient_norm = float(norm) if norm is not None else 0.0
        rate = learning_rate(self.step, self.recipe)
        examples = sum(sum(by_target) for by_target in interval.examples.values())
        scaler = loss_scaler(self.engine)
        record = {
            "kind": "train",
            "step": self.step,
            "skipped_steps": self.attempts - self.step,
            "steps": interval.steps,
            "loss": {"total": interval.total_loss, **interval.loss},
            "nll": interval.nll,
            "learning_rate": rate,
            "gradient_norm": gradient_norm,
            **({"loss_scale": float(scaler.cur_scale)} if scaler else {}),
            **self._scalars,
            "examples": {kind: sum(by_target) for kind, by_target in interval.examples.items()},
            "target_tokens": {kind: sum(by_target) for kind, by_target in interval.tokens.items()},
            "examples_per_second": examples / interval.seconds,
            "step_seconds": interval.seconds / interval.steps,
            "real_token_share": interval.real_token_share,
            "data_wait_share": interval.data_wait_seconds / interval.seconds,
            "read_retries": interval.read_retries,
            "unreadable": self._unreadable,
            "time": time.time(),
        }
        self.reporting.log.write(record)
        self.reporting.exporter.interval(
            interval, learning_rate=rate, gradient_norm=gradient_norm, scalars=self._scalars
        )
        self.reporting.console.train(record)

    def _validate(self) -> None:
        began = time.perf_counter()
        found = self.held_out.nll(self.engine.module.network, self.device)
        if self.reporting:
            nll = {kind: of_kind.nll for kind, of_kind in found.items()}
            unreadable = sum(of_kind.unreadable for of_kind in found.values())
            record = {
                "kind": "validation",
                "step": self.step,
                "nll": nll,
                "unreadable": unreadable,
                "seconds": time.perf_counter() - began,
            }
            if unreadable:
                self._say(f"{unreadable} held-out examples could not be read and are not in the means")
            self.reporting.log.write(record)
            self.reporting.exporter.validation(nll)
            self.reporting.console.validation(record)

    def _save(self) -> None:
        if self._saved_at == (self.step, self.attempts):
            return
        state = TrainState(
            step=self.step,
            attempts=self.attempts,
            seed=self._state.seed,
            slot=self._first_slot(),
            world_size=self.world_size,
            corpus=self._state.corpus,
            unreadable=self._unreadable,
        )
        saved: Saved = save_checkpoint(
            self.engine,
            self.recipe.run / "checkpoints",
            state,
            {
                "recipe.yaml": self.recipe.dump(),
                "ds_config.json": json.dumps(self.ds_config, indent=1) + "\n",
                CORPUS: json.dumps(fingerprint(self._corpus.manifest), indent=1) + "\n",
            },
            self.recipe.checkpoint.keep_last,
        )
        self._saved_at = (self.step, self.attempts)
        if self.reporting:
            self.reporting.exporter.checkpoint(self.step, saved)
            self._say(f"checkpoint {saved.path} ({saved.bytes / 1e6:.0f} MB in {saved.seconds:.1f} s)")

    def _say(self, message: str) -> None:
        if self.reporting:
            self.reporting.console.say(message)
