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
from models.objectives.base import Objective
from shards.errors import InputError, did_you_mean
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
    read_product,
    trained_recipe,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Product:
    """A network that was trained. name: where the objective trains several; first: the name of the run's own.

    objective: whose it is, with parameters of its own; None of an exported model.
    """

    network: Network
    objective: Objective | None = None
    name: str | None = None
    first: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A trained network on the CPU, in fp32 and in eval mode: ready for `network.generate`.

    recipe: with the configuration of this network.  product: its name, where the objective trains several.
    """

    recipe: Recipe
    tokenizer: Tokenizer
    network: Network
    product: str | None = None


def open_model(where: Path, overrides: Sequence[str] = ()) -> Model:
    """Load an exported model, which needs no other file, or the network of a run or a checkpoint.

    Those need what their recipe names: the tokenizer (of the corpus, where it names none) and the pretrained directory.
    overrides: key=value of the recipe. Raises `InputError` for what is missing, damaged or does not fit.
    """
    return load_model(find_trained(where), overrides)


def load_model(path: Path, overrides: Sequence[str] = (), product: str | None = None) -> Model:
    """Load the network in a directory that `find_trained` or `resolve_checkpoint` returned, as `open_model` does.

    product: the name of another network of the objective than its first.
    """
    recipe = trained_recipe(path, overrides)
    directory = recipe.corpus.tokenizer
    if directory is None:
        corpus = open_corpus(recipe.corpus.path)
        check_same_corpus(path, corpus.content_hash, recipe.corpus.path)
        directory = str(corpus.tokenizer)
    tokenizer = open_tokenizer(directory, recipe.corpus.start_tokens)
    found = trained_product(recipe, tokenizer, path, product)
    return Model(recipe=recipe_of(recipe, found), tokenizer=tokenizer, network=found.network, product=found.name)


def recipe_of(recipe: Recipe, product: Product) -> Recipe:
    """Return the recipe with the configuration of that network."""
    return recipe.model_copy(update={"network": product.network.config})


def choose_product(recipe: Recipe, objective: Objective, name: str | None = None) -> Product:
    """Return the network of that name, or the first. Raises `InputError` with the known names."""
    products = objective.products()
    first = next(iter(products))
    if name is not None and name not in products:
        raise InputError(
            f"--product {name}: objective {recipe.objective.name!r} trains {', '.join(products)}"
            f"{did_you_mean(name, products)}: give one of these"
        )
    network = products[name or first]
    if len(products) == 1:
        return Product(network=network, objective=objective)
    return Product(network=network, objective=objective, name=name or first, first=first)


def trained_network(recipe: Recipe, tokenizer: Tokenizer, path: Path) -> Network:
    """Return the first network with the weights of a checkpoint or model, as `trained_product` does."""
    return trained_product(recipe, tokenizer, path).network


def trained_product(recipe: Recipe, tokenizer: Tokenizer, path: Path, name: str | None = None) -> Product:
    """Return a network with the weights of a checkpoint or model. recipe: its own. No tensor may be left over.

    name: of one of the objective's products, by default the first. An exported model is of one alone.
    """
    model = is_model(path)
    if not model and not (path / INDEX).is_file():
        raise InputError(f"{path} has no {INDEX}: an earlier version wrote it, and only that one reads it")
    if model:
        exported, _ = read_product(path)
        if name not in (None, exported):
            whose = "the one network that its run trained" if exported is None else f"the product {exported}"
            raise InputError(f"--product {name}: {path} is an export of {whose}: leave it out, or name the run")
        with torch.random.fork_rng(devices=[]):  # a new network draws its weights
            network = new_network(recipe.network, tokenizer)
        _check_text(network, path)
        _load_rest(network, path)
        return Product(network=network.eval(), name=exported, first=exported)
    with torch.random.fork_rng(devices=[]):
        objective = build_network(recipe, tokenizer)
    product = choose_product(recipe, objective, name)
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
    product.network.eval()
    return product


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
