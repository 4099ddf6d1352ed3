"""Another mixture from a step on: the stream before it stays, the one after it goes on where each direction was."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.format.index import Corpus
from shards.stream.mixture import MixtureConfig, segments
from shards.stream.sampler import Groups, Sampler
from tests.unit.shards.test_slot_sampler import corpus_of, languages_of, same

G = 4


def sampler(corpus: Corpus, mixture: MixtureConfig, seed: int = 0, groups: int | None = None) -> Sampler:
    return Sampler(corpus, split="train", mixture=segments(mixture, 1, groups), seed=seed, group_size=G)


def changed_at(*steps_and_keys: tuple[int, dict[str, object]], **first: object) -> MixtureConfig:
    return MixtureConfig.model_validate(
        first | {"changes": [{"from_step": step} | keys for step, keys in steps_and_keys]}
    )


def sequences(corpus: Corpus, groups: Groups) -> dict[tuple[int, int], list[int]]:
    """Direction (source, target) -> its examples in the order of the stream, by source row."""
    source, target = languages_of(corpus, groups)
    found: dict[tuple[int, int], list[int]] = {}
    for s, t, row in zip(source.ravel().tolist(), target.ravel().tolist(), groups.source.ravel().tolist(), strict=True):
        found.setdefault((s, t), []).append(row)
    return found


def test_before_the_change_nothing_is_different_and_after_it_the_new_quotas_hold(tiny_corpus: Corpus) -> None:
    change = changed_at((3000, {"kinds": ["mms"]}), (6000, {"kinds": ["mxls"], "languages": ["en", "ur"]}))
    stream, plain = sampler(tiny_corpus, change), sampler(tiny_corpus, MixtureConfig())
    assert same(stream.groups(0, 3000), plain.groups(0, 3000))
    source, target = languages_of(tiny_corpus, stream.groups(3000, 3000))
    assert (source == target).all()
    source, target = languages_of(tiny_corpus, stream.groups(6000, 3000))
    assert (source != target).all()
    assert set(target.ravel()) == {0, 3}
    for group, own in ((0, MixtureConfig()), (4000, MixtureConfig(kinds=("mms",)))):
        np.testing.assert_allclose(stream.shares(group), sampler(tiny_corpus, own).shares(), atol=1e-9)
    across = stream.groups(2990, 20)
    assert same(
        Groups(
            number=across.number[:10], source=across.source[:10], target=across.target[:10], story=across.story[:10]
        ),
        plain.groups(2990, 10),
    )


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_no_example_is_lost_or_repeated_at_a_change(data: st.DataObject) -> None:
    """Every pass of every direction holds each of its examples once, also across the changes."""
    sizes = st.sampled_from([0, 1, 2, G - 1, G, 9, 50, 700])
    counts = np.array(data.draw(st.lists(st.lists(sizes, min_size=3, max_size=3), min_size=3, max_size=3)))
    counts[0, 0] = max(counts[0, 0], 1)  # every change below leaves this direction in
    corpus = corpus_of(counts, stories=800)
    steps = sorted(data.draw(st.lists(st.integers(1, 700), min_size=1, max_size=3, unique=True)))
    keys = st.sampled_from(
        [{"kinds": ["mms"]}, {"kinds": ["mms", "mxls"]}, {"outer_exponent": 1.0}, {"inner_exponent": 0.0}, {}]
    )
    mixture = changed_at(*((step, data.draw(keys)) for step in steps))
    stream = sampler(corpus, mixture, seed=data.draw(st.integers(0, 2**32)))
    groups = stream.groups(0, 900)
    assert same(sampler(corpus, mixture, seed=stream.seed).groups(0, 900), groups)
    for (source, target), rows in sequences(corpus, groups).items():
        size = int(counts[target, source])
        for begin in range(0, len(rows), size):
            one = rows[begin : begin + size]
            assert len(set(one)) == len(one)


def test_random_access_reaches_any_segment_at_once(tiny_corpus: Corpus) -> None:
    mixture = changed_at((10**9, {"kinds": ["mms"]}), (2 * 10**9, {"kinds": ["mxls"]}))
    whole = sampler(tiny_corpus, mixture).groups(10**9 - 20, 40)
    for begin in (39, 0, 20, 19):
        one = sampler(tiny_corpus, mixture).groups(10**9 - 20 + begin, 1)
        assert one.source[0].tolist() == whole.source[begin].tolist()


def test_a_change_that_comes_later_does_not_touch_what_was(tiny_corpus: Corpus) -> None:
    """A run whose recipe gets a change while it is stopped goes on as if the change had always been planned."""
    capped = {"max_passes": 3.0, "weights": {"en-fr": 5, "all": 1}}
    before = sampler(tiny_corpus, MixtureConfig.model_validate(capped), groups=500)
    after = sampler(tiny_corpus, changed_at((300, {"max_passes": None}), **capped), groups=500)
    assert same(before.groups(0, 300), after.groups(0, 300))


def test_no_direction_comes_more_often_than_its_cap_allows(tiny_corpus: Corpus) -> None:
    counts = tiny_corpus.direction_counts("train")
    groups = 3 * int(counts.sum()) // G
    loose, capped = (
        MixtureConfig(weights={"all": 1, "en-fr": 30}),
        {"weights": {"all": 1, "en-fr": 30}, "max_passes": 4},
    )
    for mixture, most in ((loose, None), (MixtureConfig.model_validate(capped), 4)):
        rows = sequences(tiny_corpus, sampler(tiny_corpus, mixture, groups=groups).groups(0, groups))
        passes = max(len(of) / counts[t, s] for (s, t), of in rows.items())
        assert passes > 10 if most is None else passes <= most + 2 / counts.max() * G
        assert sum(len(of) for of in rows.values()) == groups * G


def test_a_change_after_the_cap_counts_what_was_taken_before(tiny_corpus: Corpus) -> None:
    counts = tiny_corpus.direction_counts("train")
    groups = 3 * int(counts.sum()) // G
    mixture = changed_at(
        (groups // 2, {"weights": {"all": 1, "fr-en": 50}}), weights={"all": 1, "en-fr": 30}, max_passes=4
    )
    rows = sequences(tiny_corpus, sampler(tiny_corpus, mixture, groups=groups).groups(0, groups))
    assert max(len(of) / counts[t, s] for (s, t), of in rows.items()) <= 4 + 3 * G / counts.max()


def test_changes_survive_being_saved() -> None:
    """A change keeps the keys it does not name, and says so in the saved recipe."""
    mixture = changed_at((5, {"outer_exponent": 1.0}), (9, {"kinds": ["mms"]}), languages=["en", "fr"])
    assert mixture.changes[1].outer_exponent == 1.0
    assert mixture.changes[1].languages == ("en", "fr")
    assert MixtureConfig.model_validate(mixture.model_dump(mode="json")) == mixture


@pytest.mark.parametrize("steps", [(5, 5), (9, 5)])
def test_changes_out_of_order_are_refused(steps: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="in the order of their steps"):
        changed_at(*((step, {}) for step in steps))


def test_slots_by_quota_are_what_the_stream_gives(tiny_corpus: Corpus) -> None:
    """Before, in and behind changes of the mixture, each direction to within what its segments round."""
    change = changed_at((3000, {"kinds": ["mms"]}), (6000, {"kinds": ["mxls"], "languages": ["en", "ur"]}))
    stream = sampler(tiny_corpus, change)
    size = len(tiny_corpus.languages)
    assert stream.slots(0).shape == (size, size)
    for groups in (0, 1, 2999, 3000, 3001, 5000, 6000, 7500):
        expected = stream.slots(groups)
        assert expected.sum() == pytest.approx(groups * G)
        if groups:
            source, target = languages_of(tiny_corpus, stream.groups(0, groups))
            counts = np.bincount((target * size + source).ravel(), minlength=size * size).reshape(size, size)
            assert np.abs(counts - expected).max() < 3 * (2 * G)
