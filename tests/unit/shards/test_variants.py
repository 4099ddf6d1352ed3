"""Variants in a corpus: sources of further training examples, and nothing else."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import webdataset as wds

from launcher.cli import main
from launcher.inspection.facts import corpus_facts
from launcher.preparation.tokenizer import training_texts
from launcher.preview import view_story
from models.sharing import Rows
from shards.batch.reader import Reader
from shards.errors import InputError
from shards.format.index import Corpus, open_corpus
from shards.format.merge import finish_corpus
from shards.format.writer import encode_key, write_shard
from shards.schema import Story, Variant
from shards.stream.images import image_numbers
from shards.stream.mixture import Weighting
from shards.stream.sampler import Sampler
from shards.text.sentencepiece_tokenizer import train_sentencepiece
from shards.variant_counts import VariantCounts
from tests.support.sealing import reseal
from tests.support.tiny import make_stories, tiny_collator
from trainer.evaluation.baselines.compute import _Training

LANGUAGES = ("english", "french", "hindi", "urdu")


def augmented(story: Story) -> Story:
    """With a variant of the English article in French and Urdu, and of the French one in Hindi."""
    present = {article.language: article for article in story.articles}
    pairs = [("french", "english"), ("urdu", "english"), ("hindi", "french")]
    return replace(
        story,
        variants=tuple(
            Variant(language=language, target=target, text=f"made {present[target].text}")
            for language, target in pairs
            if target in present
        ),
    )


def stories() -> list[Story]:
    return [augmented(story) for story in make_stories(LANGUAGES, 24)]


def build(directory: Path, *, variants: bool = True) -> Corpus:
    made = stories()
    for number in range(2):
        part = made[number * 10 : number * 10 + 10]
        part = part if variants else [replace(story, variants=()) for story in part]
        write_shard(directory / f"train-{number:06d}.tar", part, LANGUAGES)
    for split, part in (("validation", made[20:22]), ("test", made[22:])):
        write_shard(directory / f"{split}-000000.tar", [replace(story, variants=()) for story in part], LANGUAGES)
    if not (directory / "tokenizer").exists():
        train_sentencepiece(
            directory / "tokenizer",
            training_texts(directory, len(LANGUAGES)),
            languages=LANGUAGES,
            vocab_size=420,
            character_coverage=1.0,
        )
    return finish_corpus(directory, name="test", languages=LANGUAGES, provenance={})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return build(tmp_path_factory.mktemp("variants"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return build(tmp_path_factory.mktemp("plain"), variants=False)


def count(made: list[Story]) -> int:
    return sum(len(story.variants) for story in made)


def test_stock_webdataset_reads_a_variant_beside_the_articles(corpus: Corpus) -> None:
    samples = list(wds.WebDataset(str(corpus.directory / "train-000000.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [encode_key(story.key) for story in stories()[:10]]
    for story, sample in zip(stories()[:10], samples, strict=True):
        members = {name for name in sample if name.endswith(".json")}
        assert members == {f"{article.language}.json" for article in story.articles} | {
            f"{variant.language}~{variant.target}.json" for variant in story.variants
        }
        for variant in story.variants:
            record = json.loads(sample[f"{variant.language}~{variant.target}.json"])
            assert record == {"url": "", "text": variant.text, "summary": ""}


def test_an_example_of_a_variant_has_the_summary_and_the_images_of_its_article(corpus: Corpus) -> None:
    assert corpus.variants is not None
    assert len(corpus.variants) == count(stories()[:20])
    reader, table = Reader(corpus), np.asarray(corpus.articles)
    edges = {tuple(edge) for edge in corpus.edges["train"].tolist()}
    for row, target in corpus.variants.tolist():
        assert [edge for edge in edges if row in edge] == [(row, target)]
        made, article = reader.article(row), reader.article(target)
        assert (made.text, made.summary) == (f"made {article.text}", "")
        assert made.language != article.language
        numbers = image_numbers(table, np.array([row, target]))
        assert numbers[0] == numbers[1]
        assert table["images"][row] == table["images"][target]
    reader.close()


def test_directions_have_the_further_examples_and_are_the_same_otherwise(corpus: Corpus, plain: Corpus) -> None:
    more = corpus.direction_counts("train") - plain.direction_counts("train")
    np.testing.assert_array_equal(more, corpus.variant_counts())
    assert more.sum() == count(stories()[:20])
    assert set(np.flatnonzero(more)) == {0 * 4 + 1, 0 * 4 + 3, 1 * 4 + 2}
    for split in ("validation", "test"):
        np.testing.assert_array_equal(corpus.direction_counts(split), plain.direction_counts(split))
    assert corpus.manifest["splits"]["train"]["articles"] == plain.manifest["splits"]["train"]["articles"]
    assert corpus.manifest["splits"]["train"]["variants"] == more.sum()
    assert "variants" not in str(plain.manifest)
    assert plain.variants is None


def test_no_variant_is_taken_for_an_article(corpus: Corpus, plain: Corpus) -> None:
    keys = set(corpus.story_keys())
    rows = corpus.article_rows(keys)
    assert rows.keys() == plain.article_rows(keys).keys()
    assert not corpus.is_variant(np.array(list(rows.values()))).any()
    reader, other = Reader(corpus), Reader(plain)
    for key, row in rows.items():
        assert reader.article(row) == other.article(plain.article_rows(keys)[key])
    # Baselines: the nearest training stories, the words of LEAD.
    training, before = _Training(corpus, reader), _Training(plain, other)
    for language in range(len(LANGUAGES)):
        assert training.documents(language)[0] == before.documents(language)[0]
        assert training.summaries(language) == before.summaries(language)
    assert list(training_texts(corpus.directory, 4)) == list(training_texts(plain.directory, 4))
    facts, facts_before = corpus_facts(corpus, "train"), corpus_facts(plain, "train")
    assert facts.languages == facts_before.languages
    np.testing.assert_array_equal(facts.images, facts_before.images)
    assert facts.totals["train"][:2] == facts_before.totals["train"][:2]
    assert facts.variants is not None
    assert facts.variants.made == count(stories()[:20])
    assert facts_before.variants is None
    reader.close()
    other.close()


def test_preview_shows_variants_apart(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys, story = corpus.story_keys(), stories()[5]
    view = view_story(corpus, 5, keys)
    assert view.articles == story.articles
    assert view.variants == story.variants
    assert sorted(view.edges) == sorted(
        story.edges or [(a.language, b.language) for a in story.articles for b in story.articles]
    )
    assert main(["preview", str(corpus.directory), "--story", "5", "--out", str(tmp_path / "page.html")]) == 0
    assert "french → english" in (tmp_path / "page.html").read_text()


def test_a_batch_reads_a_variant_as_another_document_of_the_story(corpus: Corpus) -> None:
    assert corpus.variants is not None
    sampler = Sampler(corpus, split="train", mixture=Weighting(directions="fr-en"), seed=0, group_size=4)
    examples = int(corpus.direction_counts("train")[0, 1])
    groups = sampler.groups(0, -(-examples // 4))
    sources = groups.source.ravel()[:examples]
    assert len(set(sources.tolist())) == examples  # all of the direction's examples, once
    made = corpus.is_variant(sources)
    assert made.sum() == corpus.variant_counts()[0, 1]
    assert not corpus.is_variant(groups.target.ravel()).any()
    reader = Reader(corpus)
    batch = tiny_collator(corpus, reader)(groups)
    assert not batch.unreadable
    rows = Rows(batch, share=True)
    story_of = groups.story.ravel()
    both = [
        (int(np.flatnonzero(story_of[:examples] == story)[0]), int(np.flatnonzero(story_of[:examples] == story)[1]))
        for story in np.unique(story_of[:examples][made])
        if (story_of[:examples] == story).sum() == 2
    ]
    assert both
    for one, other in both:
        assert rows.identity("source", one) != rows.identity("source", other)
        assert rows.identity("target", one) == rows.identity("target", other)
        assert rows.identity("summary", one) == rows.identity("summary", other)
    reader.close()


def test_verify_finds_a_corpus_with_variants_sound(corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(corpus.directory), "--workers", "1"]) == 0
    assert f"{count(stories()[:20]):,} variants" in capsys.readouterr().out


def reseal_with(directory: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Change the tables of an index, with hashes that fit."""
    names = ("variants", "articles", "edges-train")
    tables = {name: np.load(directory / f"{name}.npy") for name in names}
    change(tables)
    for name, table in tables.items():
        np.save(directory / f"{name}.npy", table)
    reseal(directory)


def _exchange(tables: dict[str, np.ndarray]) -> None:
    variants = tables["variants"]
    variants["target"][:2] = variants["target"][[2, 1]]


def _as_target(tables: dict[str, np.ndarray]) -> None:
    edges, row = tables["edges-train"], int(tables["variants"]["row"][0])
    place = int(np.flatnonzero(edges[:, 0] == row)[0])
    edges[place] = edges[place][::-1]


def _held_out(tables: dict[str, np.ndarray]) -> None:
    tables["articles"]["shard"][tables["variants"]["row"][-1]] = 2


def _far(tables: dict[str, np.ndarray]) -> None:
    tables["variants"]["row"][-1] = 1 << 20


def _with_summary(tables: dict[str, np.ndarray]) -> None:
    tables["articles"]["summary_length"][tables["variants"]["row"][0]] = 1


def _of_itself(tables: dict[str, np.ndarray]) -> None:
    tables["variants"]["target"][0] = tables["variants"]["row"][0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_exchange, "variants.npy, row 0: "),
        (_as_target, "has a variant for its target"),
        (_held_out, "is not of the training split"),
        (_far, f"names rows {1 << 20} and "),
        (_with_summary, "is a variant and has more than a text"),
        (_of_itself, "variants.npy, row 0: "),
    ],
)
def test_an_index_whose_variants_are_wrong_is_refused_and_told_by_verify(
    corpus: Corpus,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, np.ndarray]], None],
    said: str,
) -> None:
    copy = Path(shutil.copytree(corpus.directory, tmp_path / "corpus"))
    reseal_with(copy, change)
    with pytest.raises(InputError, match="damaged"):
        open_corpus(copy)
    assert main(["verify", str(copy), "--workers", "1"]) == 1
    assert said in capsys.readouterr().out


def test_variants_that_the_manifest_forgets_are_found(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(corpus.directory, tmp_path / "corpus"))
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["files"]["variants.npy"]
    reseal(copy, files=manifest["files"])
    with pytest.raises(InputError, match="damaged"):
        open_corpus(copy)
    assert main(["verify", str(copy), "--workers", "1"]) == 1
    assert "does not vouch for variants.npy" in capsys.readouterr().out


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_held_out_story_has_no_variant(tmp_path: Path, split: str) -> None:
    with pytest.raises(InputError, match="of the training split alone"):
        write_shard(tmp_path / f"{split}-000000.tar", stories()[:1], LANGUAGES)


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        (Variant(language="english", target="english", text="a"), "in another language"),
        (Variant(language="thai", target="english", text="a"), "in another language"),
        (Variant(language="english", target="thai", text="a"), "in another language"),
        (Variant(language="french", target="english", text="\u200b"), "is empty"),
    ],
)
def test_a_variant_that_is_none_is_refused(tmp_path: Path, variant: Variant, said: str) -> None:
    story = replace(stories()[0], variants=(variant,))
    with pytest.raises(InputError, match=re.escape(said)):
        write_shard(tmp_path / "train-000000.tar", [story], LANGUAGES)
    twice = replace(stories()[0], variants=stories()[0].variants[:1] * 2)
    with pytest.raises(InputError, match="comes twice"):
        write_shard(tmp_path / "train-000000.tar", [twice], LANGUAGES)


def test_counts_of_variants_add_up_and_read_back() -> None:
    counts, more = VariantCounts(), VariantCounts()
    counts.count("french", "english", "made")
    more.count("french", "english", "made", 2)
    more.count("hindi", "english", "no parallel article")
    counts.add(more)
    assert counts.total() == {"made": 3, "no parallel article": 1}
    assert VariantCounts.from_json(counts.to_json()) == counts
    for text in ("[]", "1", '{"french": 1}', '{"french": {"english": {"made": -1}}}', '{"french": {"english": []}}'):
        with pytest.raises(ValueError, match="count"):
            VariantCounts.from_json(text)
