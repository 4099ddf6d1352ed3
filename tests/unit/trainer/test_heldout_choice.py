"""Which held-out examples are taken, by whom, and the unigram yardstick beside the model."""

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.batch.reader import Reader
from shards.directions import parse_directions
from shards.format.index import Corpus
from shards.stream.sampler import Groups
from shards.text.tokenizer import open_tokenizer
from tests.support.tiny import tiny_collator
from trainer.evaluation.heldout import choose_examples, concatenate, in_batches, share_of_rank
from trainer.evaluation.unigram import UnigramBaseline
from trainer.ranks import Ranks


def pairs(groups: Groups) -> list[tuple[int, int]]:
    return list(zip(groups.source[:, 0].tolist(), groups.target[:, 0].tolist(), strict=True))


def per_direction(corpus: Corpus, groups: Groups) -> Counter[tuple[int, int]]:
    language = corpus.articles["language"]
    return Counter((int(language[s]), int(language[t])) for s, t in pairs(groups))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(list(product(range(4), range(4)))), min_size=1, max_size=16, unique=True),
    st.none() | st.integers(1, 200),
    st.sampled_from(["validation", "test"]),
)
def test_the_total_is_spread_evenly_and_no_example_comes_twice(
    tiny_corpus: Corpus, directions: list[tuple[int, int]], total: int | None, split: str
) -> None:
    groups = choose_examples(tiny_corpus, split, directions, total=total)
    available = {(s, t): int(tiny_corpus.direction_counts(split)[t, s]) for s, t in directions}
    taken = per_direction(tiny_corpus, groups)
    assert len(set(pairs(groups))) == len(groups.number)
    assert len(groups.number) == min(total if total is not None else 10**9, sum(available.values()))
    assert set(taken) <= set(available)
    table = {tuple(pair) for pair in tiny_corpus.edges[split].tolist()}
    assert set(pairs(groups)) <= table
    most = max(taken.values())
    for direction, there in available.items():  # one less than the most only where the turn was not reached
        assert taken[direction] >= min(there, most - 1)
    assert groups.number.tolist() == list(range(len(groups.number)))
    assert (groups.story[:, 0] == tiny_corpus.articles["story"][groups.target[:, 0]]).all()


def test_the_choice_is_always_the_same_and_more_adds_to_it(tiny_corpus: Corpus) -> None:
    directions = parse_directions("all", tiny_corpus.languages)
    forty = pairs(choose_examples(tiny_corpus, "test", directions, total=40))
    assert forty == pairs(choose_examples(tiny_corpus, "test", directions, total=40))
    assert forty[:20] == pairs(choose_examples(tiny_corpus, "test", directions, total=20))
    turns = per_direction(tiny_corpus, choose_examples(tiny_corpus, "test", directions, total=8))
    assert len(turns) == 8  # a total below the number of directions does not go to the first of them alone
    assert len({target for _, target in turns}) > 2


def test_no_example_of_a_split_is_of_another_split(tiny_corpus: Corpus) -> None:
    directions = parse_directions("all", tiny_corpus.languages)
    stories = {
        split: set(choose_examples(tiny_corpus, split, directions, total=None).story.ravel().tolist())
        for split in ("train", "validation", "test")
    }
    assert not stories["train"] & stories["validation"]
    assert not stories["train"] & stories["test"]
    assert not stories["validation"] & stories["test"]


@pytest.mark.parametrize("world_size", [1, 2, 3, 50])
def test_ranks_share_the_examples_and_leave_none(tiny_corpus: Corpus, world_size: int) -> None:
    groups = choose_examples(tiny_corpus, "test", parse_directions("all", tiny_corpus.languages), total=41)
    shares = [share_of_rank(groups, Ranks(rank=r, local_rank=r, world_size=world_size)) for r in range(world_size)]
    assert sorted(n for share in shares for n in share.number.tolist()) == list(range(41))
    sizes = [len(share.number) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def test_concatenation_numbers_anew(tiny_corpus: Corpus) -> None:
    parts = [choose_examples(tiny_corpus, "test", [(n, n)], total=3) for n in range(2)]
    both = concatenate(parts)
    assert both.number.tolist() == list(range(6))
    assert pairs(both) == pairs(parts[0]) + pairs(parts[1])


def test_batches_hold_every_example_once_in_order(tiny_corpus: Corpus) -> None:
    collate = tiny_collator(tiny_corpus)
    groups = choose_examples(tiny_corpus, "test", parse_directions("all", tiny_corpus.languages), total=21)
    batches = list(in_batches(groups, collate, 8))
    assert [len(batch) for batch in batches] == [8, 8, 5]
    assert [n for batch in batches for n in batch.slot_B.tolist()] == list(range(21))
    assert [n for batch in batches for n in batch.story_B.tolist()] == groups.story[:, 0].tolist()


def slow_unigram(corpus: Corpus, groups: Groups, length: int) -> tuple[float, float]:
    """NLL a token and the smoothing chosen, with dictionaries and loops."""
    tokenizer, reader = open_tokenizer(corpus.directory / "tokenizer"), Reader(corpus)
    counts: dict[str, dict[str, Counter[int]]] = {"train": {}, "validation": {}}
    for row, record in enumerate(corpus.articles):
        split = corpus.shards[record["shard"]].split("-")[0]
        if split in counts:
            article = reader.article(row)
            of_language = counts[split].setdefault(article.language, Counter())
            of_language.update(tokenizer.encode(article.summary, length))

    def nll(language: str, token: int, smoothing: float) -> float:
        seen = counts["train"][language]
        total = sum(seen.values()) + smoothing * tokenizer.vocab_size
        return -math.log((seen[token] + smoothing) / total)

    candidates = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    on_validation = {
        smoothing: sum(
            number * nll(language, token, smoothing)
            for language, tokens in counts["validation"].items()
            for token, number in tokens.items()
        )
        for smoothing in candidates
    }
    best = min(candidates, key=on_validation.__getitem__)
    total, number = 0.0, 0
    for _, target in pairs(groups):
        article = reader.article(target)
        for token in tokenizer.encode(article.summary, length):
            total += nll(article.language, token, best)
            number += 1
    return total / number, best


@pytest.mark.parametrize("length", [2, 12])
def test_the_unigram_line_is_what_counting_by_hand_gives(tiny_corpus: Corpus, alone: Ranks, length: int) -> None:
    groups = choose_examples(tiny_corpus, "test", parse_directions("mxls", tiny_corpus.languages), total=30)
    tokenizer = open_tokenizer(tiny_corpus.directory / "tokenizer")
    baseline = UnigramBaseline(tiny_corpus, Reader(tiny_corpus), tokenizer, length, alone, torch.device("cpu"))
    expected, smoothing = slow_unigram(tiny_corpus, groups, length)
    assert baseline.smoothing == smoothing
    assert baseline.nll(groups) == pytest.approx(expected, rel=1e-9)
    assert 0 < expected < math.log(tokenizer.vocab_size)


def test_no_example_has_no_nll(tiny_corpus: Corpus, alone: Ranks) -> None:
    tokenizer = open_tokenizer(tiny_corpus.directory / "tokenizer")
    baseline = UnigramBaseline(tiny_corpus, Reader(tiny_corpus), tokenizer, 12, alone, torch.device("cpu"))
    assert np.isnan(baseline.nll(choose_examples(tiny_corpus, "test", [], total=None)))
