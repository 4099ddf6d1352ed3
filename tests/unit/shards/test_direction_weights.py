"""Direction weights against CrossSum's formula, written out in loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.errors import InputError
from shards.mixture import MixtureConfig, direction_weights

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
