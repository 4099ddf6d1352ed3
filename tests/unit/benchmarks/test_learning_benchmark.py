"""Judge what the first run has learned, and count its minutes."""

from typing import Any

import pytest

from benchmarks.learning import LEAST, minutes, missed
from shards.errors import InputError

REACHED: dict[str, float | str] = {
    **{f"rouge1_{kind}": least for kind, least in LEAST.items()},
    **{f"first_validation_nll_{kind}": 5.0 for kind in LEAST},
    **{f"last_validation_nll_{kind}": 3.0 for kind in LEAST},
}


def record(kind: str, time: float, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "time": time, **fields}


def test_a_run_that_reached_all_has_missed_nothing() -> None:
    assert missed(REACHED) == []


@pytest.mark.parametrize("kind", LEAST)
def test_what_a_run_has_missed_is_told(kind: str) -> None:
    (line,) = missed(REACHED | {f"rouge1_{kind}": LEAST[kind] - 0.1})
    assert line == f"missed: ROUGE-1 of {kind} is {LEAST[kind] - 0.1:.1f}, at least {LEAST[kind]:.0f} wanted"
    assert missed(REACHED | {f"last_validation_nll_{kind}": 5.0}) == [
        f"missed: the held-out NLL of {kind} did not fall"
    ]


def test_minutes_are_those_of_all_starts_without_the_time_between() -> None:
    starts = [record("start", 0), record("end", 60, outcome="stopped"), record("start", 1000), record("train", 1010)]
    assert minutes([*starts, record("end", 1120, outcome="finished")]) == pytest.approx(3.0)
    with pytest.raises(InputError, match="not finished"):
        minutes([*starts, record("end", 1120, outcome="stopped")])


def test_a_start_that_was_killed_counts_from_the_next_one_on() -> None:
    """It has no end on record, so nobody knows how long it lived."""
    records = [record("start", 0), record("start", 600), record("end", 660, outcome="finished")]
    assert minutes(records) == pytest.approx(1.0)
