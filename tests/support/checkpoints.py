"""Checkpoints in the trainer's own format, without the minute that a training takes."""

import json
from pathlib import Path

import torch

from models.objectives.base import Objective
from shards.format.changes import fingerprint
from shards.format.index import Corpus
from shards.text.tokenizer import open_tokenizer
from tests.support.tiny import tiny_overrides
from trainer.checkpoint.directory import CORPUS, INDEX, TrainState, described, seal, state_json, step_directory
from trainer.checkpoint.sharded_state import Snapshot, file_name, write_snapshot
from trainer.network import build_network
from trainer.recipe import Recipe, load_recipe


def moved(objective: Objective) -> Objective:
    """Away from what any architecture starts with, as training does."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return objective


def write_checkpoint(recipe: Recipe, corpus: Corpus, step: int = 6) -> tuple[Path, Objective]:
    """A checkpoint of one rank in the run directory, in the trainer's own format, and the objective that it holds."""
    tokenizer = open_tokenizer(recipe.corpus.tokenizer or corpus.directory / "tokenizer")
    objective = moved(build_network(recipe, tokenizer))
    names = {id(parameter): name for name, parameter in objective.named_parameters()}
    state = objective.state_dict(keep_vars=True)
    masters, buffers = dict(objective.named_parameters()), dict(objective.named_buffers())
    facts = {
        "parameters": {
            name: [list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
            for name, tensor in (masters | buffers).items()
            if name in state
        },
        "aliases": {name: names[id(t)] for name, t in state.items() if names.get(id(t), name) != name},
    }
    kinds = {"master": masters, "fixed": {name: tensor for name, tensor in buffers.items() if name in state}}
    tensors = {
        f"{kind}/{name}": tensor.detach().reshape(-1).clone() for kind in kinds for name, tensor in kinds[kind].items()
    }
    snapshot = Snapshot(tensors=tensors, starts=dict.fromkeys(tensors, 0), facts=facts)
    checkpoint = step_directory(recipe.run / "checkpoints", step)
    checkpoint.mkdir(parents=True)
    file = file_name(0, 1)
    write_snapshot(snapshot, checkpoint / file)
    texts = {
        "state.json": state_json(
            TrainState(
                step=step,
                attempts=step,
                seed=0,
                slot=step * 16,
                world_size=1,
                corpus=corpus.content_hash,
                validation={"mms": 3.25, "mxls": 4.5},
            )
        ),
        "recipe.yaml": recipe.dump(),
        "ds_config.json": json.dumps({"bf16": {"enabled": True}}),
        CORPUS: json.dumps(fingerprint(corpus.manifest)),
        INDEX: json.dumps({"facts": facts, "files": {file: snapshot.entry()}}),
    }
    for name, text in texts.items():
        (checkpoint / name).write_text(text)
    seal(checkpoint, {path.name: described(path) for path in sorted(checkpoint.iterdir())})
    return checkpoint, objective


def recipe_in(run: Path, corpus: Corpus, *more: str) -> Recipe:
    return load_recipe("d2tv", [*tiny_overrides(corpus.directory, run), *more])
