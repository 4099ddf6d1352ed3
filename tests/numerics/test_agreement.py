"""Fleiss' kappa against worked examples of the literature, and against counting every pair of raters."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluation.agreement import fleiss_kappa

#: Fourteen raters, ten subjects, five categories: the worked example of Wikipedia's "Fleiss' kappa", 0.210.
FOURTEEN_RATERS = """
0 0 0 0 14
0 2 6 4 2
0 0 3 5 6
0 3 9 2 0
2 2 8 1 1
7 7 0 0 0
3 2 6 3 0
2 5 3 2 2
6 5 2 1 0
0 2 2 3 7
"""
#: Six psychiatrists, thirty patients, five diagnoses: Table 1 of Fleiss (1971), 0.430.
DIAGNOSES = """
0 0 0 6 0
0 3 0 0 3
0 1 4 0 1
0 0 0 0 6
0 3 0 3 0
2 0 4 0 0
0 0 4 0 2
2 0 3 1 0
2 0 0 4 0
0 0 0 0 6
1 0 0 5 0
1 1 0 4 0
0 3 3 0 0
1 0 0 5 0
0 2 0 3 1
0 0 5 0 1
3 0 0 1 2
5 1 0 0 0
0 2 0 4 0
1 0 2 0 3
0 0 0 0 6
0 1 0 5 0
0 2 0 1 3
2 0 0 4 0
1 0 0 4 1
0 5 0 1 0
4 0 0 0 2
0 2 0 4 0
1 0 5 0 0
0 0 0 0 6
"""


def table(text: str) -> np.ndarray:
    return np.array([line.split() for line in text.split("\n") if line], np.int64)


def by_pairs(rows: list[list[int]]) -> tuple[Fraction, Fraction]:
    """Agreement observed and by chance, in exact fractions. rows: of a subject, the category of each rater."""
    agreeing = [Fraction(sum(a == b for a, b in combinations(row, 2)), len(row) * (len(row) - 1) // 2) for row in rows]
    every = [value for row in rows for value in row]
    chance = sum(Fraction(every.count(value), len(every)) ** 2 for value in set(every))
    return sum(agreeing, Fraction()) / len(rows), Fraction(chance)


def test_worked_examples() -> None:
    found = fleiss_kappa(table(FOURTEEN_RATERS))
    assert found.kappa is not None
    assert (round(found.observed, 3), round(found.expected, 3), round(found.kappa, 3)) == (0.378, 0.213, 0.210)
    assert fleiss_kappa(table(DIAGNOSES)).kappa == pytest.approx(0.430, abs=0.0005)


@given(
    st.integers(2, 6).flatmap(
        lambda raters: st.lists(st.lists(st.integers(1, 5), min_size=raters, max_size=raters), min_size=1, max_size=30)
    )
)
def test_it_counts_pairs_of_raters(rows: list[list[int]]) -> None:
    found = fleiss_kappa(np.array([[row.count(value) for value in range(1, 6)] for row in rows], np.int64))
    observed, chance = by_pairs(rows)
    assert found.observed == pytest.approx(float(observed))
    assert found.expected == pytest.approx(float(chance))
    if chance == 1:
        assert found.kappa is None
    else:
        assert found.kappa == pytest.approx(float((observed - chance) / (1 - chance)))


def test_the_extremes() -> None:
    assert fleiss_kappa(np.array([[3, 0], [0, 3]])).kappa == 1.0
    assert fleiss_kappa(np.array([[1, 1], [1, 1]])).kappa == -1.0
