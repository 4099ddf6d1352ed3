"""The sampler as a pure function: random access, exact quotas, passes without repeats, stories apart."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shards.errors import InputError
from shards.format.index import Corpus
from shards.format.records import ARTICLE
from shards.stream.mixture import MixtureConfig
from shards.stream.permutation import permute
from shards.stream.sampler import Groups, Sampler

G = 4
FAR = 10**10


def corpus_of(counts_TS: NDArray[np.int64], stories: int, seed: int = 0) -> Corpus:
    """An index alone (the sampler reads nothing else): every story in every language, c_ts edges a direction."""
    random, size = np.random.default_rng(seed), len(counts_TS)
    articles = np.zeros(stories * size, ARTICLE)
    articles["story"], articles["language"] = np.repeat(np.arange(stories), size), np.tile(np.arange(size), stories)
    edges, starts = [np.zeros((0, 2), np.int64)], [0]
    for target in range(size):
        for source in range(size):
            chosen = np.sort(random.choice(stories, counts_TS[target, source], replace=False))
            edges.append(np.stack([chosen * size + source, chosen * size + target], axis=1))
            starts.append(starts[-1] + len(chosen))
    return Corpus(
        location="none",
        directory=Path("none"),
        text=np.zeros(0, np.uint8),
        manifest={"languages": [f"language {number}" for number in range(size)]},
        articles=articles,
        edges={"train": np.concatenate(edges).astype(np.int32)},
        directions={"train": np.array(starts)},
    )


def sampler(corpus: Corpus, *, seed: int = 0, group_size: int = G, **mixture: object) -> Sampler:
    return Sampler(corpus, split="train", mixture=MixtureConfig(**mixture), seed=seed, group_size=group_size)


def languages_of(corpus: Corpus, groups: Groups) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    language = corpus.articles["language"].astype(np.int64)
    return language[groups.source], language[groups.target]


def same(a: Groups, b: Groups) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("number", "source", "target", "story"))


def at(groups: Groups, begin: int, count: int) -> Groups:
    part = slice(begin, begin + count)
    return Groups(
        number=groups.number[part], source=groups.source[part], target=groups.target[part], story=groups.story[part]
    )


@pytest.mark.parametrize("start", [0, 777, FAR])
def test_random_access_gives_what_reading_in_order_gives(tiny_corpus: Corpus, start: int) -> None:
    whole = sampler(tiny_corpus).groups(start, 300)
    fresh = sampler(tiny_corpus)
    for begin in (299, 0, 150, 17, 298):  # in no order, from one sampler with its caches and from a new one each
        assert same(fresh.groups(start + begin, 1), at(whole, begin, 1))
        assert same(sampler(tiny_corpus).groups(start + begin, 1), at(whole, begin, 1))
    assert whole.number.tolist() == list(range(start, start + 300))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_cut_of_the_stream_is_the_stream(tiny_corpus: Corpus, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, FAR))
    cuts = sorted(data.draw(st.lists(st.integers(0, 64), max_size=5)))
    edges = [0, *cuts, 64]
    one = sampler(tiny_corpus, seed=7)
    whole = one.groups(start, 64)
    for begin, end in pairwise(edges):
        assert same(one.groups(start + begin, end - begin), at(whole, begin, end - begin))


def test_groups_hold_one_target_language_and_examples_are_edges(tiny_corpus: Corpus) -> None:
    groups = sampler(tiny_corpus).groups(0, 1000)
    _, target = languages_of(tiny_corpus, groups)
    assert (target == target[:, :1]).all()
    assert set(target[:, 0]) == {0, 1, 2, 3}
    table = {tuple(pair) for pair in tiny_corpus.edges["train"].tolist()}
    drawn = set(zip(groups.source.ravel().tolist(), groups.target.ravel().tolist(), strict=True))
    assert drawn == table  # every example of the split, and nothing else
    assert (groups.story == tiny_corpus.articles["story"][groups.source]).all()


def test_an_example_comes_once_before_any_comes_twice(tiny_corpus: Corpus) -> None:
    groups = sampler(tiny_corpus).groups(0, 4000)
    source, target = languages_of(tiny_corpus, groups)
    pairs = np.stack([groups.source.ravel(), groups.target.ravel()], axis=1)
    counts = tiny_corpus.direction_counts("train")
    for t in range(4):
        for s in range(4):
            mine = pairs[(source.ravel() == s) & (target.ravel() == t)]
            size = counts[t, s]
            passes = [{tuple(pair) for pair in mine[i : i + size].tolist()} for i in range(0, len(mine) - size, size)]
            assert len(passes) >= 8
            assert all(len(one) == size for one in passes)
            orders = {tuple(map(tuple, mine[i : i + size].tolist())) for i in range(0, len(mine) - size, size)}
            assert len(orders) == len(passes)  # each pass in an order of its own


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_passes_hold_for_directions_of_any_size(data: st.DataObject) -> None:
    sizes = st.sampled_from([0, 1, 2, G - 1, G, G + 1, 9, 30])
    counts = np.array(data.draw(st.lists(st.lists(sizes, min_size=3, max_size=3), min_size=3, max_size=3)))
    if counts.sum() == 0:
        return
    corpus = corpus_of(counts, stories=40)
    stream = sampler(corpus, seed=data.draw(st.integers(0, 2**32)))
    groups = stream.groups(0, 500)
    source, target = languages_of(corpus, groups)
    assert (target == target[:, :1]).all()
    for t in range(3):
        for s in range(3):
            mine = groups.source[(source == s) & (target == t)].tolist()
            size = int(counts[t, s])
            assert (len(mine) > 0) == (size > 0)
            for begin in range(0, len(mine) - size + 1, max(size, 1)):
                assert len(set(mine[begin : begin + size])) == size


@pytest.mark.parametrize("group_size", [4, 8])
def test_stories_of_a_group_differ(tiny_corpus: Corpus, group_size: int) -> None:
    """TCO's negatives: the same story twice in a group is no negative. There are some 70 stories a target here."""
    for start in (0, FAR):
        story = np.sort(sampler(tiny_corpus, group_size=group_size).groups(start, 2000).story, axis=1)
        assert (story[:, 1:] != story[:, :-1]).all()


def test_stories_of_a_group_differ_on_a_corpus_of_44_languages() -> None:
    story = np.sort(sampler(corpus_of(np.full((44, 44), 900), 1000), group_size=32).groups(0, 500).story, axis=1)
    assert (story[:, 1:] != story[:, :-1]).all()


def test_where_stories_cannot_differ_they_repeat_and_nothing_else_breaks() -> None:
    groups = sampler(corpus_of(np.array([[1]]), 3)).groups(0, 3)
    assert (groups.story == groups.story[0, 0]).all()


def test_neighbouring_seeds_give_unrelated_streams(tiny_corpus: Corpus) -> None:
    streams = [sampler(tiny_corpus, seed=seed).groups(0, 500) for seed in (0, 1, 2, 2**31, 2**40)]
    for one in range(len(streams)):
        for other in range(one):
            equal = (streams[one].source == streams[other].source) & (streams[one].target == streams[other].target)
            assert equal.mean() < 0.05  # by chance one in some 70, if both happen to be at the same direction


def test_subsets_of_kinds_and_languages_are_kept_to(tiny_corpus: Corpus) -> None:
    source, target = languages_of(tiny_corpus, sampler(tiny_corpus, kinds=("mms",)).groups(0, 200))
    assert (source == target).all()
    source, target = languages_of(tiny_corpus, sampler(tiny_corpus, kinds=("mxls",)).groups(0, 200))
    assert (source != target).all()
    source, target = languages_of(tiny_corpus, sampler(tiny_corpus, languages=("fr", "urdu")).groups(0, 200))
    assert set(source.ravel()) == set(target.ravel()) == {1, 3}


def test_a_group_size_below_one_is_refused(tiny_corpus: Corpus) -> None:
    with pytest.raises(InputError, match="group_size"):
        sampler(tiny_corpus, group_size=0)


@settings(max_examples=200)
@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_the_keyed_permutation_is_one(size: int, key: int) -> None:
    position = np.arange(size)
    permuted = permute(position, np.full(size, size), np.full(size, key, np.uint64))
    assert sorted(permuted.tolist()) == position.tolist()
