"""The parts of a run from its recipe that hold tensors: network, collation, evaluation."""

from collections.abc import Callable

import torch

from models.network import Network
from models.objectives.base import Objective
from shards.batch.collate import Collator, Lengths
from shards.batch.fetch import Fetcher, ImageSizes, Transform
from shards.batch.reader import Reader
from shards.errors import InputError, out_of_memory
from shards.format.index import Corpus
from shards.languages import LANGUAGE_CODES
from shards.text.tokenizer import Tokenizer
from trainer.evaluation.evaluate import Evaluator
from trainer.extensions import own_inductor_cache
from trainer.ranks import Ranks
from trainer.recipe import Recipe
from trainer.stream import build_reader


def build_collator(
    recipe: Recipe,
    corpus: Corpus,
    reader: Reader,
    tokenizer: Tokenizer,
    device: torch.device,
    transform: Transform | None = None,
    *,
    training: bool,
) -> Collator:
    """Return what makes micro-batches of groups. training: not for an evaluation, which borrows no images."""
    vision = recipe.network.vision
    sizes = ImageSizes(
        images=vision.max_images, regions=vision.regions, feature_size=vision.feature_size, load=vision.enabled
    )
    rule = recipe.corpus.image_rule(training=training)
    fetch = Fetcher(corpus, reader, sizes, rule=rule, pinned=device.type == "cuda", transform=transform)
    lengths = Lengths(document=recipe.lengths.document, summary=recipe.lengths.summary)
    return Collator(corpus, fetch, tokenizer, lengths)


def build_network(recipe: Recipe, tokenizer: Tokenizer) -> Objective:
    """Return the objective around a new network, the same on every rank: weights follow from the seed.

    Raises `InputError` for sizes that memory does not suffice for.
    """
    torch.manual_seed(recipe.training.seed)
    reset = recipe.network.text.reset_start_tokens
    try:
        network = Network(
            recipe.network,
            tokenizer.vocab_size,
            tokenizer.pad_id,
            tokenizer.eos_id,
            related_ids=tokenizer.related_ids,
            start_ids=() if reset is None else [tokenizer.start_id(language) for language in LANGUAGE_CODES],
            marks_texts=tokenizer.marks_texts,
        )
    except (MemoryError, RuntimeError) as error:
        if (why := out_of_memory(error)) is None:
            raise
        raise InputError(f"the network does not fit into memory ({why}): choose smaller sizes in network.*") from error
    training = recipe.training
    if training.compile:
        own_inductor_cache()
    network.run_layers(activation_checkpointing=training.activation_checkpointing, compile=training.compile)
    return recipe.objective.settings().build(network)


def build_evaluator(
    recipe: Recipe,
    corpus: Corpus,
    tokenizer: Tokenizer,
    ranks: Ranks,
    device: torch.device,
    begin_batch: Callable[[], None] = lambda: None,
) -> Evaluator:
    reader = build_reader(recipe, corpus)

    def collator(transform: Transform | None) -> Collator:
        return build_collator(recipe, corpus, reader, tokenizer, device, transform, training=False)

    return Evaluator(
        recipe=recipe,
        corpus=corpus,
        reader=reader,
        tokenizer=tokenizer,
        collate=collator(None),
        collate_changed=collator,
        ranks=ranks,
        device=device,
        begin_batch=begin_batch,
    )
