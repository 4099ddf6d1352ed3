"""One run from its recipe: what can be refused before any rank joins, then everything put together."""

import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.network import Network
from models.objectives import Objective, build_objective
from shards.collate import Collator, Lengths
from shards.errors import InputError
from shards.fetch import Fetcher, ImageSizes
from shards.files import write_atomically
from shards.index import Corpus, open_corpus
from shards.loader import Loader, Partition
from shards.mixture import direction_weights
from shards.reader import Reader
from shards.sampler import Sampler
from shards.tokenizer import Tokenizer, open_tokenizer
from trainer.checkpoint import (
    TrainState,
    check_resumable,
    damage,
    identity,
    load_checkpoint,
    read_state,
    whole_checkpoints,
)
from trainer.console import Console
from trainer.distributed import Ranks, from_first_rank
from trainer.engine import build_engine, load_ds_config
from trainer.evaluation.directions import parse_directions
from trainer.evaluation.evaluate import Evaluator, print_report, read_report
from trainer.evaluation.heldout import HeldOut
from trainer.loop import Reporting, Trainer
from trainer.metrics import MetricsLog, read_metrics
from trainer.prometheus import PrometheusExporter
from trainer.recipe import Recipe, load_recipe

#: What a resumed run may change: nothing here touches the sequence of examples or the mathematics.
_FREE_SECTIONS = {"run", "evaluation", "prometheus", "loader", "validation"}
_FREE_KEYS = {
    "corpus": {"path"},  # the corpus' content is compared instead
    "training": {"log_every", "validate_every", "checkpoint_every", "keep_checkpoints", "max_skipped_steps"},
}


#: DeepSpeed keys that decide the arithmetic of a run.
_PRECISION = ("bf16", "fp16", "data_types", "communication_data_type")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A run that passed every check that needs no other rank."""

    recipe: Recipe
    ds_config: dict[str, Any]
    ranks: Ranks
    corpus: Corpus
    tokenizer: Tokenizer
    partition: Partition


def plan_run(recipe: Recipe, ds_config: Path, ranks: Ranks) -> Plan:
    """Check recipe, corpus, DeepSpeed config and checkpoints against each other; `InputError` at the first misfit."""
    corpus = open_corpus(recipe.corpus.path)
    check_corpus(recipe, corpus)
    partition = Partition(
        groups_per_step=recipe.batch.groups_per_step,
        groups_per_micro_batch=recipe.batch.groups_per_micro_batch,
        rank=ranks.rank,
        world_size=ranks.world_size,
    )
    config = load_ds_config(ds_config, recipe, ranks.world_size)
    for checkpoint in whole_checkpoints(recipe.run / "checkpoints"):
        if damage(checkpoint, ("recipe.yaml", "ds_config.json", "state.json")):
            continue  # passed over, and told of, when it is time to load one
        _check_same_recipe(recipe, config, checkpoint)
        check_resumable(
            read_state(checkpoint),
            checkpoint,
            seed=recipe.training.seed,
            world_size=ranks.world_size,
            corpus=corpus.content_hash,
        )
        break
    tokenizer = open_tokenizer(recipe.corpus.tokenizer or corpus.directory / "tokenizer")
    try:
        recipe.run.mkdir(parents=True, exist_ok=True)  # last: a refused run leaves nothing behind
    except OSError as error:
        raise InputError(
            f"run={recipe.run} is no directory to write to ({error.strerror}): choose another run="
        ) from error
    return Plan(
        recipe=recipe,
        ds_config=config,
        ranks=ranks,
        corpus=corpus,
        tokenizer=tokenizer,
        partition=partition,
    )


def check_corpus(recipe: Recipe, corpus: Corpus) -> None:
    """Languages, directions and feature sizes of the recipe against those of the corpus."""
    direction_weights(corpus.direction_counts("train"), corpus.languages, recipe.mixture)
    parse_directions(recipe.evaluation.directions, corpus.languages, recipe.mixture.languages)
    vision = recipe.network.vision
    for key, wanted in (("feature_size", vision.feature_size), ("regions", vision.regions)):
        stored = corpus.manifest[key]
        if vision.enabled and stored and stored != wanted:
            raise InputError(
                f"network.vision.{key} is {wanted}, but {corpus.directory} holds {stored}: set it to {stored}"
            )


def build_network(recipe: Recipe, tokenizer: Tokenizer) -> Objective:
    """The objective around a new network, the same on every rank: weights follow from the seed."""
    torch.manual_seed(recipe.training.seed)
    network = Network(recipe.network, tokenizer.vocab_size, tokenizer.pad_id, tokenizer.eos_id)
    return build_objective(recipe.objective.name, recipe.objective.settings(), network)


def build_collator(
    recipe: Recipe, corpus: Corpus, reader: Reader, tokenizer: Tokenizer, device: torch.device
) -> Collator:
    vision = recipe.network.vision
    sizes = ImageSizes(
        images=vision.max_images, regions=vision.regions, feature_size=vision.feature_size, load=vision.enabled
    )
    fetch = Fetcher(corpus, reader, sizes, pinned=device.type == "cuda")
    lengths = Lengths(document=recipe.lengths.document, summary=recipe.lengths.summary)
    return Collator(corpus, fetch, tokenizer, lengths)


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
    collate = build_collator(recipe, corpus, Reader(corpus), plan.tokenizer, device)
    loader = Loader(
        Sampler(
            corpus, split="train", mixture=recipe.mixture, seed=recipe.training.seed, group_size=recipe.batch.group_size
        ),
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
        languages=recipe.mixture.languages,
        examples_per_kind=recipe.validation.examples_per_kind,
        batch_size=recipe.validation.batch_size,
        ranks=ranks,
    )
    return Trainer(
        engine=engine,
        recipe=recipe,
        ds_config=plan.ds_config,
        loader=loader,
        held_out=held_out,
        state=state,
        rank=ranks.rank,
        device=device,
        languages=len(corpus.languages),
        reporting=_reporting(plan, state) if ranks.is_first else None,
    )


def build_evaluator(
    recipe: Recipe, corpus: Corpus, tokenizer: Tokenizer, ranks: Ranks, device: torch.device
) -> Evaluator:
    reader = Reader(corpus)
    return Evaluator(
        recipe=recipe,
        corpus=corpus,
        reader=reader,
        tokenizer=tokenizer,
        collate=build_collator(recipe, corpus, reader, tokenizer, device),
        ranks=ranks,
        device=device,
    )


def execute(plan: Plan, device: torch.device) -> bool:
    """Train (or go on training), evaluate on the test split, report. False when a signal stopped the run.

    All ranks call it, after `join`.
    """
    recipe, ranks = plan.recipe, plan.ranks
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    set_threads(recipe, ranks)
    trainer = build_trainer(plan, device)
    try:
        finished = trainer.train()
    finally:
        trainer.close()
    if not finished:
        if ranks.is_first:
            print(f"stopped at step {trainer.step} of {recipe.training.steps}: the same command goes on from there")
        return False
    checkpoint = whole_checkpoints(recipe.run / "checkpoints")[0]
    # Rank 0 looks: on a network file system the ranks might see different files.
    if from_first_rank(ranks.is_first and not _is_evaluated(recipe, checkpoint)):
        evaluator = build_evaluator(recipe, plan.corpus, plan.tokenizer, ranks, device)
        evaluator.run(trainer.engine.module.network, "test", checkpoint)
    if ranks.is_first:
        report = read_report(recipe.run, "test")
        assert report is not None
        print_report(report, validations(recipe.run), recipe.run)
    return True


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
    log = MetricsLog(recipe.run / "metrics.jsonl", resume_step=state.step if state.attempts else None)
    return Reporting(console=console, log=log, exporter=exporter)


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


def _check_same_recipe(recipe: Recipe, ds_config: dict[str, Any], checkpoint: Path) -> None:
    """A run goes on with the recipe and precision it began with; `InputError` names the first key that differs."""
    before = json.loads((checkpoint / "ds_config.json").read_text(encoding="utf-8"))
    for key in _PRECISION:
        if before.get(key) != ds_config.get(key):
            raise InputError(
                f"{recipe.run} was begun with another {key!r} in --ds_config: restore it, or choose another run="
            )
    saved = load_recipe(str(checkpoint / "recipe.yaml")).model_dump(mode="json")
    now = recipe.model_dump(mode="json")
    for section in now:
        if section in _FREE_SECTIONS or saved.get(section) == now[section]:
            continue
        values = (saved[section], now[section])
        keys = [key for key in sorted(values[0] | values[1]) if values[0].get(key) != values[1].get(key)]
        keys = [key for key in keys if key not in _FREE_KEYS.get(section, ())]
        if keys:
            raise InputError(
                f"{recipe.run} was begun with another {section}.{keys[0]}: restore it, or choose another run="
            )


def set_threads(recipe: Recipe, ranks: Ranks) -> None:
    """Share the host's cores among its ranks: torch would give each rank all of them."""
    # torchrun sets the first, DeepSpeed's launcher the second.
    local = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or ranks.world_size)
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(recipe.training.threads_per_rank or max(1, cores // local))
