"""One run from its plan: everything put together, trained, evaluated, reported."""

import logging
import os
import shutil
import sys
from pathlib import Path

import torch

from shards.errors import InputError
from shards.files import write_atomically
from shards.loader import Loader
from trainer.build import build_collator, build_evaluator, build_network, has_examples, validated_directions
from trainer.checkpoint import (
    TrainState,
    damage,
    identity,
    load_checkpoint,
    read_state,
    whole_checkpoints,
)
from trainer.console import Console
from trainer.distributed import PeerError, Ranks, from_first_rank
from trainer.engine import build_engine, restore_fused
from trainer.evaluation.evaluate import print_report, read_report
from trainer.evaluation.heldout import HeldOut
from trainer.loop import Trainer
from trainer.memory import keep_freed_memory
from trainer.metrics import MetricsLog, read_metrics
from trainer.plan import Plan
from trainer.prometheus import PrometheusExporter
from trainer.recipe import Recipe
from trainer.reporting import Reporting


def execute(plan: Plan, device: torch.device) -> bool:
    """Train (or go on training), evaluate on the test split, report. False when a signal stopped the run.

    All ranks call it, after `join`.
    """
    recipe, ranks = plan.recipe, plan.ranks
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    set_threads(recipe, ranks)
    keep_freed_memory(device)
    trainer = build_trainer(plan, device)
    try:
        finished = trainer.train()
    except InputError as error:
        # Before the threads are waited for, which may be in the middle of slow reads: the launcher ends this process
        # as soon as another rank has left. Only this rank may have met it, so it speaks whichever rank it is.
        print(f"error: rank {ranks.rank}: {error}", file=sys.stderr, flush=True)
        raise PeerError from error
    finally:
        trainer.close()
    if not finished:
        if ranks.is_first:
            print(f"stopped at step {trainer.step} of {recipe.training.steps}: the same command goes on from there")
        return False
    checkpoint = whole_checkpoints(recipe.run / "checkpoints")[0]
    # Rank 0 looks: on a network file system the ranks might see different files.
    if not has_examples(recipe, plan.corpus, "test"):
        if ranks.is_first:
            print(
                f"the test split holds no example of evaluation.directions={recipe.evaluation.directions}: none scored"
            )
        return True
    if from_first_rank(ranks.is_first and not _is_evaluated(recipe, checkpoint)):
        evaluator = build_evaluator(recipe, plan.corpus, plan.tokenizer, ranks, device)
        try:
            evaluator.run(trainer.engine.module.network, "test", checkpoint)
        finally:
            evaluator.reader.close()
    if ranks.is_first:
        report = read_report(recipe.run, "test")
        assert report is not None
        print_report(report, validations(recipe.run), recipe.run)
    return True


def build_trainer(plan: Plan, device: torch.device) -> Trainer:
    """The trainer at the newest sound checkpoint, or at step 0. All ranks call it, after `join`."""
    recipe, ranks, corpus = plan.recipe, plan.ranks, plan.corpus
    engine = build_engine(build_network(recipe, plan.tokenizer), recipe, plan.ds_config)
    checkpoint = _newest_sound_checkpoint(recipe.run / "checkpoints", ranks)
    if checkpoint is None:
        state = TrainState(seed=recipe.training.seed, slot=0, world_size=ranks.world_size, corpus=corpus.content_hash)
    else:
        state = read_state(checkpoint)
        load_checkpoint(engine, checkpoint)
        restore_fused(engine)
    collate = build_collator(recipe, corpus, plan.reader, plan.tokenizer, device)
    loader = Loader(
        plan.sampler,
        collate,
        plan.partition,
        first_step=state.attempts,
        threads=recipe.loader.threads,
        prefetch=recipe.loader.prefetch,
    )
    held_out = HeldOut(
        corpus,
        collate,
        split="validation",
        directions=validated_directions(recipe, corpus),
        examples_per_kind=recipe.validation.examples_per_kind,
        batch_size=recipe.validation.batch_size,
        ranks=ranks,
    )
    return Trainer(
        engine=engine,
        recipe=recipe,
        ds_config=plan.ds_config,
        loader=loader,
        reader=plan.reader,
        corpus=corpus,
        held_out=held_out,
        state=state,
        rank=ranks.rank,
        device=device,
        reporting=_reporting(plan, state) if ranks.is_first else None,
    )


def _newest_sound_checkpoint(directory: Path, ranks: Ranks) -> Path | None:
    """The newest checkpoint whose files are what was written; rank 0 looks, and says which ones are not."""
    found: Path | None = None
    if ranks.is_first:
        for checkpoint in whole_checkpoints(directory):
            problem = damage(checkpoint)
            if problem is None:
                found = checkpoint
                break
            aside = checkpoint.with_name("damaged-" + checkpoint.name)
            print(f"checkpoint {checkpoint} is damaged ({problem}): put aside as {aside.name}, trying the one before")
            if aside.exists():
                shutil.rmtree(aside)
            os.replace(checkpoint, aside)
    chosen = from_first_rank(found)
    assert chosen is None or isinstance(chosen, Path)
    return chosen


def _reporting(plan: Plan, state: TrainState) -> Reporting:
    recipe = plan.recipe
    write_atomically(recipe.run / "recipe.yaml", recipe.dump().encode())
    console = Console(recipe.training.steps, state.step)
    exporter = PrometheusExporter(
        plan.corpus.languages, run=recipe.run, objective=recipe.objective.name, world_size=plan.ranks.world_size
    )
    exporter.begin(step=state.step, steps=recipe.training.steps, skipped=state.attempts - state.step)
    if recipe.prometheus.enabled:
        port = exporter.serve(recipe.prometheus.address, recipe.prometheus.port)
        if port is not None:
            console.say(f"metrics at http://{recipe.prometheus.address}:{port}/metrics")
    if state.step:
        console.say(f"going on from step {state.step} of {recipe.run}")
    resume_step = state.step if state.attempts else None
    return Reporting(
        console=console,
        log=MetricsLog(recipe.run / "metrics.jsonl", resume_step),
        unreadable=MetricsLog(recipe.run / "unreadable.jsonl", resume_step),
        exporter=exporter,
    )


def _is_evaluated(recipe: Recipe, checkpoint: Path) -> bool:
    """Whether the evaluation that lies there is of this checkpoint and these settings."""
    report = read_report(recipe.run, "test")
    wanted = (identity(checkpoint), recipe.evaluation.model_dump(mode="json"))
    return report is not None and (report.get("checkpoint"), report.get("settings")) == wanted


def validations(run: Path) -> list[dict[str, float]]:
    """Held-out NLL by kind at every validation of a run, in order."""
    path = run / "metrics.jsonl"
    records = read_metrics(path) if path.is_file() else []
    return [dict(record["nll"]) for record in records if record["kind"] == "validation"]


def set_threads(recipe: Recipe, ranks: Ranks) -> None:
    """Share the host's cores among its ranks: torch would give each rank all of them."""
    # torchrun sets the first, DeepSpeed's launcher the second.
    local = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or ranks.world_size)
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(recipe.training.threads_per_rank or max(1, cores // local))
