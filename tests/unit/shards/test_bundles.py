"""Story-batched groups: the plain stream's examples, each with further sources of its target article."""

import math
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shards.batch.loader import Loader
from shards.format.index import Corpus
from shards.stream.bundles import BundledSampler
from shards.stream.mixture import MixtureConfig, Segment, segments
from shards.stream.partition import Partition
from shards.stream.sampler import Groups, Sampler
from tests.support.tiny import tiny_collator
from tests.unit.shards.test_loader_partition import rows_of
from tests.unit.shards.test_slot_sampler import FAR, at, corpus_of, languages_of, same

G, K = 8, 4


def bundled(
    corpus: Corpus,
    mixture: tuple[Segment, ...] | MixtureConfig | None = None,
    *,
    seed: int = 0,
    group_size: int = G,
    k: int = K,
) -> BundledSampler:
    return BundledSampler(
        corpus,
        split="train",
        mixture=mixture or MixtureConfig(),
        seed=seed,
        group_size=group_size,
        sources_per_target=k,
    )


def cliques(languages: int, stories: int) -> Corpus:
    """Every story in every language, with every edge."""
    return corpus_of(np.full((languages, languages), stories), stories)


def bundles_of(groups: Groups, k: int) -> list[tuple[int, tuple[int, ...]]]:
    """Target article and its sources, of every anchor in the order of the stream."""
    target = groups.target.reshape(-1, k)
    assert (target == target[:, :1]).all()
    return list(zip(target[:, 0].tolist(), map(tuple, groups.source.reshape(-1, k).tolist()), strict=True))


def sources_by_target(corpus: Corpus, allowed_TS: NDArray[np.bool_]) -> dict[int, set[int]]:
    """Looked up edge by edge."""
    language = corpus.articles["language"]
    found: dict[int, set[int]] = defaultdict(set)
    for source, target in corpus.edges["train"].tolist():
        if allowed_TS[language[target], language[source]]:
            found[target].add(source)
    return found


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_anchors_are_the_plain_stream_of_smaller_groups(tiny_corpus: Corpus, data: st.DataObject) -> None:
    """Its quotas, passes, caps and changes too: they count anchors."""
    anchors, k = data.draw(st.integers(1, 6)), data.draw(st.integers(2, 9))
    seed, start = data.draw(st.integers(0, 2**32)), data.draw(st.sampled_from([0, 250, 390, FAR]))
    mixture = segments(
        MixtureConfig.model_validate(
            {
                "max_passes": data.draw(st.sampled_from([None, 60.0])),
                "weights": {"all": 1, "en-fr": 30},
                "changes": [{"from_step": 100, "weights": None}, {"from_step": 101, "kinds": ["mms"]}],
            }
        ),
        4,
        1000,
    )
    stream = bundled(tiny_corpus, mixture, seed=seed, group_size=anchors * k, k=k)
    plain = Sampler(tiny_corpus, split="train", mixture=mixture, seed=seed, group_size=anchors)
    groups, expected = stream.groups(start, 40), plain.groups(start, 40)
    assert (stream.seed, stream.group_size) == (seed, anchors * k)
    assert groups.source.shape == (40, anchors * k)
    assert same(
        Groups(
            number=groups.number,
            source=groups.source[:, ::k],
            target=groups.target[:, ::k],
            story=groups.story[:, ::k],
        ),
        expected,
    )
    for repeated, of_anchor in ((groups.target, expected.target), (groups.story, expected.story)):
        np.testing.assert_array_equal(repeated, np.repeat(of_anchor, k, axis=1))
    for group in (0, 400, 404):
        np.testing.assert_array_equal(stream.shares(group), plain.shares(group))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_bundle_is_distinct_sources_of_its_target_or_all_of_them_in_turn(data: st.DataObject) -> None:
    sizes = st.sampled_from([0, 1, 5, 19, 20])
    counts = np.array(data.draw(st.lists(st.lists(sizes, min_size=4, max_size=4), min_size=4, max_size=4)))
    counts[1, 2] = max(counts[1, 2], 1)  # a cross-lingual direction for every mixture below
    corpus = corpus_of(counts, stories=20)
    k, kinds = data.draw(st.integers(2, 6)), data.draw(st.sampled_from([("mms", "mxls"), ("mxls",)]))
    stream = bundled(corpus, MixtureConfig(kinds=kinds), seed=data.draw(st.integers(0, 2**32)), group_size=2 * k, k=k)
    candidates = sources_by_target(corpus, stream.shares() > 0)
    for target, sources in bundles_of(stream.groups(data.draw(st.sampled_from([0, FAR])), 300), k):
        enough = min(k, len(candidates[target]))
        assert set(sources) <= candidates[target]
        assert len(set(sources[:enough])) == enough
        assert sources == tuple(sources[slot % enough] for slot in range(k))


@pytest.mark.parametrize("start", [0, 777, FAR])
def test_random_access_gives_what_reading_in_order_gives(tiny_corpus: Corpus, start: int) -> None:
    whole = bundled(tiny_corpus).groups(start, 600)
    used = bundled(tiny_corpus)
    for begin in (599, 0, 150, 17, 256, 255, 598):
        assert same(used.groups(start + begin, 1), at(whole, begin, 1))
        assert same(bundled(tiny_corpus).groups(start + begin, 1), at(whole, begin, 1))
    assert whole.number.tolist() == list(range(start, start + 600))
    assert used.groups(start, 0).source.shape == (0, G)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_cut_of_the_stream_is_the_stream(tiny_corpus: Corpus, data: st.DataObject) -> None:
    mixture = segments(MixtureConfig.model_validate({"changes": [{"from_step": 330, "kinds": ["mxls"]}]}), 1, None)
    start = data.draw(st.integers(0, 400) | st.integers(0, FAR))
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, 300), max_size=5))), 300]
    stream = bundled(tiny_corpus, mixture, seed=7)
    whole = bundled(tiny_corpus, mixture, seed=7).groups(start, 300)
    for begin, end in pairwise(cuts):
        assert same(stream.groups(start + begin, end - begin), at(whole, begin, end - begin))


def test_the_callers_groups_are_its_own(tiny_corpus: Corpus) -> None:
    stream = bundled(tiny_corpus)
    groups = stream.groups(0, 5)
    groups.source[:] = -1
    assert same(stream.groups(0, 5), bundled(tiny_corpus).groups(0, 5))


@pytest.mark.parametrize(("ranks", "micro"), [(1, 8), (1, 1), (2, 4), (4, 2), (8, 1)])
def test_ranks_and_micro_batches_share_the_stream_and_leave_nothing(
    tiny_corpus: Corpus, ranks: int, micro: int
) -> None:
    expected = bundled(tiny_corpus).groups(0, 40 * 8)
    found = np.full(expected.source.shape, -1)
    for rank in range(ranks):
        part = Partition(groups_per_step=8, groups_per_micro_batch=micro, rank=rank, world_size=ranks)
        mine = bundled(tiny_corpus)
        for micro_step in range(40 * part.micro_steps):
            first = part.first_group(micro_step)
            assert (found[first : first + micro] == -1).all()
            found[first : first + micro] = mine.groups(first, micro).source
    np.testing.assert_array_equal(found, expected.source)


@pytest.mark.parametrize("threads", [0, 3])
def test_a_loader_reads_bundles_and_a_bundle_shares_its_images_where_its_sources_do(
    tiny_corpus: Corpus, threads: int
) -> None:
    groups = bundled(tiny_corpus).groups(0, 8)
    loader = Loader(
        bundled(tiny_corpus),
        tiny_collator(tiny_corpus),
        Partition(groups_per_step=8, groups_per_micro_batch=4, rank=0, world_size=1),
        first_step=0,
        threads=threads,
        prefetch=2,
    )
    batches = [next(loader), next(loader)]
    loader.close()
    assert [row["slot"] for batch in batches for row in rows_of(batch)] == list(range(8 * G))
    story = np.concatenate([batch.story_B.numpy() for batch in batches])
    np.testing.assert_array_equal(story, groups.story.ravel())
    numbers = np.concatenate([batch.images_B.numpy() for batch in batches]).reshape(-1, K)
    articles, source, target = tiny_corpus.articles, groups.source.ravel(), groups.target.ravel()
    owner = np.where(articles["images"][source] > 0, source, target)
    place = np.stack([articles["shard"][owner], articles["roi_offset"][owner]], axis=1).reshape(-1, K, 2)
    has_images = (articles["images"][owner] > 0).reshape(-1, K).all(axis=1)
    shares = has_images & (place == place[:, :1]).all(axis=(1, 2))
    assert 0 < shares.sum() < has_images.sum() < len(has_images)
    assert (numbers[shares] == numbers[shares][:, :1]).all()
    apart = has_images & ~shares
    assert (numbers[apart] != numbers[apart][:, :1]).any(axis=1).all()


def test_sources_follow_from_the_seed_and_the_anchors_number_without_a_period() -> None:
    """One story, so that only the draws tell anchors apart: any two agree by chance, one in eleven."""
    corpus, anchors, lags = cliques(12, 1), 8000, 3000
    further = []
    for seed in (0, 1, 2**40):
        groups = bundled(corpus, seed=seed, group_size=2, k=2).groups(0, anchors)
        assert same(groups, bundled(corpus, seed=seed, group_size=2, k=2).groups(0, anchors))
        further.append(groups.source[:, 1])
    for one, other in pairwise(further):
        assert (one == other).mean() < 0.12
    for lag in range(1, lags):
        assert (further[0][lag:] == further[0][:-lag]).mean() < 0.12


@pytest.mark.parametrize("k", [2, 4, 6])
def test_every_other_source_of_an_article_comes_as_often_in_every_place(k: int) -> None:
    """Of the m anchors of an article whose own source is another one, each of the d - 1 others is in a given place of
    the bundle with chance 1 / (d - 1). By Hoeffding a count is off by more than sqrt(m ln(2 n / e) / 2) in any of n
    cells with chance e at most; e = 10^-6 here."""
    languages, stories = 6, 2
    corpus = cliques(languages, stories)
    count, own_count = defaultdict(int), defaultdict(int)
    for target, (own, *others) in bundles_of(bundled(corpus, group_size=2 * k, k=k).groups(0, 6000), k):
        own_count[target, own] += 1
        for place, source in enumerate(others):
            count[target, source, place] += 1
    anchors = {
        target: sum(own_count[target, source] for source in range(languages * stories))
        for target in range(languages * stories)
    }
    assert min(anchors.values()) > 500
    cells = languages * stories * languages * (k - 1)
    for target in range(languages * stories):
        first = target // languages * languages
        for source in range(first, first + languages):
            m = anchors[target] - own_count[target, source]
            for place in range(k - 1):
                off = abs(count[target, source, place] - m / (languages - 1))
                assert off <= math.sqrt(m * math.log(2 * cells / 1e-6) / 2)


@pytest.mark.parametrize(
    "keys",
    [
        {"directions": "en-fr,ur-fr,*-hi"},
        {"kinds": ["mxls"]},
        {"kinds": ["mms"]},
        {"languages": ["en", "hi", "ur"]},
        {"weights": {"all": 1, "*-fr": 0, "en-hi": 2}},
        {"directions": "en-fr,mms", "languages": ["en", "fr"]},
    ],
)
def test_a_direction_that_the_mixture_leaves_out_never_comes(tiny_corpus: Corpus, keys: dict[str, object]) -> None:
    """And each that it takes in does; before a change and after it, which falls inside a chunk."""
    change, last = 300, {"directions": "ur-en,ur-fr", "kinds": ["mxls"], "languages": None, "weights": None}
    mixture = segments(
        MixtureConfig.model_validate({"changes": [{"from_step": change, **keys}, {"from_step": 2 * change, **last}]}),
        1,
        None,
    )
    stream = bundled(tiny_corpus, mixture, group_size=16, k=4)
    for first, count in ((0, change), (change, change), (2 * change, change)):
        source, target = languages_of(tiny_corpus, stream.groups(first, count))
        found_TS = np.zeros((4, 4), bool)
        found_TS[target, source] = True
        np.testing.assert_array_equal(found_TS, stream.shares(first) > 0)


def test_one_source_a_target_is_the_plain_stream(tiny_corpus: Corpus) -> None:
    plain = Sampler(tiny_corpus, split="train", mixture=MixtureConfig(), seed=3, group_size=G)
    assert same(bundled(tiny_corpus, seed=3, k=1).groups(100, 500), plain.groups(100, 500))
