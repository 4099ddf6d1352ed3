"""Test what the faults benchmark computes from what it measured. Its quick run:
tests/system/test_quick_trainings.py.
"""

import math

import pytest

from benchmarks.faults import computed
from benchmarks.faults_kills import lineage


@pytest.mark.parametrize("stall", [0.01, 1.0, 20.0])
def test_the_interval_is_the_one_that_loses_least(stall: float) -> None:
    """Daly's, against every other: what is spent on saving and what is lost with a failure add up to the least."""
    costs = {"step": 0.01, "stall": stall, "slowed": 0.0, "write": 0.0}
    found = computed(costs, restart=0.0, noticed=0.0)
    interval = found["daly_interval_seconds"]

    def lost(length: float) -> float:
        return stall / (length + stall) + (length + stall) / 2 / 1800

    best = min((lost(math.exp(k / 50)) for k in range(-200, 500)), default=0.0)
    assert lost(interval) == pytest.approx(best, rel=0.02)
    assert found["checkpoint_stall_share"] == pytest.approx(stall / (interval + stall))


def test_goodput_counts_what_a_failure_costs() -> None:
    costs = {"step": 0.01, "stall": 0.0, "slowed": -3.0, "write": 10.0}
    found = computed(costs, restart=60.0, noticed=15.0)
    # Nothing is lost to saving, but the next checkpoint waits for the last: half of ten seconds, and the restart.
    assert found["goodput"] == pytest.approx(1 - (60 + 15 + 5) / 1800)


def test_what_counts_is_what_the_last_state_descends_from() -> None:
    first = {0: [0, 1], 1: [2, 3], 2: [4, 5]}
    assert lineage([first, {}, {1: [2, 3], 2: [5, 4], 3: [6, 7]}]) == {0: [0, 1], 1: [2, 3], 2: [4, 5], 3: [6, 7]}
    assert lineage([first, {1: [4, 5], 2: [6, 7]}]) == {0: [0, 1], 1: [4, 5], 2: [6, 7]}  # lost: 2 and 3
    assert 3 not in lineage([first, {4: [8, 9]}])  # an attempt that was never made
