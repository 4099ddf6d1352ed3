"""Direction weights against CrossSum's formula, written out in loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import InputError
from shards.stream.mixture import MixtureConfig, direction_weights

LANGUAGES = ("english", "french", "hindi", "urdu")
COUNTS = np.array([[50, 9, 0, 1], [12, 40, 3, 0], [0, 2, 7, 0], [1, 0, 0, 0]])
matrices = st.lists(st.lists(st.integers(0, 50_000), min_size=4, max_size=4), min_size=4, max_size=4).map(np.array)
exponents = st.floats(0, 1)


def slow_two_stage(c: list[list[float]], outer: float, inner: float) -> dict[tuple[int, int], float]:
    """q_i q_{j|i} of CrossSum section 5.1, for c[i][j]; keys are (i, j)."""
    everything = sum(sum(row) for row in c)
    p = [sum(row) / everything for row in c]
    normal = sum(p_i**outer for p_i in p if p_i > 0)
    weights = {}
    for i, row in enumerate(c):
        if sum(row) == 0:
            continue
        q_i = p[i] ** outer / normal
        p_given = [c_ij / sum(row) for c_ij in row]
        inner_normal = sum(p_j**inner for p_j in p_given if p_j > 0)
        for j, p_j in enumerate(p_given):
            if p_j > 0:
                weights[i, j] = q_i * p_j**inner / inner_normal
    return weights


@given(matrices.filter(lambda c: c.sum() > 0), exponents, exponents)
def test_target_first_is_crosssums_formula(counts: np.ndarray, outer: float, inner: float) -> None:
    weights = direction_weights(counts, LANGUAGES, MixtureConfig(outer_exponent=outer, inner_exponent=inner))
    expected = slow_two_stage(counts.tolist(), outer, inner)
    for target in range(4):
        for source in range(4):
            assert weights[target, source] == pytest.approx(expected.get((target, source), 0.0), abs=1e-12)
    assert weights.sum() == pytest.approx(1)


@given(matrices.filter(lambda c: c.sum() > 0))
def test_source_first_exchanges_the_roles(counts: np.ndarray) -> None:
    weights = direction_weights(counts, LANGUAGES, MixtureConfig(orientation="source_first"))
    by_source = [[float(counts[target, source]) for target in range(4)] for source in range(4)]
    expected = slow_two_stage(by_source, 0.5, 0.75)
    for target in range(4):
        for source in range(4):
            assert weights[target, source] == pytest.approx(expected.get((source, target), 0.0), abs=1e-12)


def test_the_orientations_differ() -> None:
    first = direction_weights(COUNTS, LANGUAGES, MixtureConfig())
    second = direction_weights(COUNTS, LANGUAGES, MixtureConfig(orientation="source_first"))
    assert np.abs(first - second).max() > 0.01


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_what_has_no_example_gets_no_share_and_one_example_gets_one(exponent: float) -> None:
    config = MixtureConfig(outer_exponent=exponent, inner_exponent=exponent)
    weights = direction_weights(COUNTS, LANGUAGES, config)
    assert ((weights > 0) == (COUNTS > 0)).all()


def test_exponents_of_one_are_proportional_and_of_zero_uniform() -> None:
    proportional = direction_weights(COUNTS, LANGUAGES, MixtureConfig(outer_exponent=1, inner_exponent=1))
    np.testing.assert_allclose(proportional, COUNTS / COUNTS.sum())
    uniform = direction_weights(
        np.full((4, 4), 9) + COUNTS, LANGUAGES, MixtureConfig(outer_exponent=0, inner_exponent=0)
    )
    np.testing.assert_allclose(uniform, np.full((4, 4), 1 / 16))


def test_kinds_and_languages_are_cut_before_the_shares_are_taken() -> None:
    cross = direction_weights(COUNTS, LANGUAGES, MixtureConfig(kinds=("mxls",)))
    off_diagonal = COUNTS * (1 - np.eye(4, dtype=int))
    np.testing.assert_allclose(cross, direction_weights(off_diagonal, LANGUAGES, MixtureConfig()))
    two = direction_weights(COUNTS, LANGUAGES, MixtureConfig(languages=("ur", "en")))
    cut = np.zeros_like(COUNTS)
    cut[np.ix_([0, 3], [0, 3])] = COUNTS[np.ix_([0, 3], [0, 3])]
    np.testing.assert_allclose(two, direction_weights(cut, LANGUAGES, MixtureConfig()))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MixtureConfig(languages=("urdu",), kinds=("mms",)), "no direction"),
        (MixtureConfig(languages=("swahili",)), "not in the corpus"),
        (MixtureConfig(languages=("swaheli",)), "did you mean 'swahili'"),
    ],
)
def test_a_mixture_that_fits_nothing_is_refused(config: MixtureConfig, message: str) -> None:
    with pytest.raises(InputError, match=message):
        direction_weights(COUNTS, LANGUAGES, config)


def test_a_subset_of_directions_is_weighted_as_if_there_were_no_other() -> None:
    weights = direction_weights(COUNTS, LANGUAGES, MixtureConfig(directions="en-*,mms"))
    kept = np.zeros((4, 4), dtype=bool)
    kept[:, 0] = True
    kept |= np.eye(4, dtype=bool)
    assert ((weights > 0) == (kept & (COUNTS > 0))).all()
    np.testing.assert_allclose(weights, direction_weights(np.where(kept, COUNTS, 0), LANGUAGES, MixtureConfig()))


def test_explicit_weights_are_the_shares_and_the_most_particular_pattern_counts() -> None:
    patterns = {"all": 1.0, "mms": 4.0, "en-en": 8.0, "ur-ur": 100.0, "fr-*": 2.0, "fr-fr": 4.0}
    expected = np.where(COUNTS > 0, 1.0, 0.0) + np.diag([7, 3, 3, 0])  # urdu has no monolingual example
    expected[[0, 2], 1] += 1
    for names in (list(patterns), list(patterns)[::-1]):  # their order says nothing
        weights = direction_weights(COUNTS, LANGUAGES, MixtureConfig(weights={name: patterns[name] for name in names}))
        np.testing.assert_allclose(weights, expected / expected.sum())
    huge = direction_weights(COUNTS, LANGUAGES, MixtureConfig(weights={"all": 1e308}))
    np.testing.assert_allclose(huge[COUNTS > 0], 1 / (COUNTS > 0).sum())


def test_two_weights_for_one_direction_are_refused_unless_the_pair_is_named() -> None:
    with pytest.raises(InputError, match="english>french two weights"):
        direction_weights(COUNTS, LANGUAGES, MixtureConfig(weights={"en-*": 1, "*-fr": 2}))
    weights = direction_weights(COUNTS, LANGUAGES, MixtureConfig(weights={"en-*": 1, "*-fr": 2, "en-fr": 5}))
    assert weights[1, 0] == pytest.approx(5 * weights[0, 0])


def test_explicit_weights_can_be_shares() -> None:
    only = direction_weights(COUNTS, LANGUAGES, MixtureConfig(weights={"en-fr": 3, "fr-en": 1}))
    assert only[1, 0] == 0.75
    assert only[0, 1] == 0.25


@given(matrices.filter(lambda c: c.sum() > 0), st.floats(0.05, 20), st.integers(1, 10_000))
def test_the_cap_holds_and_the_rest_keeps_its_proportions(counts: np.ndarray, passes: float, slots: int) -> None:
    plain = direction_weights(counts, LANGUAGES, MixtureConfig())
    config = MixtureConfig(max_passes=passes)
    if passes * counts.sum() < slots:
        with pytest.raises(InputError, match="max_passes"):
            direction_weights(counts, LANGUAGES, config, slots=slots)
        return
    capped = direction_weights(counts, LANGUAGES, config, slots=slots)
    most = passes * counts / slots
    assert capped.sum() == pytest.approx(1)
    assert (capped <= most * (1 + 1e-9)).all()
    free = (capped < most * (1 - 1e-9)) & (counts > 0)
    if free.any():
        ratio = capped[free] / plain[free]
        np.testing.assert_allclose(ratio, ratio.max(), rtol=1e-6)
        assert ratio.max() >= 1 - 1e-9


def test_what_was_taken_before_counts_against_the_cap() -> None:
    counts = np.full((4, 4), 100)
    taken = np.zeros((4, 4), np.int64)
    taken[0, 1] = 150
    config = MixtureConfig(max_passes=2)
    capped = direction_weights(counts, LANGUAGES, config, slots=2500, taken_TS=taken)
    assert capped[0, 1] == pytest.approx(50 / 2500)
    assert capped.sum() == pytest.approx(1)
