"""Test how the monitoring benchmark takes its times. Its quick run: tests/system/test_quick_trainings.py."""

import pytest

from benchmarks.monitoring import Stopwatch


def test_the_stopwatch_counts_every_call_and_those_that_fail() -> None:
    class Clock:
        def tick(self, fail: bool = False) -> int:
            if fail:
                raise ValueError("fails")
            return 7

    clock, watch = Clock(), Stopwatch()
    watch.around(clock, "tick", "ticks")
    assert clock.tick() == 7
    first = watch.seconds["ticks"]
    with pytest.raises(ValueError, match="fails"):
        clock.tick(fail=True)
    assert watch.seconds["ticks"] > first > 0
