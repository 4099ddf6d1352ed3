"""Labels of articles, from a story to batches: in tars and index, and told where they are damaged."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset as wds

from launcher.cli import main
from shards.batch.collate import Collator, Lengths
from shards.batch.fetch import Fetcher, ImageSizes
from shards.batch.reader import Reader, ReaderConfig
from shards.errors import InputError
from shards.format.index import Corpus, open_corpus
from shards.format.labels import label_counts
from shards.format.manifest import SPLITS
from shards.format.merge import finish_corpus
from shards.format.writer import split_of, write_shard
from shards.schema import Story
from shards.stream.sampler import Groups
from shards.text.tokenizer import open_tokenizer
from tests.support.sealing import reseal
from tests.support.tiny import LABELS, make_stories

LANGUAGES = ("english", "french", "hindi", "urdu")


def stories() -> list[Story]:
    """Of each third story the first article has no label."""

    def labelled(number: int, story: Story) -> Story:
        first, *others = story.articles
        return replace(story, articles=(replace(first, label=None), *others)) if number % 3 == 0 else story

    return [labelled(number, story) for number, story in enumerate(make_stories(LANGUAGES, 24, labels=True))]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Corpus) -> Corpus:
    directory = tmp_path_factory.mktemp("labels") / "corpus"
    shutil.copytree(tiny_corpus.directory / "tokenizer", directory / "tokenizer")
    for split in SPLITS:
        write_shard(directory / f"{split}-000000.tar", [s for s in stories() if split_of(s.key) == split], LANGUAGES)
    return finish_corpus(directory, name="test", languages=LANGUAGES, provenance={})


def test_an_article_has_its_label_again(corpus: Corpus) -> None:
    assert corpus.label_names == LABELS
    reader, keys = Reader(corpus, ReaderConfig(io_threads=0)), corpus.story_keys()
    expected = {(story.key, article.language): article.label for story in stories() for article in story.articles}
    rows = range(len(corpus.articles))
    found = {(keys[corpus.articles["story"][row]], reader.article(row).language): reader.article(row) for row in rows}
    assert {place: article.label for place, article in found.items()} == expected
    for split in SPLITS:
        of_split = [a.label for story in stories() if split_of(story.key) == split for a in story.articles]
        assert label_counts(corpus, split).tolist() == [of_split.count(label) for label in LABELS]


def test_stock_webdataset_reads_it_and_a_corpus_without_is_what_it_was(corpus: Corpus, tiny_corpus: Corpus) -> None:
    made = {story.key: story for story in stories()}
    for sample in wds.WebDataset(str(corpus.directory / "train-000000.tar"), shardshuffle=False):
        for article in made[sample["__key__"]].articles:
            assert json.loads(sample[f"{article.language}.json"]).get("label") == article.label
    assert tiny_corpus.labels is None
    assert tiny_corpus.label_names == ()
    assert "labels" not in tiny_corpus.manifest
    assert label_counts(tiny_corpus, "train").tolist() == []


def batch_labels(corpus: Corpus, classes: tuple[str, ...] | None) -> torch.Tensor:
    """Return `label_B` of every monolingual example of the training split."""
    edges = np.asarray(corpus.edges["train"]).astype(np.int64)
    edges = edges[edges[:, 0] == edges[:, 1]]
    sizes = ImageSizes(images=2, regions=36, feature_size=32)
    fetch = Fetcher(corpus, Reader(corpus, ReaderConfig(io_threads=0)), sizes)
    tokenizer = open_tokenizer(corpus.directory / "tokenizer")
    lengths = Lengths(document=32, summary=12)
    numbers = None if classes is None else {label: number for number, label in enumerate(classes)}
    collate = Collator(corpus, fetch, tokenizer, lengths, needs=("label",), classes=numbers)
    story = corpus.articles["story"][edges[:, 1:]].astype(np.int64)
    batch = collate(Groups(number=np.arange(len(edges)), source=edges[:, :1], target=edges[:, 1:], story=story))
    assert batch.label_B is not None
    labels = np.asarray(corpus.labels)[edges[:, 1]]
    names = corpus.label_names if classes is None else classes
    named = [names[number] if number >= 0 else None for number in batch.label_B.tolist()]
    stored = [corpus.label_names[number] if number >= 0 else None for number in labels.tolist()]
    assert named == [label if label in names else None for label in stored]
    return batch.label_B


def test_a_batch_counts_labels_by_the_classes_it_is_given(corpus: Corpus) -> None:
    of_corpus = batch_labels(corpus, None)
    assert of_corpus.dtype == torch.int64
    assert set(of_corpus.tolist()) == {-1, 0, 1, 2}
    assert torch.equal(batch_labels(corpus, LABELS), of_corpus)
    assert not torch.equal(batch_labels(corpus, LABELS[::-1]), of_corpus)
    assert set(batch_labels(corpus, ("thing", "stone")).tolist()) == {-1, 0}


def with_labels(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        np.save(directory / "labels.npy", change(np.load(directory / "labels.npy")))
        reseal(directory)

    return damage


def forget(directory: Path) -> None:
    manifest = json.loads((directory / "manifest.json").read_text())
    del manifest["files"]["labels.npy"]
    reseal(directory, files=manifest["files"])


def renamed(names: list[str]) -> Callable[[Path], None]:
    return lambda directory: reseal(directory, labels=names)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (with_labels(lambda labels: labels + 1), "names label 3 of 3"),
        (with_labels(lambda labels: labels - 1), "names label -2 of 3"),
        (with_labels(lambda labels: labels[:-1]), "articles.npy"),
        (with_labels(lambda labels: labels.astype(np.int64)), "not of this format"),
        (with_labels(lambda labels: labels[:, None]), "not of this format"),
        (forget, "labels.npy is not there"),
        (renamed(["sky", "animal", "thing"]), "is no sorted list of different labels"),
        (renamed(["animal", "animal", "thing"]), "is no sorted list of different labels"),
        (renamed(["", "animal", "thing"]), "is no sorted list of different labels"),
    ],
)
def test_an_index_whose_labels_are_wrong_is_refused(
    corpus: Corpus, tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    copy = Path(shutil.copytree(corpus.directory, tmp_path / "corpus"))
    damage(copy)
    with pytest.raises(InputError) as caught:
        open_corpus(copy)
    assert said in str(caught.value)
    assert main(["verify", str(copy), "--workers", "1"]) in (1, 2)


def test_verify_holds_labels_against_the_tars(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(corpus.directory), "--workers", "1"]) == 0
    copy = Path(shutil.copytree(corpus.directory, tmp_path / "corpus"))
    with_labels(lambda labels: np.where(labels == 0, 1, labels))(copy)
    open_corpus(copy)  # it fits itself
    capsys.readouterr()
    assert main(["verify", str(copy), "--workers", "1"]) == 1
    shown = capsys.readouterr().out
    assert "its label 'animal' is not that of labels.npy" in shown
    assert "train-000000.index.npz: does not say what the corpus' index says" in shown


@pytest.mark.parametrize("label", ["", " ", "two\nlines", "a ", "x" * 201, "half \ud800"])
def test_what_is_no_label_is_refused(tmp_path: Path, label: str) -> None:
    [story, *_] = make_stories(LANGUAGES, 1)
    story = replace(story, articles=(replace(story.articles[0], label=label),))
    with pytest.raises(InputError, match=r"is no label: one line|surrogates not allowed"):
        write_shard(tmp_path / "train-000000.tar", [story], LANGUAGES)
