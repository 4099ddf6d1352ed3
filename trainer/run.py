"""Train a plan and evaluate its test split: `open_run`, then `train`, then `evaluate`. All ranks call them together."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import torch

from shards.directions import parse_directions
from shards.errors import InputError, out_of_memory
from shards.format.index import Corpus
from shards.printable import error_line
from trainer.assemble import Run, assemble, build_evaluator
from trainer.distributed import PeerError, from_first_rank, together
from trainer.evaluation.closing_table import print_report
from trainer.evaluation.kept import lock_evaluation, lock_path
from trainer.evaluation.report import read_report
from trainer.evaluation.tasks import run_task
from trainer.events import Ended, EvaluationEnded, PhaseBegan
from trainer.host import keep_freed_memory, set_threads
from trainer.liveness.exit_codes import STOPPED
from trainer.liveness.stop import StopSignal
from trainer.liveness.waits import EVALUATION_POLL_SECONDS
from trainer.liveness.watchdog import Watchdog
from trainer.plan import Plan
from trainer.ranks import Ranks
from trainer.recipe import Recipe
from trainer.runs.lock import FileLock, read_owner
from trainer.telemetry.metrics import validation_history
from trainer.terminal.log import log
from trainer.terminal.progress import stage
from trainer.trained import choose_product, recipe_of
from trainer.verdicts import is_evaluated


@contextlib.contextmanager
def open_run(plan: Plan, device: torch.device, watchdog: Watchdog, stop: StopSignal) -> Iterator[Run]:
    """Yield the run, put together. At the end of the block its observers get `Ended`, and the endpoint is closed."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    set_threads(plan.recipe, plan.ranks)
    keep_freed_memory(device)
    run = assemble(plan, device, watchdog, stop)
    try:
        yield run
        if run.outcome == "finished" and plan.ranks.is_first:
            # Nothing is left to stop: a signal ends the wait.
            stop.from_now_on(run.endpoint.hurry)
            with stage("waiting for the last scrape"):
                run.endpoint.last_scrape(print)
    finally:
        _end(run)


def _end(run: Run) -> None:
    run.observers.emit(Ended(step=run.trainer.step, outcome=run.outcome))


def train(run: Run) -> bool:
    """Train to the last step, or resume. Return True when it is taken and saved, False when a signal stopped the run.

    Raises `PeerError` for bad input, once the rank that met it has printed it.
    """
    trainer, ranks = run.trainer, run.plan.ranks
    first = trainer.step
    try:
        try:
            finished = trainer.train()
        except (MemoryError, RuntimeError) as error:
            # Later it may be a neighbour's doing, and another start goes on; in the first step it is the recipe's.
            if (why := out_of_memory(error)) is None or trainer.step > first:
                raise
            raise InputError(
                f"memory does not suffice for a step ({why}): lower batch.groups_per_micro_batch, batch.group_size or "
                "lengths.*, or the sizes in network.*"
            ) from error
    except InputError as error:
        # Before the threads are waited for, which may be in the middle of slow reads: the launcher ends this process
        # as soon as another rank has left. Only this rank may have met it, so it prints whichever rank it is.
        log.error(error_line(error), extra={"rank": ranks.rank})
        raise PeerError from error
    finally:
        trainer.close()
    if not finished:
        run.outcome = "stopped"
        if ranks.is_first:
            steps = run.plan.recipe.training.steps
            log.info(f"stopped at step {trainer.step} of {steps}: the same command goes on from there")
    return finished


def evaluate(run: Run) -> None:
    """Evaluate the test split with the last checkpoint, unless that was done, and print the closing table.

    A signal ends the process: the checkpoint is whole, and the same command goes on with the evaluation.
    """
    plan, recipe, ranks = run.plan, run.plan.recipe, run.plan.ranks
    checkpoint = run.trainer.checkpoints.newest
    assert checkpoint is not None, "the last step is saved when `train` has returned"
    run.stop.from_now_on(partial(_leave_evaluation, run))
    if _has_examples(recipe, plan.corpus, "test"):
        begin_batch = partial(run.observers.emit, PhaseBegan(phase="evaluation"))
        with _only_evaluation(recipe.run, ranks, begin_batch):
            if from_first_rank(ranks.is_first and not is_evaluated(recipe, checkpoint)):
                product = choose_product(recipe, run.trainer.engine.module)
                evaluator = build_evaluator(
                    recipe_of(recipe, product), plan.corpus, plan.tokenizer, ranks, run.device, begin_batch
                )
                with contextlib.closing(evaluator.reader):
                    run_task(replace(evaluator, product=product.name), product, "test", checkpoint)
        if ranks.is_first:
            report = read_report(recipe.run, "test")
            assert report is not None
            run.observers.emit(EvaluationEnded(report=report))
            print_report(report, validation_history(recipe.run / "metrics.jsonl"), recipe.run)
    elif ranks.is_first:
        log.info(
            f"the test split holds no example of evaluation.directions={recipe.evaluation.directions}: none scored"
        )
    run.outcome = "finished"


@contextlib.contextmanager
def _only_evaluation(run: Path, ranks: Ranks, begin_batch: Callable[[], None]) -> Iterator[None]:
    """Have the run's own test evaluation for these ranks alone in the block (all ranks call this).

    A `d2tv evaluate` of the same is waited for: it may leave nothing to do.
    """
    path, printed = lock_path(run, "test"), False
    lock: FileLock | None = None
    while True:
        begin_batch()
        with together():
            if ranks.is_first:
                lock = lock_evaluation(run, "test", "a training that evaluates its last checkpoint")
        if from_first_rank(lock is not None):
            break
        if ranks.is_first and not printed:
            printed = True
            log.info(f"waiting for the evaluation of test in {path.parent} by {read_owner(path) or 'another process'}")
        time.sleep(EVALUATION_POLL_SECONDS)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _leave_evaluation(run: Run) -> NoReturn:
    run.outcome = "stopped"
    _end(run)
    run.watchdog.close("stopped")
    with contextlib.suppress(Exception):  # the signal may have come in the middle of a line
        sys.stdout.flush()
    os._exit(STOPPED)


def _has_examples(recipe: Recipe, corpus: Corpus, split: str) -> bool:
    """Return True if `split` has anything to evaluate."""
    counts_TS = corpus.direction_counts(split)
    directions = parse_directions(recipe.evaluation.directions, corpus.languages, recipe.mixture.languages)
    return any(counts_TS[target, source] > 0 for source, target in directions)
