"""Make what `benchmarks.decode` decodes: random weights, a corpus, and examples that give both sides full batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch

from benchmarks.step_shapes import network_config
from models.config import Decoding, NetworkConfig
from models.network import Network
from shards.batch.collate import Collator, Lengths
from shards.batch.fetch import Fetcher, ImageSizes
from shards.batch.reader import Reader, ReaderConfig
from shards.errors import InputError
from shards.format.index import Corpus, open_corpus
from shards.format.merge import finish_corpus
from shards.format.writer import write_shard
from shards.schema import Article, Images, Story
from shards.stream.sampler import Groups
from shards.text.sentencepiece_tokenizer import train_sentencepiece
from shards.text.tokenizer import Tokenizer, open_tokenizer
from tests.support.tiny import words_of
from trainer.evaluation.heldout import choose_examples, take_groups
from trainer.recipe import load_recipe

LANGUAGES = (
    "arabic",
    "english",
    "french",
    "hindi",
    "indonesian",
    "portuguese",
    "russian",
    "spanish",
    "swahili",
    "turkish",
    "ukrainian",
    "urdu",
)
_IMAGES, _REGIONS, _FEATURES = 3, 36, 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """Size of the work. document, summary: tokens, of made-up articles.  sources: languages that are read."""

    batch: int
    sources: int
    document: int
    summary: int
    rounds: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """Everything that both sides are given."""

    config: NetworkConfig
    network: Network
    corpus: Corpus
    tokenizer: Tokenizer
    collate: Collator
    decoding: Decoding
    groups: Groups
    batch: int

    def texts(self, chosen: Groups, ids_BN: torch.Tensor) -> dict[int, str]:
        """Example number -> prediction."""
        return {n: self.tokenizer.decode(ids) for n, ids in zip(chosen.number.tolist(), ids_BN.tolist(), strict=True)}


def articles(directory: Path, size: Size) -> Work:
    """Made-up news: documents six times as long as summaries, as 512 and 84 tokens are, and three images a story."""
    corpus = _write_articles(directory, size)
    config = network_config("tiny")
    config = config.model_copy(update={"vision": config.vision.model_copy(update={"feature_size": _FEATURES})})
    return _work(corpus, config, Lengths(document=size.document, summary=size.summary), size)


def emoji(directory: Path, size: Size) -> Work:
    """The emoji corpus with the recipe `d2tv`: documents of some ten tokens. `InputError` where it is not prepared."""
    recipe = load_recipe("d2tv")
    lengths = Lengths(document=recipe.lengths.document, summary=recipe.lengths.summary)
    return _work(open_corpus(directory), recipe.network, lengths, size)


def _work(corpus: Corpus, config: NetworkConfig, lengths: Lengths, size: Size) -> Work:
    tokenizer = open_tokenizer(corpus.directory / "tokenizer")
    torch.manual_seed(0)
    network = Network(config, tokenizer.vocab_size, tokenizer.pad_id, tokenizer.eos_id).eval()
    vision = config.vision
    sizes = ImageSizes(images=vision.max_images, regions=vision.regions, feature_size=vision.feature_size)
    fetch = Fetcher(corpus, Reader(corpus, ReaderConfig(io_threads=0)), sizes)
    return Work(
        config=config,
        network=network,
        corpus=corpus,
        tokenizer=tokenizer,
        collate=Collator(corpus, fetch, tokenizer, lengths),
        decoding=Decoding(max_new_tokens=lengths.summary),
        groups=_choose(corpus, size),
        batch=size.batch,
    )


def _choose(corpus: Corpus, size: Size) -> Groups:
    """All examples of as many stories as a batch has rows, which have every language: so no batch is left short."""
    numbers = [corpus.languages.index(language) for language in LANGUAGES]
    directions = list(product(numbers[: size.sources], numbers))
    groups = choose_examples(corpus, "test", directions, total=None)
    stories, counts = np.unique(groups.story[:, 0], return_counts=True)
    whole = stories[counts == len(directions)][: size.batch]
    if len(whole) < size.batch:
        raise InputError(f"{corpus.location}: {len(whole)} test stories have all languages, wanted {size.batch}")
    groups = take_groups(groups, np.flatnonzero(np.isin(groups.story[:, 0], whole)))
    return Groups(number=np.arange(len(groups.number)), source=groups.source, target=groups.target, story=groups.story)


def _write_articles(directory: Path, size: Size) -> Corpus:
    random = np.random.default_rng(0)

    def text(language: str, words: int) -> str:
        return " ".join(random.choice(words_of(language), size=words))

    stories: Sequence[Story] = [
        Story(
            key=f"story-{number}",
            articles=tuple(
                Article(language=language, text=text(language, size.document), summary=text(language, 8))
                for language in LANGUAGES
            ),
            shared_images=Images(
                roi_IRV=random.standard_normal((_IMAGES, _REGIONS, _FEATURES)).astype(np.float16),
                boxes_IR4=random.random((_IMAGES, _REGIONS, 4), dtype=np.float32),
            ),
        )
        for number in range(size.batch)
    ]
    write_shard(directory / "test-000000.tar", stories, LANGUAGES)
    train_sentencepiece(
        directory / "tokenizer",
        (article.text for story in stories for article in story.articles),
        languages=LANGUAGES,
        vocab_size=640,
        character_coverage=1.0,
    )
    return finish_corpus(directory, name="articles", languages=LANGUAGES, provenance={})
