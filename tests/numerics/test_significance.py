"""Paired bootstrap and Holm's correction against loops by the book, and against what chance gives."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluation.bootstrap import holm, paired_bootstrap


def by_the_book(a: Sequence[float], b: Sequence[float], stories: Sequence[int], samples: int) -> tuple[float, float]:
    """Share of resamples below and above zero: stories drawn with all of their examples, by Python's own generator."""
    draw = random.Random(1)
    names = sorted(set(stories))
    of_story = {name: [y - x for x, y, story in zip(a, b, stories, strict=True) if story == name] for name in names}
    below = above = 0
    for _ in range(samples):
        found = [value for _ in names for value in of_story[draw.choice(names)]]
        mean = sum(found) / len(found)
        below += mean <= 0
        above += mean >= 0
    return below / samples, above / samples


def drawn(seed: int, gain: float, size: int = 120) -> tuple[list[float], list[float], list[int]]:
    """Scores of two systems on stories of 1 to 5 examples that have much in common."""
    random = np.random.default_rng(seed)
    stories = np.sort(random.integers(0, size // 3, size))
    common = random.normal(0, 5, size)[stories]
    a = 30 + common + random.normal(0, 3, size)
    b = a + gain + random.normal(0, 2, size)[stories] + random.normal(0, 1, size)
    return a.tolist(), b.tolist(), stories.tolist()


@pytest.mark.parametrize(("seed", "gain"), [(0, 0.0), (1, 0.3), (2, -0.4), (3, 0.7)])
def test_shares_are_those_of_a_loop(seed: int, gain: float) -> None:
    a, b, stories = drawn(seed, gain)
    found = paired_bootstrap(a, b, stories, samples=20_000)
    below, above = by_the_book(a, b, stories, 20_000)
    assert found.mean == pytest.approx(np.mean(b) - np.mean(a))
    assert found.p == pytest.approx(min(1.0, 2 * min(below, above)), abs=0.02)
    assert found.low <= found.mean <= found.high


def test_chance_is_called_chance() -> None:
    """Of 300 pairs of equal systems, about 15 differ at 5%: binomial, 99.9% of such counts are below 28."""
    p = [paired_bootstrap(*drawn(seed, 0.0), samples=400, seed=seed).p for seed in range(300)]
    assert sum(value < 0.05 for value in p) < 28
    # Examples of a story are no independent draws: taken for such, far more would seem to differ.
    alone = [drawn(seed, 0.0) for seed in range(300)]
    wrong = [paired_bootstrap(a, b, range(len(a)), samples=400, seed=0).p for a, b, _ in alone]
    assert sum(value < 0.05 for value in wrong) > 40


def test_extremes_and_repetition() -> None:
    a, b, stories = drawn(0, 5.0)
    found = paired_bootstrap(a, b, stories, samples=500)
    assert found.p == pytest.approx(2 / 501)  # never 0
    assert found.low > 0
    assert paired_bootstrap(a, b, stories, samples=500) == found
    assert paired_bootstrap(a, b, stories, samples=500, seed=1) != found
    same = paired_bootstrap(a, a, stories)
    assert (same.mean, same.low, same.high, same.p) == (0, 0, 0, 1)
    back = paired_bootstrap(b, a, stories, samples=500)
    assert (back.mean, back.low, back.high) == pytest.approx((-found.mean, -found.high, -found.low))


def test_holm_by_hand() -> None:
    """Four tests: 0.01 x 4, 0.02 x 3, then 0.03 x 2, which may not be below the one before, and 0.9 x 1."""
    assert holm([0.03, 0.01, 0.9, 0.02]).tolist() == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([]).tolist() == []
    assert holm([0.7, 0.6]).tolist() == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_the_definition_rejects(p: list[float]) -> None:
    """Step down: the k-th smallest is rejected while it and all before it are at most alpha / (m - k)."""
    adjusted = holm(p)
    order = sorted(range(len(p)), key=lambda place: p[place])
    for alpha in (0.01, 0.05, 0.3):
        rejected = set()
        for k, place in enumerate(order):
            if p[place] * (len(p) - k) > alpha:
                break
            rejected.add(place)
        assert {place for place in range(len(p)) if adjusted[place] <= alpha} == rejected
    assert (adjusted >= np.array(p) - 1e-12).all()


def test_weights_are_those_of_a_loop() -> None:
    """Two directions of unlike size that count alike."""
    a, b, stories = drawn(5, 0.5)
    weights = [1 / 20] * 20 + [1 / 100] * 100
    found = paired_bootstrap(a, b, stories, weights=weights, samples=20_000)
    gain = np.asarray(b) - np.asarray(a)
    assert found.mean == pytest.approx((gain[:20].mean() + gain[20:].mean()) / 2)
    draw, means = random.Random(2), []
    names = sorted(set(stories))
    of_story = {name: [k for k, story in enumerate(stories) if story == name] for name in names}
    for _ in range(20_000):
        rows = [row for _ in names for row in of_story[draw.choice(names)]]
        means.append(sum(weights[row] * gain[row] for row in rows) / sum(weights[row] for row in rows))
    low, high = np.quantile(means, (0.025, 0.975))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05)


def test_many_samples_come_in_parts_that_differ() -> None:
    """More than are held at once: the parts must not be one part again and again."""
    a, b, stories = drawn(6, 0.2, size=9000)
    few = paired_bootstrap(a, b, stories, samples=100)
    many = paired_bootstrap(a, b, stories, samples=6000)
    assert many == paired_bootstrap(a, b, stories, samples=6000)
    assert (many.low, many.high) != (few.low, few.high)
    assert few.mean == many.mean


@pytest.mark.parametrize("stories", [1, 2, 3, 4])
def test_few_stories_are_never_enough(stories: int) -> None:
    """Resamples of one story are all alike, of two half are: taken for evidence, equal systems would seem to differ."""
    draw = np.random.default_rng(stories)
    for _ in range(50):
        a, b = draw.normal(30, 5, (2, 4 * stories))
        found = paired_bootstrap(a.tolist(), b.tolist(), [k % stories for k in range(4 * stories)], samples=2000)
        assert found.p >= 2.0 ** (1 - stories) > 0.05
