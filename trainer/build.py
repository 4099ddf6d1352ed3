"""The parts of a run from its recipe: stream, reader, network, collation, evaluation."""

from collections.abc import Callable

import torch

from models.network import Network
from models.objectives.base import Objective
from shards.bundles import BundledSampler
from shards.collate import Collator, Lengths
from shards.directions import Direction, parse_directions
from shards.fetch import Fetcher, ImageSizes, Transform
from shards.index import Corpus
from shards.mixture import segments
from shards.reader import Reader
from shards.sampler import Sampler
from shards.stores import open_storage
from shards.tokenizer import Tokenizer
from trainer.distributed import Ranks
from trainer.evaluation.evaluate import Evaluator
from trainer.recipe import Recipe


def build_sampler(recipe: Recipe, corpus: Corpus) -> Sampler:
    """The run's stream of training examples, its mixture checked against the corpus."""
    batch, seed = recipe.batch, recipe.training.seed
    mixture = segments(recipe.mixture, batch.groups_per_step, batch.groups_per_step * recipe.training.steps)
    if batch.sources_per_target == 1:
        return Sampler(corpus, split="train", mixture=mixture, seed=seed, group_size=batch.group_size)
    return BundledSampler(
        corpus,
        split="train",
        mixture=mixture,
        seed=seed,
        group_size=batch.group_size,
        sources_per_target=batch.sources_per_target,
    )


def build_reader(recipe: Recipe, corpus: Corpus) -> Reader:
    """A reader of the corpus' shards, wherever they are."""
    config = recipe.loader
    cache_bytes = config.cache_bytes if config.cache else None
    storage = open_storage(corpus, max_open_files=config.max_open_files, cache=config.cache, cache_bytes=cache_bytes)
    return Reader(corpus, config, storage)


def build_collator(
    recipe: Recipe,
    corpus: Corpus,
    reader: Reader,
    tokenizer: Tokenizer,
    device: torch.device,
    transform: Transform | None = None,
) -> Collator:
    vision = recipe.network.vision
    sizes = ImageSizes(
        images=vision.max_images, regions=vision.regions, feature_size=vision.feature_size, load=vision.enabled
    )
    fetch = Fetcher(corpus, reader, sizes, pinned=device.type == "cuda", transform=transform)
    lengths = Lengths(document=recipe.lengths.document, summary=recipe.lengths.summary)
    return Collator(corpus, fetch, tokenizer, lengths)


def build_network(recipe: Recipe, tokenizer: Tokenizer) -> Objective:
    """The objective around a new network, the same on every rank: weights follow from the seed."""
    torch.manual_seed(recipe.training.seed)
    network = Network(
        recipe.network,
        tokenizer.vocab_size,
        tokenizer.pad_id,
        tokenizer.eos_id,
        related_ids=tokenizer.related_ids,
        marks_texts=tokenizer.marks_texts,
    )
    training = recipe.training
    network.run_layers(activation_checkpointing=training.activation_checkpointing, compile=training.compile)
    return recipe.objective.settings().build(network)


def has_examples(recipe: Recipe, corpus: Corpus, split: str) -> bool:
    """Whether `split` has anything to evaluate."""
    counts_TS = corpus.direction_counts(split)
    directions = parse_directions(recipe.evaluation.directions, corpus.languages, recipe.mixture.languages)
    return any(counts_TS[target, source] > 0 for source, target in directions)


def build_evaluator(
    recipe: Recipe,
    corpus: Corpus,
    tokenizer: Tokenizer,
    ranks: Ranks,
    device: torch.device,
    begin_batch: Callable[[], None] = lambda: None,
) -> Evaluator:
    reader = build_reader(recipe, corpus)
    return Evaluator(
        recipe=recipe,
        corpus=corpus,
        reader=reader,
        tokenizer=tokenizer,
        collate=build_collator(recipe, corpus, reader, tokenizer, device),
        ranks=ranks,
        device=device,
        begin_batch=begin_batch,
    )


def validated_directions(recipe: Recipe, corpus: Corpus) -> list[Direction]:
    """The directions and languages of the mixture and its changes, of both kinds: what is left out has nothing to show,
    but a model of one kind is measured on the other, too."""
    found: set[Direction] = set()
    for weighting in (recipe.mixture, *recipe.mixture.changes):
        found |= set(parse_directions(weighting.directions, corpus.languages, weighting.languages))
    return sorted(found, key=lambda direction: (direction[1], direction[0]))
