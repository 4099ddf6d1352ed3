"""One run from its plan: everything put together, trained, evaluated, reported."""

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

import torch

from shards.batch.loader import Loader
from shards.errors import InputError, out_of_memory
from shards.files.write import write_atomically
from shards.format.changes import fingerprint
from shards.printable import error_line
from trainer.build import build_collator, build_evaluator, build_network
from trainer.checkpoint.directory import CORPUS, TrainState, read_state
from trainer.checkpoint.resume import newest_sound_checkpoint
from trainer.checkpoint.saver import Saver
from trainer.checkpoint.sharded_state import restore
from trainer.distributed import PeerError, from_first_rank, raise_together
from trainer.engine import build_engine
from trainer.evaluation.closing_table import print_report
from trainer.evaluation.heldout import HeldOut
from trainer.evaluation.kept import lock_evaluation, lock_path
from trainer.evaluation.report import read_report
from trainer.host_memory import keep_freed_memory
from trainer.liveness.exit_codes import STOPPED
from trainer.liveness.stop import StopRequest
from trainer.liveness.watchdog import Watchdog
from trainer.loop import Trainer
from trainer.plan import Plan
from trainer.ranks import Ranks
from trainer.recipe import Recipe
from trainer.runs.lock import FileLock, read_owner
from trainer.runs.verdicts import is_evaluated
from trainer.stream import has_examples, validated_directions
from trainer.telemetry.console import Console
from trainer.telemetry.metrics import MetricsLog, append_record, read_metrics, read_validations
from trainer.telemetry.prometheus.endpoint import Endpoint
from trainer.telemetry.recent import DirectionSums
from trainer.telemetry.reporting import Reporting
from trainer.telemetry.spikes import SpikeDetector
from trainer.telemetry.trackers import open_trackers
from trainer.terminal.progress import stage

#: Between two looks at an evaluation that another process makes.
_WAIT_SECONDS = 0.5


def execute(plan: Plan, device: torch.device, watchdog: Watchdog, stop: StopRequest) -> bool:
    """Train (or go on training), evaluate on the test split, report. False when a signal stopped the run.

    All ranks call it, after `join`.
    """
    recipe, ranks = plan.recipe, plan.ranks
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    set_threads(recipe, ranks)
    keep_freed_memory(device)
    trainer = build_trainer(plan, device, watchdog, stop)
    outcome = "failed"
    try:
        finished = _train_and_evaluate(plan, device, watchdog, stop, trainer)
        outcome = "finished" if finished else "stopped"
        if finished and ranks.is_first:
            # Nothing is left to stop: a signal ends the wait.
            stop.from_now_on(trainer.endpoint.hurry)
            with stage("waiting for the last scrape"):
                trainer.endpoint.last_scrape(print)
    finally:
        _end(trainer, recipe.run, outcome)
    return finished


def _end(trainer: Trainer, run: Path, outcome: str) -> None:
    """Nothing comes after this: for those who watch."""
    if trainer.reporting:
        append_record(
            run / "metrics.jsonl", {"kind": "end", "step": trainer.step, "outcome": outcome, "time": time.time()}
        )
        trainer.reporting.trackers.close(failed=outcome == "failed")
    trainer.endpoint.close(keep_target=outcome == "failed")


def _train_and_evaluate(
    plan: Plan, device: torch.device, watchdog: Watchdog, stop: StopRequest, trainer: Trainer
) -> bool:
    recipe, ranks = plan.recipe, plan.ranks
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
        # as soon as another rank has left. Only this rank may have met it, so it speaks whichever rank it is.
        print(f"error: rank {ranks.rank}: {error_line(error)}", file=sys.stderr, flush=True)
        raise PeerError from error
    finally:
        trainer.close()
    if not finished:
        if ranks.is_first:
            print(f"stopped at step {trainer.step} of {recipe.training.steps}: the same command goes on from there")
        return False
    checkpoint = trainer.checkpoint
    assert checkpoint is not None, "the last step is saved when `train` has returned"
    stop.from_now_on(partial(_leave_evaluation, watchdog, trainer, recipe.run))
    if not has_examples(recipe, plan.corpus, "test"):
        if ranks.is_first:
            print(
                f"the test split holds no example of evaluation.directions={recipe.evaluation.directions}: none scored"
            )
        return True
    begin_batch = partial(trainer.phase, "evaluation")
    with _only_evaluation(recipe.run, ranks, begin_batch):
        if from_first_rank(ranks.is_first and not is_evaluated(recipe, checkpoint)):
            evaluator = build_evaluator(recipe, plan.corpus, plan.tokenizer, ranks, device, begin_batch)
            try:
                evaluator.run(trainer.engine.module.network, "test", checkpoint)
            finally:
                evaluator.reader.close()
    if ranks.is_first:
        report = read_report(recipe.run, "test")
        assert report is not None
        if trainer.reporting:
            trainer.reporting.evaluation(report)
        print_report(report, validations(recipe.run), recipe.run)
    return True


@contextlib.contextmanager
def _only_evaluation(run: Path, ranks: Ranks, begin_batch: Callable[[], None]) -> Iterator[None]:
    """Have the run's own test evaluation for these ranks alone in the block (all ranks call this).

    A `d2tv evaluate` of the same is waited for: it may leave nothing to do.
    """
    path, said = lock_path(run, "test"), False
    lock: FileLock | None = None
    while True:
        begin_batch()
        problem: InputError | None = None
        if ranks.is_first:
            try:
                lock = lock_evaluation(run, "test", "a training that evaluates its last checkpoint")
            except InputError as error:
                problem = error
        raise_together(problem)
        if from_first_rank(lock is not None):
            break
        if ranks.is_first and not said:
            said = True
            print(f"waiting for the evaluation of test in {path.parent} by {read_owner(path) or 'another process'}")
        time.sleep(_WAIT_SECONDS)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _leave_evaluation(watchdog: Watchdog, trainer: Trainer, run: Path) -> NoReturn:
    """A signal while evaluating: the last checkpoint is whole, and the evaluation goes on later."""
    _end(trainer, run, "stopped")
    watchdog.close("stopped")
    with contextlib.suppress(Exception):  # the signal may have come in the middle of a line
        sys.stdout.flush()
    os._exit(STOPPED)


def build_trainer(
    plan: Plan, device: torch.device, watchdog: Watchdog | None = None, stop: StopRequest | None = None
) -> Trainer:
    """The trainer at the newest sound checkpoint, or at step 0. All ranks call it, after `join`."""
    recipe, ranks, corpus = plan.recipe, plan.ranks, plan.corpus
    quiet = not ranks.is_first
    with stage("building network and optimizer", quiet=quiet):
        engine = build_engine(build_network(recipe, plan.tokenizer), recipe, plan.ds_config)
    with stage("checking the checkpoints", quiet=quiet):
        checkpoint = newest_sound_checkpoint(recipe.run / "checkpoints", ranks)
    if checkpoint is None:
        state = TrainState(seed=recipe.training.seed, slot=0, world_size=ranks.world_size, corpus=corpus.content_hash)
    else:
        state = read_state(checkpoint)
        with stage("reading the checkpoint", quiet=quiet):
            restore(engine, checkpoint)
    collate, collate_held_out = (
        build_collator(recipe, corpus, plan.reader, plan.tokenizer, device, training=training)
        for training in (True, False)
    )

    def open_loader(attempt: int) -> Loader:
        return Loader(
            plan.sampler,
            collate,
            plan.partition,
            first_step=attempt,
            threads=recipe.loader.threads,
            prefetch=recipe.loader.prefetch,
        )

    endpoint = Endpoint(plan, device)
    with stage("choosing held-out examples", quiet=quiet):
        held_out = HeldOut(
            corpus,
            collate_held_out,
            split="validation",
            directions=validated_directions(recipe, corpus),
            examples_per_kind=recipe.validation.examples_per_kind,
            batch_size=recipe.validation.batch_size,
            ranks=ranks,
        )
    return Trainer(
        engine=engine,
        recipe=recipe,
        open_loader=open_loader,
        reader=plan.reader,
        corpus=corpus,
        held_out=held_out,
        saver=Saver(
            engine,
            recipe.run / "checkpoints",
            recipe.checkpoint,
            {
                "recipe.yaml": recipe.dump(),
                "ds_config.json": json.dumps(plan.ds_config, indent=1) + "\n",
                CORPUS: json.dumps(fingerprint(corpus.manifest), indent=1) + "\n",
            },
        ),
        state=state,
        ranks=ranks,
        device=device,
        checkpoint=checkpoint,
        reporting=_reporting(plan, state, endpoint, checkpoint),
        endpoint=endpoint,
        watchdog=watchdog or Watchdog.off(ranks),
        stop=stop or StopRequest(),
    )


def _reporting(plan: Plan, state: TrainState, endpoint: Endpoint, checkpoint: Path | None) -> Reporting | None:
    """Return what rank 0 reports to, None on the others. Those that serve metrics do so from here on."""
    recipe = plan.recipe
    if endpoint.run is None:
        endpoint.serve()
        return None
    try:
        write_atomically(recipe.run / "recipe.yaml", recipe.dump().encode())
    except OSError as error:
        raise InputError(f"run={recipe.run} cannot be written: {error}") from error
    console = Console(recipe.training.steps, state.step)
    resume_step = state.step if state.attempts else None
    deviations = recipe.training.spike_deviations
    reporting = Reporting(
        languages=plan.corpus.languages,
        console=console,
        log=MetricsLog(recipe.run / "metrics.jsonl", resume_step),
        unreadable=MetricsLog(recipe.run / "unreadable.jsonl", resume_step),
        metrics=endpoint.run,
        peak_flops=endpoint.peak_flops,
        trackers=open_trackers(recipe, resume_step),
        spikes=SpikeDetector(deviations) if deviations is not None else None,
        untold=DirectionSums(len(plan.corpus.languages)),
    )
    checkpoint_bytes = sum(file.stat().st_size for file in checkpoint.iterdir()) if checkpoint else 0
    restarts = sum(record["kind"] == "start" for record in read_metrics(recipe.run / "metrics.jsonl"))
    reporting.started(state.step, recipe.training.steps, plan.ranks.world_size, restarts)
    endpoint.run.begin(
        step=state.step,
        steps=recipe.training.steps,
        skipped=state.attempts - state.step,
        restarts=restarts,
        checkpoint_bytes=checkpoint_bytes,
    )
    endpoint.serve()
    if endpoint.url is not None:
        console.say(f"metrics at {endpoint.url}")
    return reporting


def validations(run: Path) -> list[dict[str, float]]:
    """Held-out NLL by kind at every validation of a run, in order."""
    path = run / "metrics.jsonl"
    return [nll for _, nll in read_validations(path)] if path.is_file() else []


def set_threads(recipe: Recipe, ranks: Ranks) -> None:
    """Share the host's cores among its ranks: torch would give each rank all of them."""
    # torchrun sets the first, DeepSpeed's launcher the second.
    local = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or ranks.world_size)
    cores = len(os.sched_getaffinity(0))
    if cores < int(os.environ.get("SLURM_CPUS_ON_NODE", "0")):
        local = 1  # Slurm has bound this task to cores of its own
    torch.set_num_threads(recipe.training.threads_per_rank or max(1, cores // local))
