"""Test the pictures of `d2tv report`: points drawn of many, round numbers at axes, values of any size."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.pages.axes import ticks, time_ticks
from launcher.pages.curves import Chart, Marks, draw
from launcher.pages.thinning import medians, stretches, thin
from trainer.runs.history import Curve


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=400),
    st.integers(1, 30),
    st.integers(1, 1000),
)
def test_thinning_keeps_what_stands_out(values: list[float], columns: int, apart: int) -> None:
    steps = [apart * place for place in range(len(values))]
    kept = thin(steps, values, columns)
    assert kept == sorted(set(kept))
    assert len(kept) <= 4 * columns
    assert {0, len(values) - 1} <= set(kept)
    assert max(values[place] for place in kept) == max(values)
    assert min(values[place] for place in kept) == min(values)


def test_stretches_are_broken_by_restarts_and_by_what_is_not_finite() -> None:
    curve = Curve([10, 20, 30, 40, 50, 60], [1.0, 2.0, math.nan, 4.0, 5.0, 6.0])
    assert [part.steps for part in stretches(curve, [50])] == [[10, 20], [40, 50], [60]]
    assert [part.values for part in stretches(curve, [])] == [[1.0, 2.0], [4.0, 5.0, 6.0]]
    assert stretches(Curve([1], [math.inf]), []) == []


def test_medians_pass_over_what_stands_out() -> None:
    steps, values = medians(Curve(list(range(9)), [1.0, 99.0, 1.0, 2.0, 2.0, 2.0, 3.0, -99.0, 3.0]), 3)
    assert (steps, values) == ([1, 4, 7], [1, 2, 3])
    assert medians(Curve([5, 6, 9], [1.0, 50.0, 2.0]), 1) == ([5, 9], [2, 2])


@pytest.mark.parametrize(
    ("low", "high", "count", "expected"),
    [
        (0, 12000, 6, [0, 2000, 4000, 6000, 8000, 10000, 12000]),
        (1.9, 8.4, 5, [2, 4, 6, 8]),
        (-0.3, 0.3, 3, [-0.2, 0, 0.2]),
        (0, 1, 6, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (3, 3, 5, [3]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, count: int, expected: list[float]) -> None:
    assert ticks(low, high, count) == pytest.approx(expected)


def test_moments_are_round_and_say_the_day_once() -> None:
    day = 86400
    first = 20_000 * day + 22 * 3600 + 600
    texts = [text for _, text in time_ticks(first, first + 6 * 3600)]
    assert texts == ["Oct 04 23:00", "Oct 05", "01:00", "02:00", "03:00", "04:00"]
    assert all(time % day == 0 for time, _ in time_ticks(first, first + 40 * day))
    assert len(time_ticks(first, first + 4000 * day)) <= 12
    assert len(time_ticks(first, first)) <= 2


@pytest.mark.parametrize("value", [0.0, 5.0, -5.0, 1.7e308, 5e-324])
def test_a_curve_that_does_not_move_is_drawn(value: float) -> None:
    drawn = draw(
        Chart(title="t", unit="", curves={"c": Curve([1, 2], [value, value])}),
        Marks(last_step=2, breaks=[], spikes={}),
    )
    assert drawn is not None
    [(look, path)] = drawn["curves"][0]["paths"]
    assert look == "k0"
    assert re.fullmatch(r"M[\d.]+ [\d.]+L[\d.]+ [\d.]+", path)


def test_nothing_recorded_is_nothing_drawn() -> None:
    marks = Marks(last_step=0, breaks=[], spikes={})
    assert draw(Chart(title="t", unit="", curves={}), marks) is None
    assert draw(Chart(title="t", unit="", curves={"c": Curve()}), marks) is None
