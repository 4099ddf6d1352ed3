"""Load the network of a run, one of its checkpoints, or an exported model (trainer/trained_files.py finds them).

All reading of a checkpoint's tensors after training goes through here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from models.network import Network
from shards.errors import InputError
from shards.format.index import open_corpus
from shards.text.tokenizer import Tokenizer, open_tokenizer
from trainer.checkpoint.directory import INDEX
from trainer.checkpoint.sharded_state import model_weights
from trainer.network import build_network, new_network
from trainer.recipe import Recipe
from trainer.references import Reference, reading_of
from trainer.trained_files import (
    RECIPE,
    REST,
    TEXT,
    check_same_corpus,
    find_trained,
    is_model,
    trained_recipe,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A trained network on the CPU, in fp32 and in eval mode: ready for `network.generate`."""

    recipe: Recipe
    tokenizer: Tokenizer
    network: Network


def open_model(where: Path, overrides: Sequence[str] = ()) -> Model:
    """Load an exported model, which needs no other file, or the network of a run or a checkpoint.

    Those need what their recipe names: the tokenizer (of the corpus, where it names none) and the pretrained directory.
    overrides: key=value of the recipe. Raises `InputError` for what is missing, damaged or does not fit.
    """
    return load_model(find_trained(where), overrides)


def load_model(path: Path, overrides: Sequence[str] = ()) -> Model:
    """Load the network in a directory that `find_trained` or `resolve_checkpoint` returned, as `open_model` does."""
    recipe = trained_recipe(path, overrides)
    directory = recipe.corpus.tokenizer
    if directory is None:
        corpus = open_corpus(recipe.corpus.path)
        check_same_corpus(path, corpus.content_hash, recipe.corpus.path)
        directory = str(corpus.tokenizer)
    tokenizer = open_tokenizer(directory, recipe.corpus.start_tokens)
    return Model(recipe=recipe, tokenizer=tokenizer, network=trained_network(recipe, tokenizer, path))


def trained_network(recipe: Recipe, tokenizer: Tokenizer, path: Path) -> Network:
    """Return the network with the weights of a checkpoint or model. recipe: its own. No tensor may be left over."""
    model = is_model(path)
    if not model and not (path / INDEX).is_file():
        raise InputError(f"{path} has no {INDEX}: an earlier version wrote it, and only that one reads it")
    with torch.random.fork_rng(devices=[]):  # a new network draws its weights
        objective = build_network(recipe, tokenizer)
    if model:
        _check_text(objective.product, path)
        _load_rest(objective.product, path)
    else:
        try:
            objective.load_state_dict(model_weights(path))
        except RuntimeError as error:
            # torch's first line names the module alone.
            lines = [line.strip() for line in str(error).splitlines()]
            raise InputError(
                f"{path} holds other weights than those of its recipe's network with this tokenizer and pretrained "
                f"directory ({lines[min(1, len(lines) - 1)]}): set corpus.tokenizer= and network.text.pretrained= to "
                "what it was trained from"
            ) from error
    return objective.product.eval()


def load_references(references: Mapping[str, Reference], tokenizer: Tokenizer) -> dict[str, Network]:
    """Return the networks of a run's references on the CPU, frozen and in eval mode. Draws no random number."""
    networks = {}
    for name, reference in references.items():
        with reading_of(name, reference):
            if reference.recipe is None:
                with torch.random.fork_rng(devices=[]):
                    network = new_network(reference.network, tokenizer).eval()
            else:
                network = trained_network(reference.recipe, tokenizer, reference.path)
        networks[name] = network.requires_grad_(False)
    return networks


def _check_text(network: Network, directory: Path) -> None:
    """Check the names in the text part: transformers, which loaded it, ignores tensors that it has no place for."""
    file = directory / TEXT
    try:
        with safe_open(file, framework="pt") as tensors:
            stored = set(tensors.keys())
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file} cannot be read: {error}") from error
    _same_names(file, stored, set(network.backbone.stored_tensors()))


def _load_rest(network: Network, directory: Path) -> None:
    """Load vision and fusion; a network of text alone has no such file."""
    file = directory / REST
    wanted = rest_of(network)
    if not wanted and not file.exists():
        return
    try:
        stored = load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file} cannot be read: {error}") from error
    _same_names(file, set(stored), set(wanted))
    with torch.no_grad():
        for name, tensor in wanted.items():
            if tensor.shape != stored[name].shape:
                raise InputError(
                    f"{file}: {name} has shape {tuple(stored[name].shape)}, but {tuple(tensor.shape)} by {RECIPE}"
                )
            tensor.copy_(stored[name])


def rest_of(network: Network) -> dict[str, torch.Tensor]:
    """Return the tensors of a network that are not its backbone's, by name: those of vision and fusion."""
    return {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("backbone.")}


def _same_names(file: Path, stored: set[str], wanted: set[str]) -> None:
    for what, names in (("lacks", wanted - stored), ("holds", stored - wanted)):
        if names:
            unlike = "" if what == "lacks" else f" that the network of {RECIPE} has no place for"
            raise InputError(f"{file} {what} {len(names)} tensors{unlike}, {min(names)} first: export it again")
