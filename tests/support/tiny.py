"""A corpus and a recipe small enough for every test that needs the real thing: files, index, tokenizer, network.

A story is a handful of concepts. Each language names them in its own words; the document lists all of them, the
summary repeats the first two (three of an odd number), and every region of an image carries the direction of one
concept. So the task can be learned, across languages and from images, by a network of some ten thousand parameters.
"""

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image

from shards.batch.collate import Collator, Lengths
from shards.batch.fetch import Fetcher, ImageSizes
from shards.batch.reader import Reader, ReaderConfig
from shards.format.index import Corpus
from shards.format.manifest import SPLITS
from shards.format.merge import finish_corpus
from shards.format.writer import split_of, write_shard
from shards.schema import Article, Images, Story
from shards.text.sentencepiece_tokenizer import train_sentencepiece
from shards.text.tokenizer import open_tokenizer

#: The same twenty concepts in the default languages; other languages get words made up from their names.
WORDS = {
    "english": "sun moon star sea rain fire tree leaf stone sand bird fish horse dog cat house road door bread milk",
    "french": "soleil lune étoile mer pluie feu arbre feuille pierre sable oiseau poisson cheval chien chat maison "
    "route porte pain lait",
    "hindi": "सूरज चाँद तारा समुद्र बारिश आग पेड़ पत्ता पत्थर रेत पक्षी मछली घोड़ा कुत्ता बिल्ली घर सड़क दरवाज़ा रोटी दूध",
    "urdu": "سورج چاند ستارہ سمندر بارش آگ درخت پتا پتھر ریت پرندہ مچھلی گھوڑا کتا بلی گھر سڑک دروازہ روٹی دودھ",
}
CONCEPTS = 20
#: Of concepts, in their order.
LABELS = ("animal", "sky", "thing")
_COLOURS = np.random.default_rng(7).integers(0, 256, (CONCEPTS, 3)).astype(np.uint8)
STORIES_PER_SHARD = 16


def words_of(language: str) -> list[str]:
    """The language's word for every concept, all different."""
    if language in WORDS:
        return WORDS[language].split()
    return [f"{language[:2]}{'bdfgklmnpr'[concept % 10]}{'aeiou'[concept // 10]}" for concept in range(CONCEPTS)]


def make_stories(
    languages: tuple[str, ...],
    stories: int,
    *,
    feature_size: int = 32,
    regions: int = 36,
    seed: int = 0,
    pixels: bool = False,
    labels: bool = False,
) -> list[Story]:
    """`stories` stories, the first three of them one of each split.

    Story 4 has one article; every fifth story misses a language; every seventh has explicit edges (out of its
    first language, and the diagonal); story k has k % 4 images, shared but for every sixth story, where
    every other language has its own and the rest have none.

    pixels: with pictures, whose cells have the colours of the regions' concepts.  labels: of the first concept.
    """
    random = np.random.default_rng(seed)
    direction_CV = random.standard_normal((CONCEPTS, feature_size))
    made = []
    for number in range(stories):
        concepts = random.choice(CONCEPTS, size=int(random.integers(5, 9)), replace=False)
        present = list(languages)
        if number == 4:
            present = present[:1]
        elif number % 5 == 3 and len(present) > 2:
            present.remove(languages[number // 5 % len(languages)])
        articles = []
        for language in present:
            words = [words_of(language)[concept] for concept in concepts]
            articles.append(
                Article(
                    language=language,
                    text=" ".join(words),
                    summary=" ".join(words[: 2 + len(words) % 2]),
                    url=f"https://example.org/{language}/{number}",
                    label=LABELS[concepts[0] * len(LABELS) // CONCEPTS] if labels else None,
                )
            )

        def images(count: int, concepts: np.ndarray = concepts) -> Images:
            shown = random.choice(concepts, size=(count, regions))
            roi = direction_CV[shown] + 0.1 * random.standard_normal((count, regions, feature_size))
            corner = random.uniform(0, 0.5, (count, regions, 2))
            boxes = np.concatenate([corner, corner + random.uniform(0.1, 0.5, corner.shape)], axis=-1)
            return Images(
                roi_IRV=roi.astype(np.float16),
                boxes_IR4=boxes.astype(np.float32),
                pixels=tuple(picture(each) for each in shown) if pixels else None,
            )

        count, own = number % 4, number % 6 == 1
        edges = None
        if number % 7 == 6:
            edges = tuple(
                (source, target) for source in present for target in present if source in (target, present[0])
            )
        made.append(
            Story(
                key=_key(number),
                articles=tuple(articles),
                shared_images=images(count) if count and not own else None,
                images={language: images(count) for language in present[::2]} if count and own else None,
                edges=edges,
            )
        )
    return made


def picture(concepts_R: np.ndarray) -> bytes:
    """A PNG with a cell of its concept's colour for each region, row by row, the last row maybe not full."""
    columns = math.ceil(math.sqrt(len(concepts_R)))
    cells = np.zeros((math.ceil(len(concepts_R) / columns) * columns, 3), np.uint8)
    cells[: len(concepts_R)] = _COLOURS[concepts_R]
    grid = cells.reshape(-1, columns, 3).repeat(5, axis=0).repeat(4, axis=1)  # higher than wide
    file = io.BytesIO()
    Image.fromarray(grid).save(file, "PNG")
    return file.getvalue()


def make_corpus(
    directory: Path,
    *,
    languages: tuple[str, ...] = ("english", "french", "hindi", "urdu"),
    stories: int = 96,
    feature_size: int = 32,
    regions: int = 36,
    seed: int = 0,
    vocab_size: int = 420,
    pixels: bool = False,
    labels: bool = False,
) -> Corpus:
    """A finished corpus in `directory`, through the real writer, tokenizer and index: the same on every machine.

    vocab_size counts the 256 bytes and every character of the languages, so it cannot be much lower.
    """
    directory.mkdir(parents=True, exist_ok=True)
    sizes = {"feature_size": feature_size, "regions": regions}
    made = make_stories(languages, stories, **sizes, seed=seed, pixels=pixels, labels=labels)
    for split in SPLITS:
        of_split = [story for story in made if split_of(story.key) == split]
        for number, begin in enumerate(range(0, len(of_split), STORIES_PER_SHARD)):
            tar = directory / f"{split}-{number:06d}.tar"
            write_shard(tar, of_split[begin : begin + STORIES_PER_SHARD], languages)
    train_sentencepiece(
        directory / "tokenizer",
        (t for s in made if split_of(s.key) == "train" for a in s.articles for t in (a.text, a.summary)),
        languages=languages,
        vocab_size=vocab_size,
        character_coverage=1.0,
    )
    return finish_corpus(directory, name="tiny", languages=languages, provenance={"seed": seed, "stories": stories})


def tiny_collator(corpus: Corpus, reader: Reader | None = None) -> Collator:
    """Collate as a run of `tiny_overrides` does."""
    fetch = Fetcher(
        corpus,
        reader or Reader(corpus, ReaderConfig(io_threads=0)),
        ImageSizes(images=2, regions=36, feature_size=32),
        rule="source_or_target",
    )
    return Collator(corpus, fetch, open_tokenizer(corpus.directory / "tokenizer"), Lengths(document=32, summary=12))


def tiny_overrides(corpus_dir: Path, run_dir: Path) -> list[str]:
    """Overrides of the recipe `d2tv` for a network of some ten thousand parameters and a run of a few steps.

    A later override of the same key wins, so a test appends its own.
    """
    return [
        f"run={run_dir}",
        f"corpus.path={corpus_dir}",
        "network.text.architecture=mt5",
        "network.text.max_position_embeddings=",
        "network.text.tie_word_embeddings=false",
        "network.text.copying_start=false",
        "network.text.d_model=32",
        "network.text.d_ff=48",
        "network.text.d_kv=16",
        "network.text.num_heads=2",
        "network.text.num_layers=1",
        "network.text.num_decoder_layers=1",
        "network.vision.feature_size=32",
        "network.vision.hidden_size=16",
        "network.vision.feature_scale=1",
        "network.vision.num_layers=1",
        "network.vision.num_heads=2",
        "network.vision.ffn_size=32",
        "network.vision.max_images=2",
        "network.fusion.hidden_size=16",
        "network.fusion.visual_start=0",
        "network.fusion.num_heads=2",
        # What a resumed run draws must be what the undisturbed one drew: so something is drawn.
        *(f"network.{part}.dropout=0.1" for part in ("text", "vision", "fusion")),
        "objective.alpha_steps=8",
        "objective.label_smoothing=0.1",
        "lengths.document=32",
        "lengths.summary=12",
        "batch.group_size=4",
        "batch.groups_per_step=4",
        "batch.groups_per_micro_batch=4",
        "optimizer.learning_rate=5e-3",
        "schedule.warmup_steps=2",
        "training.steps=6",
        "training.log_every=1",
        "training.validate_every=3",
        "checkpoint.every=3",
        "training.threads_per_rank=1",
        "loader.threads=0",
        "validation.examples_per_kind=16",
        "validation.batch_size=16",
        "evaluation.examples_per_kind=8",
        "evaluation.batch_size=8",
        "evaluation.num_beams=2",
        "prometheus.enabled=false",
    ]


def _key(number: int) -> str:
    """Story keys that put one of the first three stories into each split, and the rest wherever they fall."""
    if number >= len(SPLITS):
        return f"story-{number:04d}"
    candidates = (f"story-{number:04d}-{salt}" for salt in range(1000))
    return next(key for key in candidates if split_of(key) == SPLITS[number])
