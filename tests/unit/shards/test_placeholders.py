"""What cannot be read becomes a placeholder in its own row; every other row is what it would have been."""

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shards.batch.reader import Reader, ReaderConfig
from shards.batch.types import Batch
from shards.format.index import Corpus, open_corpus
from shards.stream.mixture import MixtureConfig
from shards.stream.sampler import Groups, Sampler
from tests.support.tiny import make_corpus, tiny_collator
from tests.unit.shards.test_loader_partition import rows_of

Damage = Callable[[Corpus], set[int]]


def patient(corpus: Corpus, io_threads: int = 0) -> Reader:
    return Reader(corpus, ReaderConfig(io_threads=io_threads, retries=2, retry_seconds=0.001))


def every_example(corpus: Corpus) -> Groups:
    return Sampler(corpus, split="train", mixture=MixtureConfig(), seed=3, group_size=4).groups(0, 60)


def images_in(corpus: Corpus, shards: set[int]) -> set[int]:
    """Rows of the articles whose images lie in these shards."""
    articles = corpus.articles
    return set(np.flatnonzero(np.isin(articles["shard"], list(shards)) & (articles["images"] > 0)).tolist())


def path_of(corpus: Corpus, shard: int) -> Path:
    return corpus.directory / corpus.shards[shard]


def truncate(corpus: Corpus) -> set[int]:
    size = path_of(corpus, 0).stat().st_size // 2
    os.truncate(path_of(corpus, 0), size)
    ends = corpus.articles["boxes_offset"] + corpus.articles["boxes_length"]
    return {row for row in images_in(corpus, {0}) if ends[row] > size}


def remove(corpus: Corpus) -> set[int]:
    path_of(corpus, 1).unlink()
    return images_in(corpus, {1})


def swap(corpus: Corpus) -> set[int]:
    one, other, spare = path_of(corpus, 0), path_of(corpus, 1), corpus.directory / "spare"
    one.rename(spare)
    other.rename(one)
    spare.rename(other)
    return images_in(corpus, {0, 1})


def take_anothers(corpus: Corpus) -> set[int]:
    """The tar of another corpus, under the same name, with the same members of the same sizes."""
    other = make_corpus(corpus.directory.parent / "other", seed=1)
    shutil.copy(path_of(other, 0), path_of(corpus, 0))
    return images_in(corpus, {0})


def flip(corpus: Corpus) -> set[int]:
    shown = every_example(corpus).target.ravel().tolist()
    row = next(row for row in shown if row in images_in(corpus, {0}))
    place = int(corpus.articles["roi_offset"][row]) + 1000
    with open(path_of(corpus, 0), "r+b") as tar:
        tar.seek(place)
        byte = tar.read(1)[0]
        tar.seek(place)
        tar.write(bytes([byte ^ 0x10]))
    same = corpus.articles["roi_offset"] == corpus.articles["roi_offset"][row]
    return set(np.flatnonzero(same).tolist()) & images_in(corpus, {0})


@pytest.mark.parametrize("io_threads", [0, 3])
@pytest.mark.parametrize("damage", [truncate, remove, swap, take_anothers, flip])
def test_only_the_rows_that_show_the_damage_become_placeholders(
    tiny_corpus: Corpus, tmp_path: Path, damage: Damage, io_threads: int
) -> None:
    shutil.copytree(tiny_corpus.directory, tmp_path / "corpus")
    corpus = open_corpus(tmp_path / "corpus")
    groups = every_example(corpus)
    sound = rows_of(tiny_collator(tiny_corpus)(groups))
    bad_articles = damage(corpus)
    images = corpus.articles["images"]
    owner = np.where(images[groups.source] > 0, groups.source, groups.target).ravel()
    expected = [slot for slot, article in enumerate(owner.tolist()) if article in bad_articles]
    assert 0 < len(expected) < len(owner)

    reader = patient(corpus, io_threads)
    batch: Batch = tiny_collator(corpus, reader)(groups)
    reader.close()
    assert [one.slot for one in batch.unreadable] == expected
    assert reader.retries == 2 * len(expected)
    for row, (found, whole) in enumerate(zip(rows_of(batch), sound, strict=True)):
        if row not in expected:
            assert found == whole
            continue
        assert found["weight"] == 0
        assert found["images"] == [False, False]
        assert found["image_number"] == -1 - found["slot"]  # nothing that another row could share
        assert not any(found["roi"])
        assert not any(found["boxes"])
        for key in ("slot", "group", "story", "start", "source_language", "target_language", "cross"):
            assert found[key] == whole[key]
        assert len(found["source"]) == len(found["target"]) == len(found["summary"]) == 1  # the end token
    for one in batch.unreadable:
        assert str(corpus.directory) in one.problem
        assert "\n" not in one.problem


def test_a_damaged_text_costs_the_examples_that_read_it_and_no_other(tiny_corpus: Corpus, tmp_path: Path) -> None:
    shutil.copytree(tiny_corpus.directory, tmp_path / "corpus")
    groups = every_example(tiny_corpus)
    row = int(groups.source[7, 2])
    with open(tmp_path / "corpus" / "text.bin", "r+b") as arena:
        arena.seek(int(tiny_corpus.articles["text_offset"][row]) + 3)
        arena.write(b"\xff")
    corpus = open_corpus(tmp_path / "corpus")
    batch = tiny_collator(corpus)(groups)
    reads = (groups.source == row) | (groups.target == row)
    assert [one.slot for one in batch.unreadable] == np.flatnonzero(reads.ravel()).tolist()
    assert "text.bin" in batch.unreadable[0].problem
    sound = rows_of(tiny_collator(tiny_corpus)(groups))
    kept = [place for place, of_row in enumerate(rows_of(batch)) if of_row == sound[place]]
    assert kept == np.flatnonzero(~reads.ravel()).tolist()


def test_memory_that_held_damaged_features_is_clean_again(tiny_corpus: Corpus, tmp_path: Path) -> None:
    """A placeholder's row is zero though its buffer was used before, and half filled by the failed read."""
    shutil.copytree(tiny_corpus.directory, tmp_path / "corpus")
    corpus = open_corpus(tmp_path / "corpus")
    collate = tiny_collator(corpus, patient(corpus))
    groups = every_example(corpus)
    for _ in range(3):
        collate(groups)  # fills the pool
    flip(corpus)
    for _ in range(3):
        batch = collate(groups)
        rows = (batch.weight_B == 0).nonzero().ravel()
        assert len(rows)
        assert not batch.roi_BIRV[rows].any()
        assert not batch.boxes_BIR4[rows].any()


def test_a_fault_that_passes_costs_a_retry_and_nothing_else(
    tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first read of every file fails once, as a network file system does when a server restarts."""
    real, failed = os.preadv, set()

    def preadv(handle: int, *arguments: object) -> int:
        if handle not in failed:
            failed.add(handle)
            raise OSError(116, "Stale file handle")
        return real(handle, *arguments)

    groups = every_example(tiny_corpus)
    sound = rows_of(tiny_collator(tiny_corpus)(groups))
    monkeypatch.setattr(os, "preadv", preadv)
    reader = patient(tiny_corpus)
    batch = tiny_collator(tiny_corpus, reader)(groups)
    assert batch.unreadable == ()
    assert rows_of(batch) == sound
    assert 0 < reader.retries <= 100


@pytest.mark.parametrize("io_threads", [0, 2])
@pytest.mark.parametrize(
    ("field", "value"),
    [("shard", 99), ("roi_offset", 2**40), ("boxes_offset", 3), ("roi_length", 7), ("images", 9)],
)
def test_a_damaged_row_of_the_index_costs_its_own_examples(
    tiny_corpus: Corpus, field: str, value: int, io_threads: int
) -> None:
    """Damaged after it was opened: never a crash, or the features of something else with weight 1."""
    groups = every_example(tiny_corpus)
    images = tiny_corpus.articles["images"]
    owner = np.where(images[groups.source] > 0, groups.source, groups.target).ravel()
    row = int(next(row for row in owner if images[row] > 0))
    table = np.array(tiny_corpus.articles)
    table[field][row] = value
    corpus = dataclasses.replace(tiny_corpus, articles=table)
    sound = rows_of(tiny_collator(tiny_corpus)(groups))
    reader = patient(corpus, io_threads)
    shown = np.where(corpus.articles["images"][groups.source] > 0, groups.source, groups.target).ravel()
    batch = tiny_collator(corpus, reader)(groups)
    reader.close()
    expected = shown == row
    assert (batch.weight_B.numpy() == 0).tolist() == expected.tolist()
    for place, (found, whole) in enumerate(zip(rows_of(batch), sound, strict=True)):
        assert expected[place] or found["roi"] == whole["roi"]


@pytest.mark.parametrize("io_threads", [0, 2])
def test_a_storage_that_is_down_is_not_waited_for_by_every_record(
    tiny_corpus: Corpus, monkeypatch: pytest.MonkeyPatch, io_threads: int
) -> None:
    """Every attempt can take a minute: the first record has them all, the others of the batch one more each."""
    attempts = []

    def preadv(handle: int, *arguments: object) -> int:
        attempts.append(handle)
        raise OSError(110, "Connection timed out")

    monkeypatch.setattr(os, "preadv", preadv)
    reader = patient(tiny_corpus, io_threads)
    batch = tiny_collator(tiny_corpus, reader)(every_example(tiny_corpus))
    reader.close()
    shown = [one for one in batch.unreadable if "timed out" in one.problem]
    assert len(shown) > 50
    assert len(attempts) <= 2 * len(shown) + 2 * (io_threads + 1)
