"""The sampler on CrossSum's real matrix: 45 languages, 1,942 cross-lingual directions of 1 to 47,101 examples."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.m3sum import lay_out, pair_counts
from shards.format.index import Corpus
from shards.stream.mixture import MixtureConfig, direction_weights
from shards.stream.partition import Partition
from shards.stream.sampler import Groups, Sampler

G, GROUPS = 8, 65_536
SLOTS = G * GROUPS  # 524,288


@pytest.fixture(scope="module")
def matrix() -> Corpus:
    languages, counts = pair_counts(all_45=True)
    assert (counts > 0).sum() == 1942
    assert (counts.max(), counts.sum()) == (47_101, 1_707_068)
    articles, edges, starts = lay_out(counts, 1_100_000, np.random.default_rng(0))
    return Corpus(
        location="none",
        directory=Path("none"),
        manifest={"languages": languages},
        articles=articles,
        text=np.zeros(0, np.uint8),
        edges={"train": edges},
        directions={"train": starts},
    )


def sampler(corpus: Corpus, seed: int = 0, group_size: int = G) -> Sampler:
    return Sampler(corpus, split="train", mixture=MixtureConfig(), seed=seed, group_size=group_size)


@pytest.fixture(scope="module")
def stream(matrix: Corpus) -> Groups:
    return sampler(matrix).groups(0, GROUPS)


def directions_of(corpus: Corpus, groups: Groups) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Targets (groups,) and sources (groups, G)."""
    language = corpus.articles["language"].astype(np.int64)
    return language[groups.target[:, 0]], language[groups.source]


@pytest.mark.parametrize("size", [8, 32, 128])
def test_every_prefix_keeps_the_quotas(matrix: Corpus, size: int) -> None:
    """From 10^5 slots on: a target is within one group of its quota, a direction within two slots of its share of
    what its target had.

    A group has one target, so a target's slots come by groups: that, and no more, a direction is off beside its two.
    """
    one = sampler(matrix, group_size=size)
    groups, first = SLOTS // size, 100_000 // size
    quota_TS = one.shares()
    weights_TS = direction_weights(matrix.direction_counts("train"), matrix.languages, MixtureConfig())
    np.testing.assert_allclose(quota_TS, weights_TS, atol=1e-8)
    target_N, source_NG = directions_of(matrix, one.groups(0, groups))
    groups_so_far = np.arange(1, groups + 1)
    worst = 0.0
    for target, quota_S in enumerate(quota_TS):
        mine = np.flatnonzero(target_N == target)
        count_N = np.cumsum(target_N == target)
        assert np.abs(count_N - groups_so_far * quota_S.sum())[first:].max() <= 1.0
        slots = np.arange(1, len(mine) * size + 1)
        sources = source_NG[mine].ravel()
        late = np.repeat(mine >= first, size)
        share_S = quota_S / quota_S.sum()
        for source in np.flatnonzero(quota_S):
            deviation = np.abs(np.cumsum(sources == source) - slots * share_S[source])
            worst = max(worst, float(deviation[late].max(initial=0.0)))
    assert worst <= 2.0
    # Chance would be far off: independent draws deviate by the root of their number.
    assert np.sqrt(SLOTS * quota_TS.max()) > 50


def test_no_example_comes_twice_inside_a_pass(matrix: Corpus, stream: Groups) -> None:
    """Every direction that had more slots than examples, and the rest, which must hold no repeat at all."""
    target_N, source_NG = directions_of(matrix, stream)
    direction = (target_N[:, None] * 45 + source_NG).ravel()
    example = stream.source.ravel() * (len(matrix.articles) + 1) + stream.target.ravel()
    order = np.argsort(direction, kind="stable")
    sizes = matrix.direction_counts("train").ravel()
    drawn = np.bincount(direction, minlength=45 * 45)
    assert (drawn[sizes > 0] > 0).sum() > 1900  # all but directions that get less than one slot in half a million
    passes = 0
    for number, mine in zip(
        np.unique(direction), np.split(example[order], np.cumsum(drawn[drawn > 0])[:-1]), strict=True
    ):
        size = int(sizes[number])
        for begin in range(0, len(mine), size):
            one = mine[begin : begin + size]
            assert len(np.unique(one)) == len(one)
            passes += len(one) == size
    assert passes > 100


@pytest.mark.parametrize("size", [8, 32, 128])
def test_stories_of_a_group_differ_wherever_they_can(matrix: Corpus, size: int) -> None:
    """From some ten times as many stories as a group has. Below, one may come oftener than its target has groups:
    its directions of one example repeat it in every pass."""
    groups = sampler(matrix, group_size=size).groups(0, SLOTS // size)
    ordered = np.sort(groups.story, axis=1)
    clashes = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    target_N, _ = directions_of(matrix, groups)
    stories_T = [len(np.unique(groups.story[target_N == target])) for target in range(45)]
    assert not clashes[np.array(stories_T)[target_N] >= max(100, 10 * size)].any()


@pytest.mark.parametrize("readers", [1, 64, 512])
def test_readers_share_the_stream_and_leave_nothing(matrix: Corpus, stream: Groups, readers: int) -> None:
    """Each reader asks for its own groups alone, in its own order; together they are the stream."""
    steps, per_step = 4, 1024
    one = sampler(matrix)
    found = np.full((steps * per_step, G), -1)
    for rank in np.random.default_rng(readers).permutation(readers).tolist():
        part = Partition(groups_per_step=per_step, groups_per_micro_batch=2, rank=rank, world_size=readers)
        # Most readers share a sampler, which must not know who asks; some have their own, as in a run.
        mine = sampler(matrix) if rank % 128 == 1 else one
        for micro_step in range(steps * part.micro_steps):
            first = part.first_group(micro_step)
            groups = mine.groups(first, 2)
            assert (found[first : first + 2] == -1).all()
            found[first : first + 2] = groups.source
    np.testing.assert_array_equal(found, stream.source[: steps * per_step])


def test_neighbouring_seeds_are_unrelated(matrix: Corpus, stream: Groups) -> None:
    """Two seeds agree on the example of a slot about as seldom as independent draws do, and on its direction too."""
    share_TS = sampler(matrix).shares()
    sizes_TS = np.maximum(matrix.direction_counts("train"), 1)
    target, source = directions_of(matrix, stream)
    for seed in (1, 2, 2**40):
        other = sampler(matrix, seed).groups(0, 20_000)
        other_target, other_source = directions_of(matrix, other)
        same_direction = (target[:20_000] == other_target)[:, None] & (source[:20_000] == other_source)
        # Quotas make all seeds alike in how evenly they go round, so not quite chance.
        assert same_direction.mean() < 5 * (share_TS**2).sum()
        same = (other.source == stream.source[:20_000]) & (other.target == stream.target[:20_000])
        assert same.mean() < 5 * (share_TS**2 / sizes_TS).sum() + 3 / same.size
