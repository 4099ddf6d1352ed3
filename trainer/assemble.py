"""Put a run together: corpus, network, engine, stream, evaluation and observers.

The only place that does. Training, evaluation, summaries, exports, benchmarks and tests take their parts from here;
what needs neither torch nor other ranks (the stream, the reader, all checks) is in `trainer.plan.Plan` before.
"""

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch

from shards.batch.collate import Collator, Lengths
from shards.batch.fetch import Fetcher, ImageSizes
from shards.batch.fields import picture_side
from shards.batch.loader import Loader
from shards.batch.reader import Reader
from shards.batch.transforms import Transform
from shards.directions import Direction, parse_directions
from shards.errors import InputError
from shards.files.write import write_atomically
from shards.format.changes import fingerprint
from shards.format.index import Corpus
from shards.text.tokenizer import Tokenizer
from trainer.checkpoint.checkpoints import Checkpoints
from trainer.checkpoint.directory import CORPUS, TrainState, read_state
from trainer.checkpoint.resume import newest_sound_checkpoint
from trainer.checkpoint.saver import Saver
from trainer.checkpoint.sharded_state import restore
from trainer.distributed import from_all_ranks, from_first_rank, together
from trainer.engine import build_engine
from trainer.evaluation.evaluate import Evaluator
from trainer.evaluation.heldout import HeldOut
from trainer.evaluation.tasks import TASKS
from trainer.events import Notice, Observer, Observers, Outcome, Started
from trainer.liveness.stop import StopSignal
from trainer.liveness.watchdog import Watchdog
from trainer.loop import Parts, Trainer
from trainer.network import build_network
from trainer.plan import Plan
from trainer.ranks import Ranks
from trainer.recipe import Recipe
from trainer.references import (
    REFERENCES,
    Reference,
    check_same_on_hosts,
    check_same_references,
    read_references,
    references_json,
)
from trainer.telemetry.console import Console
from trainer.telemetry.exporter import Exporter
from trainer.telemetry.files import RunFiles
from trainer.telemetry.prometheus.endpoint import Endpoint, Served
from trainer.telemetry.records import Recorder
from trainer.telemetry.spikes import SpikeObserver
from trainer.telemetry.trackers import open_trackers
from trainer.terminal.progress import stage
from trainer.trained import load_references
from trainer.validation import Validation


def build_collator(
    recipe: Recipe,
    corpus: Corpus,
    reader: Reader,
    tokenizer: Tokenizer,
    device: torch.device,
    perturbations: Sequence[Transform] = (),
    *,
    training: bool,
    needs: frozenset[str] = frozenset(),
) -> Collator:
    """Return what makes micro-batches of groups, with the fields that the objective needs.

    training: with the objective's transforms; an evaluation has none of them, and borrows no images.
    needs: further fields.
    """
    vision, objective = recipe.network.vision, recipe.objective.settings()
    needs |= recipe.needs
    sizes = ImageSizes(
        images=vision.max_images,
        regions=vision.regions,
        feature_size=vision.feature_size,
        load=vision.reads("regions"),
        picture_side=picture_side(needs),
    )
    rule = recipe.corpus.image_rule(training=training)
    transforms = [*(objective.transforms(recipe.training.seed) if training else ()), *perturbations]
    fetch = Fetcher(corpus, reader, sizes, rule=rule, pinned=device.type == "cuda", transforms=transforms)
    lengths = Lengths(document=recipe.lengths.document, summary=recipe.lengths.summary)
    classes = objective.number_labels(corpus.label_names)
    return Collator(corpus, fetch, tokenizer, lengths, needs=needs, classes=classes)


def build_evaluator(
    recipe: Recipe,
    corpus: Corpus,
    tokenizer: Tokenizer,
    ranks: Ranks,
    device: torch.device,
    begin_batch: Callable[[], None] = lambda: None,
) -> Evaluator:
    """Return an evaluator with a reader of its own, to be closed. begin_batch: called before every batch."""
    reader, needs = recipe.loader.open(corpus), TASKS[recipe.evaluation.task].needs

    def collator(perturbations: Sequence[Transform]) -> Collator:
        return build_collator(recipe, corpus, reader, tokenizer, device, perturbations, training=False, needs=needs)

    return Evaluator(
        recipe=recipe,
        corpus=corpus,
        reader=reader,
        tokenizer=tokenizer,
        collator=collator,
        ranks=ranks,
        device=device,
        begin_batch=begin_batch,
    )


@dataclass(kw_only=True, slots=True)
class Run:
    """A run that is put together. outcome: how it ends; `train` and `evaluate` of trainer/run.py set it."""

    plan: Plan
    device: torch.device
    watchdog: Watchdog
    stop: StopSignal
    endpoint: Endpoint
    observers: Observers
    trainer: Trainer
    outcome: Outcome = field(default="failed")


def assemble(
    plan: Plan,
    device: torch.device,
    watchdog: Watchdog | None = None,
    stop: StopSignal | None = None,
    sinks: Sequence[Observer] = (),
) -> Run:
    """Return the run at its newest sound checkpoint, or at step 0. All ranks call it, after `join`.

    sinks: further observers of this rank.
    """
    recipe, ranks = plan.recipe, plan.ranks
    quiet = not ranks.is_first
    with stage("checking the checkpoints", quiet=quiet):
        checkpoint = newest_sound_checkpoint(recipe.run / "checkpoints", ranks)
    references = _references(plan, checkpoint)
    with stage("building network and optimizer", quiet=quiet):
        with together():
            networks = load_references(references, plan.tokenizer)
        engine = build_engine(build_network(recipe, plan.tokenizer, networks), recipe, plan.ds_config)
        weight = engine.module.network.backbone.head.weight
        for network in engine.module.references.values():
            network.to(weight.device, weight.dtype)  # no part of the module, so DeepSpeed has moved and cast nothing
    if checkpoint is None:
        content = plan.corpus.content_hash
        state = TrainState(seed=recipe.training.seed, slot=0, world_size=ranks.world_size, corpus=content)
    else:
        state = read_state(checkpoint)
        with stage("reading the checkpoint", quiet=quiet):
            restore(engine, checkpoint)
    watchdog, stop = watchdog or Watchdog.off(ranks), stop or StopSignal()
    served = Served(recipe=recipe, ds_config=plan.ds_config, ranks=ranks, corpus=plan.corpus, sampler=plan.sampler)
    endpoint, observers = Endpoint(served, device), Observers([watchdog])
    collate, collate_held_out = (
        build_collator(recipe, plan.corpus, plan.reader, plan.tokenizer, device, training=training)
        for training in (True, False)
    )

    def open_loader(attempt: int) -> Loader:
        settings = recipe.loader
        return Loader(
            plan.sampler,
            collate,
            plan.partition,
            first_step=attempt,
            threads=settings.threads,
            prefetch=settings.prefetch,
        )

    with stage("choosing held-out examples", quiet=quiet):
        held_out = HeldOut(
            plan.corpus,
            collate_held_out,
            split="validation",
            directions=_validated_directions(recipe, plan.corpus),
            examples_per_kind=recipe.validation.examples_per_kind,
            batch_size=recipe.validation.batch_size,
            ranks=ranks,
        )
    texts = {
        "recipe.yaml": recipe.dump(),
        "ds_config.json": json.dumps(plan.ds_config, indent=1) + "\n",
        CORPUS: json.dumps(fingerprint(plan.corpus.manifest), indent=1) + "\n",
    } | ({REFERENCES: references_json(references)} if references else {})
    saver = Saver(engine, recipe.run / "checkpoints", recipe.checkpoint, texts)
    parts = Parts(
        recipe=recipe,
        corpus=plan.corpus,
        ranks=ranks,
        device=device,
        engine=engine,
        reader=plan.reader,
        open_loader=open_loader,
        validation=Validation(held_out, device, state, observers.emit),
        checkpoints=Checkpoints(saver, ranks, checkpoint, state, observers.emit),
    )
    restarts = _observe(plan, state, endpoint, observers)
    observers.add(*sinks)
    observers.emit(
        Started(
            step=state.step,
            steps=recipe.training.steps,
            skipped=state.attempts - state.step,
            world_size=ranks.world_size,
            restarts=restarts,
            checkpoint_bytes=sum(file.stat().st_size for file in checkpoint.iterdir()) if checkpoint else 0,
        )
    )
    if endpoint.url is not None:
        observers.emit(Notice(text=f"metrics at {endpoint.url}"))
    return Run(
        plan=plan,
        device=device,
        watchdog=watchdog,
        stop=stop,
        endpoint=endpoint,
        observers=observers,
        trainer=Trainer(parts, state, observers, stop),
    )


def _references(plan: Plan, checkpoint: Path | None) -> Mapping[str, Reference]:
    """Return the run's references with their identities (all ranks call this); one rank a host reads their bytes.

    Those that rank 0 found: a training that goes on meanwhile has another newest checkpoint a moment later.
    checkpoint: that the run goes on from.
    """
    if not plan.references:
        return {}
    ranks = plan.ranks
    found = cast(Mapping[str, Reference], from_first_rank(plan.references))
    here: Mapping[str, Reference] = {}
    with stage("reading the frozen networks", quiet=not ranks.is_first), together():
        if ranks.local_rank == 0:
            here = read_references(found)
    hosts = cast(list[tuple[str, Mapping[str, Reference]]], from_all_ranks((socket.gethostname(), here)))
    read = hosts[0][1]
    with together():
        if ranks.is_first:
            check_same_on_hosts([host for host in hosts if host[1]])
            if checkpoint is not None:
                check_same_references(read, checkpoint)
    return read


def _observe(plan: Plan, state: TrainState, endpoint: Endpoint, observers: Observers) -> int:
    """Add the observers of this rank, and return how many starts of the run are on record (0 on other ranks than 0)."""
    recipe, languages, starts = plan.recipe, plan.corpus.languages, 0
    if plan.ranks.is_first:
        try:
            write_atomically(recipe.run / "recipe.yaml", recipe.dump().encode())
        except OSError as error:
            raise InputError(f"run={recipe.run} cannot be written: {error}") from error
        resume_step = state.step if state.attempts else None
        console = Console(recipe.training.steps, state.step)
        files = RunFiles(recipe.run, resume_step, plan.corpus.story_keys)
        starts = files.starts
        # Files and trackers go back before the recorder writes of it.
        observers.add(files, open_trackers(recipe, resume_step))
        observers.add(Recorder(languages, endpoint.peak_flops, observers.emit), console)
    observers.add(Exporter(endpoint, languages))
    if plan.ranks.is_first and (deviations := recipe.training.spike_deviations) is not None:
        observers.add(SpikeObserver(languages, deviations, observers.emit))
    return starts


def _validated_directions(recipe: Recipe, corpus: Corpus) -> list[Direction]:
    """Return the directions of the mixture and its changes, of both kinds.

    What is left out has nothing to show, but a model of one kind is measured on the other, too.
    """
    found: set[Direction] = set()
    for weighting in (recipe.mixture, *recipe.mixture.changes):
        found |= set(parse_directions(weighting.directions, corpus.languages, weighting.languages))
    return sorted(found, key=lambda direction: (direction[1], direction[0]))
