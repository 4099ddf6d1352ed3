"""How many reads a group costs: one an article, and one a run of neighbours."""

import os
from typing import Any

import numpy as np
import pytest

from shards.batch.reader import Reader, ReaderConfig
from shards.format.index import Corpus


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of every positioned read from here on."""
    sizes: list[int] = []
    real = os.preadv

    def preadv(handle: int, parts: Any, offset: int) -> int:
        got = real(handle, parts, offset)
        sizes.append(got)
        return got

    monkeypatch.setattr(os, "preadv", preadv)
    return sizes


def read(corpus: Corpus, rows: list[int]) -> tuple[np.ndarray, list[Any]]:
    reader = Reader(corpus, ReaderConfig(io_threads=0))
    roi, boxes = np.zeros((len(rows), 3, 36, 32), np.float16), np.zeros((len(rows), 3, 36, 4), np.float32)
    counts = reader.images(rows, roi, boxes).finish()
    reader.close()
    return roi, counts


def first_of_each_member(corpus: Corpus, shard: int) -> list[int]:
    """Rows of a shard that show different images, in the order of the tar."""
    articles = corpus.articles
    rows = np.flatnonzero((articles["shard"] == shard) & (articles["images"] > 0))
    _, first = np.unique(articles["roi_offset"][rows], return_index=True)
    return rows[first].tolist()


def test_an_article_costs_one_read_for_features_and_boxes(tiny_corpus: Corpus, reads: list[int]) -> None:
    row = first_of_each_member(tiny_corpus, 0)[0]
    _, counts = read(tiny_corpus, [row])
    assert counts == [int(tiny_corpus.articles["images"][row])]
    record = tiny_corpus.articles[row]
    assert len(reads) == 1
    assert (
        record["roi_length"] + record["boxes_length"] < reads[0] < record["roi_length"] + record["boxes_length"] + 2048
    )


def test_neighbours_cost_one_read_in_whatever_order_they_are_asked_for(tiny_corpus: Corpus, reads: list[int]) -> None:
    rows = first_of_each_member(tiny_corpus, 0)[:6]
    apart, _ = read(tiny_corpus, rows)
    assert len(reads) == 1
    shuffled = [rows[place] for place in (3, 0, 5, 1, 4, 2)]
    together, _ = read(tiny_corpus, shuffled)
    assert len(reads) == 2
    for place, row in enumerate(shuffled):
        np.testing.assert_array_equal(together[place], apart[rows.index(row)])


def test_shards_are_read_apart(tiny_corpus: Corpus, reads: list[int]) -> None:
    rows = [first_of_each_member(tiny_corpus, shard)[0] for shard in (0, 1, 2)]
    read(tiny_corpus, rows)
    assert len(reads) == 3


def test_articles_without_images_cost_nothing(tiny_corpus: Corpus, reads: list[int]) -> None:
    rows = np.flatnonzero(tiny_corpus.articles["images"] == 0)[:4].tolist()
    roi, counts = read(tiny_corpus, rows)
    assert counts == [0] * 4
    assert not reads
    assert not roi.any()


def test_a_reader_counts_the_bytes_it_was_given(tiny_corpus: Corpus, reads: list[int]) -> None:
    reader = Reader(tiny_corpus, ReaderConfig(io_threads=2))
    rows = [*first_of_each_member(tiny_corpus, 0), *first_of_each_member(tiny_corpus, 1)]
    for _ in range(2):
        arrays = np.zeros((len(rows), 3, 36, 32), np.float16), np.zeros((len(rows), 3, 36, 4), np.float32)
        reader.images(rows, *arrays).finish()
    reader.close()
    assert reader.bytes_read == sum(reads) > 0
