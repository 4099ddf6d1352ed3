"""Build what a run reads from its recipe: the stream of examples, the reader, the directions. Imports no torch."""

from shards.batch.reader import Reader
from shards.directions import Direction, parse_directions
from shards.format.index import Corpus
from shards.format.stores import open_storage
from shards.stream.bundles import BundledSampler
from shards.stream.mixture import segments
from shards.stream.sampler import Sampler
from trainer.recipe import Recipe


def build_sampler(recipe: Recipe, corpus: Corpus) -> Sampler:
    """Return the run's stream of training examples, its mixture checked against the corpus."""
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
    """Return a reader of the corpus' shards, wherever they are."""
    config = recipe.loader
    cache_bytes = config.cache_bytes if config.cache else None
    storage = open_storage(corpus, max_open_files=config.max_open_files, cache=config.cache, cache_bytes=cache_bytes)
    return Reader(corpus, config, storage)


def has_examples(recipe: Recipe, corpus: Corpus, split: str) -> bool:
    """Return True if `split` has anything to evaluate."""
    counts_TS = corpus.direction_counts(split)
    directions = parse_directions(recipe.evaluation.directions, corpus.languages, recipe.mixture.languages)
    return any(counts_TS[target, source] > 0 for source, target in directions)


def validated_directions(recipe: Recipe, corpus: Corpus) -> list[Direction]:
    """Return the directions of the mixture and its changes, of both kinds.

    What is left out has nothing to show, but a model of one kind is measured on the other, too.
    """
    found: set[Direction] = set()
    for weighting in (recipe.mixture, *recipe.mixture.changes):
        found |= set(parse_directions(weighting.directions, corpus.languages, weighting.languages))
    return sorted(found, key=lambda direction: (direction[1], direction[0]))
